"""What has to hold between a canary's probation and the metrics that are late."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.pipeline.canaries.spec import CanarySpec
from interlock.pipeline.document import Path, Problem
from interlock.pipeline.plan import ACCURACY


def check_probation(canary: CanarySpec, place: Path) -> Iterator[Problem]:
    """What is late needs a probation that is no shorter, and cannot be all that there is."""
    if canary.holdback is not None and canary.probation is None:
        yield Problem((*place, "holdback"), "there is no probation", "add probation: 24h, or remove holdback")
    metrics, where = canary.analysis.metrics, (*place, "analysis", "metrics")
    if all(metric.dry_run or metric.delay for metric in metrics) and any(metric.delay for metric in metrics):
        problem = "every metric that counts is late, so nothing is judged in the steps"
        yield Problem(where, problem, "add {metric: error_rate}", at_key=True)
    for index, metric in enumerate(metrics):
        if metric.delay is None:
            continue
        here = (*where, index, "delay")
        if metric.metric != ACCURACY:
            yield Problem(here, f"{metric.metric} is there at once: labels alone are late", "remove delay")
        elif canary.probation is None:
            problem = "a metric with a delay is judged in probation, and there is none"
            yield Problem(here, problem, f"add probation: {metric.delay:g}s or more to the canary, or remove delay")
        elif metric.delay > canary.probation:
            problem = f"labels come after {metric.delay:g}s, and the probation is over after {canary.probation:g}s"
            yield Problem(here, problem, f"write a probation of {metric.delay:g}s or more")
