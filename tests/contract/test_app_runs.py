"""Runs side by side: room, groups, cancelling from elsewhere, faults that do not end, and stages that are flaky."""

from pathlib import Path
from typing import Any

import pytest
from tests.workshop import ADA, PIPELINE, Workshop

from interlock.control.rows import read_state, write_state
from interlock.control.running.runs import FAULTS
from interlock.control.running.seeing import REASON_SECONDS
from interlock.errors import ArtifactFault, EnvironmentFault, ExecutorFault, NotFound, Refused, StaleWrite
from interlock.run.run import Run
from interlock.vocabulary import Kind, Phase, Row, Write

CHECKED = """\
version: 1
checks: [{name: unit, cmd: pytest -q tests}]
stages:
  train: {cmd: python train.py, outs: [model/], resources: {cpu: 2}}
"""
PARALLEL = """\
version: 1
checks: []
stages:
  a: {cmd: python a.py, deps: [a.py], outs: [a/]}
  b: {cmd: python b.py, deps: [b.py], outs: [b/]}
"""


def grown(shop: Workshop, *numbers: int) -> None:
    """A push of another training for each number."""
    for number in numbers:
        shop.commit(f"number {number}", train_py=f"x = {number}\n")
        shop.push()
        shop.look()


def stage(shop: Workshop, number: int, name: str = "train") -> tuple[Phase, str]:
    found = shop.run(number).stages[name]
    return found.phase, found.because


def test_a_run_is_found_as_it_was_saved_last_and_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1)
    shop.loop.one_pass()
    assert shop.runs.find("1") == shop.run(1)
    assert shop.runs.find("1").stages["train"].phase is Phase.RUNNING
    shop.run_all()
    assert shop.runs.find("1") == shop.run(1)
    with pytest.raises(NotFound):
        shop.runs.find("2")


def test_a_run_names_the_version_that_it_registered_and_ends_once(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, f"{PIPELINE}model: {{name: small, path: model/}}\n")
    grown(shop, 1)
    while not shop.run(1).phase.is_final:
        shop.run_all()
    assert (shop.run(1).phase, shop.run(1).version) == (Phase.SUCCEEDED, "small/1")
    assert [event.phase for event in shop.store.events(Kind.RUN, "1")].count("succeeded") == 1


def test_an_attempt_is_claimed_by_the_very_save_that_decides_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1)
    saved: list[list[tuple[Kind, int]]] = []
    save = shop.store.save

    def listen(*writes: Write, **more: Any) -> tuple[Row, ...]:
        saved.append([(write.kind, write.expected) for write in writes])
        return save(*writes, **more)

    monkeypatch.setattr(shop.store, "save", listen)
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/1"}
    assert [kinds[-2:] for kinds in saved] == [[(Kind.RUN, 1), (Kind.ATTEMPT, 0)]]


def test_a_control_plane_that_dies_between_the_claim_and_the_start_has_lost_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1)
    monkeypatch.setattr(shop.executor, "start", lambda request, finished: None)
    shop.runs.step("1")
    assert stage(shop, 1)[0] is Phase.RUNNING
    shop.restart()
    shop.run_all()
    assert [request.attempt for request in shop.executor.started] == ["1/train/2"]
    assert shop.run(1).phase is Phase.SUCCEEDED


def test_who_loses_the_swap_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1)

    def lose(*_: Write, **__: Any) -> tuple[Row, ...]:
        raise StaleWrite("somebody was first")

    monkeypatch.setattr(shop.store, "save", lose)
    shop.runs.step("1")
    assert shop.executor.started == []
    assert shop.store.load(Kind.ATTEMPT, "1/train/1") is None


# --- room ---


def test_a_stage_that_has_no_room_waits_with_its_reason_and_starts_when_there_is(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, cores=1)
    grown(shop, 1, 2, 3)
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/1"}
    assert stage(shop, 2) == (Phase.QUEUED, "waits for 1 core, 0 free: run 1/train uses 1")
    assert stage(shop, 3) == (Phase.QUEUED, "waits for its turn, after run 2/train")
    assert shop.run(2).phase is Phase.QUEUED
    shop.finish()
    shop.loop.one_pass()
    assert shop.executor.running() == {"2/train/1"}
    shop.run_all()
    assert {run.phase for run in shop.all_runs()} == {Phase.SUCCEEDED}
    assert [request.attempt for request in shop.executor.started] == ["1/train/1", "2/train/1", "3/train/1"]


def test_the_checks_of_a_new_commit_overtake_a_training_that_fills_the_machine(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, CHECKED, cores=2)
    grown(shop, 1)
    shop.loop.one_pass()
    shop.finish("1/unit/1")
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/1"}
    grown(shop, 2)
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/1", "2/unit/1"}
    shop.finish("2/unit/1")
    shop.loop.one_pass()
    assert stage(shop, 2) == (Phase.QUEUED, "waits for 2 cores, 0 free: run 1/train uses 2")


