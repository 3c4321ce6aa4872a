"""Paired tests: the candidate and production on the very same rows.

Every function answers a Difference: an estimate with one-sided bounds, each of which is missed with probability alpha.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interlock.gate.row_metrics import Array, RowMetric, contributions, pieces
from interlock.vocabulary import Stored

_BOUND_PRECISION = 1e-12
_TILT_PRECISION = 1e-7
_KINDS = np.array(list(itertools.product((0.0, 1.0), repeat=3)))  # of a row: label, candidate's class, production's
_DISCORDANT = _KINDS[:, 1] != _KINDS[:, 2]
_PRIOR = 0.25  # of a row, assumed of each kind that is rare and matters: none seen is not proof that there is none


class Difference(Stored):
    """A difference with its one-sided bounds. ``standard_error`` is None where the method has none.

    ``is_coarse``: the rows are too few for a close bound, so that it shrinks as fast as they become more.
    """

    estimate: float
    lower: float
    upper: float
    standard_error: float | None
    method: str
    is_coarse: bool = False


def normal_quantile(share: float) -> float:
    """The value below which a standard normal variable lies with probability ``share``."""
    return NormalDist().inv_cdf(share)


def normal_share(value: float) -> float:
    """The probability that a standard normal variable is below ``value``."""
    return NormalDist().cdf(value)


def tango_score(wrong: int, mended: int, rows: int, difference: float) -> float:
    """The score statistic of Tango (1998) for the hypothesis that the accuracies differ by ``difference``.

    ``wrong`` counts rows that only the candidate has wrong, ``mended`` those that only production has wrong.
    """
    first = 2.0 * rows
    second = -mended - wrong + (2.0 * rows - mended + wrong) * difference
    third = -wrong * difference * (1.0 - difference)
    share = (math.sqrt(max(0.0, second**2 - 4.0 * first * third)) - second) / (2.0 * first)
    variance = rows * (2.0 * share + difference * (1.0 - difference))
    distance = mended - wrong - rows * difference
    if variance <= 0.0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def accuracy_difference(wrong: int, mended: int, rows: int, alpha: float) -> Difference:
    """Candidate's accuracy less production's, with the bounds that Tango's score test gives by inversion."""
    estimate = (mended - wrong) / rows
    discordant = max(mended + wrong, 1) / rows  # no discordant row seen is not proof that there is none
    return Difference(
        estimate=estimate,
        lower=_tango_lower(wrong, mended, rows, alpha),
        upper=-_tango_lower(mended, wrong, rows, alpha),
        standard_error=math.sqrt(max(discordant - estimate**2, 0.0) / rows),
        method="paired score interval (Tango 1998)",
    )


def _tango_lower(wrong: int, mended: int, rows: int, alpha: float) -> float:
    critical = normal_quantile(1.0 - alpha)
    low, high = -1.0 + 1e-12, (mended - wrong) / rows
    if tango_score(wrong, mended, rows, low) <= critical:
        return -1.0
    # the score falls as the difference grows, so halving the interval finds the one bound
    while high - low > _BOUND_PRECISION:
        middle = (low + high) / 2.0
        if tango_score(wrong, mended, rows, middle) > critical:
            low = middle
        else:
            high = middle
    return low


def mean_error(metric: RowMetric, labels: Array, values: Array) -> float:
    """The standard error of one metric of means (jackknife)."""
    return math.sqrt(_pulls((contributions(metric, labels, values),), metric.combine).squares)


def classes_difference(metric: RowMetric, kinds: Array, alpha: float) -> Difference:
    """Candidate's F1 (or another metric of classes) less production's, by a score test on the eight kinds of rows.

    ``kinds`` are their counts (``kinds_of``).

    As in Tango's test the variance is that under the hypothesis, so that it holds where few rows are discordant and the
    error of a bootstrap is too small. Hypotheses are reached by tilting the observed shares along the influence of the
    kinds (empirical likelihood, Owen 1990); the bound is the farthest that is not rejected.
    """
    swapped = _swapped(kinds)
    estimate = _classes_gap(metric, kinds)
    shares = _assumed(kinds)
    return Difference(
        estimate=estimate,
        lower=_classes_lower(metric, kinds, estimate, alpha),
        upper=-_classes_lower(metric, swapped, -estimate, alpha),
        standard_error=_classes_error(metric, shares, float(kinds.sum())),
        method=f"paired score interval of {metric.name} (tilted shares of the kinds of rows)",
    )


def classes_harm(metric: RowMetric, counts: Array) -> float:
    """The probability that a candidate as good as production looks as bad as this one; 1 if it does not look worse.

    ``counts`` are those of the kinds of rows (``kinds_of``).
    """
    kinds = _swapped(counts)
    sign = 1.0 if metric.is_higher_better else -1.0
    excess = sign * _classes_gap(metric, kinds)
    if excess <= 0.0:
        return 1.0
    equal = _tilt(metric, kinds, sign, lambda tilted: sign * _classes_gap(metric, tilted) >= 0.0)
    return 1.0 - normal_share(excess / _classes_error(metric, equal, float(kinds.sum())))


def kinds_of(labels: Array, candidate: Array, production: Array) -> NDArray[np.int8]:
    """The kind of each row, 0 to 7: label, candidate's class and production's as the digits of a binary number."""
    kinds = np.empty(labels.size, dtype=np.int8)
    for some in pieces(labels.size):
        kinds[some] = 4.0 * labels[some] + 2.0 * candidate[some] + production[some]
    return kinds


