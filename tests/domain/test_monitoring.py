"""A revision in production is watched: what fires, when, how seldom without a cause, and what is told of it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.revisions import revision

from interlock.delivery.monitoring.bets import Bets
from interlock.delivery.monitoring.messages import (
    GIVEN_UP,
    LONGEST_SECONDS,
    OLDEST_SECONDS,
    PENDING,
    TOLD,
    Message,
    advance_message,
    messages_of,
)
from interlock.delivery.monitoring.monitor import CALM_BLOCKS, Monitor, advance, begin_monitor, evidence_of
from interlock.delivery.monitoring.questions import HALF, Question, questions_of, seconds_of
from interlock.delivery.monitoring.reference import (
    ColumnReference,
    Reference,
    highest_share,
    most_apart,
    read_reference,
)
from interlock.delivery.monitoring.replaying import observation, replay_turns
from interlock.delivery.monitoring.tallies import Tally, counts_between, tally_of
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, LatencySeen, LoadSeen, ObservedSeen
from interlock.pipeline.monitoring.plan import DAY, MonitoringPlan, MonitorRulePlan
from interlock.vocabulary import Event, Kind

AMOUNT = ColumnReference(name="input.amount", is_number=True, strange=0.0, counts=(20, 0, 980, 980, 1020, 1000))
CITY = ColumnReference(name="input.city", is_number=False, strange=0.01, counts=(0, 20, 3000, 980))
ANSWER = ColumnReference(name="output.prediction", is_number=True, strange=0.0, counts=(0, 0, 3000, 1000))
REFERENCE = Reference(rows=4000, columns=(AMOUNT, CITY, ANSWER))
PLAN = MonitoringPlan()
QUESTIONS = questions_of(PLAN, REFERENCE, None, 4000)
TICK = seconds_of("tick", DAY)
WELL = {"input.amount": (2, 0, 98, 98, 102, 100), "input.city": (0, 2, 300, 98), "output.prediction": (0, 0, 300, 100)}


def watch(
    looks: Iterable[Mapping[str, tuple[int, ...]]],
    every: float = TICK,
    questions: tuple[Question, ...] = QUESTIONS,
    monitor: Monitor | None = None,
) -> list[Monitor]:
    """The monitor after each look, one ``every`` so many seconds."""
    states = [monitor or begin_monitor("small/production", "r1", "small v1", PLAN, "", 0.0)]
    now = states[0].blocks["tick"].since
    for counts in looks:
        now += every
        decision = advance(states[-1], questions, counts, now)
        assert decision.because == decision.state.because
        states.append(decision.state)
    return states


def changed(**columns: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {**WELL, **{name.replace("_", ".", 1): counts for name, counts in columns.items()}}


def test_what_comes_as_the_reference_is_not_told_of() -> None:
    states = watch([WELL] * 3000)
    assert states[-1].alerts == {}
    assert states[-1].because == "small v1: nothing is found"
    assert evidence_of(states[-1], QUESTIONS) == {}


@pytest.mark.parametrize(
    ("counts", "key"),
    [
        (changed(input_amount=(200, 0, 50, 50, 50, 50)), "missing of input.amount"),
        (changed(input_amount=(0, 400, 0, 0, 0, 0)), "out_of_range of input.amount"),
        (changed(input_city=(0, 200, 150, 50)), "unseen of input.city"),
        (changed(output_prediction=(0, 400, 0, 0)), "out_of_range of output.prediction"),
    ],
)
def test_a_broken_column_is_told_of_within_minutes(counts: dict[str, tuple[int, ...]], key: str) -> None:
    states = watch([WELL] * 50 + [counts] * 60)
    fired = next(place for place, state in enumerate(states) if state.alerts)
    assert 51 < fired <= 75
    assert list(states[fired].alerts) == [key]
    alert = states[fired].alerts[key]
    assert (alert.on_breach, alert.since) == ("alert", fired * TICK)
    assert "at most" in alert.because
    assert alert.because in states[fired].because
    assert alert.key in evidence_of(states[fired], QUESTIONS)


def test_an_alert_fires_once_and_is_resolved_when_all_is_well_again() -> None:
    bad = changed(input_amount=(400, 0, 0, 0, 0, 0))
    states = watch([bad] * 40 + [WELL] * 10 + [bad] * 40)
    since = {state.alerts["missing of input.amount"].since for state in states[:41] if state.alerts}
    assert len(since) == 1
    is_firing = [bool(state.alerts) for state in states]
    first = is_firing.index(True)
    assert is_firing[first : 41 + CALM_BLOCKS - 1] == [True] * (41 + CALM_BLOCKS - 1 - first)
    assert not any(is_firing[41 + CALM_BLOCKS : 51])
    again = is_firing.index(True, 51)
    assert again - 50 == first  # evidence began anew: it takes as long as the first time


def test_turns_are_decided_again_from_what_is_stored_of_them() -> None:
    bad = changed(input_amount=(400, 0, 0, 0, 0, 0))
    states = watch([bad] * 40 + [WELL] * 10)
    events = [event(state) for state in states]
    again = replay_turns(events)
    assert (again.decisions, again.differences) == (2, ())
    fired, resolved = (one for one in events if one.observed)
    (turn,) = fired.observed["turns"]  # type: ignore[misc,union-attr]
    turn["counts"] = [1, 399]  # type: ignore[index,call-overload]
    (turn,) = resolved.observed["turns"]  # type: ignore[misc,union-attr]
    turn["before"]["calm"] = 0  # type: ignore[index,call-overload]
    first, second = replay_turns(events).differences
    assert first.startswith("missing of input.amount: it fires, ")
    assert first.endswith("then, it does not fire now")
    assert second.startswith("missing of input.amount: it does not fire then, it fires, ")


def event(state: Monitor) -> Event:
    """A look as it is stored."""
    return Event(
        number=1,
        kind=Kind.MONITOR,
        key=state.environment,
        version=1,
        phase="",
        at=0.0,
        because=state.because,
        observed=observation(state),
    )


def test_a_shifted_column_is_told_of_by_whole_periods_and_sooner_once_the_day_is_known() -> None:
    moved = changed(input_amount=(8, 0, 0, 0, 0, 392))
    from_the_first = watch([moved] * 14, DAY)
    assert next(list(state.alerts) for state in from_the_first if state.alerts) == ["drift of input.amount"]
    part = seconds_of("part", DAY)
    known = watch([WELL] * 48, part)
    assert all(state.alerts == {} for state in known)
    later = watch([moved] * 24, part, monitor=known[-1])
    assert next(list(state.alerts) for state in later if state.alerts) == ["sudden drift of input.amount"]
    assert "of its values are where 25 % of the reference are" in later[-1].because


def test_what_each_day_brings_is_learnt_and_not_told_of() -> None:
    """A column that is elsewhere in each part of the day, and over the day as the reference."""
    hours = [changed(input_amount=(0, 0, *(400 * (hour % 4 == place) for place in range(4)))) for hour in range(24)]
    states = watch(hours * 30, seconds_of("part", DAY))
    assert all(state.alerts == {} for state in states)


def test_no_traffic_says_nothing() -> None:
    states = watch([{}, {"input.amount": (0,) * 6}] * 50)
    assert states[-1].watched == {}


def test_few_rows_are_not_suspected() -> None:
    states = watch([changed(input_amount=(1, 0, 0, 0, 0, 0))] * 3)
    assert not any(watched.bets.is_on for watched in states[-1].watched.values())


def test_what_is_not_compared_is_said() -> None:
    monitor = begin_monitor("small/production", "r1", "small v1", PLAN, "no reference: it is old", 0.0)
    assert monitor.because == "small v1: nothing is found; not monitored: no reference: it is old"


@pytest.mark.parametrize(
    ("rule", "accuracy", "bound"),
    [
        (MonitorRulePlan(metric="error_rate", max=0.02), None, 0.02),
        (MonitorRulePlan(metric="latency_p95_ms", max=100.0), None, 0.05),
        (MonitorRulePlan(metric="saturation", max=4.0), None, HALF),
        (MonitorRulePlan(metric="accuracy", min=0.8), None, 0.2),
        (MonitorRulePlan(metric="accuracy", margin=0.05), None, None),
        (MonitorRulePlan(metric="accuracy", margin=0.05), 0.9, 0.15),
        (MonitorRulePlan(metric="accuracy"), 0.9, 0.1),
    ],
)
def test_live_metrics_have_bounds(rule: MonitorRulePlan, accuracy: float | None, bound: float | None) -> None:
    plan = MonitoringPlan(rules=(rule,))
    asked = questions_of(plan, None, accuracy, 100_000)
    assert [question.bound for question in asked] == ([] if bound is None else [pytest.approx(bound, abs=0.01)])
    for question in asked:
        counts = {rule.metric: (100, 0)}
        (alert,) = watch([counts] * 60, questions=asked)[-1].alerts.values()
        assert alert.because.startswith("1e+02 %")
        assert alert.key == question.key


def test_rules_and_columns_share_one_alpha_by_bonferroni() -> None:
    spent = sum(1.0 / question.needed for question in QUESTIONS)
    assert spent <= PLAN.alpha / 2.0
    assert questions_of(MonitoringPlan(rules=()), REFERENCE, None, 1) == ()
    ignored = questions_of(MonitoringPlan(ignore=("amount",)), REFERENCE, None, 1)
    assert {question.column for question in ignored} == {"input.city", "output.prediction", "error_rate", "saturation"}


def test_a_column_of_which_nothing_can_be_strange_is_not_asked_about() -> None:
    identity = ColumnReference(name="input.id", is_number=False, strange=1.0, counts=(0, 50, 50))
    asked = questions_of(PLAN, Reference(rows=100, columns=(identity,)), None, 100)
    assert "unseen of input.id" not in {question.key for question in asked}
    assert "drift of input.id" not in {question.key for question in asked}  # one bin is always as it was


def test_the_reference_is_read_from_its_artifact() -> None:
    column: dict[str, Any] = {"side": "input", "name": "x", "kind": "number", "strange": 0.1, "counts": [1, 0, 3, 6]}
    read = read_reference({"rows": 10, "columns": [{**column, "edges": [1.0], "lowest": 0.0, "highest": 2.0}]})
    assert read.columns[0].name == "input.x"
    assert read.columns[0].missing == pytest.approx(0.1)
    assert read.columns[0].shares == (1 / 3, 2 / 3)


@given(share=st.floats(0.0, 1.0), rows=st.integers(1, 10_000), alpha=st.floats(1e-6, 0.5))
def test_the_highest_share_is_a_bound_that_more_rows_bring_nearer(share: float, rows: int, alpha: float) -> None:
    bound = highest_share(share, rows, alpha)
    assert share <= bound <= 1.0
    assert highest_share(share, rows * 4, alpha) <= bound + 1e-9


def test_the_highest_share_of_nothing_is_exact() -> None:
    assert highest_share(0.0, 100, 0.05) == pytest.approx(1.0 - 0.05 ** (1 / 100), abs=1e-9)
    assert highest_share(1.0, 100, 0.05) == 1.0


def test_shares_in_bins_are_as_near_as_said() -> None:
    """The bound holds in more than 95 of 100 samples of 500 rows in 10 even bins."""
    drawn = random.Random(3)
    bound = most_apart(10, 500, 0.05)
    assert 0.05 < bound < 0.12
    for _ in range(200):
        counts = [0] * 10
        for _ in range(500):
            counts[drawn.randrange(10)] += 1
        assert sum(abs(count / 500 - 0.1) for count in counts) / 2 <= bound


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 1.0)), max_size=30), st.floats(0.01, 0.99))
def test_wealth_stays_positive_and_its_mean_does_not_grow(blocks: list[tuple[bool, float]], bound: float) -> None:
    """Before each block the mean over a share of 1 (with chance ``bound``) or 0 is what there was."""
    bets = Bets()
    for is_suspected, share in blocks:
        bets = bets.suspect(is_suspected)
        mean = bound * bets.settle(1.0, bound).value + (1.0 - bound) * bets.settle(0.0, bound).value
        assert mean == pytest.approx(bets.value, rel=1e-9)
        bets = bets.settle(share, bound)
        assert bets.value > 0.0
    assert Bets().suspect(True).value == pytest.approx(1.0)


def test_over_many_lives_wealth_is_seldom_large() -> None:
    """Ville's inequality, with suspicions that come from what was before: at most 1 in 20 lives above 20."""
    drawn = random.Random(7)
    above = 0
    for _ in range(1000):
        bets, last, highest = Bets(), 0.0, 0.0
        for _ in range(200):
            bets = bets.suspect(last > 0.2)
            last = float(drawn.random() < 0.2)
            bets = bets.settle(last, 0.2)
            highest = max(highest, bets.value)
        above += highest >= 20.0
    assert above <= 50 + 3 * math.sqrt(50)


