"""A rollout on probation: each row of its table, labels that are late, and what holds over histories."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.test_rollout import CANARY, CANDIDATE, STABLE, World
from tests.looks import decide, event

from interlock.delivery.advance import advance
from interlock.delivery.environment import Environment, enter, follow
from interlock.delivery.holding import Freeze
from interlock.delivery.looks.evidence import tick_seconds
from interlock.delivery.looks.replaying import replay
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, EndpointSeen, LateLabels
from interlock.delivery.rollout import (
    CRASHES,
    Order,
    OrderName,
    Rollout,
    RolloutPhase,
    RolloutSeen,
    begin,
    late_labels,
)
from interlock.delivery.steering import ORDER, obey
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StrategyPlan
from interlock.pipeline.plan import CommandPlan, EnvironmentPlan
from interlock.vocabulary import Phase

PROBATION, DELAY, DEADLINE, HOLDBACK = 120.0, 40, 300.0, 20
ERRORS = AnalysisMetricPlan(metric="error_rate", margin=0.02, max=0.05)
LATE = AnalysisMetricPlan(metric="accuracy", max_ratio=1.2, margin=0.1, delay=float(DELAY))
PROGRESSING, PROMOTED, ROLLED_BACK = RolloutPhase.PROGRESSING, RolloutPhase.PROMOTED, RolloutPhase.ROLLED_BACK


class LabelledWorld(World):
    """A data plane where every answer gets a label, ``DELAY`` seconds late; ``wrong`` is the candidate's share."""

    def __init__(self, wrong: float = 0.1, has_labels: bool = True, **more: float) -> None:
        super().__init__(rate=100.0, **more)
        self.wrong, self.has_labels = wrong, has_labels
        self.answered: list[dict[str, float]] = []
        self.judged = {STABLE.key: [0.0, 0.0], CANDIDATE.key: [0.0, 0.0]}

    def serve(self, seconds: float) -> None:
        super().serve(seconds)
        self.answered.append({key: self.rate * seconds * weight / 100 for key, weight in self.weights.items()})
        if self.has_labels and len(self.answered) > DELAY:
            for key, answers in self.answered[-DELAY - 1].items():
                self.judged[key][0] += answers
                self.judged[key][1] += answers * (self.wrong if key == CANDIDATE.key else 0.1)

    def seen(self) -> DataPlaneSeen:
        labelled = {
            key: CounterSeen(epoch="labels", requests=int(judged), errors=int(wrong))
            for key, (judged, wrong) in self.judged.items()
        }
        return super().seen().model_copy(update={"labelled": labelled})


def begun(*metrics: AnalysisMetricPlan, probation: float = PROBATION, checks: tuple[CommandPlan, ...] = ()) -> Rollout:
    strategy = CANARY.strategy.model_copy(
        update={
            "analysis": AnalysisPlan(metrics=metrics or (ERRORS, LATE)),
            "probation": probation,
            "holdback": HOLDBACK,
            "deadline": DEADLINE,
        }
    )
    plan = EnvironmentPlan(name="production", strategy=strategy, checks=checks)
    return begin(4, CANDIDATE, STABLE, plan, release=5, now=0.0)


def look(rollout: Rollout, world: World, now: float, **seen: object) -> Rollout:
    return advance(rollout, RolloutSeen.model_validate({"plane": world.seen(), **seen}), now).state


def play(rollout: Rollout, world: World, until: int, start: int = 0, **seen: object) -> tuple[Rollout, int]:
    """Second by second to ``until``, or to the rollout's end; the world takes over the weights each time."""
    now = start
    for now in range(start, until):
        rollout = look(rollout, world, float(now), **seen)
        if rollout.phase.is_final:
            break
        world.weights = rollout.weights
        world.serve(1.0)
    return rollout, now


def on_probation(world: World, *metrics: AnalysisMetricPlan) -> tuple[Rollout, int]:
    """A rollout that has just come on probation, and the second after that."""
    rollout, now = begun(*metrics), 0
    while not rollout.is_on_probation:
        rollout, _ = play(rollout, world, now + 1, now)
        now += 1
    return rollout, now


def test_after_all_steps_stable_gets_the_holdback_and_the_candidate_is_promoted_in_the_end() -> None:
    world = LabelledWorld()
    rollout, now = on_probation(world)
    assert (rollout.phase, rollout.weights) == (PROGRESSING, {CANDIDATE.key: 80, STABLE.key: 20})
    assert "20 % stay with stable" in rollout.because
    began = now - 1
    rollout, now = play(rollout, world, now + int(PROBATION) - 2, now)
    assert (rollout.phase, rollout.weight) == (PROGRESSING, 80)
    assert rollout.because.startswith("on probation at 80 % until 1970-01-01 00:0")
    ended, now = play(rollout, world, now + 10, now + 1)
    assert (ended.phase, ended.weights, now - began) == (PROMOTED, {CANDIDATE.key: 100}, int(PROBATION))
    assert ended.because.startswith("flights v2 has all traffic, its probation of 120 s is over: ")
    assert "accuracy within 0.1 of stable" in ended.because