def test_room_is_given_again_after_a_restart_only_when_it_is_free(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, cores=1)
    grown(shop, 1, 2)
    shop.loop.one_pass()
    shop.restart()
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/2"}  # the first attempt was lost, and its run was there first
    shop.run_all()
    assert {run.phase for run in shop.all_runs()} == {Phase.SUCCEEDED}


def test_a_stage_whose_like_was_executed_while_it_waited_is_reused_and_takes_no_room(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, cores=1)
    grown(shop, 1, 2)
    shop.requests.trigger(ADA, "small", "main")
    shop.loop.one_pass()
    shop.finish("1/train/1")
    shop.loop.one_pass()
    shop.finish("2/train/1")
    shop.loop.one_pass()
    assert shop.run(3).phase is Phase.SUCCEEDED
    assert shop.run(3).stages["train"].reused == "2/train/1"
    assert shop.executor.running() == frozenset()


def test_what_is_reused_needs_no_room(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, cores=1)
    grown(shop, 1)
    shop.run_all()
    grown(shop, 2)
    shop.loop.one_pass()
    shop.requests.rerun(ADA, 1)
    shop.loop.one_pass()
    assert shop.executor.running() == {"2/train/1"}
    assert shop.run(3).phase is Phase.SUCCEEDED


def test_a_repository_has_no_more_runs_under_way_than_its_settings_let_it(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    shop.most_runs["small"] = 2
    grown(shop, 1, 2, 3)
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/1", "2/train/1"}
    assert stage(shop, 3) == (Phase.QUEUED, "waits: 2 runs of small under way, at most 2")
    shop.finish("1/train/1")
    shop.loop.one_pass()
    shop.loop.one_pass()
    assert "3/train/1" in shop.executor.running()


def test_a_run_that_waits_costs_no_look_up_and_no_write_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(tmp_path, cores=1)
    grown(shop, 1, 2, 3)
    shop.loop.one_pass()
    asked: list[int] = []
    look_up = shop.lookups.look_up

    def count(run: Run, *more: object) -> object:
        asked.append(run.number)
        return look_up(run, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.lookups, "look_up", count)
    shop.loop.one_pass()
    before, asked[:] = len(shop.store.events()), []
    for _ in range(20):
        shop.now += REASON_SECONDS / 50
        shop.loop.one_pass()
    assert asked == []
    assert len(shop.store.events()) == before


def test_a_reason_that_has_changed_is_told_after_a_while(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, cores=1)
    grown(shop, 1, 2, 3)
    shop.loop.one_pass()
    shop.finish()
    shop.loop.one_pass()
    assert stage(shop, 3)[1] == "waits for its turn, after run 2/train"
    shop.now += REASON_SECONDS + 1
    shop.loop.one_pass()
    assert stage(shop, 3)[1] == "waits for 1 core, 0 free: run 2/train uses 1"


def test_stages_of_one_run_share_the_room(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, PARALLEL, cores=1)
    shop.commit(a_py="", b_py="")
    shop.push()
    shop.look()
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/a/1"}
    assert stage(shop, 1, "b") == (Phase.QUEUED, "waits for 1 core, 0 free: run 1/a uses 1")
    shop.run_all()
    assert shop.run(1).phase is Phase.SUCCEEDED


# --- groups ---


def test_runs_of_a_group_go_one_after_the_other(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, "concurrency: training\n" + PIPELINE)
    grown(shop, 1, 2, 3)
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/1"}
    assert [shop.run(number).because for number in (2, 3)] == ["waits for run 1 of group training"] * 2
    shop.finish()
    for _ in range(3):
        shop.loop.one_pass()
    assert shop.executor.running() == {"2/train/1"}
    assert shop.run(3).because == "waits for run 2 of group training"
    shop.run_all()
    for _ in range(3):
        shop.run_all()
    assert {run.phase for run in shop.all_runs()} == {Phase.SUCCEEDED}


def test_a_newer_run_of_a_group_takes_the_place_of_the_older_where_the_file_says_so(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, "concurrency: {group: training, cancel_superseded: true}\n" + PIPELINE)
    grown(shop, 1)
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/1"}
    grown(shop, 2)
    for _ in range(3):
        shop.loop.one_pass()
    assert (shop.run(1).phase, shop.run(1).because) == (Phase.CANCELLED, "superseded by run 2 of group training")
    assert shop.executor.running() == {"2/train/1"}
    shop.run_all()
    assert shop.run(2).phase is Phase.SUCCEEDED


def test_without_a_group_pushes_run_side_by_side(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1, 2)
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/1", "2/train/1"}


# --- ended from elsewhere ---


def test_a_run_that_another_process_ended_has_its_processes_ended_too(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1, 2)
    shop.loop.one_pass()
    row = shop.store.load(Kind.RUN, "1")
    assert row is not None
    ended = read_state(row, Run).model_copy(update={"phase": Phase.CANCELLED, "because": "ended by another command"})
    shop.store.save(
        write_state(Kind.RUN, "1", ended, expected=row.version, phase=ended.phase, because="ended by another command")
    )
    shop.loop.one_pass()
    assert shop.executor.running() == {"2/train/1"}
    outcome = shop.attempts.outcome("1/train/1")
    assert outcome is not None
    assert (outcome.phase, outcome.because) == (Phase.CANCELLED, "ended by another command")


def test_runs_of_other_drivers_are_left_alone(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    shop.commit()
    local = shop.intake.begin_local(shop.git.snapshot(str(shop.clone)), "", {}, "local:1", 1.0)
    assert shop.loop.one_pass() is False
    assert shop.executor.running() == frozenset()
    assert shop.runs.step(local.key)
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/1"}


# --- faults ---


def test_a_run_whose_look_up_faults_for_ever_ends_with_the_fault_as_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1)
    tries: list[float] = []

    def torn(*_: object) -> object:
        tries.append(shop.now)
        raise ArtifactFault("blake3:12 is torn")

    monkeypatch.setattr(shop.lookups, "look_up", torn)
    for _ in range(1_000):
        shop.loop.one_pass()
        shop.now += 0.5
        if shop.run(1).phase.is_final:
            break
    ended = shop.run(1)
    assert ended.phase is Phase.ERRORED
    assert ended.because == f"given up after {FAULTS} faults in a row: ArtifactFault: blake3:12 is torn"
    assert ended.stages["train"].phase is Phase.SKIPPED
    assert len(tries) == FAULTS
    assert tries[-1] - tries[0] > 120
    assert len(shop.faults) == 1  # told once, not at every try


def test_faults_that_pass_are_forgotten_and_hold_up_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Workshop(tmp_path, cores=1)
    grown(shop, 1, 2)
    look_up = shop.lookups.look_up

    def torn(run: Run, *more: object) -> object:
        if run.number == 1:
            raise EnvironmentFault("the index does not answer")
        return look_up(run, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(shop.lookups, "look_up", torn)
    for _ in range(40):
        shop.loop.one_pass()
        shop.now += 1.0
    assert shop.executor.running() == {"2/train/1"}
    monkeypatch.undo()
    shop.now += 60
    shop.run_all()
    shop.run_all()
    assert [run.phase for run in shop.all_runs()] == [Phase.SUCCEEDED] * 2


def test_a_run_that_faults_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1)

    def torn(*_: object) -> object:
        raise ArtifactFault("torn")

    monkeypatch.setattr(shop.lookups, "look_up", torn)
    shop.loop.one_pass()
    shop.requests.cancel(ADA, 1, "it hangs")
    shop.loop.one_pass()
    assert shop.run(1).because == "cancelled by ada: it hangs"


def test_an_executor_that_never_starts_anything_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1)

    def broken(*_: object) -> None:
        raise ExecutorFault("no space for a workspace")

    monkeypatch.setattr(shop.executor, "start", broken)
    for _ in range(1_000):
        shop.loop.one_pass()
        shop.now += 1.0
        if shop.run(1).phase.is_final:
            break
    assert shop.run(1).phase is Phase.ERRORED


