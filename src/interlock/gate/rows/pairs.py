"""Two models on the same rows, in the form that answers both questions about a metric at the least cost.

Is the candidate not worse than allowed on all rows (``difference``), and how do the two compare on each slice
(``compare``)? What is asked of every row is asked once, when the pair is made:

=====================  ======================================  ==========================
metric                 what is kept of a row                   what a slice needs
=====================  ======================================  ==========================
accuracy               which of the two have it right          counts
f1, f1_macro           label and both classes                  counts
log_loss, rmse, mae    what it adds to each side's mean        sums
auc                    label and place in both orders          its rows in these orders
=====================  ======================================  ==========================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from interlock.gate.paired import Difference, accuracy_difference, means_difference
from interlock.gate.ranking import auc_difference, auc_harm
from interlock.gate.row_metrics import SMALLEST_CLASS, Array, RowMetric, contributions, pieces
from interlock.gate.rows.classes import (
    Kinds,
    classes_difference,
    classes_harm,
    classes_values,
    code_of_two,
    kinds_of_many,
    kinds_of_two,
)
from interlock.gate.rows.cutting import Parts, count_by, sum_by
from interlock.gate.rows.harm import mcnemar_mid_p, mean_harm
from interlock.gate.rows.ranks import Ranked

SMALLEST_SLICE = 50
"""Rows below which a slice is not judged."""


class SliceTest(NamedTuple):
    """One slice judged by one metric. ``gain`` is how much better the candidate is, ``probability`` that of harm."""

    name: str
    rows: int
    candidate: float
    production: float
    gain: float
    probability: float


def is_too_small(metric: RowMetric, rows: int, positives: int) -> bool:
    """Whether so few rows say nothing of the metric."""
    has_rare_class = metric.is_binary and min(positives, rows - positives) < SMALLEST_CLASS
    return rows < SMALLEST_SLICE or has_rare_class


class Slices(NamedTuple):
    """The slices of columns that are large enough, and how many have any rows."""

    tests: list[SliceTest]
    there: int


class Pair(Protocol):
    """Candidate and production on the same rows, by one metric. ``values`` are both sides' metric on all of them."""

    values: tuple[float, float]

    def difference(self, alpha: float) -> Difference:
        """Candidate's metric less production's."""

    def compare(self, parts: Sequence[Parts]) -> Slices:
        """Every slice of these columns."""


def pair_of(metric: RowMetric, labels: Array, candidate: Array, production: Array) -> Pair:
    """The pair in the form that the metric asks for; the values must be suitable for it."""
    if metric.name == "accuracy":
        return _Answers(labels, candidate, production)
    if metric.name == "auc":
        return _Scores(metric, labels, candidate, production)
    if metric.is_macro:
        return _ManyClasses(metric, labels, candidate, production)
    if metric.is_of_classes:
        return _Classes(metric, labels, candidate, production)
    return _Losses(metric, labels, candidate, production)


class _Answers:
    """Which rows neither, only the candidate, only production or both have right: 0 to 3."""

    def __init__(self, labels: Array, candidate: Array, production: Array) -> None:
        self._kinds = np.empty(labels.size, dtype=np.int8)
        counts = np.zeros(4, dtype=np.intp)
        for some in pieces(labels.size):
            truth = labels[some]
            self._kinds[some] = (candidate[some] == truth) + 2 * (production[some] == truth).view(np.int8)
            counts += np.bincount(self._kinds[some], minlength=4)
        _, self._mended, self._wrong, both = counts.tolist()
        self._rows = labels.size
        self.values = (self._mended + both) / self._rows, (self._wrong + both) / self._rows

    def difference(self, alpha: float) -> Difference:
        return accuracy_difference(self._wrong, self._mended, self._rows, alpha)

    def compare(self, parts: Sequence[Parts]) -> Slices:
        tests, there = [], 0
        for part, table in zip(parts, count_by(parts, self._kinds, 4), strict=True):
            for name, (neither, mended, wrong, both) in zip(part.names, table.tolist(), strict=True):
                rows = neither + mended + wrong + both
                there += rows > 0
                if rows >= SMALLEST_SLICE:
                    values = (mended + both) / rows, (wrong + both) / rows
                    tests.append(SliceTest(name, rows, *values, (mended - wrong) / rows, mcnemar_mid_p(wrong, mended)))
        return Slices(tests, there)


class _Classes:
    """The kinds of rows: label, candidate's class and production's."""

    def __init__(self, metric: RowMetric, labels: Array, candidate: Array, production: Array) -> None:
        self._metric = metric
        self._kinds = kinds_of_two(metric)
        self._codes = code_of_two(labels, candidate, production)
        counts = sum(np.bincount(self._codes[some], minlength=8) for some in pieces(labels.size))
        self._counts: Array = np.asarray(counts, dtype=np.float64)
        self.values = classes_values(self._kinds, self._counts)

    def difference(self, alpha: float) -> Difference:
        return classes_difference(self._kinds, self._counts, alpha)

    def compare(self, parts: Sequence[Parts]) -> Slices:
        tests, there = [], 0
        for part, table in zip(parts, count_by(parts, self._codes, 8), strict=True):
            for name, counts in zip(part.names, table.astype(np.float64), strict=True):
                rows, positives = int(counts.sum()), int(counts[4:].sum())
                there += rows > 0
                if not is_too_small(self._metric, rows, positives):
                    tests.append(_test_of_classes(name, self._kinds, counts))
        return Slices(tests, there)


