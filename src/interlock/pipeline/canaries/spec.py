"""The keys of a strategy: how an environment moves to a new revision, and what a canary is judged by."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from interlock.pipeline.canaries.outside import SOURCES, ExternalMetricSpec
from interlock.pipeline.canaries.plan import ACCURACY, AGREEMENT, ERROR_RATE, LATENCY_QUANTILES
from interlock.pipeline.canaries.slices import LiveSliceSpec
from interlock.pipeline.rules.values import Alpha, Choice, Duration, Section, shape_of

LIVE_METRICS = (ERROR_RATE, *LATENCY_QUANTILES, ACCURACY, AGREEMENT)
LATER_LIVE_METRICS = ("auc",)
MOST_APPROVALS = 10
"""Of one environment or step."""


class WaitSpec(Section):
    """A span of time."""

    duration: Annotated[Duration, Field(alias="for")]
    """How long."""


class MirrorSpec(Section):
    """Requests that are copied. Stable answers them; what the candidate answers is compared, and seen by nobody."""

    percent: Annotated[int, Field(ge=1, le=100)]
    """Of the inference requests, how many."""
    duration: Annotated[Duration, Field(alias="for")]
    """How long at least. It lasts until there are pairs of answers, and `agreement` is proven where it is asked for."""


class StepSpec(Section):
    """One step of a canary; exactly one key."""

    set_weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """Give the candidate this percentage of the traffic."""
    analysis: WaitSpec | None = None
    """Watch the metrics of the analysis; go on when they are good enough."""
    pause: WaitSpec | None = None
    """Wait."""
    approvals: Annotated[int, Field(ge=1, le=MOST_APPROVALS)] | None = None
    """Wait until so many different people have approved (`interlock approve rollout/N`); meanwhile the clocks stand
    still, and the candidate is still rolled back for harm."""
    mirror: MirrorSpec | None = None
    """Copy requests to the candidate before it gets traffic. What it does wrong rolls it back before any caller meets
    it."""


class LiveMetricSpec(Section):
    """A live metric. `max_ratio` and `max` roll back; `margin` must be proven to promote."""

    metric: Annotated[
        str, Choice(LIVE_METRICS, LATER_LIVE_METRICS, remedy=f"use {' or '.join(LIVE_METRICS)}, or say its source")
    ]
    """The measurement. `error_rate`: the share of requests that fail. `latency_p99_ms` (p95, p50): how long answers
    take at the proxy, looked at where 1 % (5 %, 50 %) of stable's own recent answers are slower. `accuracy`: the share
    of wrong answers among those whose label has come while both revisions serve. `agreement`: the share of mirrored
    requests that the candidate answers as stable does."""
    max_ratio: Annotated[float, Field(ge=1.0)] = 1.5
    """The most that the candidate's rate may be of the stable one's, or how many times as long its answers may take."""
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """How much worse the candidate may be at most, as a share of requests: that fail, are too slow, or are answered
    wrongly. Without this key: 0.01, of a latency 0.05."""
    max: Annotated[float, Field(gt=0.0)] | None = None
    """The most that its rate may be at all, or the milliseconds that no more than 1 % (5 %, 50 %) of its answers may
    take longer than."""
    min: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Of `agreement`: the least share of equal answers; less rolls back. That no more than `margin` beyond it are
    unequal must be proven."""
    tolerance: Annotated[float, Field(ge=0.0)] | None = None
    """Of `agreement`: by how much equal numbers may differ, altogether or as a share of the larger. Without this key:
    0.000001."""
    source: Annotated[Literal["labels"], Choice(("labels",))] | None = None
    """Where the numbers are from. `labels`, for `accuracy`: predictions joined with the labels that the label endpoint
    was sent. Without this key: the proxy. With `prometheus` or `command` the metric is one of your own, with the keys
    below."""
    dry_run: bool = False
    """Whether it is only told what it would decide."""
    delay: Duration | None = None
    """How late labels come. The metric is then judged in probation, not in steps, and a request counts for it once it
    is so old. Without this key: labels are judged as they come, from the first step on."""
    slices: Annotated[list[LiveSliceSpec], Field(min_length=1)] | None = None
    """Of `accuracy`: parts of the requests, each of which is judged by itself too. They share a fifth of the metric's
    evidence under the one `alpha`; a slice that is proven worse rolls back, and none has to be proven good."""


