"""The plan of how an environment moves from stable to candidate: its steps, and what is judged meanwhile."""

from __future__ import annotations

from typing import Final, Literal

from interlock.pipeline.canaries.external import ExternalMetricPlan
from interlock.vocabulary import Stored

LATENCY_QUANTILES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
"""The live metrics of latency, and the quantile of stable's own answers that each of them looks at."""
ERROR_RATE: Final = "error_rate"
"""The live metric that counts requests that fail."""
ACCURACY = "accuracy"
"""The live metric that needs labels: the share of wrong answers among those whose truth is known."""
AGREEMENT = "agreement"
"""The live metric of copied requests: the share of them that the candidate answers as stable does."""


def slice_name(column: str, value: str) -> str:
    """What the requests with a value of a column are called: ``carrier=AA``."""
    return f"{column}={value}"


class MirrorPlan(Stored):
    """So many ``percent`` of the requests are copied to the candidate, for so many ``seconds`` at least."""

    percent: int
    seconds: float


class StepPlan(Stored):
    """One step; exactly one field is set. ``set_weight`` in percent, ``approvals`` a number of people, the others in
    seconds. ``checks`` are run before there is traffic; with ``keep`` stable serves nobody, and stays as it is.
    """

    set_weight: int | None = None
    analysis: float | None = None
    pause: float | None = None
    mirror: MirrorPlan | None = None
    approvals: int | None = None
    checks: bool = False
    keep: float | None = None


class AnalysisMetricPlan(Stored):
    """A live metric: ``max_ratio`` and ``max`` roll back; ``margin`` must be proven to promote.

    ``max`` is a share of requests for ``error_rate``, of wrong answers for ``accuracy``, milliseconds for a latency. A
    ``dry_run`` is judged and told, and decides nothing. What comes ``delay`` seconds late is judged in probation only.
    ``min`` and ``tolerance`` are of ``agreement``: the least share of equal answers, and how far equal numbers may be
    apart. ``slices`` are the values that are judged by themselves too, as texts by column.
    """

    metric: Literal["error_rate", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "accuracy", "agreement"]
    dry_run: bool = False
    max_ratio: float = 1.5
    margin: float = 0.01
    max: float | None = None
    min: float | None = None
    tolerance: float = 1e-6
    delay: float = 0.0
    slices: dict[str, tuple[str, ...]] = {}

    @property
    def slice_names(self) -> tuple[str, ...]:
        """What its slices are called, in their order."""
        return tuple(slice_name(column, value) for column, values in self.slices.items() for value in values)


class AnalysisPlan(Stored):
    """``alpha`` is the chance of a false rollback over the whole rollout, however often one looks.

    Looks while a replica is younger than ``warm_up`` seconds are not judged. ``external`` are the metrics whose numbers
    come from elsewhere. Where it ``is_alone`` the candidate is held against its limits (``max``), with no stable side.
    """

    alpha: float = 0.01
    warm_up: float = 0.0
    metrics: tuple[AnalysisMetricPlan, ...] = (AnalysisMetricPlan(metric=ERROR_RATE),)
    external: tuple[ExternalMetricPlan, ...] = ()
    is_alone: bool = False

    @property
    def slices(self) -> dict[str, tuple[str, ...]]:
        """What replicas log of requests: values by column. One metric alone has slices."""
        return next((metric.slices for metric in self.metrics if metric.slices), {})

    @property
    def counting(self) -> int:
        """How many metrics share alpha: those that count, and decide."""
        external = [one.dry_run for one in self.external if one.is_counted]
        return [*(one.dry_run for one in self.metrics), *external].count(False)


class StrategyPlan(Stored):
    """How an environment moves from stable to candidate. ``deadline`` in seconds; no steps for ``rolling``.

    A ``shadow`` gives the candidate copies of requests, and never traffic. After its steps a canary is on ``probation``
    for so many seconds (0: it is not), in which ``holdback`` percent of the traffic stay with stable.
    """

    kind: Literal["rolling", "canary", "blue_green", "shadow"] = "rolling"
    steps: tuple[StepPlan, ...] = ()
    deadline: float = 7200.0
    analysis: AnalysisPlan = AnalysisPlan()
    probation: float = 0.0
    holdback: int = 5
