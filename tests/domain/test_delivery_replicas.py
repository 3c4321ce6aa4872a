"""An environment with more or fewer replicas than before: what is made so, and what never happens on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.revisions import scaled_revision

from interlock.delivery.advance import advance
from interlock.delivery.environment import (
    Act,
    Environment,
    desired,
    differences,
    enter,
    examine,
    follow,
    needs_previous,
    scaled,
)
from interlock.delivery.revision import DataPlaneSeen, EndpointSeen, ReplicaSeen, Revision
from interlock.delivery.rollout import RolloutPhase, RolloutSeen, begin
from interlock.pipeline.plan import EnvironmentPlan, ScalingPlan

REVISION = scaled_revision(ScalingPlan(most=6))
NEXT = REVISION.model_copy(update={"number": 2, "version": 2})
FIXED = REVISION.model_copy(update={"scaling": None})


def serving(replicas: int | None, revision: Revision = REVISION) -> Environment:
    weights = {revision.key: 100}
    return Environment(name="production", model="flights", stable=revision, weights=weights, replicas=replicas)


def world(endpoints: dict[int, EndpointSeen], replicas: int, problem: str | None = None) -> DataPlaneSeen:
    return DataPlaneSeen(
        replicas={REVISION.replica(index): ReplicaSeen(is_running=True, is_ready=True) for index in range(replicas)},
        endpoints={REVISION.key: {REVISION.replica(i): one for i, one in endpoints.items()}} if endpoints else {},
        weights={REVISION.key: 100},
        problem=problem,
    )


IDLE = EndpointSeen(is_healthy=True, is_draining=False)
BUSY = EndpointSeen(is_healthy=True, is_draining=False, active=3)
DRAINING = EndpointSeen(is_healthy=True, is_draining=True, active=3)
DRAINED = EndpointSeen(is_healthy=True, is_draining=True)


def find(acts: tuple[Act, ...], name: str) -> Act | None:
    return next((act for act in acts if act.name == name), None)


def endpoint_indices(act: Act | None) -> tuple[list[int], list[int]]:
    assert act is not None
    return [int(n.rpartition(".")[2]) for n in act.replicas], [int(n.rpartition(".")[2]) for n in act.draining]


def test_a_revision_has_what_the_load_asks_for_within_its_own_bounds() -> None:
    wished = {count: desired(serving(count)).revisions[0].replicas for count in (None, 1, 2, 5, 9)}
    assert wished == {None: 2, 1: 2, 2: 2, 5: 5, 9: 6}
    assert scaled(serving(5, FIXED), FIXED).replicas == 2


def test_one_that_is_no_longer_needed_leaves_step_by_step() -> None:
    environment = serving(2)
    acts = differences(environment, world({0: IDLE, 1: IDLE, 2: BUSY}, 3))
    assert endpoint_indices(find(acts, "ensure_endpoints")) == ([0, 1, 2], [2])
    assert find(acts, "remove_replicas") is None
    acts = differences(environment, world({0: IDLE, 1: IDLE, 2: DRAINING}, 3))
    assert endpoint_indices(find(acts, "ensure_endpoints")) == ([0, 1, 2], [2])
    assert find(acts, "remove_replicas") is None
    acts = differences(environment, world({0: IDLE, 1: IDLE, 2: DRAINED}, 3))
    assert endpoint_indices(find(acts, "ensure_endpoints")) == ([0, 1], [])
    assert find(acts, "remove_replicas") is None
    acts = differences(environment, world({0: IDLE, 1: IDLE}, 3))
    assert find(acts, "remove_replicas") == Act(name="remove_replicas", revision=REVISION.key, beyond=2)
    acts = differences(environment, world({0: IDLE, 1: IDLE}, 2))
    assert find(acts, "remove_replicas") is None


def test_one_that_is_needed_again_before_it_left_stays() -> None:
    acts = differences(serving(3), world({0: IDLE, 1: IDLE, 2: DRAINING}, 3))
    assert endpoint_indices(find(acts, "ensure_endpoints")) == ([0, 1, 2], [])


def test_while_the_proxy_cannot_be_read_nothing_is_cut_off() -> None:
    acts = differences(serving(2), world({}, 3, problem="no answer"))
    assert find(acts, "ensure_endpoints") is None
    assert find(acts, "remove_replicas") is None


def test_a_candidate_gets_traffic_only_with_as_many_as_the_load_asks_for() -> None:
    environment = serving(4)
    rollout = begin(
        1,
        NEXT,
        REVISION,
        EnvironmentPlan(name="production"),
        release=None,
        now=0.0,
        replicas=scaled(environment, NEXT).replicas,
    )
    environment = enter(environment, rollout)
    assert [revision.replicas for revision in desired(environment).revisions] == [4, 4]
    healthy = {NEXT.replica(index): IDLE for index in range(4)}
    few = DataPlaneSeen(endpoints={NEXT.key: dict(list(healthy.items())[:3])}, weights={REVISION.key: 100})
    assert advance(rollout, RolloutSeen(plane=few), 1.0).state.weight == 0
    all_four = few.model_copy(update={"endpoints": {NEXT.key: healthy}})
    assert advance(rollout, RolloutSeen(plane=all_four), 1.0).state.weight == 100
    ended = rollout.model_copy(update={"phase": RolloutPhase.PROMOTED})
    assert [revision.replicas for revision in desired(follow(environment, ended)).revisions] == [4]


def test_without_a_stable_revision_or_with_replicas_that_live_there_is_no_trouble() -> None:
    empty = Environment(name="p", model="m")
    assert examine(empty, DataPlaneSeen()) == empty
    assert examine(serving(4), world({}, 3)) == serving(4)


def test_a_revision_of_which_no_replica_can_live_needs_the_previous_one_if_there_is_one() -> None:
    ill = ReplicaSeen(is_running=False, is_ready=False, restarts=2, problem="no memory")
    seen = world({}, 4).model_copy(update={"replicas": {REVISION.replica(index): ill for index in range(6)}})
    told = "4 of 4 replicas cannot live: flights.production.r1.0 was started 3 times: no memory"
    found = examine(serving(4), seen)
    assert (found.trouble, found.is_dead) == (told, False)
    worse = ill.model_copy(update={"restarts": 3})
    seen = seen.model_copy(update={"replicas": {REVISION.replica(index): worse for index in range(6)}})
    dead = examine(serving(4), seen)
    assert dead.is_dead
    assert not needs_previous(dead)
    assert needs_previous(dead.model_copy(update={"previous": NEXT}))
    assert not needs_previous(dead.model_copy(update={"previous": NEXT, "rollout": 3}))
    seen.replicas[REVISION.replica(0)] = ReplicaSeen(is_running=True, is_ready=True)
    assert not examine(serving(4), seen).is_dead


@given(
    st.integers(2, 6),
    st.dictionaries(st.integers(0, 6), st.sampled_from([IDLE, BUSY, DRAINING, DRAINED]), max_size=7),
    st.integers(0, 7),
    st.sampled_from([None, "no answer"]),
)
def test_in_any_world_no_request_in_flight_is_cut_off(
    wanted: int, endpoints: dict[int, EndpointSeen], replicas: int, problem: str | None
) -> None:
    acts = differences(serving(wanted), world(endpoints, replicas, problem))
    written = find(acts, "ensure_endpoints")
    if written is not None and problem is None:
        known, draining = endpoint_indices(written)
        assert set(range(wanted)) <= set(known)
        assert not set(draining) & set(range(wanted))
        for index, endpoint in endpoints.items():
            assert index in known or (endpoint.is_draining and not endpoint.active)
    removed = find(acts, "remove_replicas")
    assert removed is None or (problem is None and removed.beyond == wanted)
