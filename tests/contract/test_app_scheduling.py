"""What stages cost is remembered and decides on turns, memory and estimates; graphics processors are handed out."""

from pathlib import Path

import pytest
from tests.workshop import Workshop

from interlock.errors import SeveralRefused
from interlock.run.run import Run
from interlock.run.scheduling.costs import GIB
from interlock.run.stage import StageOutcome
from interlock.vocabulary import Kind, Phase

BRANCHES = """\
version: 1
checks: []
stages:
  quick: {cmd: python quick.py, deps: [quick.py]}
  slow: {cmd: python slow.py, deps: [slow.py], outs: [slow/]}
  slower: {cmd: python slower.py, deps: [slow/]}
"""
SCRIPTS = {"quick.py": "x = 1\n", "slow.py": "x = 1\n", "slower.py": "x = 1\n"}


def pushed(shop: Workshop, message: str, **files: str) -> None:
    shop.commit(message, **files)
    shop.push()
    shop.look()


def end(shop: Workshop, attempt: str, phase: Phase = Phase.SUCCEEDED, **more: object) -> None:
    """Ends an attempt that made whatever its stage has to make, and read its own script."""
    stage = attempt.split("/")[1]
    request = next(one for one in shop.executor.started if one.attempt == attempt)
    products = {path: shop.blobs.put_files({"made": attempt.encode()}) for path in request.stage.products}
    told = {"phase": phase, "because": f"it {phase}", "products": products, "reads": (f"{stage}.py",), **more}
    shop.executor.finish(attempt, StageOutcome.model_validate(told))


def end_all(shop: Workshop, **seconds: float) -> None:
    """Passes until nothing runs; every attempt takes so long, by stage."""
    shop.loop.one_pass()
    while running := sorted(shop.executor.running()):
        for attempt in running:
            end(shop, attempt, seconds=seconds.get(attempt.split("/")[1], 1.0), cpu_seconds=2.0)
        shop.loop.one_pass()


def started(shop: Workshop) -> list[str]:
    return [request.attempt for request in shop.executor.started]


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    shop = Workshop(tmp_path, BRANCHES, cores=1)
    shop.write(SCRIPTS)
    return shop


def test_the_longest_way_by_what_was_measured_goes_first_the_next_time(shop: Workshop) -> None:
    pushed(shop, "first")
    end_all(shop, quick=30.0, slow=2.0, slower=3.0)
    pushed(shop, "all change", quick_py="x = 2\n", slow_py="x = 2\n", slower_py="x = 2\n")
    shop.restart()  # what was measured is remembered by the store
    end_all(shop, quick=30.0, slow=2.0, slower=3.0)
    assert started(shop) == ["2/quick/1", "2/slow/1", "2/slower/1"]
    pushed(shop, "again", quick_py="x = 3\n", slow_py="x = 3\n", slower_py="x = 3\n")
    end_all(shop, quick=1.0, slow=90.0, slower=90.0)
    for number in (4, 5, 6):
        pushed(shop, f"and again {number}", quick_py=f"x = {number}\n", slow_py=f"x = {number}\n")
        end_all(shop, quick=1.0, slow=90.0, slower=90.0)
    assert started(shop)[-3:] == ["6/slow/1", "6/slower/1", "6/quick/1"]


def test_a_run_knows_what_it_will_take_when_it_is_known_what_runs(shop: Workshop) -> None:
    pushed(shop, "first")
    end_all(shop, quick=4.0, slow=10.0, slower=20.0)
    first = shop.run(1).estimate
    assert first is not None
    assert str(first) == "unknown (never measured: quick, slow, slower)"
    pushed(shop, "change", slow_py="x = 2\n")
    shop.loop.one_pass()
    found = shop.run(2).estimate
    assert found is not None
    assert found.stages == {"slow": 10.0, "slower": 20.0}
    assert (found.seconds, found.cpu_seconds) == (30.0, 4.0)
    assert Run.model_validate(shop.run(2).model_dump(mode="json")) == shop.run(2)


