"""What a monitor asks: is this share above its bound? Of each column and each live metric, with its part of the alpha.

Half of the alpha is spent on what the reference itself may have got wrong by chance, half on the live numbers. Each is
divided evenly over the rules, and a rule's part over its columns (Bonferroni): one chance of a false alarm for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from interlock.delivery.monitoring.reference import (
    FIRST,
    MISSING,
    STRANGE,
    ColumnReference,
    Reference,
    highest_share,
    most_apart,
)
from interlock.pipeline.monitoring.plan import MonitoringPlan, MonitorRulePlan

TICKS, PARTS = 1440, 24
"""How many ticks and parts a period has."""
LEAST_SECONDS = 1.0
HALF = 0.5
"""The share of ticks in which replicas may be saturated: more than that is no burst."""

Clock = Literal["tick", "part", "period"]
Counts = tuple[int, ...]


class Question(NamedTuple):
    """Whether the share of a column's counts is above ``bound``, block by block of ``clock``.

    ``place`` is what is counted: MISSING or STRANGE of a column, or the events of a live metric (the first of two
    counts). Without it the question is whether the bins are farther than ``bound`` (total variation) from ``shares``.
    ``needed`` is the e-value of an alarm.
    """

    key: str
    rule: MonitorRulePlan
    column: str
    clock: Clock
    bound: float
    needed: float
    place: int | None = None
    shares: tuple[float, ...] = ()
    is_learnt: bool = False

    def examine(self, counts: Counts) -> Counts:
        """What the question is about: events and all else; or the bins."""
        if self.shares:
            return counts[FIRST:]
        if self.place == STRANGE:
            return counts[STRANGE], sum(counts[FIRST:])
        return counts[0], sum(counts[1:])


def seconds_of(clock: Clock, period: float) -> float:
    """How long a block of the clock is."""
    parts = {"tick": TICKS, "part": PARTS, "period": 1}
    return max(LEAST_SECONDS, period / parts[clock])


def questions_of(
    plan: MonitoringPlan, reference: Reference | None, accuracy: float | None, rows: int
) -> tuple[Question, ...]:
    """All questions of a plan. ``accuracy`` is the holdout's, of so many ``rows`` (None: not known)."""
    columns = reference.columns if reference is not None else ()
    kept = [column for column in columns if column.name.partition(".")[2] not in plan.ignore]
    alpha = plan.alpha / 2.0 / len(plan.rules) if plan.rules else plan.alpha
    found: list[Question] = []
    for rule in plan.rules:
        of_rule = [column for column in kept if _is_of(rule, column)]
        if of_rule and reference is not None:
            for column in of_rule:
                found += _of_column(rule, column, reference.rows, alpha / len(of_rule))
        bound = _live_bound(rule, accuracy, rows, alpha)
        if bound is not None:
            found.append(Question(rule.metric, rule, rule.metric, "tick", bound, 1.0 / alpha, 0))
    return tuple(question for question in found if question.bound < 1.0)


def _is_of(rule: MonitorRulePlan, column: ColumnReference) -> bool:
    is_output = column.name.startswith("output.")
    fits: Mapping[str, bool] = {
        "drift": not is_output,
        "prediction_drift": is_output,
        "missing": True,
        "unseen": not column.is_number,
        "out_of_range": column.is_number,
    }
    return fits.get(rule.metric, False)


def _of_column(rule: MonitorRulePlan, column: ColumnReference, rows: int, alpha: float) -> Iterator[Question]:
    key, limit = f"{rule.metric} of {column.name}", rule.max or 0.0
    if rule.metric == "missing":
        bound = highest_share(column.missing, rows, alpha) + limit
        yield Question(key, rule, column.name, "tick", bound, 1.0 / alpha, MISSING)
    elif rule.metric in ("unseen", "out_of_range"):
        known = rows - column.counts[MISSING]
        bound = highest_share(min(1.0, column.strange), known, alpha) + limit
        yield Question(key, rule, column.name, "tick", bound, 1.0 / alpha, STRANGE)
    elif len(column.shares) > 1:
        bound = most_apart(len(column.shares), sum(column.counts[FIRST:]), alpha) + limit
        asked = Question(key, rule, column.name, "period", bound, 2.0 / alpha, shares=column.shares)
        yield asked
        yield asked._replace(key=f"sudden {key}", clock="part", is_learnt=True)


def _live_bound(rule: MonitorRulePlan, accuracy: float | None, rows: int, alpha: float) -> float | None:
    """The share of events that is tolerated of a live metric; None where it is none, or has nothing to compare with."""
    if rule.metric == "error_rate":
        return rule.max
    if rule.metric == "saturation":
        return HALF
    if rule.metric.startswith("latency_p"):
        return 1.0 - float(rule.metric.removeprefix("latency_p").removesuffix("_ms")) / 100.0
    if rule.metric == "accuracy" and rule.min is not None:
        return 1.0 - rule.min
    if rule.metric == "accuracy" and accuracy is not None:
        return highest_share(1.0 - accuracy, rows, alpha) + (rule.margin or 0.0)
    return None
