"""Live, with real Envoy and model servers: what answers wrongly is rolled back by labels alone.

One of twenty; ``make bad-revisions`` plays all of them, and twenty good ones.
"""

import importlib.util
import sys
import time
from pathlib import Path

import pytest

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


def test_a_revision_that_answers_wrongly_is_rolled_back_by_its_labels(benchmark, tmp_path) -> None:
    flights = benchmark.Flights(tmp_path)
    site = benchmark.Site(tmp_path, flights)
    load = None
    try:
        # Given a revision that serves, its traffic and its labels
        load = benchmark.Load(site.proxy.endpoint(benchmark.KEY), flights, 60.0)
        site.begin()
        time.sleep(2.0)
        site.settle()
        # When a revision is rolled out that is as quick as it is wrong
        ended, verdict = site.roll_out("wrong output", benchmark.BAD["wrong output"][0])
        # Then it is rolled back for that reason, and gets no request any more
        assert (ended.phase, "accuracy" in ended.because) == ("rolled_back", True), ended.because
        time.sleep(0.5)
        assert load.last_begun()[ended.candidate.key] - verdict < 0.5  # make bad-revisions measures it
    finally:
        if load is not None:
            load.close()
        site.close()
