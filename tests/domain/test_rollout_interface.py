"""Who is asked whose golden requests, and what follows from it."""

import pytest
from tests.looks import decide
from tests.revisions import revision

from interlock.delivery.looks.interface import breach, rehearsal_waits_for, rehearsals
from interlock.delivery.looks.replaying import replay
from interlock.delivery.revision import DataPlaneSeen, EndpointSeen, ReplicaSeen, Revision
from interlock.delivery.rollout import Rollout, RolloutPhase, RolloutSeen, begin
from interlock.pipeline.plan import EnvironmentPlan
from interlock.vocabulary import Digest, Event


def golden(letter: str) -> Digest:
    return Digest(f"blake3:{letter}")


def one(number: int, letter: str | None) -> Revision:
    return revision(number).model_copy(update={"golden": golden(letter) if letter else None})


def rollout(before: str | None = "a", after: str | None = "b", release: int | None = 5, **changed: object) -> Rollout:
    plan = EnvironmentPlan(name="production")
    return begin(4, one(2, after), one(1, before), plan, release=release, now=0.0).model_copy(update=changed)


def plane(*ready: int) -> DataPlaneSeen:
    both = (one(1, None), one(2, None))
    return DataPlaneSeen(
        replicas={each.replica(0): ReplicaSeen(is_running=True, is_ready=each.number in ready) for each in both},
        endpoints={
            each.key: {each.replica(index): EndpointSeen(is_healthy=each.number in ready, is_draining=False)}
            for each in both
            for index in range(2)
        },
    )


R1, R2 = one(1, None).key, one(2, None).key


@pytest.mark.parametrize(
    ("asked", "ready", "expected"),
    [
        (rollout(), (1, 2), [(R1, "b"), (R2, "a")]),
        (rollout(), (1,), [(R1, "b")]),  # the candidate is starting
        (rollout(), (2,), [(R2, "a")]),  # stable is dead: there is nothing to go back to
        (rollout(answering=(R1,)), (1, 2), [(R2, "a")]),
        (rollout(after="a"), (1, 2), []),  # each has answered them at its start
        (rollout(before=None), (1, 2), [(R1, "b")]),
        (rollout(after=None), (1, 2), [(R2, "a")]),
        (rollout(release=None), (1, 2), []),  # the way back
        (rollout(weight=5), (1, 2), []),  # callers meet it already
        (rollout(mirrored=5), (1, 2), []),
        (rollout(stable=None), (1, 2), []),
    ],
)
def test_who_is_asked_whose_golden_requests(
    asked: Rollout, ready: tuple[int, ...], expected: list[tuple[str, str]]
) -> None:
    found = rehearsals(asked, plane(*ready))
    assert [(each.revision.key, each.golden) for each in found] == [(key, golden(of)) for key, of in expected]
    assert (rehearsal_waits_for(asked, plane(*ready)) is None) == (not expected)


def test_what_is_not_answered_is_told_with_what_to_do() -> None:
    refused = RolloutSeen(plane=plane(1, 2), unanswered={R2: "400, missing inputs: 'x'"})
    told = breach(rollout(), refused)
    assert told is not None
    assert told.startswith("flights v2 does not answer golden requests of flights v1: 400, missing inputs: 'x'; let it")
    back = breach(rollout(), RolloutSeen(plane=plane(1, 2), unanswered={R1: "500", R2: ""}))
    assert back is not None
    assert "flights v1 does not answer golden requests of flights v2, so there would be no way back to it: 500" in back
    assert breach(rollout(stable=None), RolloutSeen(plane=plane(2), unanswered={R2: "400"})) is None


def test_nothing_moves_before_both_have_answered_and_it_is_decided_the_same_again() -> None:
    state, events = rollout(), [Event.model_construct(observed={})]
    state = decide(state, RolloutSeen(plane=plane(1)), 1.0, events)
    assert "whether flights v1 answers the golden requests of flights v2 is not known yet" in state.because
    state = decide(state, RolloutSeen(plane=plane(1), unanswered={R1: ""}), 2.0, events)
    assert "is starting" in state.because
    whole = plane(1, 2)
    healthy = {one(2, None).replica(index): EndpointSeen(is_healthy=True, is_draining=False) for index in range(2)}
    whole = whole.model_copy(update={"endpoints": {R2: healthy}})
    state = decide(state, RolloutSeen(plane=whole), 3.0, events)
    assert (state.weight, state.answering) == (0, (R1,))
    passed = decide(state, RolloutSeen(plane=whole, unanswered={R2: ""}), 4.0, list(events))
    assert (passed.weight, passed.answering) == (100, (R1, R2))
    ended = decide(state, RolloutSeen(plane=whole, unanswered={R2: "400"}), 4.0, events)
    assert ended.phase is RolloutPhase.CANCELLED
    assert not replay(ended, events).differences
    assert replay(ended, events).decisions == len(events) - 1