def test_what_is_refused_only_now_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1)

    def refuse(*_: object) -> object:
        raise Refused("no interpreter fits >=3.99", "interlock.yaml")

    monkeypatch.setattr(shop.lookups, "look_up", refuse)
    shop.loop.one_pass()
    assert shop.run(1).phase is Phase.FAILED
    assert "3.99" in shop.run(1).because


def test_a_run_that_is_gone_or_ended_is_not_moved(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1)
    shop.run_all()
    assert not shop.runs.step("1")
    assert not shop.runs.step("99")


# --- flaky ---


def test_a_stage_that_fails_where_it_succeeded_before_is_told_as_flaky(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    grown(shop, 1)
    shop.run_all()
    shop.requests.rerun(ADA, 1, "train")
    shop.loop.one_pass()
    shop.finish("2/train/1", phase=Phase.FAILED)
    shop.loop.one_pass()
    assert stage(shop, 2) == (Phase.FAILED, "it failed; flaky: the same inputs succeeded in run 1")
    grown(shop, 2)
    shop.loop.one_pass()
    shop.finish("3/train/1", phase=Phase.FAILED)
    shop.loop.one_pass()
    assert stage(shop, 3) == (Phase.FAILED, "it failed")  # other inputs: nothing is odd about that


def test_a_failure_from_outside_says_nothing_of_others(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, "on: {pull_request: {}}\n" + PIPELINE)
    shop.set_up(forks="run")
    grown(shop, 1)
    shop.loop.one_pass()
    shop.finish(phase=Phase.FAILED)
    shop.loop.one_pass()
    shop.push("HEAD:refs/pull/4/head")
    shop.look(shop.pull_request(4))
    shop.loop.one_pass()
    shop.finish("2/train/1")
    shop.loop.one_pass()
    assert stage(shop, 2)[1] == "it succeeded; flaky: the same inputs failed in run 1"
    shop.requests.rerun(ADA, 1)
    shop.loop.one_pass()
    shop.finish("3/train/1")
    shop.loop.one_pass()
    assert stage(shop, 3)[1] == "it succeeded; flaky: the same inputs failed in run 1"