STABLE = revision(1)
R0, R1, OTHER = "flights.production.r1.0", "flights.production.r1.1", "flights.production.r2.0"


def observed(epoch: str, *counts: int) -> ObservedSeen:
    return ObservedSeen(epoch=epoch, rows=sum(counts), columns={"input.x": counts})


def tally(at: float, replicas: Mapping[str, ObservedSeen], **plane: Any) -> Tally:
    return tally_of(
        STABLE, 2, DataPlaneSeen(**{name: {STABLE.key: seen} for name, seen in plane.items()}), replicas, at
    )


def test_columns_are_what_the_replicas_of_stable_counted_between_two_looks() -> None:
    before = tally(0.0, {R0: observed("a", 1, 0, 5), R1: observed("b", 0, 0, 7)})
    seen = {R0: observed("a", 2, 0, 9), R1: observed("c", 1, 0, 1), OTHER: observed("d", 9, 9, 9)}
    assert counts_between((), {"input.x": 3}, before, tally(1.0, seen)) == {"input.x": (2, 0, 5)}


LIVE = (
    MonitorRulePlan(metric="error_rate", max=0.1),
    MonitorRulePlan(metric="accuracy", min=0.8),
    MonitorRulePlan(metric="latency_p99_ms", max=100.0),
    MonitorRulePlan(metric="saturation", max=2.0),
    MonitorRulePlan(metric="drift", max=0.1),
)


