"""Approvals: releases that wait for people before an environment, and rollouts that wait for them at a step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domain.test_delivery import PRODUCTION, STAGING, version
from tests.domain.test_rollout import CANARY, CANDIDATE, STABLE, World, play
from tests.domain.test_rollout_steering import look, seen_event
from tests.looks import event

from interlock.delivery import release as releases
from interlock.delivery.advance import advance
from interlock.delivery.holding import Approval, people_of, unapproved_because
from interlock.delivery.looks.replaying import of_interest, replay
from interlock.delivery.release import Release, ReleasePhase, ReleaseSeen
from interlock.delivery.rollout import Order, OrderName, Rollout, RolloutPhase, RolloutSeen, begin
from interlock.delivery.steering import ORDER, obey
from interlock.errors import Conflict, Refused
from interlock.pipeline.canaries.plan import StepPlan
from interlock.registry.admission import Admission
from interlock.source.commit import is_author

ADMITTED = ReleaseSeen(admission=Admission(is_admitted=True, because="all well"), next_rollout=7)


def release(needed: int, **more: object) -> Release:
    deploy = (STAGING, PRODUCTION.model_copy(update={"approvals": needed}))
    begun = releases.begin(3, version(deploy=deploy), "7")
    return begun.model_copy(update={"rollouts": {"staging": 5}, **more})


def test_a_release_waits_until_so_many_different_people_have_approved() -> None:
    waiting = releases.advance(release(2), ADMITTED).state
    told = "flights/production: 0 of 2 of the approvals it waits for were given: interlock approve release/3"
    assert (waiting.phase, waiting.because) == (ReleasePhase.WAITING, told)
    assert waiting.rollouts == {"staging": 5}
    once = releases.approve(waiting, "ada", "looked at").state
    assert once.because == "approved by ada for flights/production: looked at"
    with pytest.raises(Conflict, match="ada approved already"):
        releases.approve(once, "ada", "again")
    still = releases.advance(once, ADMITTED).state
    assert "1 of 2 of the approvals it waits for were given (ada): interlock" in still.because
    twice = releases.approve(still, "bob", "me too").state
    entered = releases.advance(twice, ADMITTED)
    assert (entered.state.phase, entered.state.rollouts) == (ReleasePhase.OPEN, {"staging": 5, "production": 7})
    with pytest.raises(Conflict, match="it waits for no approval"):
        releases.approve(entered.state, "eve", "me too")


@pytest.mark.parametrize(
    ("given", "seen", "phase"),
    [
        ((), ReleaseSeen(newer=4), ReleasePhase.STOPPED),
        ((), ReleaseSeen(rollout=RolloutPhase.ROLLED_BACK), ReleasePhase.STOPPED),
        ((), ReleaseSeen(busy_with=6), ReleasePhase.WAITING),
        (("ada",), ReleaseSeen(busy_with=6), ReleasePhase.WAITING),
        (("ada",), ReleaseSeen(held="frozen"), ReleasePhase.WAITING),
        (("ada",), ReleaseSeen(admission=Admission(is_admitted=False, because="no")), ReleasePhase.STOPPED),
    ],
)
def test_an_approval_takes_the_place_of_nothing_else(
    given: tuple[str, ...], seen: ReleaseSeen, phase: ReleasePhase
) -> None:
    approvals = tuple(Approval(by=name, reason="", of="production") for name in given)
    after = releases.advance(release(1, approvals=approvals), seen).state
    assert (after.phase, "production" in after.rollouts) == (phase, False)


@pytest.mark.parametrize("phase", [ReleasePhase.DONE, ReleasePhase.STOPPED])
def test_what_ended_needs_no_approval(phase: ReleasePhase) -> None:
    with pytest.raises(Conflict, match="it waits for no approval"):
        releases.approve(release(1, phase=phase), "ada", "late")


def test_an_approval_is_for_one_environment_and_is_not_carried_over() -> None:
    staged = Approval(by="ada", reason="", of="staging")
    assert release(1, approvals=(staged,)).unapproved is not None
    done = release(1, rollouts={"staging": 5, "production": 6})
    assert done.unapproved is None
    ended = begin(6, CANDIDATE, STABLE, CANARY, release=3, now=0.0).model_copy(
        update={"phase": RolloutPhase.ROLLED_BACK}
    )
    given = done.model_copy(update={"approvals": (Approval(by="ada", reason="", of="production"),)})
    assert releases.again(4, given, ended, "once more").approvals == ()


@given(st.lists(st.sampled_from("abc"), max_size=6), st.integers(0, 4))
def test_only_different_people_count(names: list[str], needed: int) -> None:
    given = [Approval(by=name, reason="", of="production") for name in names]
    others = [Approval(by=name, reason="", of="staging") for name in "xyz"]
    missing = unapproved_because(needed, [*others, *given], "production", "release/3")
    assert (missing is None) == (len(set(names)) >= needed)
    assert sorted(people_of(given, "production")) == sorted(set(names))


STEPS = (
    StepPlan(set_weight=10),
    StepPlan(analysis=5.0),
    StepPlan(approvals=2),
    StepPlan(set_weight=50),
    StepPlan(analysis=5.0),
)


def waiting() -> Rollout:
    strategy = CANARY.strategy.model_copy(update={"steps": STEPS, "deadline": 60.0})
    return begin(4, CANDIDATE, STABLE, CANARY.model_copy(update={"strategy": strategy}), release=5, now=0.0)


def order(name: OrderName, by: str) -> Order:
    return Order(name=name, by=by, reason="looked at")


def test_a_rollout_waits_at_its_step_while_its_clocks_stand_still_and_the_same_follows_again() -> None:
    world, rollout, events = World(), waiting(), [event(waiting(), "begins", {})]
    orders = {30: "ada", 500: "bob"}
    for now in range(600):
        if now in orders:
            decision = obey(rollout, order(OrderName.APPROVE, orders[now]))
            rollout = decision.state
            wanted = order(OrderName.APPROVE, orders[now]).model_dump(mode="json")
            events.append(event(rollout, decision.because, {ORDER: wanted}))
        before, seen = rollout, of_interest(rollout, RolloutSeen(plane=world.seen()))
        decision = advance(rollout, seen, float(now))
        rollout = decision.state
        if rollout != before:
            events.append(seen_event(rollout, decision.because, seen, float(now)))
        if now in (29, 499):
            assert (rollout.step, rollout.weight, rollout.phase) == (2, 10, RolloutPhase.PROGRESSING)
        if now == 29:
            told = "0 of 2 of the approvals it waits for were given: interlock approve rollout/4"
            assert rollout.because == told
        if rollout.phase.is_final:
            break
        world.weights = rollout.weights
        world.serve(1.0)
    assert (rollout.phase, rollout.stood > 480.0) == (RolloutPhase.PROMOTED, True)
    again = replay(Rollout.model_validate_json(rollout.model_dump_json()), events)
    assert (again.differences, again.unknown) == ((), 0)


def test_harm_rolls_back_while_it_waits_for_people() -> None:
    world = World()
    rollout, now = play(waiting(), world, 20)
    assert rollout.step == 2
    world.candidate_errors = 0.5
    rollout, _ = play(rollout, world, 200, now + 1)
    assert rollout.phase is RolloutPhase.ROLLED_BACK
    assert "proven worse" in rollout.because


def test_who_may_not_approve_and_what_is_not_led_past_approvals() -> None:
    world = World()
    fresh = waiting()
    with pytest.raises(Refused, match="it waits for no approval"):
        obey(fresh, order(OrderName.APPROVE, "ada"))
    with pytest.raises(Refused, match="at step 3 0 of 2 of the approvals it waits for were given"):
        obey(fresh, order(OrderName.PROMOTE, "ada"))
    rollout, now = play(fresh, world, 20)
    once = obey(rollout, order(OrderName.APPROVE, "ada")).state
    with pytest.raises(Refused, match="ada approved already: somebody else has to"):
        obey(once, order(OrderName.APPROVE, "ada"))
    with pytest.raises(Refused, match=r"at step 3 1 of 2 .* \(ada\)"):
        obey(once, order(OrderName.PROMOTE, "bob"))
    twice = obey(once, order(OrderName.APPROVE, "bob")).state
    assert obey(twice, order(OrderName.PROMOTE, "bob")).state.promotion is not None
    paused = obey(twice, order(OrderName.PAUSE, "eve")).state
    assert look(paused, world, float(now + 1)).step == 2  # who paused it is heard as well
    assert look(twice, world, float(now + 1)).step == 3


@pytest.mark.parametrize(
    ("name", "author", "expected"),
    [
        ("ada", "Ada Lovelace <ada@example.org>", True),
        ("ADA@example.org", "Ada Lovelace <ada@example.org>", True),
        ("ada lovelace", "Ada Lovelace <ada@example.org>", True),
        ("ada", "Ada <a.l@example.org>", True),
        ("lovelace", "Ada Lovelace <ada@example.org>", False),
        ("example.org", "Ada Lovelace <ada@example.org>", False),
        ("", "", False),
        ("", "<>", False),
        ("ada", "ada", True),
    ],
)
def test_who_is_the_author_of_a_commit(name: str, author: str, expected: bool) -> None:
    assert is_author(name, author) is expected
