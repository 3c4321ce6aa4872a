"""What people ask of runs, over a real repository: who may, what comes of it, and that asking twice is asking once."""

import threading
from pathlib import Path

import pytest
from tests.workshop import ADA, PIPELINE, Workshop

from interlock.access.caller import Caller, Role
from interlock.control.rows import write_run
from interlock.errors import Conflict, Forbidden, NotFound, Refused, StaleWrite
from interlock.run.reproduction.comparison import reproduce
from interlock.run.run import Run
from interlock.source.commit import Occasion
from interlock.source.repository import Watched
from interlock.vocabulary import Kind, Phase, Row, Write

BOB = Caller(name="bob", role=Role.DEVELOPER)
EVE = Caller(name="eve", role=Role.VIEWER)
CHAIN = """\
version: 1
checks: []
stages:
  features: {cmd: python features.py, outs: [features/]}
  train: {cmd: python train.py, deps: [features/], outs: [model/]}
  evaluate: {cmd: python evaluate.py, deps: [model/], metrics: [metrics.json]}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    made = Workshop(tmp_path)
    made.commit("first")
    made.push()
    return made


def deeds(shop: Workshop) -> list[tuple[str, str, str]]:
    return [(entry.deed.who, entry.deed.action, entry.deed.thing) for entry in shop.store.audit()]


# --- trigger ---


@pytest.mark.parametrize("ref", ["main", "refs/heads/main"])
def test_a_person_begins_a_run_of_what_a_branch_is_now(shop: Workshop, ref: str) -> None:
    run = shop.requests.trigger(BOB, "small", ref)
    assert (run.occasion.kind, run.occasion.by, run.phase, run.is_trusted) == ("person", "bob", Phase.QUEUED, True)
    assert run.commit.sha == shop.command("rev-parse", "HEAD")
    assert shop.run(run.number) == run
    assert deeds(shop) == [("bob", "start run", f"run/{run.number}")]
    row = shop.store.load(Kind.RUN, run.key)
    assert row is not None
    assert (row.repository, row.ref) == ("small", "refs/heads/main")


def test_a_tag_and_an_untrusted_branch_can_be_asked_for_without_becoming_trusted(shop: Workshop) -> None:
    shop.command("tag", "v1")
    shop.push("v1", "HEAD:topic")
    for ref, full in (("v1", "refs/tags/v1"), ("topic", "refs/heads/topic")):
        run = shop.requests.trigger(BOB, "small", ref)
        assert (run.commit.ref, run.is_trusted) == (full, False)


def test_asking_leaves_the_push_its_own_run(shop: Workshop) -> None:
    shop.requests.trigger(BOB, "small", "main")
    assert [run.occasion.kind for run in shop.look()] == ["push"]
    assert len(shop.all_runs()) == 2


def test_each_asking_is_its_own_run_and_one_key_is_one(shop: Workshop) -> None:
    assert shop.requests.trigger(BOB, "small", "main") != shop.requests.trigger(BOB, "small", "main")
    first = shop.requests.trigger(BOB, "small", "main", "k1")
    shop.commit("moved on")
    shop.push()
    assert shop.requests.trigger(BOB, "small", "main", "k1") == first
    assert shop.requests.trigger(ADA, "small", "main", "k1") != first
    assert len(shop.all_runs()) == 4
    assert len(deeds(shop)) == 4
    shop.push("HEAD:topic")
    with pytest.raises(Conflict, match=f"run {first.number}"):
        shop.requests.trigger(BOB, "small", "topic", "k1")


def test_twenty_requests_with_one_key_at_once_are_one_run(shop: Workshop) -> None:
    gate = threading.Barrier(20, timeout=60)
    begun: list[Run] = []

    def ask() -> None:
        gate.wait()
        begun.append(shop.requests.trigger(BOB, "small", "main", "k1"))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 20
    assert {run.number for run in begun} == {shop.all_runs()[0].number}
    assert len(shop.all_runs()) == len(deeds(shop)) == 1


def test_each_pipeline_file_gets_its_run(shop: Workshop) -> None:
    shop.write({"b/interlock.yaml": PIPELINE, "b/train.py": "", "b/requirements.txt": ""})
    shop.commit()
    shop.push()
    shop.requests.trigger(BOB, "small", "main", "k1")
    assert {run.plan.project for run in shop.all_runs()} == {"", "b"}


@pytest.mark.parametrize(("ref", "hint"), [("mian", "main"), ("zzzzzz", "main"), ("refs/heads/gone", "")])
def test_a_ref_that_is_not_there_is_told_with_the_nearest(shop: Workshop, ref: str, hint: str) -> None:
    with pytest.raises(NotFound, match=ref) as told:
        shop.requests.trigger(BOB, "small", ref)
    assert hint in told.value.remedy
    assert shop.all_runs() == []


def test_what_cannot_be_planned_is_refused_and_no_run(shop: Workshop) -> None:
    shop.commit("broken", interlock_yaml="version: 1\nstagez: {}\n")
    shop.push()
    with pytest.raises(Refused, match="stagez"):
        shop.requests.trigger(BOB, "small", "main")
    shop.command("rm", "-q", "interlock.yaml")
    shop.commit("none")
    shop.push()
    with pytest.raises(Refused, match="no pipeline file"):
        shop.requests.trigger(BOB, "small", "main")
    assert shop.all_runs() == []
    assert deeds(shop) == []


def test_another_repository_is_told_with_the_nearest_name(shop: Workshop) -> None:
    with pytest.raises(NotFound, match="smal") as told:
        shop.requests.trigger(BOB, "smal", "main")
    assert told.value.remedy == "did you mean small?"
    with pytest.raises(NotFound, match="elsewhere"):
        shop.requests.trigger(BOB, "elsewhere", "main")


def test_who_may_not_changes_nothing(shop: Workshop) -> None:
    (run,) = shop.look()
    before = len(shop.store.events())
    elsewhere = Caller(name="carl", role=Role.ADMIN, repositories=("other",))
    for caller in (EVE, elsewhere):
        with pytest.raises(Forbidden):
            shop.requests.trigger(caller, "small", "main")
        with pytest.raises(Forbidden):
            shop.requests.rerun(caller, run.number)
        with pytest.raises(Forbidden):
            shop.requests.cancel(caller, run.number, "no")
    for caller in (EVE, BOB, elsewhere):
        with pytest.raises(Forbidden):
            shop.requests.approve(caller, run.number, run.commit.sha)
    assert len(shop.store.events()) == before
    assert deeds(shop) == []


# --- cancel and approve ---


def test_cancelling_ends_the_run_and_what_it_runs(shop: Workshop) -> None:
    (run,) = shop.look()
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/train/1"}
    wished = shop.requests.cancel(BOB, run.number, "wrong branch")
    assert wished.wish == "cancelled by bob: wrong branch"
    assert shop.requests.cancel(ADA, run.number, "me too") == wished
    shop.loop.one_pass()
    assert shop.executor.running() == frozenset()
    ended = shop.run(run.number)
    assert (ended.phase, ended.because) == (Phase.CANCELLED, "cancelled by bob: wrong branch")
    outcome = shop.attempts.outcome("1/train/1")
    assert outcome is not None
    assert outcome.phase is Phase.CANCELLED
    assert shop.requests.cancel(BOB, run.number, "again") == ended
    assert deeds(shop) == [("bob", "cancel run", "run/1")]


def test_what_ended_by_itself_cannot_be_cancelled(shop: Workshop) -> None:
    shop.look()
    shop.run_all()
    with pytest.raises(Conflict, match="succeeded"):
        shop.requests.cancel(BOB, 1, "too late")
    with pytest.raises(NotFound, match="no run 99"):
        shop.requests.cancel(BOB, 99, "which one")


def test_an_approval_is_written_with_its_entry_of_the_audit_log(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, "on: {pull_request: {}}\n" + PIPELINE)
    shop.commit("first")
    shop.push("HEAD:main", "HEAD:refs/pull/4/head")
    shop.look()
    (run,) = shop.look(shop.pull_request(4))
    maintainer = Caller(name="mia", role=Role.MAINTAINER, repositories=("small",))
    approved = shop.requests.approve(maintainer, run.number, run.commit.sha)
    assert (approved.phase, approved.approved_by) == (Phase.QUEUED, "mia")
    assert shop.requests.approve(ADA, run.number, run.commit.sha) == approved
    (entry,) = shop.store.audit()
    assert entry.deed.detail == {"repository": "small", "sha": run.commit.sha}
    with pytest.raises(Conflict, match="does not wait"):
        shop.requests.approve(maintainer, 1, run.commit.sha)


class Rivals(Workshop):
    """Somebody else saves the run just before each of the first so many saves of a request."""

    rivals = 0

    def meet(self, times: int) -> None:
        store, save = self.store, self.store.save
        self.rivals = times

        def save_late(*writes: Write, **more: object) -> tuple[Row, ...]:
            if self.rivals and writes[0].kind is Kind.RUN:
                self.rivals -= 1
                row = store.load(Kind.RUN, writes[0].key)
                assert row is not None
                other = {"kind": row.kind, "key": row.key, "phase": row.phase, "state": row.state}
                save(Write.model_validate({**other, "expected": row.version, "because": "a rival"}))
            return save(*writes, **more)  # type: ignore[arg-type]

        store.save = save_late  # type: ignore[method-assign]


@pytest.mark.parametrize("times", [1, 4])
def test_a_request_does_not_lose_to_a_loop_that_saves_at_the_same_time(tmp_path: Path, times: int) -> None:
    shop = Rivals(tmp_path)
    shop.commit()
    shop.push()
    shop.look()
    shop.meet(times)
    assert shop.requests.cancel(BOB, 1, "no need").wish
    assert len(deeds(shop)) == 1


def test_a_request_that_always_loses_is_a_fault_and_leaves_no_entry(tmp_path: Path) -> None:
    shop = Rivals(tmp_path)
    shop.commit()
    shop.push()
    shop.look()
    shop.meet(99)
    with pytest.raises(StaleWrite, match="by others"):
        shop.requests.cancel(BOB, 1, "no need")
    assert deeds(shop) == []


# --- rerun ---


def chain(tmp_path: Path, text: str = CHAIN) -> Workshop:
    shop = Workshop(tmp_path, text)
    shop.write({f"{name}.py": f"# {name}\n" for name in ("features", "train", "evaluate")})
    shop.commit("first")
    shop.push()
    shop.look()
    return shop


def executed(shop: Workshop, number: int) -> list[str]:
    """The user's stages that the run executed."""
    run = shop.run(number)
    return [stage.name for stage in run.plan.stages if stage.kind == "stage" and run.stages[stage.name].attempt]


