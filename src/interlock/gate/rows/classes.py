"""Metrics of classes by the kinds of rows: the label, the candidate's class and production's.

F1, precision and the like are ratios of sums over kinds, and the macro average of many classes is the mean of one such
ratio for each. As in Tango's test the variance is that under the hypothesis, so that it holds where few rows are
discordant and the error of a bootstrap is too small. Hypotheses are reached by tilting the observed shares along the
influence of the kinds (empirical likelihood, Owen 1990); the bound is the farthest that is not rejected.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interlock.gate.paired import Difference, normal_quantile, normal_share
from interlock.gate.row_metrics import Array, RowMetric, macro_columns, pieces

_TILT_PRECISION = 1e-7
_PRIOR = 0.25  # of a row, assumed of each kind that is rare and matters: none seen is not proof that there is none
_OF_TWO = np.array(list(itertools.product((0.0, 1.0), repeat=3)))  # label, candidate's class, production's


class Kinds(NamedTuple):
    """What a row of each kind adds to the metric of either side, and how many rows are assumed besides those seen.

    ``columns`` is (2, kinds, 2k): k numerators, then their denominators. ``prior`` is (kinds,). ``labelled`` is
    (k, kinds): whether the label is of this class, where the metric is a mean over classes.
    """

    name: str
    is_higher_better: bool
    columns: Array
    prior: Array
    labelled: Array

    def of_classes(self, some: NDArray[np.intp]) -> Kinds:
        """The mean over these classes alone."""
        kept = np.concatenate([some, some + self.labelled.shape[0]])
        return self._replace(columns=self.columns[:, :, kept], labelled=self.labelled[some])

    def turned(self) -> Kinds:
        """With candidate and production exchanged."""
        return self._replace(columns=self.columns[::-1])


@cache
def kinds_of_two(metric: RowMetric) -> Kinds:
    """The eight kinds of two classes, in the order of ``code_of_two``."""
    columns = np.stack([metric.columns(_OF_TWO[:, 0], _OF_TWO[:, side]) for side in (1, 2)])
    return Kinds(
        metric.name, metric.is_higher_better, columns, _PRIOR * (_OF_TWO[:, 1] != _OF_TWO[:, 2]), _OF_TWO[:, :1].T
    )


def code_of_two(labels: Array, candidate: Array, production: Array) -> NDArray[np.int8]:
    """The kind of each row, 0 to 7: label, candidate's class and production's as the digits of a binary number."""
    kinds = np.empty(labels.size, dtype=np.int8)
    for some in pieces(labels.size):
        kinds[some] = 4.0 * labels[some] + 2.0 * candidate[some] + production[some]
    return kinds


def kinds_of_many(name: str, labels: Array, candidate: Array, production: Array) -> tuple[Kinds, NDArray[np.int32]]:
    """The kinds of a macro average over the classes of the labels, and the kind of each row.

    Beside those seen there are, of each class, those that one side alone has right. A quarter of a row is assumed of
    either, spread over what the other side might say; with two classes that is what F1 of one of them assumes.
    """
    classes = np.unique(labels)
    size = classes.size
    wide = size + 1  # what is predicted and no label is one class more
    coded = [_places(classes, side) for side in (labels, candidate, production)]
    codes = (coded[0] * wide + coded[1]) * wide + coded[2]
    pairs = [(true, other) for true, other in itertools.permutations(range(size), 2)]
    alone = [(true * wide + true) * wide + other for true, other in pairs]
    alone += [(true * wide + other) * wide + true for true, other in pairs]
    there = np.union1d(np.flatnonzero(np.bincount(codes, minlength=wide**3)), alone)
    kinds = np.stack([there // wide**2, there // wide % wide, there % wide], axis=1)
    columns = [macro_columns(kinds[:, 0], kinds[:, side], np.arange(size)) for side in (1, 2)]
    prior = np.where(np.isin(there, alone), _PRIOR / (size - 1), 0.0)
    compact = np.zeros(wide**3, dtype=np.int32)
    compact[there] = np.arange(there.size)
    labelled = (kinds[:, 0] == np.arange(size)[:, None]).astype(np.float64)
    return Kinds(name, True, np.stack(columns), prior, labelled), compact[codes]


def _places(classes: Array, values: Array) -> NDArray[np.intp]:
    """The number of each value's class; of what is none, one more than the last."""
    places = np.minimum(np.searchsorted(classes, values), classes.size - 1)
    return np.where(classes[places] == values, places, classes.size)


