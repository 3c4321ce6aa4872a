"""Live evidence of a rollout: latencies from spans of milliseconds, warm-up, sources that are missing."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.looks import decide, event
from tests.revisions import revision

from interlock.delivery.analysis.engine import begin_analysis, harm_of, observe
from interlock.delivery.analysis.latency import bins_of_sides, edge_of, exceeding, limit_bin, tolerance_bins
from interlock.delivery.analysis.spread import Spread
from interlock.delivery.analysis.streams import Rule
from interlock.delivery.analysis.ticks import Counts, Latencies, Tick
from interlock.delivery.looks.evidence import latencies_between
from interlock.delivery.looks.replaying import of_interest, replay
from interlock.delivery.revision import (
    CounterSeen,
    DataPlaneSeen,
    EndpointSeen,
    LatencySeen,
    ReplicaSeen,
)
from interlock.delivery.rollout import Rollout, RolloutPhase, RolloutSeen, begin, judges, summary
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan

STABLE, CANDIDATE = revision(1), revision(2)
ERRORS = AnalysisMetricPlan(metric="error_rate", margin=0.05)
SLOW = AnalysisMetricPlan(metric="latency_p95_ms", max_ratio=1.2, margin=0.1)


def canary(*metrics, warm_up=0.0, deadline=400.0):
    strategy = StrategyPlan(
        kind="canary",
        steps=(StepPlan(set_weight=30), StepPlan(analysis=20.0)),
        deadline=deadline,
        analysis=AnalysisPlan(metrics=metrics, warm_up=warm_up),
    )
    return begin(4, CANDIDATE, STABLE, EnvironmentPlan(name="production", strategy=strategy), release=None, now=0.0)


class World:
    """Forty requests a second; every answer of a revision takes one of its milliseconds, in turn."""

    def __init__(self, stable=(5, 6, 7, 8, 20), candidate=(5, 6, 7, 8, 20)):
        self.took = {STABLE.key: stable, CANDIDATE.key: candidate}
        self.answers = {STABLE.key: {}, CANDIDATE.key: {}}
        self.age, self.epoch, self.weights = 1000.0, "one", {}

    def serve(self):
        for key, weight in self.weights.items():
            for index in range(40 * weight // 100):
                took = self.took[key][index % len(self.took[key])]
                span = (float(took), float(took + 1))
                self.answers[key][span] = self.answers[key].get(span, 0) + 1
        self.age += 1.0

    def seen(self):
        endpoint = EndpointSeen(is_healthy=True, is_draining=False)
        return DataPlaneSeen(
            replicas={CANDIDATE.replica(0): ReplicaSeen(is_running=True, is_ready=True, age=self.age)},
            endpoints={one.key: {one.replica(i): endpoint for i in range(2)} for one in (STABLE, CANDIDATE)},
            weights=self.weights,
            counters={
                key: CounterSeen(epoch=self.epoch, requests=sum(spans.values()), errors=0)
                for key, spans in self.answers.items()
            },
            latencies={
                key: LatencySeen(epoch=self.epoch, answers=tuple((*span, n) for span, n in sorted(spans.items())))
                for key, spans in self.answers.items()
            },
        )


def play(rollout, world, seconds, change=lambda second, seen: seen):
    """Second by second until it ends or time is up: the rollout, when, and the events that the loop stores."""
    events = [event(rollout, "begins", {})]
    second = 0
    for second in range(seconds):
        seen = RolloutSeen(plane=change(second, world.seen()))
        rollout = decide(rollout, seen, float(second), events)
        if rollout.phase.is_final:
            break
        world.weights = rollout.weights
        world.serve()
    return rollout, second, events


def test_a_candidate_that_answers_as_stable_does_is_promoted():
    rollout, ended, _ = play(canary(ERRORS, SLOW), World(), 300)
    assert rollout.phase is RolloutPhase.PROMOTED
    assert ended < 120


def test_a_slower_candidate_is_rolled_back_by_its_latency_alone():
    world = World(candidate=(10, 12, 14, 16, 40))
    rollout, ended, _ = play(canary(ERRORS, SLOW), world, 300)
    assert rollout.phase is RolloutPhase.ROLLED_BACK
    assert ended < 60
    assert "slow in" in rollout.because
    assert "proven worse" in rollout.because


def test_answers_within_the_tolerated_ratio_are_no_harm():
    assert play(canary(SLOW), World(candidate=(6, 7, 8, 9, 24)), 390)[0].phase is not RolloutPhase.ROLLED_BACK


def test_requests_that_were_given_up_are_slow():
    def given_up(second, seen):
        before = seen.latencies[CANDIDATE.key]
        lost = (15000.0, 15000.0, 3 * second)
        slow = before.model_copy(update={"answers": (*before.answers, lost)})
        return seen.model_copy(update={"latencies": {**seen.latencies, CANDIDATE.key: slow}})

    assert play(canary(SLOW), World(), 300, given_up)[0].phase is RolloutPhase.ROLLED_BACK


def test_a_limit_rolls_back_also_where_stable_is_as_slow():
    limited = SLOW.model_copy(update={"max": 15.0})
    rollout, _, _ = play(canary(ERRORS, limited), World(), 300)
    assert rollout.phase is RolloutPhase.ROLLED_BACK
    assert play(canary(ERRORS, SLOW.model_copy(update={"max": 30.0})), World(), 300)[0].phase is RolloutPhase.PROMOTED


@pytest.mark.parametrize("what", ["gone", "epoch", "falls"])
def test_without_latencies_it_is_held_and_rolled_back_at_the_deadline(what):
    def without(second, seen):
        if what == "gone":
            return seen.model_copy(update={"latencies": {}})
        count = 10_000 - second if what == "falls" else 5
        epoch = str(second) if what == "epoch" else "one"
        broken = {key: LatencySeen(epoch=epoch, answers=((5.0, 6.0, count),)) for key in seen.latencies}
        return seen.model_copy(update={"latencies": broken})

    rollout, ended, _ = play(canary(ERRORS, SLOW), World(), 500, without)
    assert (rollout.phase, ended) == (RolloutPhase.ROLLED_BACK, 401)
    assert "no evidence of latency_p95_ms yet" in rollout.because
    assert summary(rollout)["metrics"]["error_rate"]["candidate"][1] > 1000


@pytest.mark.parametrize("candidate", [(5, 6, 7, 8, 20), (10, 12, 14, 16, 40)])
def test_decisions_by_latency_follow_again_from_what_was_stored(candidate):
    rollout, _, events = play(canary(ERRORS, SLOW, warm_up=5.0), World(candidate=candidate), 300)
    again = replay(Rollout.model_validate_json(rollout.model_dump_json()), events)
    assert (again.differences, again.unknown) == ((), 0)
    assert again.decisions == len(events) - 1


def test_a_replica_that_has_just_begun_is_not_judged():
    world = World(candidate=(50, 60))
    world.age = 0.0
    rollout, _, _ = play(canary(SLOW, warm_up=60.0), world, 59)
    assert rollout.phase is RolloutPhase.PROGRESSING
    assert summary(rollout)["ticks"] == 0
    assert summary(rollout)["ticks_while_cold"] > 50
    world = World(candidate=(50, 60))
    world.age = 100.0
    assert play(canary(SLOW, warm_up=60.0), world, 59)[0].phase is RolloutPhase.ROLLED_BACK


def test_a_limit_hears_nothing_of_other_numbers():
    rule = Rule(metric="latency_p95_ms", kind="latency", max=5.0, quantiles=(0.95,))
    analysis = begin_analysis([rule], 100)
    counts = Counts(candidate_requests=50, candidate_events=50, stable_requests=50)
    tick = Tick(number=1, seen={"latency_p95_ms": {"": counts}})
    assert harm_of(observe(analysis, tick)) == pytest.approx(1.0)


def test_a_limit_waits_for_what_stable_does_where_replicas_differ():
    rule = Rule(metric="latency_p95_ms", kind="latency", max=5.0, quantiles=(0.95,))
    slow = Latencies(candidate={200: 50}, stable={200: 50})
    tick = Tick(number=1, seen={"latency_p95_ms": {"": slow}})
    assert harm_of(observe(begin_analysis([rule], 100), tick)) > 100.0
    differing = rule.model_copy(update={"spreads": {"p95": Spread(variances={60.0: 0.2})}})
    assert harm_of(observe(begin_analysis([differing], 100), tick)) == pytest.approx(1.0)


def test_a_rollout_says_which_metrics_it_judges():
    assert judges(canary(ERRORS, LABELS), "accuracy")
    assert not judges(canary(ERRORS), "accuracy")


def test_latencies_are_kept_of_a_look_where_they_are_judged():
    seen = RolloutSeen(plane=World().seen())
    assert of_interest(canary(ERRORS), seen).plane.latencies == {}
    assert set(of_interest(canary(ERRORS, SLOW), seen).plane.latencies) == {STABLE.key, CANDIDATE.key}


def test_only_what_was_added_between_two_looks_counts():
    before = LatencySeen(epoch="a", answers=((1.0, 2.0, 5), (3.0, 4.0, 1)))
    after = LatencySeen(epoch="a", answers=((1.0, 2.0, 7), (3.0, 4.0, 1), (8.0, 9.0, 4)))
    found = latencies_between({"candidate": before, "stable": before}, {"candidate": after, "stable": after})
    assert sorted(found.candidate.values()) == sorted(found.stable.values()) == [2, 4]
    lost = LatencySeen(epoch="a", answers=((1.0, 2.0, 7),))
    assert latencies_between({"candidate": before, "stable": before}, {"candidate": after, "stable": lost}) is None


def spans(latencies):
    counted = {}
    for latency in latencies:
        width = 1.0 if latency < 100.0 else 10.0  # as the proxy counts: two digits
        least = math.floor(latency / width) * width
        counted[least, least + width] = counted.get((least, least + width), 0) + 1
    return counted


@settings(max_examples=200)
@given(st.lists(st.floats(0.01, 500.0), min_size=1, max_size=40), st.floats(1.0, 3.0), st.integers(-30, 300))
@example([3.99], 1.3, 76)
def test_rounding_never_makes_a_tolerated_candidate_look_slower(latencies, ratio, threshold):
    """Its answers take ``ratio`` times stable's: no larger share of them is above the threshold that it is given."""
    candidate, stable = bins_of_sides(spans([ratio * one for one in latencies]), spans(latencies))
    assert exceeding(candidate, threshold + tolerance_bins(ratio)) <= exceeding(stable, threshold)


