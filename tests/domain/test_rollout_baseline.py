"""What is known of the stable revision before a rollout: its traffic, what that can show, how its replicas differ."""

import numpy as np
import pytest
from tests.revisions import revision

from interlock.delivery.analysis.engine import conclude
from interlock.delivery.looks.baseline import (
    GAP_SECONDS,
    KEPT_SECONDS,
    NOTHING_KNOWN,
    TRAFFIC_SECONDS,
    remember,
    spread_of,
    traffic_of,
)
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, EndpointSeen
from interlock.delivery.rollout import begin
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, MirrorPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan
from interlock.vocabulary import Verdict

STABLE, CANDIDATE = revision(1, 4), revision(2, 4)
NAMES = [STABLE.replica(index) for index in range(4)]


def seen(requests, errors, hosts=None, epoch="one"):
    endpoints = {
        name: EndpointSeen(is_healthy=True, is_draining=False, requests=n, errors=x)
        for name, (x, n) in zip(NAMES, hosts or [], strict=False)
    }
    counter = CounterSeen(epoch=epoch, requests=requests, errors=errors)
    return DataPlaneSeen(counters={STABLE.key: counter}, endpoints={STABLE.key: endpoints})


def looked(looks, baseline=NOTHING_KNOWN):
    """The baseline after looks, each (seconds, requests, errors)."""
    for at, requests, errors in looks:
        baseline = remember(baseline, STABLE, seen(requests, errors), at)
    return baseline