def classes_values(kinds: Kinds, counts: Array) -> tuple[float, float]:
    """The candidate's metric and production's, from the counts (or shares) of the kinds of rows."""
    ours, theirs = _ratios(_means(kinds, counts)).mean(axis=1).tolist()
    return ours, theirs


def classes_difference(kinds: Kinds, counts: Array, alpha: float) -> Difference:
    """Candidate's metric less production's, by a score test on the kinds of rows, of which there are ``counts``."""
    estimate = _gap(kinds, counts)
    return Difference(
        estimate=estimate,
        lower=_lower(kinds, counts, alpha),
        upper=-_lower(kinds.turned(), counts, alpha),
        standard_error=_error(kinds, _assumed(kinds, counts), float(counts.sum())),
        method=f"paired score interval of {kinds.name} (tilted shares of the kinds of rows)",
    )


def classes_harm(kinds: Kinds, counts: Array) -> float:
    """The probability that a candidate as good as production looks as bad as this one; 1 if it does not look worse."""
    worse = kinds.turned() if kinds.is_higher_better else kinds
    excess = _gap(worse, counts)
    if excess <= 0.0:
        return 1.0
    equal = _tilt(worse, counts, lambda tilted: _gap(worse, tilted) >= 0.0)
    return 1.0 - normal_share(excess / _error(worse, equal, float(counts.sum())))


def _means(kinds: Kinds, shares: Array) -> Array:
    """The means of both sides' columns, (2, 2k), where the kinds of rows have these shares (of any sum)."""
    means: Array = shares @ kinds.columns / shares.sum()
    return means


def _ratios(means: Array) -> Array:
    """Of both sides, (2, k)."""
    above, below = _halves(means)
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0.0)


def _halves(columns: Array) -> tuple[Array, Array]:
    """Numerators and denominators."""
    k = columns.shape[-1] // 2
    return columns[..., :k], columns[..., k:]


def _gap(kinds: Kinds, shares: Array) -> float:
    """How far the two sides' metrics are apart."""
    ours, theirs = classes_values(kinds, shares)
    return ours - theirs


def _influence(kinds: Kinds, shares: Array) -> Array:
    """What a little more of each kind does to the difference: a ratio's influence is (above - ratio * below) / mean."""
    means = _means(kinds, shares)
    above, below = _halves(kinds.columns)
    both = ((above - _ratios(means)[:, None] * below) / _halves(means)[1][:, None]).mean(axis=-1)
    influence: Array = both[0] - both[1]
    return influence


def _assumed(kinds: Kinds, counts: Array) -> Array:
    """The shares of the kinds of rows, with a little of what might have been seen."""
    assumed = counts + kinds.prior
    shares: Array = assumed / assumed.sum()
    return shares


def _lower(kinds: Kinds, counts: Array, alpha: float) -> float:
    critical, rows, estimate = normal_quantile(1.0 - alpha), float(counts.sum()), _gap(kinds, counts)

    def is_consistent(tilted: Array) -> bool:
        return estimate - _gap(kinds, tilted) <= critical * _error(kinds, tilted, rows)

    return min(estimate, _gap(kinds, _tilt(kinds, counts, is_consistent)))


def _tilt(kinds: Kinds, counts: Array, is_near: Callable[[Array], bool]) -> Array:
    """The shares farthest below what was seen that are still near, by halving."""
    shares = _assumed(kinds, counts)
    influence = _influence(kinds, shares)
    low, high = 0.0, -1.0 / float(influence.min())  # there the kind that pulls down most would have the whole weight
    while high - low > _TILT_PRECISION * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if is_near(_tilted(shares, influence, middle)) else (low, middle)
    return _tilted(shares, influence, low)


def _tilted(shares: Array, influence: Array, tilt: float) -> Array:
    weights = shares / (1.0 + tilt * influence)
    tilted: Array = weights / weights.sum()
    return tilted


def _error(kinds: Kinds, shares: Array, rows: float) -> float:
    return math.sqrt(float(shares @ _influence(kinds, shares) ** 2) / rows)
