"""From the keys of an analysis to its plan, with what is not written."""

from __future__ import annotations

from interlock.pipeline.canaries.outside import ExternalMetricSpec, external_plan_of
from interlock.pipeline.canaries.spec import AnalysisSpec, LiveMetricSpec
from interlock.pipeline.plan import LATENCY_QUANTILES, AnalysisMetricPlan, AnalysisPlan

LATENCY_MARGIN = 0.05
"""The share of requests that may be slower than stable's, unless the file says."""
LATENCY_WARM_UP = 30.0
"""Seconds in which a replica that has just begun is not judged by latencies, unless the file says."""


def analysis_plan_of(analysis: AnalysisSpec) -> AnalysisPlan:
    """The plan of an analysis."""
    metrics = tuple(
        AnalysisMetricPlan.model_validate(
            {"metric": one.metric, "max_ratio": one.max_ratio, "max": one.max, "dry_run": one.dry_run}
            | {"margin": one.margin or (LATENCY_MARGIN if one.metric in LATENCY_QUANTILES else 0.01)}
        )
        for one in analysis.metrics
        if isinstance(one, LiveMetricSpec)
    )
    external = tuple(external_plan_of(one) for one in analysis.metrics if isinstance(one, ExternalMetricSpec))
    has_latency = any(metric.metric in LATENCY_QUANTILES for metric in metrics)
    warm_up = analysis.warm_up or (LATENCY_WARM_UP if has_latency else 0.0)
    return AnalysisPlan(alpha=analysis.alpha, warm_up=warm_up, metrics=metrics, external=external)