def test_a_rerun_executes_only_what_did_not_succeed(tmp_path: Path) -> None:
    shop = chain(tmp_path)
    shop.loop.one_pass()
    shop.finish("1/features/1")
    shop.loop.one_pass()
    shop.finish("1/train/1", phase=Phase.FAILED)
    shop.loop.one_pass()
    assert shop.run(1).phase is Phase.FAILED
    again = shop.requests.rerun(BOB, 1)
    assert (again.occasion.kind, again.occasion.by, again.reruns) == ("rerun", "bob", (1,))
    shop.run_all()
    assert shop.run(2).phase is Phase.SUCCEEDED
    assert executed(shop, 2) == ["train", "evaluate"]
    assert shop.run(2).stages["features"].reused == "1/features/1"
    assert "flaky: the same inputs failed in run 1" in shop.run(2).stages["train"].because
    assert deeds(shop) == [("bob", "run again", "run/2")]
    shop.requests.rerun(BOB, 2)
    shop.run_all()
    assert executed(shop, 3) == []
    assert "flaky: the same inputs failed in run 1" in shop.run(3).stages["train"].because


def test_a_rerun_from_a_stage_executes_it_and_all_that_need_it(tmp_path: Path) -> None:
    shop = chain(tmp_path)
    shop.run_all()
    shop.requests.rerun(BOB, 1, "train")
    shop.run_all()
    assert executed(shop, 2) == ["train", "evaluate"]
    with pytest.raises(NotFound, match="did you mean train"):
        shop.requests.rerun(BOB, 1, "trian")


