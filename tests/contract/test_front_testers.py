"""What testers ask of a revision that they name is no evidence of what callers get; it is answered all the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from tests.fronts import GuardedPlane

from interlock.delivery.revision import DataPlaneSeen
from interlock.edges.front import Front

ENVIRONMENT, STABLE, CANDIDATE = "flights/production", "flights.production.r1", "flights.production.r2"
PATH = "/v2/models/flights/infer"
NAMED = {"x-interlock-revision": CANDIDATE}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedPlane]:
    plane = GuardedPlane(tmp_path_factory.mktemp("testers"), Front())
    try:
        plane.serve(CANDIDATE)
        yield plane
    finally:
        plane.end()


def wait(plane: GuardedPlane, holds: Callable[[DataPlaneSeen], bool]) -> DataPlaneSeen:
    until = time.monotonic() + 10
    while not holds(seen := plane.proxy.observe(ENVIRONMENT)):
        assert time.monotonic() < until, seen
        time.sleep(0.05)
    return seen


def answered(seen: DataPlaneSeen) -> int:
    return sum(count for _, _, count in seen.latencies[CANDIDATE].answers)


def test_testers_are_answered_and_counted_apart(plane: GuardedPlane) -> None:
    for status in (200, 200, 200, 500, 503):
        answer = plane.ask(PATH, NAMED | {"x-answer": str(status)})
        assert answer.status == status, "and not tried again"
    seen = wait(plane, lambda seen: seen.loads[CANDIDATE].answered == 5)
    assert (seen.counters[CANDIDATE].requests, seen.counters[CANDIDATE].errors) == (0, 0)
    assert answered(seen) == 0
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 0, CANDIDATE: 100}, 2)
    for status in (200, 200, 500):
        assert plane.ask(PATH, {"x-answer": str(status)}).status == status
    assert plane.ask(PATH, NAMED).status == 200
    seen = wait(plane, lambda seen: seen.loads[CANDIDATE].answered == 9)
    assert (seen.counters[CANDIDATE].requests, seen.counters[CANDIDATE].errors) == (3, 1)
    assert answered(seen) == 3


def test_nobody_hides_their_own_requests(plane: GuardedPlane) -> None:
    before = plane.proxy.observe(ENVIRONMENT).counters[CANDIDATE]
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 0, CANDIDATE: 100}, 3)
    hidden = {"x-envoy-upstream-alt-stat-name": "tester", "x-answer": "500"}
    for _ in range(4):
        assert plane.ask(PATH, hidden).status == 500
    after = wait(plane, lambda seen: seen.counters[CANDIDATE].requests > before.requests).counters[CANDIDATE]
    assert (after.requests - before.requests, after.errors - before.errors) == (4, 4)