def test_runs_from_outside_leave_no_costs_behind(shop: Workshop) -> None:
    pushed(shop, "first")
    shop.loop.one_pass()
    outside = shop.run(1).model_copy(update={"scope": "pull/7"})
    outcome = StageOutcome(phase=Phase.SUCCEEDED, because="well", seconds=1.0)
    assert shop.costs.facts_of(outside, "slow", outcome) == []
    assert shop.costs.facts_of(shop.run(1), "slow", outcome.model_copy(update={"phase": Phase.FAILED})) == []
    assert len(shop.costs.facts_of(shop.run(1), "slow", outcome)) == 1
    assert shop.costs.of(outside) == {}


def test_the_last_executions_count_and_stages_of_other_projects_do_not(shop: Workshop) -> None:
    pushed(shop, "first")
    run = shop.run(1)
    for seconds in (100.0, 100.0, 100.0, 1.0, 2.0, 3.0, 4.0, 5.0):
        outcome = StageOutcome(phase=Phase.SUCCEEDED, because="well", seconds=seconds, peak_memory=int(seconds))
        shop.store.save(facts=shop.costs.facts_of(run, "slow", outcome))
    (known,) = shop.costs.of(run).values()
    assert (known.seconds, known.peak_memory, known.runs) == (3.0, 5, 5)
    elsewhere = run.model_copy(update={"plan": run.plan.model_copy(update={"project": "other"})})
    assert shop.costs.of(elsewhere) == {}


def test_memory_that_a_stage_was_seen_to_use_is_kept_free_for_it(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, BRANCHES, cores=8, memory=10 * GIB)
    shop.write(SCRIPTS)
    pushed(shop, "first")
    shop.loop.one_pass()
    end(shop, "1/quick/1", peak_memory=4 * GIB)
    end(shop, "1/slow/1", peak_memory=5 * GIB)
    end_all(shop)
    pushed(shop, "change", quick_py="x = 2\n", slow_py="x = 2\n")
    shop.loop.one_pass()
    assert shop.executor.running() == {"2/slow/1"}
    assert shop.run(2).stages["quick"].because == "waits for 5 GiB, 3.75 GiB free: run 2/slow uses 6.25 GiB"
    end(shop, "2/slow/1")
    shop.loop.one_pass()
    assert "2/quick/1" in shop.executor.running()


DEVICES = """\
version: 1
checks: []
stages:
  pair: {cmd: python pair.py, deps: [pair.py], resources: {gpu: 2}}
  one: {cmd: python one.py, deps: [one.py], resources: {gpu: 1}}
  plain: {cmd: python plain.py, deps: [plain.py]}
"""


def test_each_stage_has_graphics_processors_of_its_own(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, DEVICES, gpus=("GPU-a", "GPU-b", "GPU-c"))
    shop.write({"pair.py": "", "one.py": "", "plain.py": ""})
    pushed(shop, "first")
    shop.loop.one_pass()
    given = {request.stage.name: request.gpus for request in shop.executor.started}
    assert given["plain"] == ()
    assert len(given["pair"]) == 2
    assert sorted((*given["pair"], *given["one"])) == ["GPU-a", "GPU-b", "GPU-c"]
    end(shop, "1/one/1")
    end(shop, "1/plain/1")
    pushed(shop, "second", pair_py="x = 2\n")
    shop.loop.one_pass()
    assert shop.run(2).stages["pair"].because == "waits for 2 GPUs, 1 free: run 1/pair uses 2"
    end(shop, "1/pair/1")
    shop.loop.one_pass()
    assert shop.executor.started[-1].attempt == "2/pair/1"
    assert len(set(shop.executor.started[-1].gpus)) == 2


def test_what_was_given_before_a_restart_is_not_given_twice(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, DEVICES, gpus=("GPU-a", "GPU-b", "GPU-c"))
    shop.write({"pair.py": "", "one.py": "", "plain.py": ""})
    pushed(shop, "first")
    shop.loop.one_pass()
    shop.restart()
    shop.loop.one_pass()
    running = [request for request in shop.executor.started if request.attempt in shop.executor.running()]
    given = [gpu for request in running for gpu in request.gpus]
    assert sorted(given) == ["GPU-a", "GPU-b", "GPU-c"]