def test_a_rerun_of_a_cancelled_run_goes_on_where_it_was(tmp_path: Path) -> None:
    shop = chain(tmp_path)
    shop.loop.one_pass()
    shop.finish("1/features/1")
    shop.loop.one_pass()
    shop.requests.cancel(BOB, 1, "wait")
    with pytest.raises(Conflict, match="still running"):
        shop.requests.rerun(BOB, 1)
    shop.loop.one_pass()
    shop.requests.rerun(BOB, 1)
    shop.run_all()
    assert executed(shop, 2) == ["train", "evaluate"]


def test_a_stage_with_network_that_succeeded_is_not_executed_again_by_a_rerun_and_is_by_a_push(tmp_path: Path) -> None:
    shop = chain(tmp_path, CHAIN.replace("outs: [features/]", "outs: [features/], network: true"))
    shop.loop.one_pass()
    shop.finish("1/features/1")
    shop.loop.one_pass()
    shop.finish("1/train/1", phase=Phase.FAILED)
    shop.loop.one_pass()
    shop.requests.rerun(BOB, 1)
    shop.run_all()
    assert executed(shop, 2) == ["train", "evaluate"]
    shop.commit("nothing changed")
    shop.push()
    shop.look()
    shop.run_all()
    assert "features" in executed(shop, 3)


