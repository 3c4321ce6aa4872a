"""Metrics that can be computed from labels and predictions, row by row.

All but AUC are a function of the means of a few columns, one value a row; that is what makes them cheap to bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlock.gate.measurements import Reading

Array: TypeAlias = NDArray[np.float64]


class RowMetric(NamedTuple):
    """A metric of rows. ``columns`` makes (rows, k) from labels and values, ``combine`` the metric from their means."""

    name: str
    is_higher_better: bool
    is_of_probability: bool
    is_binary: bool
    columns: Callable[[Array, Array], Array]
    combine: Callable[[Array], float]


def _hits(labels: Array, values: Array) -> Array:
    hits: Array = (labels == values).astype(np.float64)[:, None]
    return hits


def _confusion(labels: Array, values: Array) -> Array:
    both = labels * values
    return np.stack([both, labels + values], axis=1)


def _squares(labels: Array, values: Array) -> Array:
    return ((labels - values) ** 2)[:, None]


def _distances(labels: Array, values: Array) -> Array:
    return np.abs(labels - values)[:, None]


def _surprises(labels: Array, values: Array) -> Array:
    smallest = np.finfo(np.float64).eps
    kept = np.clip(values, smallest, 1.0 - smallest)
    return -np.log(np.where(labels == 1.0, kept, 1.0 - kept))[:, None]


def _mean(means: Array) -> float:
    return float(means[0])


def _root(means: Array) -> float:
    return math.sqrt(float(means[0]))


def _f1(means: Array) -> float:
    return float(2.0 * means[0] / means[1]) if means[1] > 0.0 else 0.0


ROW_METRICS: tuple[RowMetric, ...] = (
    RowMetric("accuracy", True, False, False, _hits, _mean),
    RowMetric("auc", True, True, True, _hits, _mean),  # ranks, not means: see area_under_curve
    RowMetric("f1", True, False, True, _confusion, _f1),
    RowMetric("log_loss", False, True, True, _surprises, _mean),
    RowMetric("rmse", False, False, False, _squares, _root),
    RowMetric("mae", False, False, False, _distances, _mean),
)


def row_metric(name: str) -> RowMetric | None:
    """The metric of this name that rows give, or None."""
    return next((metric for metric in ROW_METRICS if metric.name == name), None)


def unsuitable(metric: RowMetric, labels: Array, values: Array | None) -> str:
    """Why the metric cannot be had from these labels and values; empty where it can."""
    if values is None:
        return f"{metric.name} needs a probability column in the predictions"
    if labels.size == 0:
        return "no row has both a label and a prediction"
    if metric.is_binary:
        if not np.isin(labels, (0.0, 1.0)).all():
            return f"{metric.name} needs labels of two classes"
        if np.unique(labels).size < 2:
            return "the holdout's labels are all of one class"
        if not metric.is_of_probability and not np.isin(values, (0.0, 1.0)).all():
            return f"{metric.name} needs predictions that are classes"
        if metric.is_of_probability and ((values < 0.0) | (values > 1.0)).any():
            return "a probability is outside 0 to 1"
    return ""


def compute(metric: RowMetric, labels: Array, values: Array | None) -> Reading:
    """The metric, or why there is none."""
    because = unsuitable(metric, labels, values)
    return Reading(because=because) if because or values is None else Reading(value=evaluate(metric, labels, values))


def evaluate(metric: RowMetric, labels: Array, values: Array) -> float:
    """The metric of values that are suitable for it."""
    if metric.name == "auc":
        return area_under_curve(labels, values)
    return metric.combine(metric.columns(labels, values).mean(axis=0))


def area_under_curve(labels: Array, scores: Array) -> float:
    """The chance that a positive row scores above a negative one, ties counting half (Mann-Whitney)."""
    positives = int((labels == 1.0).sum())
    negatives = labels.size - positives
    ranks = mid_ranks(scores)[labels == 1.0].sum()
    return float((ranks - positives * (positives + 1) / 2.0) / (positives * negatives))


def mid_ranks(scores: Array) -> Array:
    """The rank of each score, from 1; equal scores share the mean of theirs."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts - 1) / 2.0)[place]
    return ranks
