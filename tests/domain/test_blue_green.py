"""Blue and green: checks before any traffic, then all of it at once, with stable kept while the candidate is judged."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.test_rollout import CANDIDATE, STABLE, World
from tests.looks import event

from interlock.delivery.advance import advance
from interlock.delivery.analysis.bets import STAKES, limit_bets, safety_gains
from interlock.delivery.analysis.engine import conclude
from interlock.delivery.environment import Environment, desired, enter, follow
from interlock.delivery.looks.replaying import observation, of_interest, replay
from interlock.delivery.revision import CounterSeen, LatencySeen
from interlock.delivery.rollout import (
    CheckOutcome,
    Order,
    OrderName,
    Rollout,
    RolloutPhase,
    RolloutSeen,
    begin,
    steps_of,
    summary,
)
from interlock.delivery.steering import obey
from interlock.pipeline.canaries.blue_green import ERRORS
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import CommandPlan, EnvironmentPlan
from interlock.vocabulary import Phase, Verdict

KEEP = 30.0
STRATEGY = StrategyPlan(
    kind="blue_green",
    steps=(StepPlan(checks=True), StepPlan(set_weight=100), StepPlan(keep=KEEP)),
    deadline=120.0,
    analysis=AnalysisPlan(metrics=(ERRORS,), is_alone=True),
)
CHECK = CommandPlan(name="contract", command="pytest")
PASSED, FAILED = (CheckOutcome(phase=phase, because="so it is") for phase in (Phase.SUCCEEDED, Phase.FAILED))


def blue_green(*checks: CommandPlan, **changes: object) -> Rollout:
    strategy = STRATEGY.model_copy(update=changes)
    plan = EnvironmentPlan(name="production", strategy=strategy, checks=checks)
    return begin(4, CANDIDATE, STABLE, plan, release=5, now=0.0)


class Told:
    """What a played rollout went through: the weights second by second, and the events that were stored."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout, self.weights, self.events, self.now = rollout, [], [event(rollout, "begins", {})], 0

    def replayed(self) -> tuple[tuple[str, ...], int]:
        again = replay(Rollout.model_validate_json(self.rollout.model_dump_json()), self.events)
        return again.differences, again.unknown


def play(rollout: Rollout, world: World, seconds: int = 300, outcome: CheckOutcome = PASSED, asks: int = 3) -> Told:
    """Each check ends two seconds after it began, and has asked the candidate so much by then."""
    told = Told(rollout)
    begun: dict[str, int] = {}
    for now in range(seconds):
        checks = {name: outcome for name, at in begun.items() if now - at >= 2}
        seen = of_interest(told.rollout, RolloutSeen(plane=world.seen(), checks=checks))
        decision = advance(told.rollout, seen, float(now))
        if decision.state != told.rollout:
            told.rollout = decision.state
            stored = json.loads(json.dumps(observation(seen, float(now)) | {"weight": told.rollout.weight}))
            told.events.append(event(told.rollout, decision.because, stored))
        told.weights.append(told.rollout.weight)
        told.now = now
        if told.rollout.phase.is_final:
            break
        for name, run in told.rollout.check_runs.items():
            if run.phase is Phase.RUNNING and name not in begun:
                begun[name] = now
            world.requests[CANDIDATE.key] += asks if begun.get(name) == now - 1 else 0
        world.weights = told.rollout.weights
        world.serve(1.0)
    return told


def test_its_checks_come_first_then_all_traffic_then_the_time_then_the_proof() -> None:
    told = play(blue_green(CHECK), World())
    assert told.rollout.phase is RolloutPhase.PROMOTED
    assert set(told.weights) == {0, 100}
    switched = told.weights.index(100)
    assert told.rollout.check_runs["contract"].phase is Phase.SUCCEEDED
    assert switched >= 3
    assert switched + KEEP < told.now < switched + KEEP + 5
    assert "candidate 0 errors in" in told.rollout.because
    assert "proven safe: error_rate below 0.05" in told.rollout.because
    assert "stable" not in told.rollout.because.partition("proven safe")[0]
    assert told.replayed() == ((), 0)


def test_while_stable_is_kept_both_have_all_their_replicas_and_the_way_back_is_one_look() -> None:
    world, rollout = World(), blue_green()
    environment = enter(Environment(name="production", model="flights", stable=STABLE), rollout)
    told = play(rollout, world, 15)
    environment = follow(environment, told.rollout)
    assert environment.weights == {CANDIDATE.key: 100}
    assert {one.key for one in desired(environment).revisions} == {STABLE.key, CANDIDATE.key}
    assert desired(environment).leased == CANDIDATE.key
    world.candidate_errors = 0.5
    world.serve(5.0)
    after = advance(told.rollout, RolloutSeen(plane=world.seen()), 20.0).state
    assert after.phase is RolloutPhase.ROLLED_BACK
    assert follow(environment, after).weights == {STABLE.key: 100}
    assert "proven worse than tolerated" in after.because


