"""Live, with real Envoy and model servers: what answers wrongly is rolled back by labels alone, also by those that come
when it has passed all steps.

Two of more than twenty; ``make bad-revisions`` plays all of them, and twenty good ones.
"""

import importlib.util
import sys
import time
from pathlib import Path

import pytest

from interlock.pipeline.plan import StepPlan

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
    folder = tmp_path_factory.mktemp("bad")
    flights = benchmark.Flights(folder)
    site = benchmark.Site(folder, flights)
    load = benchmark.Load(site.proxy.endpoint(benchmark.KEY), flights, 60.0)
    try:
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


def test_late_labels_take_a_revision_back_that_has_passed_all_steps(benchmark, live) -> None:
    site, load = live
    site.settle()
    failed = load.failed()
    # When the same is rolled out where labels are late: in the steps nothing speaks against it
    strategy = benchmark.ON_PROBATION.strategy.model_copy(update={"steps": QUICK})
    plan = benchmark.ON_PROBATION.model_copy(update={"strategy": strategy})
    ended, verdict = site.roll_out("late labels", benchmark.BAD["late labels"][0], plan)
    # Then it has passed them, and is rolled back on probation by the labels that came since
    assert (ended.phase, ended.is_on_probation, "accuracy" in ended.because) == ("rolled_back", True, True), ended
    # And no request failed, stable has all of them, and the next push does not bring it again
    time.sleep(0.5)
    assert load.last_begun()[ended.candidate.key] - verdict < 0.5
    assert load.failed() == failed
    environment, _ = site.environment()
    assert environment.weights == {ended.stable.key: 100}
    assert environment.freeze is not None
    assert environment.freeze.until is None