def test_without_a_stable_side_or_without_the_key_there_is_no_probation() -> None:
    assert begin(4, CANDIDATE, None, CANARY, release=5, now=0.0).probation == 0.0
    first = begin(
        4,
        CANDIDATE,
        None,
        EnvironmentPlan(name="production", strategy=StrategyPlan(kind="canary", probation=60.0)),
        release=5,
        now=0.0,
    )
    assert (first.probation, late_labels(first)) == (0.0, None)
    assert late_labels(begin(4, CANDIDATE, STABLE, CANARY, release=5, now=0.0)) is None


def test_late_labels_are_asked_for_both_sides_of_this_rollout() -> None:
    assert late_labels(begun()) == LateLabels(rollout=4, delay=float(DELAY), revisions=(STABLE.key, CANDIDATE.key))


def test_checks_are_run_with_all_traffic_before_the_probation() -> None:
    world, rollout = LabelledWorld(), begun(checks=(CommandPlan(name="contract", command="pytest"),))
    rollout, now = play(rollout, world, 60)
    assert (rollout.weight, rollout.is_on_probation) == (100, False)
    assert rollout.check_runs["contract"].phase is Phase.RUNNING
    outcome = {"contract": {"phase": Phase.SUCCEEDED, "because": "12 tests"}}
    rollout, _ = play(rollout, world, now + 3, now, checks=outcome)
    assert (rollout.weight, rollout.is_on_probation) == (80, True)


def test_what_is_late_is_not_judged_in_the_steps_and_does_harm_on_probation() -> None:
    world = LabelledWorld(wrong=0.5)
    rollout, now = on_probation(world)
    assert "accuracy" not in rollout.because.partition(";")[0]
    assert rollout.analysis is not None
    assert rollout.analysis.streams[1].totals.candidate_requests == 0
    ended, now = play(rollout, world, now + int(PROBATION), now)
    assert (ended.phase, ended.weights) == (ROLLED_BACK, {STABLE.key: 100})
    assert "accuracy" in ended.because
    assert "proven worse than tolerated" in ended.because


def test_harm_that_needs_no_labels_is_found_on_probation_too() -> None:
    world = LabelledWorld()
    rollout, now = on_probation(world)
    rollout, now = play(rollout, world, now + 20, now)
    world.candidate_errors = 0.3
    ended, later = play(rollout, world, now + 60, now + 1)
    assert (ended.phase, later - now < 30) == (ROLLED_BACK, True)
    world = LabelledWorld()
    rollout, now = on_probation(world)
    world.restarts = CRASHES
    assert look(rollout, world, float(now)).phase is ROLLED_BACK


def test_a_late_dry_run_is_told_on_probation_and_decides_nothing() -> None:
    world = LabelledWorld(wrong=0.5)
    rollout, now = on_probation(world, ERRORS, LATE.model_copy(update={"dry_run": True}))
    rollout, now = play(rollout, world, now + int(PROBATION) - 2, now)
    assert (rollout.phase, "a dry run would roll back: accuracy" in rollout.because) == (PROGRESSING, True)
    assert play(rollout, world, now + 10, now + 1)[0].phase is PROMOTED


@pytest.mark.parametrize("has_traffic", [True, False])
def test_labels_that_never_come_are_waited_for_and_then_the_way_back_is_taken(has_traffic: bool) -> None:
    world = LabelledWorld(has_labels=False)
    rollout, now = on_probation(world)
    world.rate = 100.0 if has_traffic else 0.0
    began, over = now - 1, now - 1 + int(PROBATION + DEADLINE)
    rollout, now = play(rollout, world, over + 1, now)
    assert (rollout.phase, now) == (PROGRESSING, over)
    assert "held until" in rollout.because
    assert "not promoted without proof: no evidence of accuracy yet" in rollout.because
    ended, now = play(rollout, world, over + 2, over + 1)
    assert (ended.phase, now - began) == (ROLLED_BACK, int(PROBATION + DEADLINE) + 1)
    assert "300 s after its probation it is still waiting" in ended.because


