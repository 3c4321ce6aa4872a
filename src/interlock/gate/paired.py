"""Paired tests: the candidate and production on the very same rows, or on interleaved requests.

Every function answers a Difference: an estimate with one-sided bounds, each of which is missed with probability alpha.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from interlock.gate.row_metrics import Array, mid_ranks
from interlock.vocabulary import Stored

RESAMPLES = 1000
_BOUND_PRECISION = 1e-12
_BLOCK = 20  # requests that share one moment of the machine


class Difference(Stored):
    """A difference or ratio with its one-sided bounds. ``standard_error`` is None where the method has none."""

    estimate: float
    lower: float
    upper: float
    standard_error: float | None
    method: str


def normal_quantile(share: float) -> float:
    """The value below which a standard normal variable lies with probability ``share``."""
    return NormalDist().inv_cdf(share)


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


def auc_difference(labels: Array, candidate: Array, production: Array, alpha: float) -> Difference:
    """Candidate's AUC less production's (DeLong, DeLong and Clarke-Pearson 1988; mid-ranks, O(n log n)).

    Both classes must be among the labels (1 and 0).
    """
    positive = labels == 1.0
    placements = [_placements(scores, positive) for scores in (candidate, production)]
    above, below = placements[0][0] - placements[1][0], placements[0][1] - placements[1][1]
    variance = sum(float(part.var(ddof=1)) / part.size for part in (above, below) if part.size > 1)
    return _normal(float(above.mean()), math.sqrt(variance), alpha, "paired AUC (DeLong et al. 1988)")


def _placements(scores: Array, positive: np.ndarray) -> tuple[Array, Array]:
    """For each positive the share of negatives below it, for each negative the share of positives above it."""
    ranks = mid_ranks(scores)
    count, rest = int(positive.sum()), int((~positive).sum())
    below = (ranks[positive] - mid_ranks(scores[positive])) / rest
    above = 1.0 - (ranks[~positive] - mid_ranks(scores[~positive])) / count
    return below, above


def bootstrap_difference(columns: tuple[Array, Array], combine: Callable[[Array], float], alpha: float) -> Difference:
    """Candidate's metric less production's; the standard error by resampling rows, candidate and production together.

    ``columns`` are both sides' (rows, k) contributions, ``combine`` the metric of their means. The seed is the data's
    own digest: the same rows give the same answer.
    """
    joint = np.hstack(columns)
    width, rows = columns[0].shape[1], joint.shape[0]
    generator = np.random.default_rng(_seed(joint))

    def difference(means: Array) -> float:
        return combine(means[:width]) - combine(means[width:])

    resampled = []
    for _ in range(RESAMPLES):
        counts = np.bincount(generator.integers(0, rows, rows), minlength=rows)
        resampled.append(difference(counts @ joint / rows))
    estimate = difference(joint.mean(axis=0))
    return _normal(estimate, float(np.std(resampled, ddof=1)), alpha, f"paired bootstrap, {RESAMPLES} resamples")


def percentile_ratio(candidate: Array, production: Array, share: float, alpha: float) -> Difference:
    """The ratio of two latency percentiles, from requests sent to both in turn; ``share`` 0.99 is the p99.

    Blocks of neighbouring pairs are resampled together (circular block bootstrap, Politis and Romano 1992), so that a
    moment in which the machine was slow weighs on both sides at once and is not taken for many independent ones.
    """
    pairs = min(candidate.size, production.size)
    both = np.stack([candidate[:pairs], production[:pairs]])
    generator = np.random.default_rng(_seed(both))
    block = min(_BLOCK, pairs)
    starts = generator.integers(0, pairs, (RESAMPLES, math.ceil(pairs / block)))
    index = ((starts[:, :, None] + np.arange(block)) % pairs).reshape(RESAMPLES, -1)[:, :pairs]
    ratios = percentile(both[0][index], share) / percentile(both[1][index], share)
    return Difference(
        estimate=float(percentile(both[0], share) / percentile(both[1], share)),
        lower=float(np.quantile(ratios, alpha)),
        upper=float(np.quantile(ratios, 1.0 - alpha)),
        standard_error=None,
        method=f"circular block bootstrap of pairs, {RESAMPLES} resamples, blocks of {block} (Politis and Romano 1992)",
    )


def percentile(values: Array, share: float) -> Array:
    """The smallest value that at least ``share`` of the values (last axis) do not exceed."""
    position = math.ceil(share * values.shape[-1]) - 1
    return np.partition(values, position, axis=-1)[..., position]


def _normal(estimate: float, error: float, alpha: float, method: str) -> Difference:
    reach = normal_quantile(1.0 - alpha) * error
    return Difference(
        estimate=estimate, lower=estimate - reach, upper=estimate + reach, standard_error=error, method=method
    )


def _seed(data: Array) -> int:
    return int.from_bytes(hashlib.sha256(np.ascontiguousarray(data).tobytes()).digest()[:8])
