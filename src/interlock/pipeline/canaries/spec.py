"""The keys of a strategy: how an environment moves to a new revision, and what a canary is judged by."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from interlock.pipeline.plan import ACCURACY, LATENCY_QUANTILES
from interlock.pipeline.rules.values import Alpha, Choice, Duration, NotYet, Section, shape_of

LIVE_METRICS = ("error_rate", *LATENCY_QUANTILES, ACCURACY)
LATER_LIVE_METRICS = ("auc",)


class WaitSpec(Section):
    """A span of time."""

    duration: Annotated[Duration, Field(alias="for")]
    """How long."""


class StepSpec(Section):
    """One step of a canary; exactly one key."""

    set_weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """Give the candidate this percentage of the traffic."""
    analysis: WaitSpec | None = None
    """Watch the metrics of the analysis; go on when they are good enough."""
    pause: WaitSpec | None = None
    """Wait."""
    mirror: Annotated[None, NotYet("remove the step; begin with a small set_weight")] = None
    """Copy traffic to the candidate, its answers thrown away."""


class LiveMetricSpec(Section):
    """A live metric. `max_ratio` and `max` roll back; `margin` must be proven to promote."""

    metric: Annotated[str, Choice(LIVE_METRICS, LATER_LIVE_METRICS, remedy=f"use {' or '.join(LIVE_METRICS)}")]
    """The measurement. `error_rate`: the share of requests that fail. `latency_p99_ms` (p95, p50): how long answers
    take at the proxy, looked at where 1 % (5 %, 50 %) of stable's own recent answers are slower. `accuracy`: the share
    of wrong answers among those whose label has come while both revisions serve."""
    max_ratio: Annotated[float, Field(ge=1.0)] = 1.5
    """The most that the candidate's rate may be of the stable one's, or how many times as long its answers may take."""
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """How much worse the candidate may be at most, as a share of requests: that fail, are too slow, or are answered
    wrongly. Without this key: 0.01, of a latency 0.05."""
    max: Annotated[float, Field(gt=0.0)] | None = None
    """The most that its rate may be at all, or the milliseconds that no more than 1 % (5 %, 50 %) of its answers may
    take longer than."""
    source: Annotated[Literal["labels"], Choice(("labels",))] | None = None
    """Where the numbers are from. `labels`, for `accuracy`: predictions joined with the labels that the label endpoint
    was sent. Without this key: the proxy."""
    dry_run: bool = False
    """Whether it is only told what it would decide."""
    delay: Annotated[None, NotYet("remove it: labels are judged as they come, while the rollout lasts")] = None
    """How late labels come."""


class AnalysisSpec(Section):
    """How live evidence is judged."""

    alpha: Alpha = 0.01
    """The chance of a false rollback over the whole rollout, however often one looks."""
    on_no_data: Annotated[str, Choice(("hold",), ("rollback", "promote"), remedy="write hold, or remove it")] = "hold"
    """Without data: hold until the deadline, then roll back."""
    warm_up: Duration | None = None
    """How long a replica is not judged after its start, nor what is beside it. Without this key: 30s where there is a
    latency, else not at all."""
    metrics: Annotated[list[LiveMetricSpec], Field(min_length=1)] = [LiveMetricSpec(metric="error_rate")]
    """What is watched."""


class CanarySpec(Section):
    """A rollout by growing weights."""

    steps: Annotated[list[StepSpec], Field(min_length=1)]
    """The steps in order. The last one, `set_weight: 100`, may be left out."""
    deadline: Duration = 7200.0
    """After this time a rollout that is not promoted is rolled back."""
    analysis: AnalysisSpec = AnalysisSpec()
    """How the live evidence is judged."""
    probation: Annotated[None, NotYet("remove it: a promoted revision is not watched by rules yet")] = None
    """How long a promoted revision is watched."""


class StrategySpec(Section):
    """How an environment moves to a new revision. The text `rolling` moves all traffic at once; `recreate` ends the old
    replicas before it starts the new ones: nobody serves in between.
    """

    canary: CanarySpec
    """By growing weights."""


AtOnce = Choice(("rolling", "recreate"), remedy="write rolling, or canary: {steps: [...]}")

Strategy: TypeAlias = Annotated[
    Annotated[Annotated[str, AtOnce], Tag("<text>")] | Annotated[StrategySpec, Tag("<mapping>")],
    Discriminator(shape_of),
]
