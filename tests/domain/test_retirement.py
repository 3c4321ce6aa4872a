"""A retired environment: nothing of it serves, it leaves without losing a request, and comes back as it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.revisions import revision

from interlock.access.recent import RecentCaller, recent_callers
from interlock.delivery.environment import Environment, desired, differences, examine, needs_previous
from interlock.delivery.holding import Retirement, retired_because
from interlock.delivery.revision import DataPlaneSeen, EndpointSeen, ReplicaSeen

STABLE = revision(2)
SERVING = Environment(
    name="production", model="flights", stable=STABLE, previous=revision(1), weights={STABLE.key: 100}
)
RETIREMENT = Retirement(by="ada", reason="nobody asks it", at=0.0)
RETIRED = SERVING.model_copy(update={"retirement": RETIREMENT})
NAMES = [STABLE.replica(index) for index in range(2)]
IDLE = EndpointSeen(is_healthy=True, is_draining=False)
BUSY = IDLE.model_copy(update={"active": 3})
DRAINING = IDLE.model_copy(update={"is_draining": True})


def world(endpoint: EndpointSeen | None, *, is_retired: bool, replicas: bool = True, weight: int = 0) -> DataPlaneSeen:
    return DataPlaneSeen(
        replicas={name: ReplicaSeen(is_running=True, is_ready=True) for name in NAMES if replicas},
        endpoints={STABLE.key: dict.fromkeys(NAMES, endpoint)} if endpoint else {},
        weights={STABLE.key: weight} if weight else {},
        is_retired=is_retired,
    )


def test_it_leaves_one_act_at_a_time_as_any_revision_does() -> None:
    steps = [
        (world(IDLE, is_retired=False, weight=100), ["retire", "end_lease"]),
        (world(BUSY, is_retired=True), ["end_lease", "drain_endpoints"]),
        (world(DRAINING.model_copy(update={"active": 1}), is_retired=True), ["end_lease"]),
        (world(DRAINING, is_retired=True), ["end_lease", "remove_endpoints"]),
        (world(None, is_retired=True), ["end_lease", "remove_replicas"]),
        (world(None, is_retired=True, replicas=False), ["end_lease"]),
    ]
    for seen, expected in steps:
        assert [act.name for act in differences(RETIRED, seen)] == expected


def test_it_comes_back_once_somebody_is_healthy() -> None:
    unready = world(None, is_retired=True, replicas=False)
    assert [act.name for act in differences(SERVING, unready)] == ["ensure_replicas", "end_lease"]
    ready = differences(SERVING, world(IDLE, is_retired=True))
    assert [act.name for act in ready] == ["ensure_replicas", "ensure_endpoints", "ensure_weights", "end_lease"]
    assert ready[2].weights == {STABLE.key: 100}


def test_what_never_served_and_is_restored_says_again_that_nothing_serves() -> None:
    empty = Environment(name="production", model="flights")
    (weights, _) = differences(empty, DataPlaneSeen(is_retired=True))
    assert (weights.name, weights.weights) == ("ensure_weights", {})


@given(st.booleans(), st.sampled_from([None, IDLE, BUSY, DRAINING]), st.integers(0, 100), st.booleans())
def test_whatever_the_world_looks_like_it_gets_nothing(
    is_retired: bool, endpoint: EndpointSeen | None, weight: int, replicas: bool
) -> None:
    seen = world(endpoint, is_retired=is_retired, replicas=replicas, weight=weight)
    names = {act.name for act in differences(RETIRED, seen)}
    assert not names & {"ensure_replicas", "ensure_endpoints", "ensure_weights", "renew_lease"}
    assert desired(RETIRED).revisions == ()


def test_its_dying_replicas_are_no_trouble_and_bring_nothing_back() -> None:
    ill = ReplicaSeen(is_running=False, is_ready=False, restarts=9, problem="no memory")
    seen = DataPlaneSeen(replicas=dict.fromkeys(NAMES, ill))
    assert needs_previous(examine(SERVING, seen))
    assert not needs_previous(examine(RETIRED, seen))


def test_why_it_was_retired_is_told() -> None:
    assert retired_because(RETIREMENT) == "retired by ada at 1970-01-01 00:00 UTC: nobody asks it"


def test_who_asked_lately_is_told_by_key_or_address_the_most_frequent_first() -> None:
    def line(path: str, time: str, **more: str | None) -> dict[str, str | None]:
        return {"path": path, "time": time, "listener": "production", "address": "10.0.0.7", **more}

    lines = [
        line("/v2/models/flights/infer", "2027-01-02", key="batch"),
        line("/v2/models/flights/infer", "2027-01-03", key="batch"),
        line("/v2/models/flights/infer", "2027-01-01", key="batch"),
        line("/v2/models/flights", "2027-01-01"),
        line("/v2/models/flights/infer", "2027-01-01", key=None, listener="staging"),
        line("/v2/models/flights-and-more/infer", "2027-01-01", key="other"),
        line("/v2/models/delays/infer", "2027-01-01", key="other"),
        {"path": "/v2/models/flights/infer", "time": "2026-01-01", "listener": "staging"},
        {},
    ]
    assert recent_callers(lines, "flights") == [
        RecentCaller(who="batch", environment="flights/production", lines=3, last="2027-01-03"),
        RecentCaller(who="10.0.0.7", environment="flights/production", lines=1, last="2027-01-01"),
        RecentCaller(who="10.0.0.7", environment="flights/staging", lines=1, last="2027-01-01"),
        RecentCaller(who="unknown", environment="flights/staging", lines=1, last="2026-01-01"),
    ]
