"""Live metrics of other sources: plain limits held for a time, counts of both sides, and evidence that is not there."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.looks import decide, event
from tests.revisions import revision

from interlock.delivery.external.limits import LATE, Limit, Standing, grow_old, judge, look
from interlock.delivery.external.measured import COUNTED, Measured, counter_of
from interlock.delivery.external.questions import questions_of
from interlock.delivery.looks.replaying import replay
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, EndpointSeen, ReplicaSeen
from interlock.delivery.rollout import Rollout, RolloutPhase, RolloutSeen, begin, summary
from interlock.pipeline.canaries.external import ExternalMetricPlan, filled, placeholders_in
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan
from interlock.vocabulary import Verdict

STABLE, CANDIDATE = revision(1), revision(2)
ERRORS = AnalysisMetricPlan(metric="error_rate", margin=0.05)
QUEUE = ExternalMetricPlan(
    metric="queue",
    source="prometheus",
    queries={"value": 'max(queue{revision="$candidate"})'},
    every=5.0,
    seconds=20.0,
    max=10.0,
)
ORDERS = ExternalMetricPlan(
    metric="bad_orders",
    source="prometheus",
    queries={"events": 'bad{of="$revision"}', "requests": 'all{of="$revision"}'},
    is_counted=True,
    every=5.0,
    margin=0.05,
)
LIMIT = Limit(metric="queue", max=10.0, seconds=20.0, every=5.0)


def canary(*external, metrics=(ERRORS,), deadline=300.0):
    strategy = StrategyPlan(
        kind="canary",
        steps=(StepPlan(set_weight=30), StepPlan(analysis=20.0)),
        deadline=deadline,
        analysis=AnalysisPlan(metrics=metrics, external=external),
    )
    return begin(4, CANDIDATE, STABLE, EnvironmentPlan(name="production", strategy=strategy), release=1, now=0.0)


def play(rollout, answer, seconds=400):
    """Forty requests a second, none of them fails. ``answer(second)`` are the newest answers of other sources."""
    events, weights, served = [event(rollout, "begins", {})], {}, {STABLE.key: 0, CANDIDATE.key: 0}
    endpoint = EndpointSeen(is_healthy=True, is_draining=False)
    second = 0
    for second in range(seconds):
        plane = DataPlaneSeen(
            replicas={CANDIDATE.replica(0): ReplicaSeen(is_running=True, is_ready=True, age=100.0)},
            endpoints={one.key: {one.replica(i): endpoint for i in range(2)} for one in (STABLE, CANDIDATE)},
            weights=weights,
            counters={key: CounterSeen(epoch="one", requests=count, errors=0) for key, count in served.items()},
        )
        seen = RolloutSeen(plane=plane, measured=answer(second))
        rollout = decide(rollout, seen, float(second), events)
        if rollout.phase.is_final:
            break
        weights = rollout.weights
        for key, weight in weights.items():
            served[key] += 40 * weight // 100
    return rollout, second, events


def value(number):
    """A gauge that is asked every five seconds."""
    return lambda second: {"queue": Measured(at=float(second - second % 5), value=number)} if second > 5 else {}


def orders(candidate_bad, stable_bad=20):
    """Ten orders a second and side, one in so many of them bad."""

    def answer(second):
        moment = second - second % 5
        sides = {"candidate": candidate_bad, "stable": stable_bad}
        counts = {
            side: CounterSeen(epoch=COUNTED, requests=10 * moment, errors=10 * moment // every)
            for side, every in sides.items()
        }
        return {"bad_orders": Measured(at=float(moment), counts=counts)}

    return answer


def replayed(rollout, events):
    return replay(Rollout.model_validate_json(rollout.model_dump_json()), events)


def test_a_value_within_its_limit_does_not_keep_a_good_candidate_back():
    rollout, ended, events = play(canary(QUEUE), value(3.0))
    assert rollout.phase is RolloutPhase.PROMOTED
    assert ended < 60
    assert "queue is 3, within its limit (max 10) at" in rollout.because
    found = replayed(rollout, events)
    assert (found.differences, found.unknown) == ((), 0)


def test_a_value_beyond_its_limit_for_its_time_rolls_back_and_the_same_follows_again():
    rollout, ended, events = play(canary(QUEUE), value(30.0))
    assert (rollout.phase, ended) == (RolloutPhase.ROLLED_BACK, 25)
    assert rollout.because.startswith("queue is 30, beyond its limit (max 10) at 5 looks in 20 s")
    assert summary(rollout)["limits"]["queue"]["verdict"] == "fail"
    found = replayed(rollout, events)
    assert (found.differences, found.unknown) == ((), 0)


def test_a_value_that_is_beyond_now_and_then_is_never_held_for_its_time():
    def answer(second):
        moment = second - second % 5
        return {"queue": Measured(at=float(moment), value=30.0 if moment % 15 == 0 else 3.0)}

    rollout, ended, _ = play(canary(QUEUE), answer)
    assert (rollout.phase, ended) == (RolloutPhase.ROLLED_BACK, 301)
    assert "not promoted without proof" in rollout.because


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda _: {}, "queue is not known: it was not asked yet"),
        (lambda second: {"queue": Measured(at=float(second), problem="no series")}, "queue is not known: no series"),
        (lambda _: {"queue": Measured(at=3.0, value=3.0)}, "its last answer is older than 15 s"),
        (
            lambda second: {"queue": Measured(at=float(second - second % 20), value=3.0)},
            "within its limit (max 10) at 1 looks",
        ),
    ],
    ids=["none", "a problem", "one that grows old", "one after long gaps"],
)
def test_without_evidence_it_is_held_and_rolled_back_at_the_deadline(answer, told):
    rollout, ended, events = play(canary(QUEUE), answer)
    assert (rollout.phase, ended) == (RolloutPhase.ROLLED_BACK, 301)
    assert told in rollout.because
    assert replayed(rollout, events).differences == ()


def test_a_source_that_dies_before_the_last_step_holds_it():
    def answer(second):
        return value(3.0)(min(second, 18))

    rollout, ended, _ = play(canary(QUEUE), answer)
    assert (rollout.phase, ended) == (RolloutPhase.ROLLED_BACK, 301)


def test_a_dry_run_of_a_limit_is_told_and_decides_nothing():
    dry = QUEUE.model_copy(update={"dry_run": True, "seconds": 5.0})
    rollout, _, _ = play(canary(dry), value(30.0))
    assert rollout.phase is RolloutPhase.PROMOTED
    assert "a dry run would roll back: queue is 30" in rollout.because
    assert play(canary(dry), lambda _: {})[0].phase is RolloutPhase.PROMOTED
    assert "dry run" not in play(canary(dry), value(3.0))[0].because


def test_counts_of_both_sides_are_judged_as_errors_are():
    rollout, ended, events = play(canary(ORDERS), orders(candidate_bad=4))
    assert rollout.phase is RolloutPhase.ROLLED_BACK
    assert ended < 120
    assert "bad_orders: candidate" in rollout.because
    assert "proven worse than tolerated" in rollout.because
    assert replayed(rollout, events).differences == ()
    assert play(canary(ORDERS), orders(candidate_bad=20))[0].phase is RolloutPhase.PROMOTED


@pytest.mark.parametrize("what", ["none", "fell", "problem", "the same again"])
def test_counts_that_say_nothing_hold_it(what):
    def answer(second):
        if what == "none":
            return {}
        if what == "problem":
            return {"bad_orders": Measured(at=float(second), problem="3 series")}
        if what == "the same again":
            return orders(20)(5)
        falling = {
            side: CounterSeen(epoch=COUNTED, requests=9000 - second, errors=0) for side in ("candidate", "stable")
        }
        return {"bad_orders": Measured(at=float(second), counts=falling)}

    rollout, ended, _ = play(canary(ORDERS), answer)
    assert (rollout.phase, ended) == (RolloutPhase.ROLLED_BACK, 301)
    assert "no evidence of bad_orders yet" in rollout.because


def test_counted_metrics_share_alpha_and_values_spend_nothing_of_it():
    shares = [rule.share for rule in canary(ORDERS, QUEUE).analysis.rules]
    assert shares == [0.5, 0.5]
    dry = ORDERS.model_copy(update={"dry_run": True})
    assert [rule.share for rule in canary(dry).analysis.rules] == [1.0, 1.0]
    assert canary(ORDERS, QUEUE, dry.model_copy(update={"metric": "other"})).analysis.limits[0].metric == "queue"


def test_what_is_asked_and_when():
    rollout = canary(QUEUE, ORDERS)
    assert questions_of(rollout, {}, 0.0) == []
    weighed = rollout.model_copy(update={"weight": 30})
    queue, counted = questions_of(weighed, {}, 0.0)
    assert queue.queries == {("", "value"): 'max(queue{revision="flights.production.r2"})'}
    assert counted.queries["stable", "events"] == 'bad{of="flights.production.r1"}'
    assert counted.queries["candidate", "requests"] == 'all{of="flights.production.r2"}'
    assert queue.variables == {
        "INTERLOCK_MODEL": "flights",
        "INTERLOCK_ENVIRONMENT": "production",
        "INTERLOCK_CANDIDATE": "flights.production.r2",
        "INTERLOCK_STABLE": "flights.production.r1",
    }
    assert [one.name for one in questions_of(weighed, {"4/queue": 96.0}, 100.0)] == ["4/bad_orders"]
    assert [one.name for one in questions_of(weighed, {"4/queue": 95.0, "4/bad_orders": 99.0}, 100.0)] == ["4/queue"]


def test_the_first_revision_has_nothing_to_be_asked_beside():
    plan = EnvironmentPlan(
        name="production",
        strategy=StrategyPlan(kind="canary", analysis=AnalysisPlan(metrics=(ERRORS,), external=(QUEUE,))),
    )
    first = begin(1, CANDIDATE, None, plan, release=1, now=0.0)
    assert (first.external, first.analysis) == ((), None)
    assert questions_of(first.model_copy(update={"weight": 100}), {}, 0.0) == []


def test_placeholders():
    assert placeholders_in('a{b=~"x$", c="$candidate"} / $stable') == {"candidate", "stable"}
    assert filled('a{b=~"x$", c="$candidate"}', {"candidate": "m.p.r2"}) == 'a{b=~"x$", c="m.p.r2"}'


@pytest.mark.parametrize("odd", [math.nan, math.inf, -1.0, 0.5, 3.0])
def test_what_is_no_count(odd):
    assert counter_of(odd, 2.0) is None
    assert counter_of(1.0, 2.0) == CounterSeen(epoch=COUNTED, requests=2, errors=1)


@pytest.mark.parametrize(
    ("low", "high", "number", "is_within"),
    [
        (None, 10.0, 10.0, True),
        (None, 10.0, 10.1, False),
        (1.0, None, 1.0, True),
        (1.0, None, 0.9, False),
        (1.0, 2.0, 1.5, True),
    ],
)
def test_a_limit_holds_up_to_its_bounds(low, high, number, is_within):
    assert Limit(metric="m", min=low, max=high).holds(number) is is_within


answers = st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["within", "beyond", "nothing"])), max_size=40)


@given(answers)
def test_a_verdict_says_that_every_look_of_its_time_said_so(history):
    standing, moment, moments = Standing(), 0.0, []
    for gap, kind in history:
        moment += gap
        moments.append((moment, kind))
        number = {"within": 1.0, "beyond": 11.0, "nothing": None}[kind]
        standing = look(LIMIT, standing, moment, number, "no word")
        verdict = judge(LIMIT, standing).verdict
        run = []
        for at, what in reversed(moments):  # the looks on end that said what the newest says, with no long gap
            if what != kind or (run and run[-1] - at > LATE * LIMIT.every):
                break
            run.append(at)
        lasted = run[0] - run[-1] >= LIMIT.seconds and kind != "nothing"
        assert (verdict is Verdict.FAIL) == (lasted and kind == "beyond")
        assert (verdict is Verdict.PASS) == (lasted and kind == "within")


@given(answers, st.floats(0.0, 100.0))
def test_what_is_old_says_nothing_and_old_answers_change_nothing(history, later):
    standing, moment = Standing(), 0.0
    for gap, kind in history:
        moment += gap
        standing = look(LIMIT, standing, moment, {"within": 1.0, "beyond": 11.0, "nothing": None}[kind], "no word")
    assert look(LIMIT, standing, moment, 11.0, "") == standing if history else True
    after = judge(LIMIT, grow_old(LIMIT, standing, moment + later))
    if later > LATE * LIMIT.every:
        assert after.verdict is Verdict.UNDECIDED
    else:
        assert after == judge(LIMIT, standing)