def _source_of(value: Any) -> str:
    """Whether the numbers of a metric come from elsewhere."""
    source = value.get("source") if isinstance(value, dict) else getattr(value, "source", None)
    return "<elsewhere>" if source in SOURCES else "<here>"


LiveMetric: TypeAlias = Annotated[
    Annotated[LiveMetricSpec, Tag("<here>")] | Annotated[ExternalMetricSpec, Tag("<elsewhere>")],
    Discriminator(_source_of),
]


class AnalysisSpec(Section):
    """How live evidence is judged."""

    alpha: Alpha = 0.01
    """The chance of a false rollback over the whole rollout, however often one looks."""
    on_no_data: Annotated[str, Choice(("hold",), ("rollback", "promote"), remedy="write hold, or remove it")] = "hold"
    """Without data: hold until the deadline, then roll back."""
    warm_up: Duration | None = None
    """How long a replica is not judged after its start, nor what is beside it. Without this key: 30s where there is a
    latency, else not at all."""
    metrics: Annotated[list[LiveMetric], Field(min_length=1)] = [LiveMetricSpec(metric=ERROR_RATE)]
    """What is watched: metrics that are measured here, and those of other sources."""


class CanarySpec(Section):
    """A rollout by growing weights."""

    steps: Annotated[list[StepSpec], Field(min_length=1)]
    """The steps in order. The last one, `set_weight: 100`, may be left out."""
    deadline: Duration = 7200.0
    """After this time a rollout that is not promoted is rolled back."""
    analysis: AnalysisSpec = AnalysisSpec()
    """How the live evidence is judged."""
    probation: Duration | None = None
    """After all steps and checks, how long the candidate goes on being compared with stable, which keeps the `holdback`
    and its replicas. Then it is promoted, with every metric proven; unproven it is held for the `deadline` once more,
    and rolled back. Without this key: it is promoted at once."""
    holdback: Annotated[int, Field(ge=1, le=50)] | None = None
    """The percentage of the traffic that stays with stable in probation. Without this key: 5."""


class ShadowSpec(Section):
    """A trial on copies of requests alone. It ends without giving the candidate traffic, whatever it shows."""

    percent: Annotated[int, Field(ge=1, le=100)] = 100
    """Of the inference requests, how many are copied."""
    duration: Annotated[Duration, Field(alias="for")]
    """How long at least. It lasts until every metric is proven to be within its margin."""
    deadline: Duration = 7200.0
    """After this time it ends, proven or not."""
    analysis: AnalysisSpec = AnalysisSpec()
    """How the pairs of answers are judged."""


class BlueGreenSpec(Section):
    """A rollout all at once. The candidate stands beside stable with all its replicas, healthy and warm; the checks of
    the environment run against it before it has traffic, and have to ask it something (with the header
    `x-interlock-revision: $INTERLOCK_REVISION`); then it has all traffic, and stable stays as it is.
    """

    keep_for: Duration = 600.0
    """How long stable is kept with all its replicas, as a way back that takes effect at once. Meanwhile the candidate
    is judged: harm gives all traffic back; when the time is over it is promoted, once it is proven to be below every
    limit."""
    deadline: Duration = 7200.0
    """After this time a rollout that is not promoted is rolled back."""
    analysis: AnalysisSpec | None = None
    """How it is judged: each metric needs a limit (`max`), for no stable side has traffic to compare with. Without
    this key: `error_rate` with `max: 0.05`."""


class StrategySpec(Section):
    """How an environment moves to a new revision; exactly one key. The text `rolling` moves all traffic at once;
    `recreate` ends the old replicas before it starts the new ones: nobody serves in between.
    """

    canary: CanarySpec | None = None
    """By growing weights."""
    blue_green: BlueGreenSpec | None = None
    """All at once, with stable kept as the way back."""
    shadow: ShadowSpec | None = None
    """Not at all: requests are copied to the new revision, and its answers compared."""


AtOnce = Choice(("rolling", "recreate"), remedy="write rolling, or canary: {steps: [...]}")

Strategy: TypeAlias = Annotated[
    Annotated[Annotated[str, AtOnce], Tag("<text>")] | Annotated[StrategySpec, Tag("<mapping>")],
    Discriminator(shape_of),
]
