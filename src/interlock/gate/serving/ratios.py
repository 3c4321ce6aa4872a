"""The ratio of two served models, from lives of their servers in which both were measured in turn.

Every life gives one ratio. Requests of one life are no independent witnesses: they share where the process lies in
memory and what the machine does meanwhile, so their number makes no interval narrower; the lives do (Kalibera and Jones
2013, "Rigorous benchmarking in reasonable time"). On two busy cores the medians of equal models differed by 2 to 3 %
from life to life, however many requests were sent; and a life may be so disturbed that its ratio says nothing (one of
39 recorded ones was), which is why no mean is taken of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from interlock.vocabulary import Stored


class Ratio(Stored):
    """A ratio with its one-sided bounds, each of which is missed with probability alpha at most.

    ``detectable``: a candidate so many times as slow would just have been told from an equal one.
    """

    estimate: float
    lower: float
    upper: float
    detectable: float
    method: str


def ratio_of_lives(candidate: Sequence[float], production: Sequence[float], alpha: float) -> Ratio | None:
    """The median of the ratios of the lives, and the bounds that their order gives whatever their distribution is
    (Thompson 1936; David and Nagaraja 2003, "Order Statistics", 7.1). None where the lives are too few for alpha.

    Both are above 0, of the same lives in the same order.
    """
    ratios = sorted(ours / theirs for ours, theirs in zip(candidate, production, strict=True))
    count, place = len(ratios), bound_place(len(ratios), alpha)
    if place == 0:
        return None
    estimate, lower, upper = statistics.median(ratios), ratios[place - 1], ratios[-place]
    return Ratio(
        estimate=estimate,
        lower=lower,
        upper=upper,
        detectable=max(estimate / lower, upper / estimate),
        method=f"median of the ratios of {count} lives, bounds: number {place} from either end (Thompson 1936)",
    )


def bound_place(count: int, alpha: float) -> int:
    """Which of ``count`` values, counted from 1 from the smallest, is above their distribution's median with
    probability alpha at most; 0 if none is. Each value is below the median with probability one half.
    """
    place, fewer = 0, 0.0
    while place < count:
        fewer += math.comb(count, place) / 2.0**count
        if fewer > alpha:
            break
        place += 1
    return place


def smallest_lives(alpha: float) -> int:
    """How many lives there must be for a bound at all."""
    return math.ceil(-math.log2(alpha))
