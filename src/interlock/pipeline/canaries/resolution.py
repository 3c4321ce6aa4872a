"""From the keys of an analysis to its plan, with what is not written."""

from __future__ import annotations

from interlock.pipeline.canaries.outside import ExternalMetricSpec, external_plan_of
from interlock.pipeline.canaries.plan import (
    LATENCY_QUANTILES,
    AnalysisMetricPlan,
    AnalysisPlan,
    MirrorPlan,
    StepPlan,
    StrategyPlan,
)
from interlock.pipeline.canaries.spec import (
    AnalysisSpec,
    CanarySpec,
    LiveMetricSpec,
    MirrorSpec,
    ShadowSpec,
    StrategySpec,
)

LATENCY_MARGIN = 0.05
"""The share of requests that may be slower than stable's, unless the file says."""
LATENCY_WARM_UP = 30.0
"""Seconds in which a replica that has just begun is not judged by latencies, unless the file says."""
HOLDBACK = 5
"""The percentage of the traffic that stays with stable in probation, unless the file says."""


def analysis_plan_of(analysis: AnalysisSpec) -> AnalysisPlan:
    """The plan of an analysis."""
    metrics = tuple(_metric_plan_of(one) for one in analysis.metrics if isinstance(one, LiveMetricSpec))
    external = tuple(external_plan_of(one) for one in analysis.metrics if isinstance(one, ExternalMetricSpec))
    has_latency = any(metric.metric in LATENCY_QUANTILES for metric in metrics)
    warm_up = analysis.warm_up or (LATENCY_WARM_UP if has_latency else 0.0)
    return AnalysisPlan(alpha=analysis.alpha, warm_up=warm_up, metrics=metrics, external=external)


def _metric_plan_of(metric: LiveMetricSpec) -> AnalysisMetricPlan:
    margin = metric.margin or (LATENCY_MARGIN if metric.metric in LATENCY_QUANTILES else 0.01)
    written = {"max": metric.max, "min": metric.min, "tolerance": metric.tolerance, "delay": metric.delay}
    return AnalysisMetricPlan.model_validate(
        {"metric": metric.metric, "max_ratio": metric.max_ratio, "margin": margin, "dry_run": metric.dry_run}
        | {name: value for name, value in written.items() if value is not None}
        | {"slices": _slices_of(metric)}
    )


def _slices_of(metric: LiveMetricSpec) -> dict[str, tuple[str, ...]]:
    """The values by column, in the order of the file; a column may be written twice."""
    slices: dict[str, tuple[str, ...]] = {}
    for one in metric.slices or ():
        slices[one.column] = (*slices.get(one.column, ()), *one.values)
    return slices


def strategy_plan_of(strategy: StrategySpec) -> StrategyPlan:
    """The plan of a strategy that is more than a word; it has exactly one key."""
    if strategy.shadow is not None:
        return _shadow(strategy.shadow)
    return _canary(strategy.canary) if strategy.canary is not None else StrategyPlan()


def _shadow(shadow: ShadowSpec) -> StrategyPlan:
    return StrategyPlan(
        kind="shadow",
        steps=(StepPlan(mirror=MirrorPlan(percent=shadow.percent, seconds=shadow.duration)),),
        deadline=shadow.deadline,
        analysis=analysis_plan_of(shadow.analysis),
    )


def _mirror(mirror: MirrorSpec) -> MirrorPlan:
    return MirrorPlan(percent=mirror.percent, seconds=mirror.duration)


def _canary(canary: CanarySpec) -> StrategyPlan:
    steps = [
        StepPlan(
            set_weight=step.set_weight,
            analysis=step.analysis.duration if step.analysis else None,
            pause=step.pause.duration if step.pause else None,
            approvals=step.approvals,
            mirror=_mirror(step.mirror) if step.mirror is not None else None,
        )
        for step in canary.steps
    ]
    if all(step.set_weight != 100 for step in steps):
        steps.append(StepPlan(set_weight=100))
    return StrategyPlan(
        kind="canary",
        steps=tuple(steps),
        deadline=canary.deadline,
        analysis=analysis_plan_of(canary.analysis),
        probation=canary.probation or 0.0,
        holdback=canary.holdback or HOLDBACK,
    )