def test_traffic_is_what_came_in_the_last_minutes():
    assert traffic_of(NOTHING_KNOWN) is None
    assert traffic_of(looked([(5.0, 100, 1)])) is None
    traffic = traffic_of(looked([(float(at), 100 + 2 * at, at // 10) for at in range(0, 121, 5)]))
    assert traffic.requests == pytest.approx(120.0)
    assert traffic.rate == pytest.approx(12.5 / 241.0)
    quick = looked([(float(at), 10 * at, 0) for at in range(0, int(TRAFFIC_SECONDS) + 1, 5)])
    later = [(TRAFFIC_SECONDS + at, int(10 * TRAFFIC_SECONDS) + at, 0) for at in range(5, int(TRAFFIC_SECONDS) + 1, 5)]
    assert traffic_of(looked(later, quick)).requests == pytest.approx(60.0)


def test_a_gap_another_epoch_and_a_proxy_that_cannot_be_read_tell_no_traffic():
    before = looked([(0.0, 0, 0), (5.0, 100, 0)])
    assert traffic_of(looked([(5.0 + GAP_SECONDS + 1.0, 9000, 0)], before)) is None
    assert traffic_of(remember(before, STABLE, seen(9000, 0, epoch="two"), 7.0)) is None
    gone = seen(9000, 0).model_copy(update={"problem": "no answer"})
    assert remember(before, STABLE, gone, 7.0) == before
    assert remember(before, CANDIDATE, seen(9000, 0), 7.0) == before
    assert traffic_of(looked([(7.0, 100, 0)], looked([(6.0, 100, 0)]))) is None


def marked(rates, blocks=60, seed=3):
    """An hour or so, each minute 600 requests a replica, failing at its rate of that minute."""
    rng = np.random.default_rng(seed)
    baseline, totals, hosts = NOTHING_KNOWN, [0, 0], [[0, 0] for _ in NAMES]
    for minute in range(blocks + 1):
        baseline = remember(baseline, STABLE, seen(totals[1], totals[0], hosts), 60.0 * minute)
        for host, rate in zip(hosts, rates(rng), strict=True):
            errors = int(rng.binomial(600, min(1.0, rate)))
            host[0], host[1] = host[0] + errors, host[1] + 600
            totals[0], totals[1] = totals[0] + errors, totals[1] + 600
    return baseline


def test_how_replicas_differ_is_learnt_from_their_minutes():
    differing = spread_of(marked(lambda rng: 0.02 * rng.lognormal(-0.08, 0.4, 4), blocks=300))
    assert differing.replicas == 4
    assert differing.variances[60.0] == pytest.approx(0.17, abs=0.06)
    alike = spread_of(marked(lambda rng: [0.02] * 4, blocks=300))
    assert alike is None or alike.variances.get(60.0, 0.0) < 0.02
    assert spread_of(marked(lambda rng: 0.02 * rng.lognormal(-0.08, 0.4, 4), blocks=9)) is None


def test_marks_are_kept_for_hours_and_no_longer():
    baseline = looked([(60.0 * minute, minute, 0) for minute in range(600)])
    assert baseline.marks[-1].at - baseline.marks[0].at <= KEPT_SECONDS
    assert len(baseline.marks) > 300


def test_a_replica_whose_counter_fell_or_that_is_new_is_left_out():
    looks = [[(0, 100), (0, 100)], [(1, 200), (1, 50)], [(2, 300), (2, 150), (9, 9)]]
    baseline = NOTHING_KNOWN
    for minute, hosts in enumerate(looks * 6):
        baseline = remember(baseline, STABLE, seen(minute, 0, hosts), 60.0 * minute)
    assert spread_of(baseline) is None or spread_of(baseline).replicas == 2


CANARY = EnvironmentPlan(
    name="production",
    strategy=StrategyPlan(
        kind="canary",
        steps=(
            StepPlan(set_weight=5),
            StepPlan(analysis=900.0),
            StepPlan(set_weight=20),
            StepPlan(set_weight=50),
            StepPlan(analysis=900.0),
            StepPlan(set_weight=100),
        ),
        analysis=AnalysisPlan(metrics=(AnalysisMetricPlan(metric="error_rate", max_ratio=1.5),)),
    ),
)


def begun(baseline, plan=CANARY, stable=STABLE):
    return begin(4, CANDIDATE, stable, plan, release=None, now=0.0, baseline=baseline)


def test_a_rollout_begins_with_what_its_traffic_can_show():
    told = begun(looked([(float(at), 20 * at, at // 10) for at in range(0, 601, 5)])).because
    assert "at 1.2e+03 requests/min 5 % for 15 min shows errors x" in told
    assert "50 % for 15 min shows errors x" in told
    assert " 20 % for" not in told
    assert "100 % for" not in told
    assert "5 % for 15 min shows nothing" in begun(looked([(0.0, 0, 0), (9.0, 1, 0)])).because
    assert "its traffic is not known" in begun(NOTHING_KNOWN).because
    assert begun(NOTHING_KNOWN, stable=None).because.endswith("the first here")


def test_a_mirror_shows_more_than_a_small_weight():
    steps = (StepPlan(mirror=MirrorPlan(percent=100, seconds=900.0)), *CANARY.strategy.steps)
    plan = CANARY.model_copy(update={"strategy": CANARY.strategy.model_copy(update={"steps": steps})})
    told = begun(looked([(float(at), 20 * at, at // 10) for at in range(0, 601, 5)]), plan).because
    assert "a mirror of 100 % for 15 min shows errors x" in told
    mirror, weight = (float(part.split(" ")[0]) for part in told.split("shows errors x")[1:3])
    assert 1.5 < mirror < weight


def test_only_errors_are_forecast():
    slow = AnalysisPlan(metrics=(AnalysisMetricPlan(metric="latency_p99_ms"),))
    plan = CANARY.model_copy(update={"strategy": CANARY.strategy.model_copy(update={"analysis": slow})})
    assert begun(looked([(0.0, 0, 0), (9.0, 900, 0)]), plan).because.endswith("beside flights v1")


def test_evidence_is_worth_less_where_replicas_differ():
    differing = marked(lambda rng: 0.02 * rng.lognormal(-0.08, 0.4, 4), blocks=300)
    rollout = begun(differing)
    assert rollout.analysis.rules[0].spreads["error_rate"] == spread_of(differing)
    assert begun(NOTHING_KNOWN).analysis.rules[0].spreads == {}
    assert conclude(rollout.analysis).verdict is Verdict.UNDECIDED