def test_a_check_that_fails_rolls_back_before_anybody_was_served() -> None:
    told = play(blue_green(CHECK), World(), outcome=FAILED)
    assert (told.rollout.phase, max(told.weights)) == (RolloutPhase.ROLLED_BACK, 0)
    assert told.rollout.because == "check contract failed: so it is"


def test_checks_that_asked_the_candidate_nothing_say_nothing_of_it() -> None:
    told = play(blue_green(CHECK), World(), asks=0)
    assert (told.rollout.phase, max(told.weights)) == (RolloutPhase.ROLLED_BACK, 0)
    assert "the checks passed, and asked flights v2 nothing: the header x-interlock-revision" in told.rollout.because
    assert told.replayed() == ((), 0)
    world = World()
    world.requests.pop(CANDIDATE.key)
    gone = blue_green(CHECK).model_copy(
        update={"check_runs": {"contract": play(blue_green(CHECK), World()).rollout.check_runs["contract"]}}
    )
    assert advance(gone, RolloutSeen(plane=world.seen()), 1.0).state.phase is RolloutPhase.ROLLED_BACK


def test_what_checks_ask_is_no_evidence_of_traffic() -> None:
    world = World(rate=0.0)
    told = play(blue_green(CHECK), world, asks=5000)
    assert told.rollout.phase is RolloutPhase.ROLLED_BACK
    assert "the candidate has answered no request yet" in told.rollout.because
    assert summary(told.rollout)["metrics"]["error_rate"]["candidate"] == [0, 0]


def test_it_waits_for_health_before_checks_and_is_rolled_back_at_the_deadline() -> None:
    world = World()
    world.is_healthy = False
    told = play(blue_green(CHECK), world)
    assert (told.rollout.phase, max(told.weights), told.now) == (RolloutPhase.ROLLED_BACK, 0, 121)
    assert "flights v2 is starting" in told.rollout.because


def test_little_traffic_proves_nothing_and_the_deadline_gives_it_back() -> None:
    told = play(blue_green(), World(rate=0.5))
    assert (told.rollout.phase, told.now) == (RolloutPhase.ROLLED_BACK, 121)
    assert "not promoted without proof" in told.rollout.because
    assert "about" in told.rollout.because
    assert "more candidate requests needed" in told.rollout.because


def test_errors_at_the_limit_are_neither_harm_nor_safe() -> None:
    result = conclude(play(blue_green(deadline=80.0), World(rate=40.0, candidate_errors=0.05)).rollout.analysis)
    assert result.verdict is Verdict.UNDECIDED
    assert "at these rates it will not be proven to be within its bounds" in result.because


def test_without_checks_there_is_nothing_to_ask_first() -> None:
    told = play(blue_green(), World())
    assert told.rollout.phase is RolloutPhase.PROMOTED
    assert told.weights.index(100) <= 2


def test_the_first_revision_has_nothing_beside_it() -> None:
    assert steps_of(STRATEGY, has_stable=False) == (StepPlan(set_weight=100),)
    plan = EnvironmentPlan(name="production", strategy=STRATEGY, checks=(CHECK,))
    first = begin(1, CANDIDATE, None, plan, release=1, now=0.0)
    assert (first.analysis, first.keeps_stable, first.is_previewed) == (None, False, False)


def test_a_person_may_leave_checks_and_time_out_and_abort_at_once() -> None:
    world = World()
    rollout = obey(blue_green(CHECK), Order(name=OrderName.PROMOTE, by="ada", reason="urgent")).state
    told = play(rollout, world)
    assert told.rollout.phase is RolloutPhase.PROMOTED
    assert told.now < 10
    kept = play(blue_green(), World(), 15).rollout
    aborted = obey(kept, Order(name=OrderName.ABORT, by="ada", reason="odd")).state
    assert advance(aborted, RolloutSeen(plane=world.seen()), 16.0).state.weights == {STABLE.key: 100}


def test_a_pause_keeps_stable_longer() -> None:
    kept = play(blue_green(), World(), 15).rollout
    paused = obey(kept, Order(name=OrderName.PAUSE, by="ada", reason="lunch")).state
    world = World()
    world.weights = {CANDIDATE.key: 100}
    for now in (16, 10_000):
        paused = advance(paused, RolloutSeen(plane=world.seen()), float(now)).state
        assert (paused.phase, paused.weight) == (RolloutPhase.PROGRESSING, 100)