class _ManyClasses:
    """The same with more than two classes, of which the mean is judged. In a slice those with enough rows count."""

    def __init__(self, metric: RowMetric, labels: Array, candidate: Array, production: Array) -> None:
        self._kinds, self._codes = kinds_of_many(metric.name, labels, candidate, production)
        self._counts = np.bincount(self._codes, minlength=self._kinds.prior.size).astype(np.float64)
        self.values = classes_values(self._kinds, self._counts)

    def difference(self, alpha: float) -> Difference:
        return classes_difference(self._kinds, self._counts, alpha)

    def compare(self, parts: Sequence[Parts]) -> Slices:
        tests, there = [], 0
        for part, table in zip(parts, count_by(parts, self._codes, self._counts.size), strict=True):
            for name, counts in zip(part.names, table.astype(np.float64), strict=True):
                there += counts.any()
                large = np.flatnonzero(self._kinds.labelled @ counts >= SMALLEST_CLASS)
                if counts.sum() >= SMALLEST_SLICE and large.size >= 2:
                    tests.append(_test_of_classes(name, self._kinds.of_classes(large), counts))
        return Slices(tests, int(there))


def _test_of_classes(name: str, kinds: Kinds, counts: Array) -> SliceTest:
    ours, theirs = classes_values(kinds, counts)
    gain = ours - theirs if kinds.is_higher_better else theirs - ours
    return SliceTest(name, int(counts.sum()), ours, theirs, gain, classes_harm(kinds, counts))


class _Losses:
    """What each row adds to a metric that is made of one mean, of either side."""

    def __init__(self, metric: RowMetric, labels: Array, candidate: Array, production: Array) -> None:
        self._metric = metric
        self._labels = labels
        self._ours = contributions(metric, labels, candidate)
        self._theirs = contributions(metric, labels, production)
        self.values = self._metric_of(self._ours.mean(axis=0)), self._metric_of(self._theirs.mean(axis=0))

    def difference(self, alpha: float) -> Difference:
        return means_difference((self._ours, self._theirs), self._metric.combine, alpha)

    def compare(self, parts: Sequence[Parts]) -> Slices:
        sums = sum_by(parts, self._labels.size, self._sums)
        tests, there = [], 0
        for part, table in zip(parts, sums, strict=True):
            for name, (count, ours, theirs, squares, *positives) in zip(part.names, table.tolist(), strict=True):
                rows = int(count)
                there += rows > 0
                if not is_too_small(self._metric, rows, int(sum(positives))):
                    values = self._metric_of(np.array([ours / rows])), self._metric_of(np.array([theirs / rows]))
                    gain, harm = _gain(self._metric, values), mean_harm(ours - theirs, squares)
                    tests.append(SliceTest(name, rows, *values, gain, harm))
        return Slices(tests, there)

    def _metric_of(self, means: Array) -> float:
        return float(self._metric.combine(means))

    def _sums(self, some: slice) -> tuple[Array, ...]:
        ours, theirs = self._ours[some, 0], self._theirs[some, 0]
        excess = ours - theirs
        sums = ours, theirs, excess * excess
        return (*sums, self._labels[some]) if self._metric.is_binary else sums


class _Scores:
    """Both sides' rows in order: ranks within slices follow from the one order."""

    def __init__(self, metric: RowMetric, labels: Array, candidate: Array, production: Array) -> None:
        self._metric = metric
        self._ours, self._theirs = Ranked(labels, candidate), Ranked(labels, production)
        self._placed = self._ours.placements(), self._theirs.placements()
        self.values = float(self._placed[0][0].mean()), float(self._placed[1][0].mean())

    def difference(self, alpha: float) -> Difference:
        return auc_difference(*self._placed, alpha)

    def compare(self, parts: Sequence[Parts]) -> Slices:
        tests, there = [], 0
        for part in parts:
            for name, table in zip(part.names, self._sums(part), strict=True):
                (negatives, *_), (positives, *_) = table.tolist()
                rows = int(negatives + positives)
                there += rows > 0
                if not is_too_small(self._metric, rows, int(positives)):
                    ours, theirs = (table[1, 1:3] / (2.0 * negatives * positives)).tolist()
                    spreads = _variance(table[1], negatives), _variance(table[0], positives)
                    harm = auc_harm(theirs - ours, spreads, (int(positives), int(negatives)))
                    tests.append(SliceTest(name, rows, ours, theirs, ours - theirs, harm))
        return Slices(tests, there)

    def _sums(self, part: Parts) -> Array:
        """Of each slice, the negative and the positive rows: (slices, 2, 4), their count, the sums of both sides'
        placements (as ``twice_placed``), and of the squares of what they differ by.
        """
        ours, theirs = self._ours.twice_placed(part), self._theirs.twice_placed(part)

        def values(some: slice) -> tuple[Array, ...]:
            sides = ours[some].astype(np.float64), theirs[some].astype(np.float64)
            return (*sides, np.square(sides[0] - sides[1]))

        by_class = Parts(2 * part.codes + self._ours.positive, tuple(name for name in part.names for _ in range(2)))
        (table,) = sum_by([by_class], ours.size, values)
        return table.reshape(-1, 2, 4)


def _variance(of: Array, others: float) -> float:
    """That of what the placements of the rows of one class differ by."""
    count, ours, theirs, squares = map(float, of)
    return max(0.0, squares - (ours - theirs) ** 2 / count) / (count - 1.0) / (2.0 * others) ** 2


def _gain(metric: RowMetric, values: Sequence[float]) -> float:
    """How much better the candidate is."""
    return values[0] - values[1] if metric.is_higher_better else values[1] - values[0]
