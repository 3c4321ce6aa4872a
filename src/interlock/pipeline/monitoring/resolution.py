"""From the keys of monitoring to its plan, and what must hold between them."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.pipeline.canaries.plan import ACCURACY, LATENCY_QUANTILES
from interlock.pipeline.document import Path, Problem
from interlock.pipeline.monitoring.plan import COLUMN_METRICS, DEFAULT_RULES, MonitoringPlan, MonitorRulePlan
from interlock.pipeline.monitoring.spec import MonitoringSpec, MonitorRuleSpec

SHARES = (*COLUMN_METRICS, "error_rate")


def monitoring_plan_of(monitoring: MonitoringSpec | str) -> MonitoringPlan:
    """The plan: the written rules, and those of the other metrics."""
    if isinstance(monitoring, str):
        return MonitoringPlan(rules=())
    written = tuple(_rule(rule) for rule in monitoring.rules)
    metrics = {rule.metric for rule in written}
    others = tuple(rule for rule in DEFAULT_RULES if rule.metric not in metrics)
    return MonitoringPlan(
        alpha=monitoring.alpha, period=monitoring.period, ignore=tuple(monitoring.ignore), rules=(*others, *written)
    )


def check_monitoring(monitoring: MonitoringSpec | str, place: Path) -> Iterator[Problem]:
    """Each metric has one rule, with the bounds that it can have."""
    rules = [] if isinstance(monitoring, str) else monitoring.rules
    for index, rule in enumerate(rules):
        here = (*place, "rules", index)
        if rule.metric in [other.metric for other in rules[:index]]:
            yield Problem(here, f"the metric {rule.metric} is given twice", "remove one")
        yield from _check_bounds(rule, here)


def _check_bounds(rule: MonitorRuleSpec, place: Path) -> Iterator[Problem]:
    if rule.metric == ACCURACY:
        if rule.max is not None:
            yield Problem((*place, "max"), "accuracy may be as high as it likes", "write min, or margin")
        if rule.min is not None and rule.margin is not None:
            yield Problem((*place, "margin"), "min and margin bound the same", "remove one")
        return
    for key in ("min", "margin"):
        if getattr(rule, key) is not None:
            yield Problem((*place, key), f"{key} is for accuracy", "write max")
    if rule.max is None and rule.metric in LATENCY_QUANTILES:
        yield Problem(place, f"{rule.metric} has no bound", "write max, in milliseconds")
    if rule.max is not None and rule.metric in SHARES and rule.max >= 1.0:
        yield Problem((*place, "max"), f"max is {rule.max:g}, and every share is below 1", "write 0.1 for 10 %")


def _rule(rule: MonitorRuleSpec) -> MonitorRulePlan:
    """With the bounds that it has without the file, where none is written."""
    usual = next((one for one in DEFAULT_RULES if one.metric == rule.metric), MonitorRulePlan(metric=rule.metric))
    is_bounded = any(bound is not None for bound in (rule.max, rule.min, rule.margin))
    bounds = rule if is_bounded else usual
    written = {"max": bounds.max, "min": bounds.min, "margin": bounds.margin, "on_breach": rule.on_breach}
    return MonitorRulePlan.model_validate({"metric": rule.metric, **written})
