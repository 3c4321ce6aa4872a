"""The strategy that gives the candidate all traffic at once and keeps stable: its keys, what must hold, its plan."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.pipeline.canaries.outside import ExternalMetricSpec
from interlock.pipeline.canaries.plan import ERROR_RATE, AnalysisMetricPlan, AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.canaries.resolution import analysis_plan_of
from interlock.pipeline.canaries.spec import BlueGreenSpec, LiveMetricSpec
from interlock.pipeline.document import Path, Problem

ERRORS = AnalysisMetricPlan(metric=ERROR_RATE, max=0.05)
"""What is judged where the file says nothing."""


def check_blue_green(strategy: BlueGreenSpec, place: Path) -> Iterator[Problem]:
    """There is time to keep stable, and each metric has a limit: no stable side has traffic to compare with."""
    if strategy.keep_for >= strategy.deadline:
        problem = f"stable is kept for {strategy.keep_for:g}s, and the deadline is {strategy.deadline:g}s"
        yield Problem((*place, "deadline"), problem, f"write a deadline well above {strategy.keep_for:g}s")
    for index, metric in enumerate(strategy.analysis.metrics if strategy.analysis else ()):
        here = (*place, "analysis", "metrics", index)
        if metric.max is None and not (isinstance(metric, ExternalMetricSpec) and not metric.is_counted):
            problem = f"{metric.metric} has no limit, and no stable side has traffic to compare with"
            yield Problem(here, problem, "add max")
        if isinstance(metric, LiveMetricSpec) and metric.delay is not None:
            problem = "a metric with a delay is judged in probation, and blue/green has none"
            yield Problem((*here, "delay"), problem, "remove delay")
        for key in ("max_ratio", "margin", "slices"):
            if key in metric.model_fields_set:
                problem = f"{key} compares with stable, which has no traffic"
                yield Problem((*here, key), problem, "remove slices" if key == "slices" else "write max")


def blue_green_plan_of(strategy: BlueGreenSpec) -> StrategyPlan:
    """Checks before traffic, all traffic at once, then stable is kept."""
    analysis = analysis_plan_of(strategy.analysis) if strategy.analysis else AnalysisPlan(metrics=(ERRORS,))
    return StrategyPlan(
        kind="blue_green",
        steps=(StepPlan(checks=True), StepPlan(set_weight=100), StepPlan(keep=strategy.keep_for)),
        deadline=strategy.deadline,
        analysis=analysis.model_copy(update={"is_alone": True}),
    )
