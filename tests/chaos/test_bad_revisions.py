"""Live, with real Envoy and model servers: what is slow, and what is wrong, is rolled back by live evidence alone.

Two of twenty; ``make bad-revisions`` plays all of them, and twenty good ones.
"""

import importlib.util
import sys
import time
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bad_revisions.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("bad_revisions", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bad_revisions"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bad_revisions"]


def test_slow_and_wrong_revisions_are_rolled_back_by_live_evidence(benchmark, tmp_path) -> None:
    flights = benchmark.Flights(tmp_path)
    site = benchmark.Site(tmp_path, flights)
    load = None
    try:
        # Given a revision that serves, its traffic and its labels
        load = benchmark.Load(site.proxy.endpoint(benchmark.KEY), flights, 60.0)
        site.begin()
        time.sleep(2.0)
        for kind, evidence in (("slow", "latency_p95_ms"), ("wrong output", "accuracy")):
            site.settle()
            # When such a revision is rolled out
            ended, verdict = site.roll_out(kind, benchmark.BAD[kind][0])
            # Then it is rolled back for that reason, and gets no request any more
            assert (ended.phase, evidence in ended.because) == ("rolled_back", True), ended.because
            time.sleep(0.5)
            assert load.last_begun()[ended.candidate.key] - verdict < 0.5  # make bad-revisions measures it
    finally:
        if load is not None:
            load.close()
        site.close()
