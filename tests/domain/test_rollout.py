"""A rollout's decisions: each row of its table, and what holds over any history."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.looks import decide, event
from tests.revisions import revision

from interlock.delivery.advance import advance
from interlock.delivery.holding import Freeze, frozen_because, held_because
from interlock.delivery.looks.replaying import of_interest, origin, replay
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, EndpointSeen, ReplicaSeen, Revision
from interlock.delivery.rollout import (
    CRASHES,
    CheckOutcome,
    Rollout,
    RolloutPhase,
    RolloutSeen,
    begin,
    steps_of,
    summary,
)
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import CommandPlan, EnvironmentPlan, WindowPlan
from interlock.vocabulary import Event, Phase

STABLE, CANDIDATE = revision(1), revision(2)
ANALYSIS = AnalysisPlan(metrics=(AnalysisMetricPlan(metric="error_rate", margin=0.02, max=0.05),))
CANARY = EnvironmentPlan(
    name="production",
    strategy=StrategyPlan(
        kind="canary",
        steps=(StepPlan(set_weight=10), StepPlan(analysis=10.0), StepPlan(set_weight=50), StepPlan(analysis=10.0)),
        deadline=300.0,
        analysis=ANALYSIS,
    ),
)
ROLLING = EnvironmentPlan(name="staging", checks=(CommandPlan(name="contract", command="pytest"),))


class World:
    """A data plane that does as it is told, with traffic of a given rate and error share on each side."""

    def __init__(self, rate: float = 50.0, stable_errors: float = 0.0, candidate_errors: float = 0.0) -> None:
        self.rate, self.stable_errors, self.candidate_errors = rate, stable_errors, candidate_errors
        self.requests = {STABLE.key: 0.0, CANDIDATE.key: 0.0}
        self.errors = {STABLE.key: 0.0, CANDIDATE.key: 0.0}
        self.weights: dict[str, int] = {}
        self.is_healthy, self.restarts, self.epoch = True, 0, "one"
        self.problem: str | None = None

    def serve(self, seconds: float) -> None:
        shares = {STABLE.key: self.stable_errors, CANDIDATE.key: self.candidate_errors}
        for key, weight in self.weights.items():
            self.requests[key] += self.rate * seconds * weight / 100
            self.errors[key] += self.rate * seconds * weight / 100 * shares[key]

    def seen(self) -> DataPlaneSeen:
        endpoint = EndpointSeen(is_healthy=self.is_healthy, is_draining=False)
        return DataPlaneSeen(
            replicas={
                CANDIDATE.replica(i): ReplicaSeen(
                    is_running=True, is_ready=True, restarts=self.restarts, problem="boom"
                )
                for i in range(2)
            },
            endpoints={r.key: {r.replica(i): endpoint for i in range(2)} for r in (STABLE, CANDIDATE)},
            weights=self.weights,
            counters={
                key: CounterSeen(epoch=self.epoch, requests=int(self.requests[key]), errors=int(self.errors[key]))
                for key in self.requests
            },
            problem=self.problem,
        )


def play(rollout: Rollout, world: World, seconds: int, start: int = 0) -> tuple[Rollout, int]:
    """Second by second until the rollout ends or time is up; the world takes over the weights each time."""
    now = start
    for now in range(start, start + seconds):
        rollout = advance(rollout, RolloutSeen(plane=world.seen()), float(now)).state
        if rollout.phase.is_final:
            break
        world.weights = rollout.weights
        world.serve(1.0)
    return rollout, now


def judged(rollout: Rollout) -> list[int]:
    """Errors and requests of the candidate."""
    return summary(rollout)["metrics"]["error_rate"]["candidate"]


def canary(stable: Revision | None = STABLE) -> Rollout:
    return begin(4, CANDIDATE, stable, CANARY, release=5, now=0.0)


def test_a_canary_takes_its_steps_and_ends_with_all_traffic() -> None:
    steps = steps_of(CANARY.strategy, has_stable=True)
    assert steps == (*CANARY.strategy.steps, StepPlan(set_weight=100))
    whole = StrategyPlan(kind="canary", steps=(StepPlan(set_weight=5), StepPlan(set_weight=100)))
    assert steps_of(whole, has_stable=True) == whole.steps


@pytest.mark.parametrize(("strategy", "has_stable"), [(ROLLING.strategy, True), (CANARY.strategy, False)])
def test_without_steps_or_without_a_stable_side_all_traffic_moves_at_once(
    strategy: StrategyPlan, has_stable: bool
) -> None:
    assert steps_of(strategy, has_stable) == (StepPlan(set_weight=100),)


def test_a_good_candidate_is_promoted_step_by_step() -> None:
    world = World()
    rollout, ended = play(canary(), world, 200)
    assert rollout.phase is RolloutPhase.PROMOTED
    assert 20 <= ended <= 60
    assert rollout.weights == {CANDIDATE.key: 100}
    assert judged(rollout)[0] == 0


def test_a_candidate_that_fails_one_request_in_seven_is_rolled_back_soon() -> None:
    world = World(candidate_errors=0.145)
    rollout, ended = play(canary(), world, 200)
    assert rollout.phase is RolloutPhase.ROLLED_BACK
    assert ended < 30
    assert rollout.weights == {STABLE.key: 100}


def test_equal_errors_on_both_sides_are_no_reason_to_roll_back() -> None:
    rollout, _ = play(canary(), World(stable_errors=0.03, candidate_errors=0.03), 280)
    assert rollout.phase is not RolloutPhase.ROLLED_BACK


def test_without_traffic_nothing_is_promoted_and_the_deadline_rolls_back() -> None:
    rollout, ended = play(canary(), World(rate=0.0), 400)
    assert rollout.phase is RolloutPhase.ROLLED_BACK
    assert ended == 301
    assert "deadline" in rollout.because


def test_too_little_evidence_holds_until_the_deadline() -> None:
    rollout, _ = play(canary(), World(rate=1.0), 290)
    assert rollout.phase is RolloutPhase.PROGRESSING
    assert "not promoted without proof" in rollout.because
    rollout, _ = play(rollout, World(rate=1.0), 20, start=290)
    assert rollout.phase is RolloutPhase.ROLLED_BACK


def test_counters_that_begin_anew_carry_no_evidence() -> None:
    world = World()
    rollout, _ = play(canary(), world, 12)
    before = judged(rollout)[1]
    world.epoch = "two"
    world.requests = dict.fromkeys(world.requests, 1000.0)
    world.errors = dict.fromkeys(world.errors, 900.0)
    rollout, _ = play(rollout, world, 1, start=12)
    assert judged(rollout)[1] == before
    world.requests[CANDIDATE.key] -= 500  # and a counter that falls carries none either
    rollout, _ = play(rollout, world, 1, start=13)
    assert judged(rollout)[0] == 0


def test_a_candidate_waits_until_the_proxy_finds_it_healthy() -> None:
    world = World()
    world.is_healthy = False
    rollout, _ = play(canary(), world, 30)
    assert (rollout.step, rollout.weight) == (0, 0)
    assert "is starting" in rollout.because


def test_a_proxy_that_cannot_be_read_stops_the_clockwork_but_not_the_deadline() -> None:
    world = World()
    world.problem = "no answer"
    rollout, _ = play(canary(), world, 20)
    assert rollout.weight == 0
    assert "no answer" in rollout.because


def test_a_step_waits_until_its_weight_is_in_force() -> None:
    world = World()
    rollout = advance(canary(), RolloutSeen(plane=world.seen()), 0.0).state
    assert rollout.weight == 10
    again = advance(rollout, RolloutSeen(plane=world.seen()), 1.0).state
    assert (again.step, again.weight) == (rollout.step, 10)
    assert "not yet in force" in again.because


def test_a_crash_loop_rolls_back_with_the_last_word_of_the_replica() -> None:
    world = World()
    world.restarts = CRASHES
    rollout, ended = play(canary(), world, 10)
    assert (rollout.phase, ended) == (RolloutPhase.ROLLED_BACK, 0)
    assert "boom" in rollout.because


def test_harm_is_noted_where_it_ends_the_rollout_and_nowhere_else() -> None:
    world = World()
    world.restarts = CRASHES
    looped = advance(canary(), RolloutSeen(plane=world.seen()), 1.0).state
    assert looped.harm == looped.because
    bad, _ = play(canary(), World(candidate_errors=0.5), 300)
    assert "proven worse than tolerated" in bad.harm
    plane = World().seen()
    wished = canary().model_copy(update={"wish": "rolled back by a person: odd numbers"})
    ends = [
        advance(wished, RolloutSeen(plane=world.seen()), 1.0),
        advance(canary(), RolloutSeen(plane=plane, quarantine="elsewhere"), 1.0),
        advance(canary(), RolloutSeen(plane=plane), 1e6),
        advance(canary(), RolloutSeen(plane=plane, superseded_by=6), 1.0),
    ]
    assert all(end.state.phase.is_final for end in ends)
    assert [end.state.harm for end in ends] == [""] * 4


def test_a_person_and_a_newer_release_end_a_rollout() -> None:
    plane = World().seen()
    wished = canary().model_copy(update={"wish": "rolled back by a person: odd numbers"})
    assert advance(wished, RolloutSeen(plane=plane), 1.0).state.phase is RolloutPhase.ROLLED_BACK
    superseded = advance(canary(), RolloutSeen(plane=plane, superseded_by=6), 1.0)
    assert superseded.state.phase is RolloutPhase.SUPERSEDED
    assert "release 6" in superseded.because


def test_a_rollout_whose_digest_is_quarantined_elsewhere_ends() -> None:
    world = World()
    rollout, now = play(canary(), world, 8)
    assert rollout.weight > 0
    seen = RolloutSeen(plane=world.seen(), quarantine="14 % errors in staging", held="frozen by ada")
    ended = advance(rollout, seen, float(now + 1)).state
    assert (ended.phase, ended.weights) == (RolloutPhase.ROLLED_BACK, {STABLE.key: 100})
    assert ended.because == "its digest is quarantined: 14 % errors in staging"


def test_a_frozen_rollout_keeps_its_weight_and_its_clocks_stand_still() -> None:
    world = World()
    rollout, now = play(canary(), world, 8)
    weight = rollout.weight
    assert 0 < weight < 100
    for frozen_at in (now + 1, now + 100_000):  # far beyond the deadline
        rollout = advance(rollout, RolloutSeen(plane=world.seen(), held="frozen by ada"), float(frozen_at)).state
        assert (rollout.weight, rollout.because) == (weight, "frozen by ada")
        assert not rollout.phase.is_final
    ended, _ = play(rollout, world, 2000, now + 100_001)
    assert ended.phase is RolloutPhase.PROMOTED
    assert ended.held_since is None
    assert ended.stood == pytest.approx(100_000.0)


def test_a_frozen_rollout_is_rolled_back_for_harm_and_for_a_person() -> None:
    world = World(candidate_errors=0.5)
    rollout, now = play(canary(), world, 3)
    while not rollout.phase.is_final:
        now += 1
        rollout = advance(rollout, RolloutSeen(plane=world.seen(), held="frozen by ada"), float(now)).state
        world.serve(1.0)
    assert rollout.phase is RolloutPhase.ROLLED_BACK
    wished = canary().model_copy(update={"wish": "no"})
    seen = RolloutSeen(plane=World().seen(), held="frozen by ada")
    assert advance(wished, seen, 1.0).state.phase is RolloutPhase.ROLLED_BACK


@pytest.mark.parametrize(
    ("until", "now", "told"),
    [
        (None, 1e9, "frozen by ada until it is unfrozen: holidays"),
        (86400.0, 86399.9, "frozen by ada until 1970-01-02 00:00 UTC: holidays"),
        (86400.0, 86400.0, None),
    ],
)
def test_a_freeze_holds_until_its_moment(until: float | None, now: float, told: str | None) -> None:
    assert frozen_because(Freeze(by="ada", reason="holidays", until=until), now) == told
    assert frozen_because(None, now) is None


OFFICE = WindowPlan(opens="0 8 * * 1-5", seconds=8 * 3600.0, time_zone="Europe/Berlin")
NIGHT = WindowPlan(opens="0 22 * * *", seconds=4 * 3600.0)


@pytest.mark.parametrize(
    ("windows", "now", "told"),
    [
        ((), "2026-11-28T12:00", None),
        ((OFFICE,), "2026-11-27T06:59", "outside its windows until 2026-11-27 07:00 UTC"),
        ((OFFICE,), "2026-11-27T07:00", None),
        ((OFFICE,), "2026-11-27T14:59", None),
        ((OFFICE,), "2026-11-27T15:00", "outside its windows until 2026-11-30 07:00 UTC"),
        ((OFFICE, NIGHT), "2026-11-27T15:00", "outside its windows until 2026-11-27 22:00 UTC"),
        ((OFFICE, NIGHT), "2026-11-28T01:59", None),  # over midnight
    ],
)
def test_windows_are_open_or_shut(windows: tuple[WindowPlan, ...], now: str, told: str | None) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp()
    assert held_because(None, windows, moment) == told
    frozen = Freeze(by="ada", reason="holidays")
    assert held_because(frozen, windows, moment) == frozen_because(frozen, moment)


def test_a_rollout_knows_the_windows_of_its_environment() -> None:
    plan = CANARY.model_copy(update={"windows": (OFFICE,)})
    assert begin(4, CANDIDATE, STABLE, plan, release=5, now=0.0).windows == (OFFICE,)


def test_an_ended_rollout_stays_as_it_is() -> None:
    ended = canary().model_copy(update={"phase": RolloutPhase.PROMOTED, "because": "done"})
    assert advance(ended, RolloutSeen(plane=World().seen()), 9.0).state == ended


def test_a_pause_is_waited_for() -> None:
    strategy = StrategyPlan(kind="canary", steps=(StepPlan(set_weight=50), StepPlan(pause=30.0)), analysis=ANALYSIS)
    begun = begin(4, CANDIDATE, STABLE, EnvironmentPlan(name="production", strategy=strategy), release=None, now=0.0)
    rollout, _ = play(begun, World(), 20)
    assert "pause at 50 %" in rollout.because
    rollout, ended = play(rollout, World(), 100, start=20)
    assert rollout.phase is RolloutPhase.PROMOTED
    assert ended >= 30


def rolling_with_all_traffic() -> tuple[Rollout, World]:
    rollout = begin(4, CANDIDATE, STABLE, ROLLING, release=5, now=0.0)
    assert rollout.analysis is None
    assert summary(rollout) == {}
    world = World()
    rollout, _ = play(rollout, world, 2)
    return rollout, world


def test_a_rolling_update_gives_all_traffic_then_checks_the_live_endpoint() -> None:
    rollout, world = rolling_with_all_traffic()
    assert rollout.weights == {CANDIDATE.key: 100}
    rollout = advance(rollout, RolloutSeen(plane=world.seen()), 3.0).state
    assert rollout.check_runs["contract"].phase is Phase.RUNNING
    assert rollout.check_key("contract") == "rollout-4/contract/1"
    waiting = advance(rollout, RolloutSeen(plane=world.seen()), 4.0).state
    assert "is running" in waiting.because


@pytest.mark.parametrize(
    ("phase", "expected", "harm"),
    [
        (Phase.SUCCEEDED, RolloutPhase.PROMOTED, ""),
        (Phase.FAILED, RolloutPhase.ROLLED_BACK, "check contract failed: it said so"),
        (Phase.ERRORED, RolloutPhase.ROLLED_BACK, ""),
    ],
)
def test_the_checks_decide_a_rolling_update(phase: Phase, expected: RolloutPhase, harm: str) -> None:
    rollout, world = rolling_with_all_traffic()
    rollout = advance(rollout, RolloutSeen(plane=world.seen()), 3.0).state
    seen = RolloutSeen(plane=world.seen(), checks={"contract": CheckOutcome(phase=phase, because="it said so")})
    rollout = advance(rollout, seen, 4.0).state
    rollout = advance(rollout, RolloutSeen(plane=world.seen()), 5.0).state
    assert (rollout.phase, rollout.harm) == (expected, harm)


def test_a_lost_check_is_tried_again_as_the_next_attempt() -> None:
    rollout, world = rolling_with_all_traffic()
    rollout = advance(rollout, RolloutSeen(plane=world.seen()), 3.0).state
    rollout = advance(rollout, RolloutSeen(plane=world.seen(), lost=("contract",)), 4.0).state
    rollout = advance(rollout, RolloutSeen(plane=world.seen()), 5.0).state
    assert rollout.check_key("contract") == "rollout-4/contract/2"


def test_a_check_that_never_ends_meets_the_deadline() -> None:
    rollout, world = rolling_with_all_traffic()
    rollout, _ = play(rollout, world, 10, start=10)
    late = advance(rollout, RolloutSeen(plane=world.seen()), 1e6).state
    assert late.phase is RolloutPhase.ROLLED_BACK
    assert "check contract" in late.because


def test_a_rollout_reads_back_as_it_was_stored() -> None:
    rollout, _ = play(canary(), World(), 15)
    assert Rollout.model_validate(rollout.model_dump(mode="json")) == rollout


HAPPENING = st.tuples(
    st.sampled_from(
        ["serve", "serve", "serve", "errors", "sick", "well", "proxy gone", "proxy back", "epoch", "crash"]
    ),
    st.integers(1, 10),
)


def happen(world: World, what: str) -> None:
    if what == "errors":
        world.candidate_errors = 0.3
    elif what in ("sick", "well"):
        world.is_healthy = what == "well"
    elif what in ("proxy gone", "proxy back"):
        world.problem = "gone" if what == "proxy gone" else None
    elif what == "epoch":
        world.epoch += "x"
    elif what == "crash":
        world.restarts += 1


@settings(max_examples=60)
@given(st.lists(HAPPENING, max_size=40))
def test_over_any_history_weights_are_whole_and_the_end_is_one(history: list[tuple[str, int]]) -> None:
    """Safety: weights sum to 100, promotion only from full weight, final is final. Liveness: the deadline ends it."""
    world, rollout, now = World(), canary(), 0.0
    for what, seconds in history:
        happen(world, what)
        for _ in range(seconds):
            before = rollout
            rollout = advance(rollout, RolloutSeen(plane=world.seen()), now).state
            if before.phase.is_final:
                assert rollout == before
            assert sum(rollout.weights.values()) == 100
            if rollout.phase is RolloutPhase.PROMOTED:
                assert before.weight == 100
            if not rollout.phase.is_final and world.problem is None:
                world.weights = rollout.weights
            world.serve(1.0)
            now += 1.0
    late = advance(rollout, RolloutSeen(plane=world.seen()), 1e6).state
    assert late.phase.is_final


def test_counters_that_are_not_there_yet_carry_no_evidence() -> None:
    world = World()
    rollout, _ = play(canary(), world, 5)
    unseen = world.seen().model_copy(update={"counters": {}})
    later = advance(rollout, RolloutSeen(plane=unseen), 9.0).state
    assert summary(later) == summary(rollout)
    assert rollout.key == "4"


def told(
    rollout: Rollout, world: World, seconds: int, wish_at: int | None = None, held: range = range(0)
) -> tuple[Rollout, list[Event]]:
    """As ``play``, with the events that the loop stores."""
    events = [event(rollout, "begins", {})]
    for now in range(seconds):
        if now == wish_at:
            rollout = rollout.model_copy(update={"wish": "rolled back by a person: odd numbers"})
            events.append(event(rollout, "a person asked", {}))
        seen = RolloutSeen(plane=world.seen(), held="frozen by ada" if now in held else None)
        rollout = decide(rollout, seen, float(now), events)
        if rollout.phase.is_final:
            break
        world.weights = rollout.weights
        world.serve(1.0)
    return rollout, events


@pytest.mark.parametrize(
    ("errors", "wish_at", "phase"),
    [(0.0, None, RolloutPhase.PROMOTED), (0.145, None, RolloutPhase.ROLLED_BACK), (0.0, 8, RolloutPhase.ROLLED_BACK)],
)
def test_stored_observations_lead_to_the_same_decisions_again(
    errors: float, wish_at: int | None, phase: RolloutPhase
) -> None:
    rollout, events = told(canary(), World(candidate_errors=errors), 120, wish_at)
    assert rollout.phase is phase
    again = replay(Rollout.model_validate_json(rollout.model_dump_json()), events)
    assert (again.differences, again.unknown) == ((), 0)
    assert again.decisions == len(events) - 1 - (wish_at is not None)
    assert str(again) == f"{again.decisions} decisions follow from the stored observations"


def test_a_rollout_that_was_held_is_decided_again_too() -> None:
    rollout, events = told(canary(), World(), 700, held=range(5, 600))
    assert (rollout.phase, rollout.stood) == (RolloutPhase.PROMOTED, 595.0)
    assert replay(rollout, events).differences == ()


def test_a_decision_that_does_not_follow_is_told() -> None:
    rollout, events = told(canary(), World(candidate_errors=0.145), 120)
    forged = events[-1].model_copy(update={"phase": "promoted", "because": "all is well"})
    again = replay(rollout, [*events[:-1], forged])
    assert len(again.differences) == 1
    assert "'all is well' (promoted) then" in str(again)


def test_decisions_without_observations_are_not_made_up() -> None:
    rollout, events = told(canary(), World(), 120)
    bare = [one.model_copy(update={"observed": {"weight": 0}}) for one in events]
    again = replay(rollout, bare)
    assert (again.decisions, again.unknown) == (0, len(events) - 1)
    assert "more have no stored observations" in str(again)


def test_a_rolling_update_is_decided_again_too() -> None:
    rollout, _ = rolling_with_all_traffic()
    assert origin(rollout).weight == 0
    assert origin(rollout).analysis is None


def test_only_what_a_decision_may_depend_on_is_kept_of_a_look() -> None:
    plane = World().seen()
    other = {**plane.replicas, "flights.staging.r1.0": ReplicaSeen(is_running=True, is_ready=True)}
    kept = of_interest(canary(), RolloutSeen(plane=plane.model_copy(update={"replicas": other}))).plane
    assert set(kept.replicas) == {CANDIDATE.replica(0), CANDIDATE.replica(1)}
    assert set(kept.endpoints) == {CANDIDATE.key}
    assert set(kept.counters) == {STABLE.key, CANDIDATE.key}


@pytest.mark.parametrize("was_judged", [True, False])
def test_a_rollout_of_an_earlier_release_is_judged_anew(was_judged: bool) -> None:
    stored = canary().model_dump(mode="json", exclude={"analysis"})
    stored["test"] = {"analysis": ANALYSIS.model_dump(mode="json"), "horizon": 300, "ticks": 7} if was_judged else None
    read = Rollout.model_validate(stored)
    assert read.analysis == (canary().analysis if was_judged else None)


@settings(max_examples=15)
@given(st.lists(st.sampled_from(["stale", "gone", "epoch", "falls", "no traffic"]), min_size=1, max_size=60))
def test_without_live_evidence_a_canary_is_held_and_then_rolled_back(history: list[str]) -> None:
    """A dead source, a proxy that cannot be read, counters that begin anew or fall, no traffic: never promoted."""
    world, rollout = World(rate=0.0), canary()
    for now in range(299):
        what = history[now % len(history)]
        seen = world.seen()
        if what == "gone":
            seen = seen.model_copy(update={"counters": {}})
        elif what == "epoch":
            world.epoch += "x"
        elif what == "falls":
            world.requests[CANDIDATE.key] = max(0.0, world.requests[CANDIDATE.key] - 1)
        rollout = advance(rollout, RolloutSeen(plane=seen), float(now)).state
        assert rollout.phase is RolloutPhase.PROGRESSING
        assert rollout.weight < 100
        world.weights = rollout.weights
    ended = advance(rollout, RolloutSeen(plane=world.seen()), 301.0)
    assert ended.state.phase is RolloutPhase.ROLLED_BACK
    assert "deadline" in ended.because
