"""Is the candidate worse? The probability of so bad a result if it were not, and what holds over many such questions.

A small probability is proof of harm; a large one is no proof of its absence: that is what gates with a margin are for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from interlock.gate.paired import normal_share

_MANY_DISCORDANT = 5000  # beyond, the normal limit of the binomial is exact to four digits


def mean_harm(excess: float, squares: float) -> float:
    """The probability of so much more loss, or more, if the candidate is as good as production; 1 if it has no more.

    ``excess`` is the sum of what the candidate's rows lose more than production's, ``squares`` that of their squares.
    """
    if excess <= 0.0:
        return 1.0
    # the spread about zero, not about the mean: with few rows and long tails this score does not overstate
    return 1.0 - normal_share(excess / math.sqrt(squares))


def mcnemar_mid_p(wrong: int, mended: int) -> float:
    """McNemar's test, one-sided, mid-p (Lancaster 1961; Fagerland, Lydersen and Laake 2013).

    ``wrong`` counts rows that only the candidate has wrong, ``mended`` those that only production has wrong.
    """
    discordant = wrong + mended
    if wrong <= mended:
        return 1.0
    if discordant > _MANY_DISCORDANT:
        return 1.0 - normal_share((wrong - mended) / math.sqrt(discordant))
    whole = math.lgamma(discordant + 1) + discordant * math.log(0.5)
    few = range(mended + 1)  # as few that only production has wrong, or fewer
    chances = [math.exp(whole - math.lgamma(one + 1) - math.lgamma(discordant - one + 1)) for one in few]
    return math.fsum(chances) - chances[-1] / 2.0


def holm(probabilities: Sequence[float]) -> list[float]:
    """Each probability adjusted for all of them (Holm 1979): rejecting those up to alpha, the chance of even one false
    rejection is at most alpha, whatever depends on what.
    """
    order = np.argsort(probabilities, kind="stable")
    count = len(probabilities)
    raised = np.array(probabilities)[order] * (count - np.arange(count))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(value) for value in adjusted]


def benjamini_hochberg(probabilities: Sequence[float]) -> list[float]:
    """Each probability adjusted so that of those up to alpha a share of at most alpha is expected to be false
    (Benjamini and Hochberg 1995): a list to look at, not to block by.
    """
    order = np.argsort(probabilities, kind="stable")[::-1]
    count = len(probabilities)
    raised = np.array(probabilities)[order] * count / (count - np.arange(count))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(raised), 1.0)
    return [float(value) for value in adjusted]
