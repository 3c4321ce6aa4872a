"""Metrics that can be computed from labels and predictions, row by row.

All but AUC are a function of the means of a few columns, one value a row; which makes it cheap to leave out
each row in turn. A loss that Interlock does not know is a column ``row_loss`` or ``row_loss_NAME`` of predictions,
judged by its mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from interlock.gate.measurements import Reading
from interlock.pipeline.plan import is_row_loss

Array: TypeAlias = NDArray[np.float64]

_Number = TypeVar("_Number", np.intp, np.float64)

MOST_CLASSES = 50
"""More values of labels are not classes."""
ONE_CLASS = "the holdout's labels are all of one class"
SMALLEST_CLASS = 10
"""Rows of a class below which nothing is said of it."""
ROWS_AT_ONCE = 16384
"""Rows that are worked through together."""


class RowMetric(NamedTuple):
    """A metric of rows. ``columns`` makes (rows, k) from labels and values, ``combine`` the metric from their means.

    ``combine`` works on the last axis: (..., k) to (...).
    """

    name: str
    is_higher_better: bool
    is_of_probability: bool
    is_binary: bool
    columns: Callable[[Array, Array], Array]
    combine: Callable[[Array], Array]

    @property
    def is_macro(self) -> bool:
        """Whether it is the mean of one number for each class that the labels have."""
        return self.name == "f1_macro"

    @property
    def is_of_labels(self) -> bool:
        """Whether labels are classes, not numbers."""
        return self.is_binary or self.is_of_probability or self.is_macro or self.name == "accuracy"

    @property
    def is_of_classes(self) -> bool:
        """Whether it is made of counts of the four kinds of rows: right and wrong, of either class."""
        return self.is_binary and not self.is_of_probability


def _hits(labels: Array, values: Array) -> Array:
    hits: Array = (labels == values).astype(np.float64)[:, None]
    return hits


def _overlap(labels: Array, values: Array) -> Array:
    return np.stack([2.0 * labels * values, labels + values], axis=1)


def _found(labels: Array, values: Array) -> Array:
    return np.stack([labels * values, labels], axis=1)


def _right(labels: Array, values: Array) -> Array:
    return np.stack([labels * values, values], axis=1)


def _squares(labels: Array, values: Array) -> Array:
    return ((labels - values) ** 2)[:, None]


def _distances(labels: Array, values: Array) -> Array:
    return np.abs(labels - values)[:, None]


def _surprises(labels: Array, values: Array) -> Array:
    likely = np.subtract(1.0, labels)
    np.subtract(values, likely, out=likely)
    np.abs(likely, out=likely)  # what was given to the class that it is
    np.maximum(likely, np.finfo(np.float64).eps, out=likely)
    np.log(likely, out=likely)
    surprises: Array = np.negative(likely, out=likely)[:, None]
    return surprises


def _surprises_of_right(_labels: Array, values: Array) -> Array:
    likely = np.maximum(values, np.finfo(np.float64).eps)
    surprises: Array = np.negative(np.log(likely, out=likely), out=likely)[:, None]
    return surprises


def _chosen(_labels: Array, values: Array) -> Array:
    return np.stack([values, np.ones_like(values)], axis=1)


def _mistaken(labels: Array, values: Array) -> Array:
    return np.stack([(1.0 - labels) * values, 1.0 - labels], axis=1)


def _as_given(_labels: Array, values: Array) -> Array:
    return values[:, None]


def plain_mean(means: Array) -> Array:
    """The mean of one column is the metric."""
    mean: Array = means[..., 0]
    return mean


def _root(means: Array) -> Array:
    root: Array = np.sqrt(np.maximum(means[..., 0], 0.0))
    return root


def _ratio(means: Array) -> Array:
    return np.divide(means[..., 0], means[..., 1], out=np.zeros(means.shape[:-1]), where=means[..., 1] > 0.0)


def macro_columns(labels: NDArray[_Number], values: NDArray[_Number], classes: NDArray[_Number]) -> Array:
    """What each row adds to the F1 of each class: (rows, 2k), first the numerators, then the denominators."""
    is_label, is_value = (side[:, None] == classes for side in (labels, values))
    return np.hstack([2.0 * (is_label & is_value), is_label.astype(np.float64) + is_value])


def _overlaps(labels: Array, values: Array) -> Array:
    return macro_columns(labels, values, np.unique(labels))


def _mean_ratio(means: Array) -> Array:
    above, below = np.split(means, 2, axis=-1)
    mean: Array = (above / below).mean(axis=-1)  # no class is without a label
    return mean


ROW_METRICS: tuple[RowMetric, ...] = (
    RowMetric("accuracy", True, False, False, _hits, plain_mean),
    RowMetric("auc", True, True, True, _hits, plain_mean),  # ranks, not means: see area_under_curve
    RowMetric("f1", True, False, True, _overlap, _ratio),
    RowMetric("f1_macro", True, False, False, _overlaps, _mean_ratio),
    RowMetric("log_loss", False, True, True, _surprises, plain_mean),
    RowMetric("rmse", False, False, False, _squares, _root),
    RowMetric("mae", False, False, False, _distances, plain_mean),
)

LOG_LOSS_OF_MANY = RowMetric("log_loss", False, True, False, _surprises_of_right, plain_mean)
"""Log-loss of more than two classes. The values are what each row gave to the class that its label is."""

GROUP_METRICS: tuple[RowMetric, ...] = (
    *(metric for metric in ROW_METRICS if not metric.is_macro),
    RowMetric("precision", True, False, True, _right, _ratio),
    RowMetric("recall", True, False, True, _found, _ratio),
    RowMetric("positive_rate", True, False, True, _chosen, _ratio),
    RowMetric("false_positive_rate", False, False, True, _mistaken, _ratio),
)
"""Metrics in which groups may differ. Demographic parity compares the ``positive_rate``; equal opportunity the
``recall``; equalised odds that and the ``false_positive_rate`` (Hardt, Price and Srebro 2016)."""


def row_metric(name: str) -> RowMetric | None:
    """The metric of this name that rows give, or None."""
    if is_row_loss(name):
        return RowMetric(name, False, False, False, _as_given, plain_mean)
    return next((metric for metric in ROW_METRICS if metric.name == name), None)


def unsuitable(metric: RowMetric, labels: Array, *sides: Array | None) -> str:
    """Why the metric cannot be had from these labels and the values of each side; empty where it can."""
    if labels.size == 0:
        return "no row has both a label and a prediction"
    if metric.is_binary and not _are_of_two(labels):
        return f"{metric.name} needs labels of two classes, and {_of_many(metric, np.unique(labels).size)}"
    there = [values for values in sides if values is not None]
    if len(there) < len(sides):
        column = metric.name if is_row_loss(metric.name) else "probability"
        return f"{metric.name} needs a {column} column in the predictions"
    if metric.is_of_labels and labels.min() == labels.max():
        return ONE_CLASS
    if metric.is_macro:
        return _unsuitable_for_classes(metric, labels)
    if metric.is_of_classes and not all(map(_are_of_two, there)):
        return f"{metric.name} needs predictions that are classes"
    if metric.is_of_probability and any(values.min() < 0.0 or values.max() > 1.0 for values in there):
        return "a probability is outside 0 to 1"
    return ""


def _of_many(metric: RowMetric, values: int) -> str:
    """What to do where the labels have so many values."""
    if metric.name == "log_loss":
        remedy = "give a column probability_CLASS for each class"
    elif metric.name == "auc":
        remedy = "judge by log_loss, accuracy or f1_macro, or make one class against the rest the label"
    else:
        remedy = "judge by f1_macro" if metric.name == "f1" else "make one class against the rest the label"
    return f"these have {values} values; {remedy}"


def _are_of_two(values: Array) -> bool:
    return bool(((values == 0.0) | (values == 1.0)).all())


def _unsuitable_for_classes(metric: RowMetric, labels: Array) -> str:
    classes, counts = np.unique(labels, return_counts=True)
    if classes.size > MOST_CLASSES:
        return f"{metric.name} needs labels of at most {MOST_CLASSES} classes, and these have {classes.size} values"
    if counts.min() < SMALLEST_CLASS:
        few = f"of one class there are {counts.min()}"
        return f"{metric.name} needs {SMALLEST_CLASS} rows of each class, and {few}"
    return ""


def compute(metric: RowMetric, labels: Array, values: Array | None) -> Reading:
    """The metric, or why there is none."""
    because = unsuitable(metric, labels, values)
    return Reading(because=because) if because or values is None else Reading(value=evaluate(metric, labels, values))


def evaluate(metric: RowMetric, labels: Array, values: Array) -> float:
    """The metric of values that are suitable for it."""
    if metric.name == "auc":
        return area_under_curve(labels, values)
    if metric.name == "accuracy":
        return np.count_nonzero(labels == values) / labels.size
    return float(metric.combine(contributions(metric, labels, values).mean(axis=0)))


def contributions(metric: RowMetric, labels: Array, values: Array) -> Array:
    """What each row adds to a metric of means: (rows, k)."""
    if metric.is_macro:  # which classes there are, all rows say together
        return metric.columns(labels, values)
    first = metric.columns(labels[:1], values[:1])
    found = np.empty((labels.size, first.shape[1]))
    for some in pieces(labels.size):
        found[some] = metric.columns(labels[some], values[some])
    return found


def pieces(rows: int) -> Iterator[slice]:
    """The rows in parts, so small that results in between stay in the processor's cache."""
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE))


def area_under_curve(labels: Array, scores: Array) -> float:
    """The chance that a positive row scores above a negative one, ties counting half (Mann-Whitney)."""
    positives = int((labels == 1.0).sum())
    negatives = labels.size - positives
    ranks = mid_ranks(scores)[labels == 1.0].sum()
    return float((ranks - positives * (positives + 1) / 2.0) / (positives * negatives))


def mid_ranks(scores: Array) -> Array:
    """The rank of each score, from 1; equal scores share the mean of theirs."""
    order = np.argsort(scores)
    ends = ends_of_ties(scores[order])
    begins = np.concatenate(([0], ends[:-1]))
    ranks = np.empty(scores.size)
    ranks[order] = np.repeat((begins + ends + 1) / 2.0, ends - begins)
    return ranks


def ends_of_ties(ranked: Array) -> NDArray[np.intp]:
    """Where each group of equal values ends, of values in order."""
    return np.append(np.flatnonzero(ranked[1:] != ranked[:-1]) + 1, ranked.size)