@given(st.integers(1, 500))
def test_a_limit_counts_only_what_surely_took_longer(limit):
    first = edge_of(limit_bin(float(limit)))
    assert limit < first <= 1.0201 * limit


LABELS = AnalysisMetricPlan(metric="accuracy", max_ratio=1.5, margin=0.1)


def labels(wrong, lag=3):
    """Every request gets its label ``lag`` seconds later; of the candidate's answers one in ``wrong`` is wrong."""

    def with_labels(second, seen):
        found = {}
        for key, every in ((STABLE.key, 20), (CANDIDATE.key, wrong)):
            judged = max(0, seen.counters[key].requests - 12 * lag)
            if judged:
                found[key] = CounterSeen(epoch="labels", requests=judged, errors=judged // every)
        return seen.model_copy(update={"labelled": found})

    return with_labels


def test_a_candidate_that_answers_wrongly_is_rolled_back_by_labels():
    rollout, _, events = play(canary(ERRORS, LABELS), World(), 300, labels(wrong=3))
    assert rollout.phase is RolloutPhase.ROLLED_BACK
    assert "accuracy" in rollout.because
    again = replay(Rollout.model_validate_json(rollout.model_dump_json()), events)
    assert again.differences == ()
    assert play(canary(ERRORS, LABELS), World(), 390, labels(wrong=20))[0].phase is RolloutPhase.PROMOTED


def test_without_labels_it_is_held_and_rolled_back_at_the_deadline():
    rollout, ended, _ = play(canary(ERRORS, LABELS), World(), 500)
    assert (rollout.phase, ended) == (RolloutPhase.ROLLED_BACK, 401)
    assert "no evidence of accuracy yet" in rollout.because


def test_a_dry_run_is_told_and_decides_nothing():
    dry = SLOW.model_copy(update={"dry_run": True})
    rollout, _, events = play(canary(ERRORS, dry), World(candidate=(10, 12, 14, 16, 40)), 300)
    assert rollout.phase is RolloutPhase.PROMOTED
    assert "a dry run would roll back: latency_p95_ms: candidate" in rollout.because
    assert summary(rollout)["dry_run_of_latency_p95_ms"]["verdict"] == "fail"
    assert set(summary(rollout)["metrics"]) == {"error_rate"}
    assert replay(Rollout.model_validate_json(rollout.model_dump_json()), events).differences == ()
    assert "dry run" not in play(canary(ERRORS, dry), World(), 300)[0].because
    held = play(canary(ERRORS, dry), World(), 300, lambda _, seen: seen.model_copy(update={"latencies": {}}))[0]
    assert held.phase is RolloutPhase.PROMOTED  # what is a dry run holds nobody up
