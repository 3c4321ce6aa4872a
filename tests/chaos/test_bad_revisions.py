"""Live, with real Envoy and model servers: what answers wrongly is rolled back by labels alone, also by those that come
when it has passed all steps; what is given copies of requests first is found before a caller meets it.

A few of more than twenty; ``make bad-revisions`` plays all of them, and twenty good ones.
"""

import importlib.util
import statistics
import sys
import time
from pathlib import Path

import pytest

from interlock.delivery.looks.replaying import replay
from interlock.pipeline.canaries.plan import StepPlan
from interlock.vocabulary import Kind

pytestmark = pytest.mark.xdist_group("bad revisions")  # one site for all of them

QUICK = (StepPlan(set_weight=50), StepPlan(analysis=1.0), StepPlan(set_weight=100))
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bad_revisions.py"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.append(str(BENCHMARK.parent))
    spec = importlib.util.spec_from_file_location("bad_revisions", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bad_revisions"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bad_revisions"]
    sys.path.remove(str(BENCHMARK.parent))


@pytest.fixture(scope="module")
def live(benchmark, tmp_path_factory):
    """A revision that serves, its traffic and its labels."""
    folder = tmp_path_factory.mktemp("live")
    flights = benchmark.Flights(folder)
    site = benchmark.Site(folder, flights)
    load = None
    try:
        load = benchmark.Load(site.proxy.endpoint(benchmark.KEY), flights, 60.0)
        site.begin()
        time.sleep(2.0)
        site.settle()
        yield site, load
    finally:
        load.close()
        site.close()


def test_a_revision_that_answers_wrongly_is_rolled_back_by_its_labels(benchmark, live) -> None:
    site, load = live
    # When a revision is rolled out that is as quick as it is wrong
    ended, verdict = site.roll_out("wrong output", benchmark.BAD["wrong output"][0])
    # Then it is rolled back for that reason, and gets no request any more
    assert (ended.phase, "accuracy" in ended.because) == ("rolled_back", True), ended.because
    time.sleep(0.5)
    assert load.last_begun()[ended.candidate.key] - verdict < 0.5  # make bad-revisions measures it


def test_a_revision_that_is_wrong_for_one_carrier_alone_is_rolled_back_by_its_slice(benchmark, live) -> None:
    # Given a canary that judges two carriers by themselves
    site, _ = live
    site.settle()
    strategy = benchmark.SLICED.strategy
    accuracy = [metric for metric in strategy.analysis.metrics if metric.slices]
    analysis = strategy.analysis.model_copy(update={"metrics": tuple(accuracy), "alpha": 0.05})
    plan = benchmark.SLICED.model_copy(update={"strategy": strategy.model_copy(update={"analysis": analysis})})
    # When a revision is rolled out that answers a sixth of the requests wrongly, and all others as before
    ended, _ = site.roll_out("one carrier", benchmark.BAD["one carrier"][0], plan)
    # Then that carrier is what takes it back, and the same follows from what was stored
    assert (ended.phase, ended.because.partition(":")[0]) == ("rolled_back", "accuracy of carrier=UA"), ended.because
    assert replayed(site, ended) == ()


@pytest.mark.parametrize(("kind", "reason"), [("wrong output", "agreement"), ("hang", "errors")])
def test_a_bad_revision_is_found_by_copies_and_no_caller_meets_it(benchmark, live, kind, reason) -> None:
    # Given a canary that begins with copies
    site, load = live
    site.settle()
    load.callers()
    time.sleep(1.0)
    _, before = load.callers()
    # When a bad revision is rolled out
    ended, _ = site.roll_out(f"{kind}, copied", benchmark.BAD[kind][0], benchmark.MIRRORED)
    # Then it is rolled back for that reason, or for crashing, while callers were answered as before
    assert ended.phase == "rolled_back", ended.because
    assert reason in ended.because or "crashed 3 times" in ended.because, ended.because
    failed, during = load.callers()
    assert ended.candidate.key not in load.last_begun()
    assert (failed, len(during) > 60) == (0, True)
    # On a busy machine: who waited for what hangs would wait for seconds.
    assert statistics.median(during) < 3.0 * statistics.median(before) + 0.02
    assert replayed(site, ended) == ()


def test_late_labels_take_a_revision_back_that_has_passed_all_steps(benchmark, live) -> None:
    site, load = live
    site.settle()
    load.callers()
    # When the same is rolled out where labels are late: in the steps nothing speaks against it
    strategy = benchmark.ON_PROBATION.strategy.model_copy(update={"steps": QUICK})
    plan = benchmark.ON_PROBATION.model_copy(update={"strategy": strategy})
    ended, verdict = site.roll_out("late labels", benchmark.BAD["late labels"][0], plan)
    # Then it has passed them, and is rolled back on probation by the labels that came since
    assert (ended.phase, ended.is_on_probation, "accuracy" in ended.because) == ("rolled_back", True, True), ended
    # And no request failed, stable has all of them, and the next push does not bring it again
    time.sleep(0.5)
    assert load.last_begun()[ended.candidate.key] - verdict < 0.5
    assert load.callers()[0] == 0
    environment, _ = site.environment()
    assert environment.weights == {ended.stable.key: 100}
    assert environment.freeze is not None
    assert environment.freeze.until is None


def replayed(site, ended):
    """What comes out otherwise when every decision is made again from the stored looks."""
    events = site.store.events(Kind.ROLLOUT, ended.key)
    return replay(ended, events).differences