def test_one_key_is_one_rerun(tmp_path: Path) -> None:
    shop = chain(tmp_path)
    shop.run_all()
    first = shop.requests.rerun(BOB, 1, "train", "k1")
    assert shop.requests.rerun(BOB, 1, "train", "k1") == first
    for number, stage in ((1, None), (1, "evaluate"), (first.number, "train")):
        with pytest.raises(Conflict, match="idempotency key"):
            shop.requests.rerun(BOB, number, stage, "k1")
    assert len(shop.all_runs()) == 2


def test_a_rerun_is_no_longer_trusted_where_the_settings_say_so(tmp_path: Path) -> None:
    shop = chain(tmp_path)
    shop.run_all()
    shop.set_up(trusted=("release/*",))
    assert not shop.requests.rerun(BOB, 1).is_trusted


def test_a_reproduction_is_not_run_again(tmp_path: Path) -> None:
    shop = chain(tmp_path)
    shop.run_all()
    (run,) = shop.all_runs()
    occasion = Occasion(kind="reproduce", detail="small v1")
    again = reproduce(run, shop.store.number(Kind.RUN), occasion, driver="local:1", plan_digest=run.plan_digest)
    shop.store.save(write_run(again, "reproduce|2"))
    with pytest.raises(Conflict, match="it reproduced another run"):
        shop.requests.rerun(BOB, again.number)


def test_a_local_run_and_a_refused_file_are_not_run_again(shop: Workshop) -> None:
    tree = shop.git.snapshot(str(shop.clone)).model_copy(update={"repository": "small"})
    local = shop.intake.begin_local(tree, "", {}, "local:1", 1.0)
    with pytest.raises(Conflict, match="working tree"):
        shop.requests.rerun(BOB, local.number)
    shop.commit("broken", interlock_yaml="version: 1\nstagez: {}\n")
    shop.push()
    (refused,) = shop.look()
    with pytest.raises(Conflict, match="no plan"):
        shop.requests.rerun(BOB, refused.number)


DELIVERED = PIPELINE + "model: {name: small, path: model/, format: skops}\ndeploy: {production: {strategy: rolling}}\n"


def test_an_older_commit_that_is_run_again_does_not_take_the_place_of_a_newer_one(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, DELIVERED)
    for number, model in ((1, b"one"), (2, b"two")):
        shop.commit(train_py=f"x = {number}\n")
        shop.push()
        shop.look()
        run_with(shop, model)
    assert [row.state["version"] for row in shop.store.rows(Kind.RELEASE)] == ["small/1", "small/2"]
    shop.requests.rerun(BOB, 1)
    run_with(shop, b"one")
    assert shop.run(3).phase is Phase.SUCCEEDED
    assert len(shop.store.rows(Kind.RELEASE)) == 2
    shop.requests.rerun(BOB, 2, "train")
    run_with(shop, b"two again")
    assert [row.state["version"] for row in shop.store.rows(Kind.RELEASE)][-1] == "small/3"


def run_with(shop: Workshop, model: bytes) -> None:
    shop.loop.one_pass()
    while shop.executor.running():
        shop.finish(model=model)
        shop.loop.one_pass()


def test_a_watched_repository_may_be_given_up(shop: Workshop) -> None:
    shop.look()
    shop.run_all()
    shop.requests = type(shop.requests)(shop.store, shop.intake, dict[str, Watched](), lambda: 0.0)
    with pytest.raises(NotFound, match="no repository small"):
        shop.requests.rerun(BOB, 1)