def test_latencies_have_a_limit_of_their_own() -> None:
    slow = AnalysisMetricPlan(metric="latency_p95_ms", max=20.0)
    analysis = AnalysisPlan(metrics=(ERRORS, slow), is_alone=True)

    def played(milliseconds: float) -> Rollout:
        world, rollout = World(), blue_green(analysis=analysis)
        for now in range(120):
            answered = int(world.requests[CANDIDATE.key])
            spans = ((milliseconds, milliseconds + 1.0, answered),)
            latencies = {key: LatencySeen(epoch="one", answers=spans) for key in (STABLE.key, CANDIDATE.key)}
            plane = world.seen().model_copy(update={"latencies": latencies})
            rollout = advance(rollout, RolloutSeen(plane=plane), float(now)).state
            if rollout.phase.is_final:
                break
            world.weights = rollout.weights
            world.serve(1.0)
        return rollout

    assert played(5.0).phase is RolloutPhase.PROMOTED
    assert "latency_p95_ms below 20" in played(5.0).because
    assert played(40.0).phase is RolloutPhase.ROLLED_BACK
    assert "latency_p95_ms: candidate" in played(40.0).because


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3])
def test_bets_against_a_limit_are_those_of_safety_with_nobody_beside(limit: float) -> None:
    for events, requests in ((0, 100), (3, 100), (100, 100)):
        expected = safety_gains((events, requests), (0, 1), limit)
        assert limit_bets((events, requests), limit) == pytest.approx(expected)


@given(st.integers(1, 60), st.floats(0.01, 0.9), st.floats(0.0, 0.1))
def test_the_mean_of_a_bet_is_at_most_one_for_whoever_is_at_the_limit_or_worse(
    requests: int, limit: float, worse: float
) -> None:
    rate = min(1.0, limit + worse)
    for index in range(len(STAKES)):
        mean = math.fsum(
            math.comb(requests, events)
            * rate**events
            * (1.0 - rate) ** (requests - events)
            * math.exp(limit_bets((events, requests), limit)[index])
            for events in range(requests + 1)
        )
        assert mean <= 1.0 + 1e-9


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["errors", "well", "sick", "unread", "read", "anew", "serve"]), max_size=20),
    st.booleans(),
    st.integers(0, 5),
)
def test_over_any_history_nobody_is_served_before_checks_and_nobody_promoted_without_time(
    history: list[str], passes: bool, asks: int
) -> None:
    """In the words of the promise: weight 0 or 100; 100 only after a check that passed and asked; promoted only after
    the time at 100 %, and not with every second answer an error.
    """
    world, rollout, now, since = World(), blue_green(CHECK), 0.0, None
    for what in [*history, *["well", "read", "serve"] * 3]:
        world.candidate_errors = {"errors": 0.5, "well": world.candidate_errors}.get(what, world.candidate_errors)
        world.is_healthy = what == "well" or (world.is_healthy and what != "sick")
        world.problem = "no answer" if what == "unread" else None if what == "read" else world.problem
        world.epoch = f"{now}" if what == "anew" else world.epoch
        for _ in range(6):
            now += 1.0
            is_checked = rollout.check_runs["contract"].phase is Phase.RUNNING
            world.requests[CANDIDATE.key] += asks if is_checked else 0
            checks = {"contract": PASSED if passes else FAILED} if is_checked else {}
            before, rollout = rollout, advance(rollout, RolloutSeen(plane=world.seen(), checks=checks), now).state
            assert rollout.weight in (0, 100)
            if rollout.weight == 100 and before.weight == 0:
                assert passes
                assert asks
                assert world.is_healthy
                assert world.problem is None
                since = now
            if rollout.phase is RolloutPhase.PROMOTED and before.phase is not rollout.phase:
                assert since is not None
                assert now - since > KEEP
                assert world.candidate_errors == 0.0
            world.weights = world.weights if rollout.phase.is_final else rollout.weights
            world.serve(1.0)
    assert advance(rollout, RolloutSeen(plane=world.seen()), now + 1e6).state.phase.is_final


def test_counts_that_are_gone_hold_it() -> None:
    rollout = play(blue_green(), World(), 5).rollout
    world = World()
    world.weights = {CANDIDATE.key: 100}
    gone = world.seen().model_copy(update={"counters": {STABLE.key: CounterSeen(epoch="one", requests=1, errors=0)}})
    for now in range(5, 119):
        rollout = advance(rollout, RolloutSeen(plane=gone), float(now)).state
    assert rollout.phase is RolloutPhase.PROGRESSING
    assert rollout.because.startswith("nothing was counted for ")
    assert "proven safe" in rollout.because  # long ago
    assert advance(rollout, RolloutSeen(plane=gone), 121.0).state.phase is RolloutPhase.ROLLED_BACK
