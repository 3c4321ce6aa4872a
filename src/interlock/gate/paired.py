"""Paired tests: the candidate and production on the very same rows.

Every function answers a Difference: an estimate with one-sided bounds, each of which is missed with probability alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from interlock.gate.row_metrics import Array, RowMetric, contributions, pieces, plain_mean
from interlock.vocabulary import Stored

_BOUND_PRECISION = 1e-12
_PRIOR = 0.25  # of the row that pulls most: none seen is not proof that there is none


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

    whole = float(apart([total / rows for total in totals]))
    least = most = moved = squares = 0.0
    for some in pieces(rows):
        if combine is plain_mean:  # without a row it moves by how far that row is from it, spread over the others
            moves = (whole - apart([side[some] for side in sides])) / (rows - 1)
        else:
            without = [(total - side[some]) / (rows - 1) for total, side in zip(totals, sides, strict=True)]
            moves = apart(without) - whole
        least, most = min(least, float(moves.min())), max(most, float(moves.max()))
        moved, squares = moved + float(moves.sum()), squares + float(np.square(moves, out=moves).sum())
    mean, shrink = moved / rows, (rows - 1) / rows
    largest = math.sqrt(shrink) * max(most - mean, mean - least)
    return _Pulls(whole, shrink * max(0.0, squares - rows * mean**2), largest)
