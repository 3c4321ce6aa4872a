"""The promotion test: bets that the candidate is not worse than the stable side by a margin.

It asks the opposite of harm, for no alarm so far proves nothing. Wealth of 1/alpha is reached with probability at most
alpha by a candidate that is worse by the whole margin, however often one looks. Gains are logarithms, by stake.
"""

from __future__ import annotations

import math

from interlock.delivery.analysis.gains import Side
from interlock.delivery.analysis.wealth import log_sum

STAKES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95)
"""Shares of the wealth that are staked."""
STAKE_WEIGHTS = (0.04, 0.06, 0.08, 0.1, 0.14, 0.2, 0.38)
"""Most of the wealth bets boldly: a healthy candidate makes no errors and is then proven soonest."""
NO_BETS = (0.0,) * len(STAKES)

_LOG_WEIGHTS = tuple(math.log(weight) for weight in STAKE_WEIGHTS)


def safety_gains(candidate: Side, stable: Side, margin: float) -> tuple[float, ...]:
    """Evidence of one tick that the candidate's rate is below the stable one plus ``margin``.

    For a stake s: x1 ln(1 - s) + x0 ln(1 + s n1 / n0) + s n1 m. The mean of its exponential is at most
    exp(-n1 p1 s + n0 p0 s n1 / n0 + s n1 m) <= 1 where p1 >= p0 + m, by 1 + x <= e^x: any rates, any weights, O(1).
    """
    (x1, n1), (x0, n0) = candidate, stable
    if n1 == 0 or n0 == 0:
        return NO_BETS
    return tuple([x1 * math.log1p(-stake) + x0 * math.log1p(stake * n1 / n0) + stake * n1 * margin for stake in STAKES])


def limit_bets(candidate: Side, limit: float) -> tuple[float, ...]:
    """Evidence of one tick that the candidate's rate is below ``limit``, with nobody beside it.

    For a stake s: x ln(1 - s) + s n l, what ``safety_gains`` is without a stable side: its mean is at most
    exp(-n p s + s n l) <= 1 where p >= l.
    """
    events, requests = candidate
    return tuple([events * math.log1p(-stake) + stake * requests * limit for stake in STAKES])


def paired_safety_gains(worse: int, better: int, pairs: int, margin: float) -> tuple[float, ...]:
    """The same of ``pairs`` of answers to one request: ``worse`` where the candidate alone is wrong, ``better`` where
    stable alone is. The factor of a pair is 1 + s (right of candidate - right of stable + m).
    """
    ties = pairs - worse - better
    return tuple(
        [
            worse * math.log1p(stake * (margin - 1.0))
            + better * math.log1p(stake * (margin + 1.0))
            + ties * math.log1p(stake * margin)
            for stake in STAKES
        ]
    )


def log_wealth(bets: tuple[float, ...]) -> float:
    """The logarithm of the e-value of bets, each a sum of gains."""
    return log_sum([weight + bet for weight, bet in zip(_LOG_WEIGHTS, bets, strict=True)])
