"""The keys by which a promoted revision is watched."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Discriminator, Field, Tag

from interlock.pipeline.canaries.plan import ACCURACY, LATENCY_QUANTILES
from interlock.pipeline.monitoring.plan import COLUMN_METRICS
from interlock.pipeline.rules.values import Alpha, Choice, Duration, Section, Text, shape_of

WATCHED_METRICS = (*COLUMN_METRICS, "error_rate", *LATENCY_QUANTILES, "saturation", ACCURACY)


class MonitorRuleSpec(Section):
    """A watched metric; it takes the place of the metric's rule that there is without the file."""

    metric: Annotated[str, Choice(WATCHED_METRICS)]
    """What is watched. Of each column of the inputs (of the outputs: `prediction_drift`) beside the reference: `drift`,
    how far its values lie from there; `missing`, `unseen` (values of a text that the reference has not) and
    `out_of_range` (numbers outside of it): their shares. Of the stable revision: `error_rate`; `latency_p99_ms` (p95,
    p50); `saturation`, requests in flight in a replica; `accuracy`, of the answers whose label has come."""
    max: Annotated[float, Field(gt=0.0)] | None = None
    """The most there may be. Of a column: by how much a share, or the distance of all its values, from 0 to 1, may be
    above the reference's."""
    min: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """The least `accuracy`."""
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """How far `accuracy` may be below the holdout's, where a gate measured that."""
    on_breach: Annotated[str, Choice(("alert", "rollback", "retrain"))] = "alert"
    """What follows beside the alert. `rollback`: a rollout to the previous revision, and a frozen environment.
    `retrain`: a run of the ref that the model is from."""


class MonitoringSpec(Section):
    """How a promoted revision is watched. The text `off` watches nothing."""

    alpha: Alpha = 0.05
    """The chance of a false alarm, of any rule and any column, in the whole time that one revision serves."""
    period: Duration = 86400.0
    """The time in which the traffic comes round once. Distributions are compared over whole periods, and over 24ths of
    one as far as the first period showed what is usual; missing and strange values over 1440ths."""
    ignore: list[Text] = []
    """Columns that are not watched."""
    rules: list[MonitorRuleSpec] = []
    """Metrics that are watched otherwise than they are without the file."""


Monitoring: TypeAlias = Annotated[
    Annotated[Annotated[str, Choice(("off",), remedy="write off, or a mapping")], Tag("<text>")]
    | Annotated[MonitoringSpec, Tag("<mapping>")],
    Discriminator(shape_of),
]
