"""The AUC of two models on the same rows, and when so few rows say anything of it.

How far the two are apart is a mean over the positive rows and one over the negative rows (DeLong, DeLong and
Clarke-Pearson 1988). DeLong's own interval is too sure where models are good: nearly every row is in its place then,
the few that are not decide, and they are often not among those seen. With an AUC of 0.976 and 100 positive rows it
passes models at the margin in 11 % of runs instead of 5 %. So

- as in the score interval of F1 the variance is that under the hypothesis, which is reached by tilting the weights of
  the rows (empirical likelihood, Owen 1990), with a quarter of a row assumed to either side as far out as the farthest;
- where not even half a row of the rarer class is out of place, the rows cannot tell two good models apart at all. The
  bound is then what each side's AUC alone allows, which holds for any scores: the AUC is an average over pairings of
  positive with negative rows, each a sample of as many independent pairs as the rarer class has rows (Hoeffding 1963,
  section 5a), so that Chernoff's bound with so many holds for it. Both are missed together with probability alpha at
  most: nine tenths of it are for the side that may be worse than it looks, a tenth for the other, which matters only
  where that is far behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from interlock.gate.paired import Difference, normal_quantile, normal_share
from interlock.gate.row_metrics import Array, pieces
from interlock.gate.rows.ranks import Placements, Ranked

LEAST_MISPLACED = 0.5
"""Rows of the rarer class that must be out of place in all, each by the share of the other class on its wrong side."""
SMALLEST_CLASS = 10
"""Rows of a class below which the bounds are those of each side alone."""

_OF_WORSE = 0.9  # of alpha: for the side that may be worse than it looks
_PRIOR = 0.25  # of a row, as far out as the farthest
_TILT_PRECISION = 1e-6
_CHERNOFF_PRECISION = 1e-9


def auc_difference(ours: Placements, theirs: Placements, alpha: float) -> Difference:
    """Candidate's AUC less production's, of both sides' placements. Both classes must be among the labels.

    ``standard_error`` is DeLong's, or where rows are too few for it, what the bound comes to.
    """
    estimate = float(ours[0].mean() - theirs[0].mean())
    rarer = min(part.size for part in ours)
    missed = [max(0.0, 1.0 - float(side[0].mean())) for side in (ours, theirs)]
    if rarer < SMALLEST_CLASS or rarer * min(missed) < LEAST_MISPLACED:
        lower, upper = -_most_apart(missed, rarer, alpha), _most_apart(missed[::-1], rarer, alpha)
        return Difference(
            estimate=estimate,
            lower=lower,
            upper=upper,
            standard_error=(estimate - lower) / normal_quantile(1.0 - alpha),
            method=f"each AUC alone (Hoeffding 1963): {rarer * min(missed):.2g} of {rarer} rows are out of place",
            is_coarse=True,
        )
    apart = ours[0] - theirs[0], ours[1] - theirs[1]
    return Difference(
        estimate=estimate,
        lower=estimate - _reach(apart, alpha),
        upper=estimate + _reach((-apart[0], -apart[1]), alpha),
        standard_error=_delong(apart),
        method="paired AUC (DeLong et al. 1988), variance under the hypothesis by tilting",
    )


def auc_harm(excess: float, variances: tuple[float, float], sizes: tuple[int, int]) -> float:
    """The probability that a candidate as good as production looks as bad as this one; 1 if it does not look worse.

    ``excess`` is how much less its AUC is, ``variances`` those of what the placements of the positive and of the
    negative rows differ by, ``sizes`` how many rows there are of either. The variance of the difference is that about
    none at all: with 30 rows of one class DeLong's own would be too sure.
    """
    if excess <= 0.0:
        return 1.0
    error = math.sqrt(sum((spread + excess**2) / size for spread, size in zip(variances, sizes, strict=True)))
    return 1.0 - normal_share(excess / error)


def auc_error(labels: Array, scores: Array) -> float:
    """The standard error of one AUC (DeLong et al. 1988)."""
    return _delong(Ranked(labels, scores).placements())


def _delong(parts: tuple[Array, Array]) -> float:
    return math.sqrt(sum(float(part.var(ddof=1)) / part.size for part in parts if part.size > 1))


def _reach(apart: tuple[Array, Array], alpha: float) -> float:
    """How far below the estimate the farthest hypothesis lies that is not rejected."""
    critical = normal_quantile(1.0 - alpha)
    assumed = [_assumed(part) for part in apart]
    lowest = min(float(distances.min()) / part.size for (_, distances), part in zip(assumed, apart, strict=True))
    if lowest >= 0.0:
        return 0.0  # both order all rows alike

    def tilted(tilt: float) -> tuple[float, float]:
        """How far below the estimate it is, and the standard error there."""
        moved = variance = 0.0
        for (weights, distances), part in zip(assumed, apart, strict=True):
            mean, squares = _moments(weights, distances, tilt / part.size)
            moved -= mean
            variance += (squares - mean**2) / (part.size - 1)
        return moved, math.sqrt(max(0.0, variance))

    # to either side a row is as far out as the farthest, so that no weight is less than halved, and what is moved is at
    # least half of what a straight line would move; at -1 / lowest the row that pulls down most has the whole weight
    most = min((1.0 - _TILT_PRECISION) * -1.0 / lowest, 3.0 * critical / tilted(0.0)[1])
    return tilted(_last_consistent(tilted, critical, most))[0]


def _last_consistent(tilted: Callable[[float], tuple[float, float]], critical: float, most: float) -> float:
    """The largest tilt up to ``most`` that moves no farther than ``critical`` standard errors: by false position,
    halving the weight of an end that stays (the Illinois rule).
    """

    def excess(tilt: float) -> float:
        moved, error = tilted(tilt)
        return moved - critical * error

    low, high = 0.0, most
    under, over = excess(low), excess(high)
    if over <= 0.0:
        return high
    tilt, before = low, high
    while abs(tilt - before) > _TILT_PRECISION * high:
        before, tilt = tilt, (low * over - high * under) / (over - under)
        found = excess(tilt)
        if found <= 0.0:
            over = over / 2.0 if low == before else over
            low, under = tilt, found
        else:
            under = under / 2.0 if high == before else under
            high, over = tilt, found
    return tilt


def _moments(weights: Array, distances: Array, tilt: float) -> tuple[float, float]:
    """The mean of the distances and of their squares, the weights tilted."""
    whole = mean = squares = 0.0
    for some in pieces(distances.size):
        far = distances[some]
        shares = weights[some] / (1.0 + tilt * far)
        pulled = shares * far
        whole, mean = whole + float(shares.sum()), mean + float(pulled.sum())
        squares += float(np.multiply(pulled, far, out=pulled).sum())
    return mean / whole, squares / whole


def _assumed(part: Array) -> tuple[Array, Array]:
    """Weights of the rows and their distances from the mean, with a little of what might be to both sides."""
    distances = part - part.mean()
    farthest = float(np.abs(distances).max())
    return np.append(np.ones(part.size), (_PRIOR, _PRIOR)), np.append(distances, (-farthest, farthest))


def _most_apart(missed: Sequence[float], pairs: int, alpha: float) -> float:
    """How much more the first may miss than the second."""
    worse, other = _OF_WORSE * alpha, (1.0 - _OF_WORSE) * alpha
    return _most_missed(missed[0], pairs, worse) - _least_missed(missed[1], pairs, other)


def _least_missed(missed: float, pairs: int, alpha: float) -> float:
    """The smallest share for which so large a one is not surprising."""
    return 1.0 - _most_missed(1.0 - missed, pairs, alpha)


def _most_missed(missed: float, pairs: int, alpha: float) -> float:
    """The largest share for which so small a one is not surprising in so many independent pairs (Chernoff)."""
    bound = -math.log(alpha) / pairs
    low, high = missed, 1.0
    while high - low > _CHERNOFF_PRECISION:
        middle = (low + high) / 2.0
        low, high = (middle, high) if _divergence(missed, middle) <= bound else (low, middle)
    return high


def _divergence(seen: float, share: float) -> float:
    """Kullback and Leibler's, of a coin that falls with ``seen`` from one that falls with a larger ``share``."""
    surprise = (1.0 - seen) * math.log((1.0 - seen) / (1.0 - share)) if seen < 1.0 else 0.0
    return surprise + (seen * math.log(seen / share) if seen > 0.0 else 0.0)