def test_labels_that_come_after_its_time_still_prove() -> None:
    world = LabelledWorld(has_labels=False)
    rollout, now = on_probation(world)
    rollout, now = play(rollout, world, now + int(PROBATION) + 30, now)
    assert rollout.phase is PROGRESSING
    world.has_labels = True
    ended, _ = play(rollout, world, now + 200, now + 1)
    assert ended.phase is PROMOTED


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"problem": "no answer"}, "the proxy cannot be read: no answer"),
        ({"weights": {STABLE.key: 100}}, "weight 80 % is not yet in force (0 %)"),
        ({"is_healthy": False}, "flights v2 is not healthy"),
    ],
)
def test_it_is_not_promoted_while_the_data_plane_is_not_as_it_should_be(change: dict[str, object], told: str) -> None:
    world = LabelledWorld()
    rollout, now = on_probation(world)
    rollout, now = play(rollout, world, now + int(PROBATION) - 5, now)
    for name, value in change.items():
        setattr(world, name, value)
    waiting = look(rollout, world, now + 10.0)
    assert (waiting.phase, told in waiting.because) == (PROGRESSING, True)
    promoted = obey(waiting, Order(name=OrderName.PROMOTE, by="ada", reason="now")).state
    assert look(promoted, world, now + 11.0).phase is PROGRESSING
    assert look(waiting, world, now + PROBATION + DEADLINE).phase is ROLLED_BACK


def test_a_load_that_has_fallen_since_asks_for_fewer_healthy_replicas() -> None:
    world = LabelledWorld()
    rollout = begun().model_copy(update={"replicas": 3})  # as many as the load asked for when it began
    three = {CANDIDATE.replica(index): EndpointSeen(is_healthy=True, is_draining=False) for index in range(3)}
    seen = world.seen

    def with_three() -> DataPlaneSeen:
        plane = seen()
        return plane.model_copy(update={"endpoints": {**plane.endpoints, CANDIDATE.key: three}})

    world.seen = with_three  # type: ignore[method-assign]
    rollout, now = play(rollout, world, 60)
    assert rollout.is_on_probation
    world.seen = seen  # type: ignore[method-assign]
    ended, _ = play(rollout, world, now + 200, now + 1)
    assert ended.phase is PROMOTED


def test_a_person_ends_a_probation_and_one_asked_before_leaves_it_out() -> None:
    world = LabelledWorld(has_labels=False)
    rollout, now = on_probation(world)
    order = Order(name=OrderName.PROMOTE, by="ada", reason="the labels look good")
    ended = look(obey(rollout, order).state, world, float(now))
    assert (ended.phase, ended.weight) == (PROMOTED, 100)
    assert "promoted past its further steps by ada: the labels look good" in ended.because
    world, rollout = LabelledWorld(), begun()
    rollout, now = play(rollout, world, 5)
    ended, _ = play(obey(rollout, order).state, world, now + 20, now + 1)
    assert (ended.phase, ended.is_on_probation) == (PROMOTED, False)


def test_a_newer_release_waits_for_the_proof_and_no_longer() -> None:
    world = LabelledWorld()
    rollout, now = on_probation(world)
    waiting = look(rollout, world, float(now), superseded_by=9)
    assert (waiting.phase, "not promoted without proof" in waiting.because) == (PROGRESSING, True)
    ended, later = play(rollout, world, now + int(PROBATION), now, superseded_by=9)
    assert (ended.phase, later < now + PROBATION - 20) == (PROMOTED, True)
    assert "its probation is cut short for release 9" in ended.because
    world = LabelledWorld()
    rollout, now = on_probation(world, ERRORS)  # everything was proven in the steps
    assert look(rollout, world, float(now), superseded_by=9).phase is PROMOTED


def test_held_it_keeps_its_weight_its_clock_stands_and_harm_still_rolls_back() -> None:
    world = LabelledWorld()
    rollout, now = on_probation(world)
    rollout, now = play(rollout, world, now + 1000, now, held="frozen by ada")
    assert (rollout.phase, rollout.weight, rollout.because) == (PROGRESSING, 80, "frozen by ada")
    free, later = play(rollout, world, now + int(PROBATION), now + 1)
    assert free.phase is PROGRESSING
    ended, _ = play(free, world, later + 10, later + 1)
    assert ended.phase is PROMOTED
    world.wrong = 0.6
    harmed, _ = play(rollout, world, now + 300, now + 1, held="frozen by ada")
    assert harmed.phase is ROLLED_BACK


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, ("interlock", None)),
        (Freeze(by="ada", reason="lunch", until=5.0), ("interlock", None)),
        (Freeze(by="ada", reason="rolled back: no"), ("ada", None)),
    ],
)
def test_what_is_rolled_back_on_probation_leaves_its_environment_frozen(
    before: Freeze | None, after: tuple[str, float | None]
) -> None:
    rollout, _ = on_probation(LabelledWorld())
    environment = Environment(name="production", model="flights", stable=STABLE, freeze=before)
    environment = enter(environment, rollout)
    back = follow(environment, rollout.model_copy(update={"phase": ROLLED_BACK, "because": "wrong", "weight": 0}))
    assert back.freeze is not None
    assert (back.freeze.by, back.freeze.until) == after
    for harmless in ({"phase": PROMOTED}, {"phase": ROLLED_BACK, "is_on_probation": False}):
        assert follow(environment, rollout.model_copy(update=harmless)).freeze == before


