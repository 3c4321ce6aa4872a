"""What has to hold between a canary's probation and the metrics that are late."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.pipeline.canaries.plan import ACCURACY
from interlock.pipeline.canaries.spec import CanarySpec, LiveMetricSpec
from interlock.pipeline.document import Path, Problem


def check_probation(canary: CanarySpec, place: Path) -> Iterator[Problem]:
    """What is late needs a probation that is no shorter, and cannot be all that there is."""
    if canary.holdback is not None and canary.probation is None:
        yield Problem((*place, "holdback"), "there is no probation", "add probation: 24h, or remove holdback")
    metrics, where = canary.analysis.metrics, (*place, "analysis", "metrics")
    delays = [metric.delay if isinstance(metric, LiveMetricSpec) else None for metric in metrics]
    late = {index: delay for index, delay in enumerate(delays) if delay is not None}
    if late and all(metric.dry_run for index, metric in enumerate(metrics) if index not in late):
        problem = "every metric that counts is late, so nothing is judged in the steps"
        yield Problem(where, problem, "add {metric: error_rate}", at_key=True)
    for index, delay in late.items():
        here = (*where, index, "delay")
        if metrics[index].metric != ACCURACY:
            yield Problem(here, f"{metrics[index].metric} is there at once: labels alone are late", "remove delay")
        elif canary.probation is None:
            problem = "a metric with a delay is judged in probation, and there is none"
            yield Problem(here, problem, f"add probation: {delay:g}s or more to the canary, or remove delay")
        elif delay > canary.probation:
            problem = f"labels come after {delay:g}s, and the probation is over after {canary.probation:g}s"
            yield Problem(here, problem, f"write a probation of {delay:g}s or more")