def plane_seen(epoch: str, requests: int, seconds: float) -> dict[str, Any]:
    counter = CounterSeen(epoch=epoch, requests=requests, errors=requests // 10)
    slow = LatencySeen(epoch=epoch, answers=((0.0, 50.0, requests), (100.0, 200.0, requests // 5)))
    load = LoadSeen(epoch=epoch, answered=requests, active=1, seconds=seconds)
    return {"counters": counter, "labelled": counter, "latencies": slow, "loads": load}


def test_live_metrics_are_what_the_proxy_and_the_labels_counted() -> None:
    before = tally(0.0, {}, **plane_seen("a", 100, 10.0))
    found = counts_between(LIVE, {}, before, tally(10.0, {}, **plane_seen("a", 300, 60.0)))
    assert found == {"error_rate": (20, 180), "accuracy": (20, 180), "latency_p99_ms": (40, 200), "saturation": (1, 0)}
    quiet = counts_between(LIVE, {}, before, tally(10.0, {}, **plane_seen("a", 300, 12.0)))
    assert quiet["saturation"] == (0, 1)


def test_counters_that_began_anew_fell_or_are_not_there_say_nothing() -> None:
    before = tally(0.0, {}, **plane_seen("a", 100, 10.0))
    assert counts_between(LIVE, {}, before, tally(10.0, {}, **plane_seen("b", 300, 60.0))) == {}
    assert counts_between(LIVE, {}, before, tally(10.0, {})) == {}
    fell = counts_between(LIVE, {}, before, tally(10.0, {}, **plane_seen("a", 50, 10.0)))
    assert set(fell) == {"saturation"}


@pytest.mark.parametrize("counts", [(1, 0), (1, 0, 9, 1), (2, 0, 4)])
def test_what_cannot_be_counts_is_passed_over(counts: tuple[int, ...]) -> None:
    before, after = tally(0.0, {R0: observed("a", 1, 0, 5)}), tally(1.0, {R0: observed("a", *counts)})
    assert counts_between((), {"input.x": 3}, before, after) == {}
    assert counts_between((), {}, before, tally(1.0, {R0: observed("a", 1, 0, 6)})) == {}


class TestMessages:
    """What is told of an alert, and until when."""

    firing = watch([changed(input_amount=(400, 0, 0, 0, 0, 0))] * 40)[-1]
    well = begin_monitor("small/production", "r1", "small v1", PLAN, "", 0.0)

    def test_a_turn_is_told_once(self) -> None:
        (message,) = messages_of(self.well, self.firing, 7, 50.0)
        assert (message.id, message.state, message.phase) == ("small/production/7.0", "firing", PENDING)
        assert message.document["alert"] == "missing of input.amount"
        assert message.document["because"] == message.alert.because
        assert messages_of(self.firing, self.firing, 8, 60.0) == []
        (over,) = messages_of(self.firing, self.well, 9, 70.0)
        assert (over.state, over.alert) == ("resolved", message.alert)
        assert messages_of(None, self.well, 1, 0.0) == []

    def test_another_revision_resolves_what_fired_of_the_one_before(self) -> None:
        other = self.firing.model_copy(update={"revision": "r2", "title": "small v2"})
        resolved, fired = messages_of(self.firing, other, 3, 9.0)
        assert (resolved.state, resolved.title, fired.state, fired.title) == (
            "resolved",
            "small v1",
            "firing",
            "small v2",
        )

    def message(self, **more: Any) -> Message:
        (made,) = messages_of(self.well, self.firing, 1, 100.0)
        return made.model_copy(update=more)

    def test_a_message_is_told_when_all_have_taken_it(self) -> None:
        decision = advance_message(self.message(), ("a", "b"), {}, 101.0)
        assert (decision.state.phase, decision.state.taken, decision.because) == (TOLD, ("a", "b"), "told a, b")
        assert "nobody is to be told" in advance_message(self.message(), (), {}, 101.0).because

    def test_who_has_taken_it_is_not_asked_again_and_the_others_ever_more_seldom(self) -> None:
        message, now, waits = self.message(), 100.0, []
        while message.phase == PENDING:
            message = advance_message(message, ("a", "b"), {"b": "answered 500"}, now).state
            waits.append(message.due - now)
            now = message.due + 0.1 if message.phase == PENDING else now
        assert message.taken == ("a",)
        assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
        assert max(waits) == pytest.approx(LONGEST_SECONDS)
        assert message.phase == GIVEN_UP
        assert 100.0 + OLDEST_SECONDS <= now <= 100.0 + OLDEST_SECONDS + 2 * LONGEST_SECONDS