def test_a_machine_without_graphics_processors_refuses_the_plan_and_one_that_lost_them_the_run(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, DEVICES, gpus=("GPU-a", "GPU-b"))
    shop.write({"pair.py": "", "one.py": "", "plain.py": ""})
    pushed(shop, "first")
    shop.capacity = shop.capacity._replace(gpus=("GPU-a",))
    shop.restart()
    shop.loop.one_pass()
    run = shop.run(1)
    assert run.phase is Phase.FAILED
    assert "pair asks for 2 GPUs, and this machine has 1" in run.because
    pushed(shop, "second", plain_py="x = 2\n")
    refused = shop.run(2)
    assert (refused.phase, len(refused.problems)) == (Phase.FAILED, 1)
    assert "pair asks for 2 GPUs, and this machine has 1" in str(refused.problems[0])
    assert refused.problems[0].line == 4
    with pytest.raises(SeveralRefused, match="asks for 2 GPUs"):
        shop.intake.plan(shop.git.commit("small", str(shop.origin), "refs/heads/main"), "", {})


# --- faults ---


def test_a_stage_that_erred_is_tried_again_when_its_pause_is_over(shop: Workshop) -> None:
    pushed(shop, "first")
    shop.loop.one_pass()
    (attempt,) = shop.executor.running()
    stage = attempt.split("/")[1]
    end(shop, attempt, Phase.ERRORED, because="the disk is full")
    shop.loop.one_pass()
    paused = shop.run(1).stages[stage]
    assert paused.phase is Phase.QUEUED
    assert "is tried again in 1." in paused.because
    others = shop.executor.running()
    assert others  # its place is not kept while it pauses
    for one in others:
        end(shop, one)
    writes = len(shop.store.events(Kind.RUN, "1"))
    shop.loop.one_pass()
    shop.now += 2.0
    for one in sorted(shop.executor.running()):
        end(shop, one)
    shop.loop.one_pass()
    assert f"1/{stage}/2" in started(shop)
    assert len(shop.store.events(Kind.RUN, "1")) > writes
    end_all(shop)
    assert shop.run(1).phase is Phase.SUCCEEDED


# --- gates that cannot pass any more ---

GATED = """\
version: 1
checks: []
stages:
  evaluate: {cmd: python evaluate.py, deps: [evaluate.py], metrics: [metrics.json]}
  explain: {cmd: python explain.py, deps: [metrics.json], outs: [why/]}
gates: [{metric: auc, min: 0.7}]
"""


@pytest.mark.parametrize(("auc", "phase"), [(0.64, Phase.FAILED), (0.81, Phase.SUCCEEDED)])
def test_a_run_ends_as_soon_as_a_metric_is_measured_that_breaks_its_limit(
    tmp_path: Path, auc: float, phase: Phase
) -> None:
    shop = Workshop(tmp_path, GATED)
    shop.write({"evaluate.py": "", "explain.py": ""})
    pushed(shop, "first")
    shop.loop.one_pass()
    end(shop, "1/evaluate/1")
    shop.loop.one_pass()
    assert shop.executor.running() == {"1/explain/1", "1/measurements/1"}
    end(shop, "1/measurements/1", report={"metrics": {"auc": auc}, "invalid": {}})
    shop.loop.one_pass()
    run = shop.run(1)
    if phase is Phase.SUCCEEDED:
        assert run.phase is Phase.RUNNING
        assert run.limits is not None
        saved = len(shop.store.events(Kind.RUN, "1"))
        shop.loop.one_pass()
        assert len(shop.store.events(Kind.RUN, "1")) == saved  # judged once, not at every look
        end_all(shop)
        assert shop.run(1).phase is Phase.SUCCEEDED
    else:
        assert (run.phase, run.because) == (Phase.FAILED, "gates fail: auc min 0.7: 0.64 is below min 0.7")
        assert shop.executor.running() == frozenset()
        assert run.stages["explain"].phase is Phase.CANCELLED
