"""What a promoted revision is watched by: the resolved rules."""

from __future__ import annotations

from typing import Literal

from interlock.vocabulary import Stored

OnBreach = Literal["alert", "rollback", "retrain"]
COLUMN_METRICS = ("drift", "prediction_drift", "missing", "unseen", "out_of_range")
"""What is compared with the reference, column by column."""
DAY = 86400.0


class MonitorRulePlan(Stored):
    """One watched metric, and what follows ``on_breach``.

    ``max`` is, of a column's metric, by how much its share may be above the reference's; else as the metric counts.
    ``accuracy`` has a ``min``, or a ``margin`` below the holdout's.
    """

    metric: str
    max: float | None = None
    min: float | None = None
    margin: float | None = None
    on_breach: OnBreach = "alert"


DEFAULT_RULES = (
    *(MonitorRulePlan(metric=metric, max=0.1) for metric in COLUMN_METRICS),
    MonitorRulePlan(metric="error_rate", max=0.05),
    MonitorRulePlan(metric="saturation", max=8.0),
    MonitorRulePlan(metric="accuracy", margin=0.05),
)
"""What is watched unless the file says otherwise; it is told and changes nothing."""


class MonitoringPlan(Stored):
    """``alpha`` is the chance of a false alarm of any rule in the whole time that a revision serves.

    ``period`` in seconds is the time in which its traffic comes round once; columns in ``ignore`` are not watched.
    """

    alpha: float = 0.05
    period: float = DAY
    ignore: tuple[str, ...] = ()
    rules: tuple[MonitorRulePlan, ...] = DEFAULT_RULES
