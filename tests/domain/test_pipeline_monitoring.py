"""What the file may say of how a promoted revision is watched, and the plan that follows."""

from __future__ import annotations

import pytest

from interlock.errors import SeveralRefused
from interlock.pipeline.monitoring.plan import DAY, DEFAULT_RULES, MonitoringPlan, MonitorRulePlan
from interlock.pipeline.monitoring.resolution import monitoring_plan_of
from interlock.pipeline.resolve import read_pipeline

FILE = """\
version: 1
stages: {train: {cmd: python t.py, outs: [m.skops], metrics: [m.json]}}
model: m.skops
deploy: {production: {%s}}
"""


def planned(written: str) -> MonitoringPlan:
    spec = read_pipeline((FILE % written).encode()).spec
    return monitoring_plan_of(spec.deploy["production"].monitoring)


def rule_of(plan: MonitoringPlan, metric: str) -> MonitorRulePlan:
    (found,) = (rule for rule in plan.rules if rule.metric == metric)
    return found


def test_without_a_word_all_is_watched_and_only_told() -> None:
    plan = planned("strategy: rolling")
    assert plan == MonitoringPlan()
    assert {rule.on_breach for rule in plan.rules} == {"alert"}
    assert {"drift", "missing", "error_rate", "accuracy"} <= {rule.metric for rule in plan.rules}


def test_off_watches_nothing() -> None:
    assert planned("monitoring: off").rules == ()


def test_a_written_rule_takes_the_place_of_its_metrics_own() -> None:
    written = "{metric: drift, on_breach: retrain}, {metric: accuracy, min: 0.8, on_breach: rollback}"
    written += ", {metric: latency_p99_ms, max: 250}"
    plan = planned(f"monitoring: {{alpha: 0.01, period: 1h, ignore: [hour], rules: [{written}]}}")
    assert (plan.alpha, plan.period, plan.ignore) == (0.01, DAY / 24, ("hour",))
    assert rule_of(plan, "drift") == MonitorRulePlan(metric="drift", max=0.1, on_breach="retrain")
    assert rule_of(plan, "accuracy") == MonitorRulePlan(metric="accuracy", min=0.8, on_breach="rollback")
    assert rule_of(plan, "latency_p99_ms").max == 250.0
    assert len(plan.rules) == len(DEFAULT_RULES) + 1


@pytest.mark.parametrize(
    ("rule", "problem", "remedy"),
    [
        ("metric: drifts", "drifts is not known here", "did you mean drift?"),
        ("metric: drift, max: 1.5", "max is 1.5, and every share is below 1", "write 0.1 for 10 %"),
        ("metric: drift, min: 0.5", "min is for accuracy", "write max"),
        ("metric: accuracy, max: 0.5", "accuracy may be as high as it likes", "write min, or margin"),
        ("metric: accuracy, min: 0.5, margin: 0.1", "min and margin bound the same", "remove one"),
        ("metric: latency_p99_ms", "latency_p99_ms has no bound", "write max, in milliseconds"),
        ("metric: drift, on_breach: panic", "panic is not known here", "use alert or rollback or retrain"),
        ("metric: drift}, {metric: drift", "the metric drift is given twice", "remove one"),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(rule: str, problem: str, remedy: str) -> None:
    with pytest.raises(SeveralRefused) as refused:
        planned(f"monitoring: {{rules: [{{{rule}}}]}}")
    (found,) = refused.value.refusals
    assert (found.problem, found.remedy) == (problem, remedy)