@pytest.mark.parametrize(("probation", "seconds"), [(30.0, 1.0), (7200.0, 5.0), (86400.0, 60.0), (7 * 86400.0, 60.0)])
def test_looks_of_a_long_probation_are_a_minute_apart(probation: float, seconds: float) -> None:
    assert tick_seconds(probation) == seconds


def test_between_two_ticks_of_a_long_probation_nothing_is_saved() -> None:
    world, rollout, now = LabelledWorld(), begun(probation=86400.0), 0
    rollout, now = play(rollout, world, 60)
    assert rollout.is_on_probation
    changed = 0
    for second in range(now + 1, now + 601):
        after = look(rollout, world, float(second))
        changed += after != rollout
        rollout = after
        world.serve(1.0)
    assert changed == 10
    assert rollout.analysis is not None
    assert rollout.analysis.horizon == 300 + (86400 + 300) // 60


def test_its_decisions_are_made_again_from_what_was_stored() -> None:
    world, rollout, events = LabelledWorld(wrong=0.3), begun(), []
    events.append(event(rollout, "begins", {}))
    for now in range(300):
        if rollout.is_on_probation and rollout.pause is None:
            order = Order(name=OrderName.PAUSE, by="ada", reason="lunch")
            rollout = obey(rollout, order).state
            events.append(event(rollout, rollout.because, {ORDER: order.model_dump(mode="json")}))
        seen = RolloutSeen(plane=world.seen())
        rollout = decide(rollout, seen, float(now), events)
        if rollout.phase.is_final:
            break
        world.weights = rollout.weights
        world.serve(1.0)
    assert (rollout.phase, rollout.is_on_probation) == (ROLLED_BACK, True)
    again = replay(Rollout.model_validate_json(rollout.model_dump_json()), events)
    assert (again.differences, again.unknown, again.decisions) == ((), 0, len(events) - 2)


HAPPENING = st.tuples(
    st.sampled_from(
        ["serve", "serve", "no labels", "labels", "wrong", "sick", "well", "proxy gone", "proxy back", "crash", "held"]
    ),
    st.integers(1, 40),
)


@settings(max_examples=30)
@given(st.lists(HAPPENING, max_size=12))
def test_over_any_history_it_ends_once_and_never_without_evidence(history: list[tuple[str, int]]) -> None:
    """Safety: stable keeps its share until the end; promoted is only what labels of both sides speak for. Liveness: its
    time and its bound end it.
    """
    world = LabelledWorld()
    rollout, now = on_probation(world)
    moment, is_held, held_for = float(now), False, 0.0
    began = moment - 1.0
    for what, seconds in history:
        world.has_labels = what == "labels" or (world.has_labels and what != "no labels")
        world.wrong = 0.6 if what == "wrong" else world.wrong
        world.is_healthy = what == "well" or (world.is_healthy and what != "sick")
        world.problem = "gone" if what == "proxy gone" else None if what == "proxy back" else world.problem
        world.restarts += CRASHES * (what == "crash")
        is_held = what == "held"
        for _ in range(seconds):
            before, rollout = rollout, look(rollout, world, moment, held="frozen by ada" if is_held else None)
            assert sum(rollout.weights.values()) == 100
            if before.phase.is_final:
                assert rollout == before
            elif rollout.phase is PROMOTED:
                assert moment - began - held_for >= PROBATION - 1.0
                assert not is_held
                assert min(world.judged[key][0] for key in world.judged) > 0
                judged, wrong = world.judged[CANDIDATE.key]
                assert wrong < 0.2 * judged  # what began less than DELAY before the end has no label by then
                assert (world.is_healthy, world.problem) == (True, None)
            elif rollout.phase is PROGRESSING:
                assert rollout.weights == {CANDIDATE.key: 80, STABLE.key: 20}
                assert moment - began - held_for <= PROBATION + DEADLINE + 2.0
            world.serve(1.0)
            held_for += is_held
            moment += 1.0
    late = look(rollout, world, moment, held=None)
    assert look(late, world, moment + PROBATION + DEADLINE + held_for + 1.0).phase.is_final