def classes_values(metric: RowMetric, counts: Array) -> tuple[float, float]:
    """The candidate's metric and production's, from the counts of the kinds of rows."""
    ours, theirs = metric.combine(_means(metric, counts)).tolist()
    return ours, theirs


def _means(metric: RowMetric, shares: Array) -> Array:
    """The means of both sides' columns, (2, k), where the kinds of rows have these shares (of any sum)."""
    means: Array = shares @ _columns_of_kinds(metric) / shares.sum()
    return means


@cache
def _columns_of_kinds(metric: RowMetric) -> Array:
    """What a row of each kind adds to the metric of either side: (2, kinds, k)."""
    return np.stack([metric.columns(_KINDS[:, 0], _KINDS[:, side]) for side in (1, 2)])


def _swapped(kinds: Array) -> Array:
    """The counts with candidate and production exchanged."""
    swapped: Array = kinds.reshape(2, 2, 2).transpose(0, 2, 1).ravel()
    return swapped


def _assumed(kinds: Array) -> Array:
    """The shares of the kinds of rows, with a little of what might have been seen."""
    assumed = kinds + _PRIOR * _DISCORDANT
    shares: Array = assumed / assumed.sum()
    return shares


def _classes_lower(metric: RowMetric, kinds: Array, estimate: float, alpha: float) -> float:
    critical, rows = normal_quantile(1.0 - alpha), kinds.sum()

    def is_consistent(tilted: Array) -> bool:
        return estimate - _classes_gap(metric, tilted) <= critical * _classes_error(metric, tilted, rows)

    return min(estimate, _classes_gap(metric, _tilt(metric, kinds, 1.0, is_consistent)))


def _tilt(metric: RowMetric, kinds: Array, sign: float, is_near: Callable[[Array], bool]) -> Array:
    """The shares farthest below what was seen (for ``sign`` 1; else above) that are still near, by halving."""
    shares = _assumed(kinds)
    influence = sign * _influence(metric, shares)
    low, high = 0.0, -1.0 / float(influence.min())  # there the kind that pulls down most would have the whole weight
    while high - low > _TILT_PRECISION * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if is_near(_tilted(shares, influence, middle)) else (low, middle)
    return _tilted(shares, influence, low)


def _tilted(shares: Array, influence: Array, tilt: float) -> Array:
    weights = shares / (1.0 + tilt * influence)
    tilted: Array = weights / weights.sum()
    return tilted


def _classes_error(metric: RowMetric, shares: Array, rows: float) -> float:
    return math.sqrt(float(shares @ _influence(metric, shares) ** 2) / rows)


def _classes_gap(metric: RowMetric, shares: Array) -> float:
    """How far the two sides' metrics are apart where the kinds of rows have these shares (of any sum)."""
    ours, theirs = classes_values(metric, shares)
    return ours - theirs


def _influence(metric: RowMetric, shares: Array) -> Array:
    """What a little more of each kind does to the difference: a ratio's influence is (above - ratio * below) / mean."""
    means, columns = _means(metric, shares), _columns_of_kinds(metric)
    ratios = metric.combine(means)[:, None]
    both = (columns[:, :, 0] - ratios * columns[:, :, 1]) / means[:, 1:]
    influence: Array = both[0] - both[1]
    return influence


def means_difference(columns: tuple[Array, Array], combine: Callable[[Array], Array], alpha: float) -> Difference:
    """Candidate's metric less production's, for a metric of means; the standard error by leaving out each row in turn.

    ``columns`` are both sides' (rows, k) contributions, ``combine`` the metric of their means. The jackknife is what a
    paired bootstrap comes to with ever more resamples (Efron 1979), without their chance. Where errors have long tails,
    the row that would pull most is often not among those seen, so a quarter of the one that does is assumed besides.
    """
    pulls = _pulls(columns, combine)
    error = math.sqrt(pulls.squares + _PRIOR * pulls.largest**2)
    estimate, reach = pulls.whole, normal_quantile(1.0 - alpha) * error
    return Difference(
        estimate=estimate,
        lower=estimate - reach,
        upper=estimate + reach,
        standard_error=error,
        method="paired jackknife, and a quarter of the row that pulls most",
    )


class _Pulls(NamedTuple):
    """A metric of means, or how far two are apart, and how far it moves when each row is left out: the sum of squares,
    and the largest.
    """

    whole: float
    squares: float
    largest: float


def _pulls(sides: Sequence[Array], combine: Callable[[Array], Array]) -> _Pulls:
    """Of one side or of two. The squares add up to the jackknife's variance (Efron 1982)."""
    rows, totals = sides[0].shape[0], [side.sum(axis=0) for side in sides]

    def apart(means: Sequence[Array]) -> Array:
        first, *second = map(combine, means)
        return first - second[0] if second else first

    whole = apart([total / rows for total in totals])
    least = most = moved = squares = 0.0
    for some in pieces(rows):
        without = [(total - side[some]) / (rows - 1) for total, side in zip(totals, sides, strict=True)]
        moves = apart(without) - whole
        least, most = min(least, float(moves.min())), max(most, float(moves.max()))
        moved, squares = moved + float(moves.sum()), squares + float(moves @ moves)
    mean, shrink = moved / rows, (rows - 1) / rows
    largest = math.sqrt(shrink) * max(most - mean, mean - least)
    return _Pulls(float(whole), shrink * max(0.0, squares - rows * mean**2), largest)
