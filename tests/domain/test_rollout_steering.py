"""A rollout that a person steers: each row of the table of orders, what comes of it, and what holds over histories."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.test_rollout import CANARY, CANDIDATE, ROLLING, STABLE, World, canary, play
from tests.looks import event

from interlock.delivery.advance import advance, proven_harm
from interlock.delivery.looks.replaying import observation, of_interest, replay
from interlock.delivery.rollout import CRASHES, Order, OrderName, Rollout, RolloutPhase, RolloutSeen, begin
from interlock.delivery.steering import ORDER, obey
from interlock.errors import Refused
from interlock.vocabulary import Event, Phase

PAUSED = "paused by ada until it is resumed: lunch"
PROMOTED = "promoted past its further steps by ada: lunch"


def asked(name: OrderName) -> Order:
    return Order(name=name, by="ada", reason="lunch")


def wanted(rollout: Rollout, *names: OrderName) -> Rollout:
    for name in names:
        rollout = obey(rollout, asked(name)).state
    return rollout


def look(rollout: Rollout, world: World, now: float) -> Rollout:
    return advance(rollout, RolloutSeen(plane=world.seen()), now).state


def harmed() -> Rollout:
    """A rollout with proven harm that nobody has looked at since."""
    world, rollout, now = World(candidate_errors=0.5), canary(), 0
    while proven_harm(rollout) is None:
        rollout, now = look(rollout, world, float(now)), now + 1
        world.weights = rollout.weights
        world.serve(1.0)
    return rollout.model_copy(update={"phase": RolloutPhase.PROGRESSING})


@pytest.mark.parametrize("name", [name for name in OrderName if name is not OrderName.APPROVE])
def test_an_order_says_who_and_why(name: OrderName) -> None:
    decision = obey(wanted(canary(), *[OrderName.PAUSE] * (name is OrderName.RESUME)), asked(name))
    assert decision.because == decision.state.because == asked(name).because
    assert decision.because.endswith(": lunch")
    assert ("by ada" in decision.because) is (name is not OrderName.ABORT)
    assert decision.state.phase is RolloutPhase.PROGRESSING


@pytest.mark.parametrize(
    ("rollout", "name", "why"),
    [
        *((canary().model_copy(update={"phase": RolloutPhase.PROMOTED}), name, "has ended") for name in OrderName),
        *((wanted(canary(), OrderName.ABORT), name, "rolled back by a person") for name in list(OrderName)[:3]),
        (wanted(canary(), OrderName.PAUSE), OrderName.PAUSE, f"it is {PAUSED}"),
        (begin(4, CANDIDATE, STABLE, ROLLING, release=None, now=0.0), OrderName.PAUSE, "which nothing holds up"),
        (canary(), OrderName.RESUME, "it is not paused"),
        (wanted(canary(), OrderName.PROMOTE), OrderName.PROMOTE, f"it is {PROMOTED}"),
        (harmed(), OrderName.PROMOTE, "harm is proven: candidate"),
    ],
)
def test_an_order_that_cannot_be_is_refused(rollout: Rollout, name: OrderName, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        obey(rollout, asked(name))
    assert refused.value.where == "rollout 4"


def test_what_was_aborted_may_be_aborted_again() -> None:
    assert wanted(canary(), OrderName.ABORT, OrderName.ABORT) == wanted(canary(), OrderName.ABORT)


def test_a_paused_rollout_keeps_its_weight_and_its_clocks_stand_still() -> None:
    world = World()
    rollout, now = play(canary(), world, 8)
    paused, weight = wanted(rollout, OrderName.PAUSE), rollout.weight
    assert 0 < weight < 100
    for later in (now + 1, now + 100_000):  # far beyond the deadline
        paused = look(paused, world, float(later))
        assert (paused.weight, paused.because, paused.phase) == (weight, PAUSED, RolloutPhase.PROGRESSING)
    ended, _ = play(wanted(paused, OrderName.RESUME), world, 2000, now + 100_001)
    assert ended.phase is RolloutPhase.PROMOTED
    assert ended.stood == pytest.approx(100_000.0)


@pytest.mark.parametrize(
    ("seen", "phase"),
    [
        ({"superseded_by": 6}, RolloutPhase.SUPERSEDED),
        ({"quarantine": "bad in staging"}, RolloutPhase.ROLLED_BACK),
        ({}, RolloutPhase.PROGRESSING),
    ],
)
def test_a_pause_holds_up_no_end_but_the_promotion(seen: dict[str, object], phase: RolloutPhase) -> None:
    paused = wanted(canary(), OrderName.PAUSE)
    plane = World().seen()
    assert advance(paused, RolloutSeen(plane=plane, **seen), 1.0).state.phase is phase
    assert advance(wanted(paused, OrderName.ABORT), RolloutSeen(plane=plane), 1.0).state.weights == {STABLE.key: 100}


def test_a_paused_rollout_is_rolled_back_for_harm() -> None:
    world = World(candidate_errors=0.5)
    rollout, now = play(canary(), world, 3)
    paused = wanted(rollout, OrderName.PAUSE)
    while not paused.phase.is_final:
        now += 1
        paused = look(paused, world, float(now))
        world.serve(1.0)
        assert now < 100
    assert paused.phase is RolloutPhase.ROLLED_BACK


def test_a_promoted_rollout_gets_all_traffic_without_further_steps_or_proof() -> None:
    world = World(rate=0.0)
    rollout, now = play(canary(), world, 5)
    assert rollout.weight == 10
    hurried = wanted(rollout, OrderName.PROMOTE)
    ended, at = play(hurried, world, 20, now + 1)
    assert (ended.phase, ended.weights) == (RolloutPhase.PROMOTED, {CANDIDATE.key: 100})
    assert PROMOTED in ended.because
    assert at - now <= 3
    assert play(rollout, world, 20, now + 1)[0].weight == 10  # which without the order is not promoted


def test_a_promotion_ends_a_pause_and_waits_for_a_freeze() -> None:
    world = World()
    rollout, now = play(canary(), world, 8)
    hurried = wanted(rollout, OrderName.PAUSE, OrderName.PROMOTE)
    held = advance(hurried, RolloutSeen(plane=world.seen(), held="frozen by bob"), float(now + 1)).state
    assert (held.because, held.weight) == ("frozen by bob", rollout.weight)
    assert look(held, world, float(now + 2)).weight == 100


def test_a_promotion_waits_until_the_candidate_is_healthy_and_at_its_weight() -> None:
    world = World()
    rollout, now = play(canary(), world, 8)
    hurried = wanted(rollout, OrderName.PROMOTE)
    world.is_healthy = False
    waiting = look(hurried, world, float(now + 1))
    assert (waiting.weight, waiting.because) == (rollout.weight, "flights v2 is not healthy")
    late = look(waiting, world, 1e6)
    assert (late.phase, late.weight) == (RolloutPhase.ROLLED_BACK, 0)
    world.is_healthy, world.weights = True, {STABLE.key: 100}
    assert "not yet in force" in look(hurried, world, float(now + 1)).because


def test_a_promoted_rollout_still_runs_its_checks() -> None:
    rollout = wanted(begin(4, CANDIDATE, STABLE, ROLLING, release=5, now=0.0), OrderName.PROMOTE)
    ended, _ = play(rollout, World(), 20)
    assert (ended.phase, ended.weight) == (RolloutPhase.PROGRESSING, 100)
    assert ended.check_runs["contract"].phase is Phase.RUNNING


HAPPENING = st.tuples(
    st.sampled_from([*OrderName, "errors", "sick", "well", "crash", "quarantine", "serve", "serve"]),
    st.integers(1, 8),
)


@settings(max_examples=80)
@given(st.lists(HAPPENING, max_size=30), st.sampled_from([0.0, 50.0]))
def test_over_any_history_of_orders_nobody_is_led_past_harm(history: list[tuple[str, int]], rate: float) -> None:
    """Safety: a paused rollout gains no weight; nobody sick, harmful, crashing or quarantined gains it. Decisions are
    made again from what was stored. Liveness: once nobody holds it, the deadline ends it.
    """
    world, rollout, now, blocked = World(rate=rate), canary(), 0.0, None
    is_paused, events = False, [event(canary(), "begins", {})]
    for what, seconds in history:
        if what in list(OrderName):
            try:
                decision = obey(rollout, asked(OrderName(what)))
            except Refused:
                continue
            is_paused = what == "pause" or (is_paused and what == "abort")
            rollout = decision.state
            events.append(event(rollout, decision.because, {ORDER: asked(OrderName(what)).model_dump(mode="json")}))
        world.candidate_errors = 0.5 if what == "errors" else world.candidate_errors
        world.is_healthy = what == "well" or (world.is_healthy and what != "sick")
        world.restarts += what == "crash"
        blocked = "bad elsewhere" if what == "quarantine" else blocked
        for _ in range(seconds):
            before, now = rollout, now + 1.0
            seen = of_interest(rollout, RolloutSeen(plane=world.seen(), quarantine=blocked))
            decision = advance(rollout, seen, now)
            rollout = decision.state
            if rollout != before:
                events.append(seen_event(rollout, decision.because, seen, now))
            if rollout.weight > before.weight:
                assert not is_paused
                assert blocked is None
                assert world.restarts < CRASHES
                assert world.is_healthy or before.weight > 0
                assert world.is_healthy or before.promotion is None
                assert proven_harm(rollout) is None
            world.weights = world.weights if rollout.phase.is_final else rollout.weights
            world.serve(1.0)
    again = replay(rollout, events)
    assert (again.differences, again.unknown) == ((), 0)
    if rollout.pause is not None and not rollout.phase.is_final and rollout.wish is None:
        rollout = wanted(rollout, OrderName.RESUME)
    rollout = look(rollout, world, now)
    assert look(rollout, world, now + 2.0 * CANARY.strategy.deadline).phase.is_final


def seen_event(rollout: Rollout, because: str, seen: RolloutSeen, now: float) -> Event:
    looked = json.loads(json.dumps(observation(seen, now)))
    return event(rollout, because, looked | {"weight": rollout.weight})
