"""The ratio of two served models, from lives of their servers in which both were measured in turn.

Every life gives one ratio. Requests of one life are no independent witnesses: they share where the process lies in
memory and what the machine does meanwhile, so their number makes no interval narrower; the lives do (Kalibera and Jones
2013, "Rigorous benchmarking in reasonable time"). On two busy cores the medians of equal models differed by 2 to 3 %
from life to life, however many requests were sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from interlock.vocabulary import Stored

SMALLEST_LIVES = 3
"""Below, there is no interval that is of use."""

_POWER = 0.8
_PRECISION = 1e-10


class Ratio(Stored):
    """A ratio with its one-sided bounds, each of which is missed with probability alpha.

    ``detectable``: the smallest ratio above 1 that such measurements tell from 1 with a power of 80 %.
    """

    estimate: float
    lower: float
    upper: float
    detectable: float
    method: str


def ratio_of_lives(candidate: Sequence[float], production: Sequence[float], alpha: float) -> Ratio:
    """The geometric mean of the ratios of the lives, with Student's interval of their logarithms.

    Both are above 0, of the same lives in the same order, SMALLEST_LIVES of them at least.
    """
    logs = [math.log(ours / theirs) for ours, theirs in zip(candidate, production, strict=True)]
    count = len(logs)
    mean = math.fsum(logs) / count
    error = math.sqrt(math.fsum((one - mean) ** 2 for one in logs) / (count - 1) / count)
    reach = student_quantile(1.0 - alpha, count - 1) * error
    return Ratio(
        estimate=math.exp(mean),
        lower=math.exp(mean - reach),
        upper=math.exp(mean + reach),
        detectable=math.exp(reach + student_quantile(_POWER, count - 1) * error),
        method=f"Student's interval of the log ratios of {count} lives (Kalibera and Jones 2013)",
    )


def student_quantile(share: float, freedom: int) -> float:
    """The value below which a Student variable of ``freedom`` degrees lies with probability ``share``."""
    low, high = -1.0, 1.0
    while student_share(low, freedom) > share:
        low *= 2.0
    while student_share(high, freedom) < share:
        high *= 2.0
    while high - low > _PRECISION * max(1.0, abs(high)):
        middle = (low + high) / 2.0
        low, high = (middle, high) if student_share(middle, freedom) < share else (low, middle)
    return (low + high) / 2.0


def student_share(value: float, freedom: int) -> float:
    """The probability that a Student variable of ``freedom`` degrees is below ``value``: the finite sums of
    Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    angle = math.atan(value / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = freedom % 2 == 1
    term, total = (cosine if is_odd else 1.0), 0.0
    for step in range(3 if is_odd else 2, freedom + 1, 2):
        total += term
        term *= cosine**2 * (step - 1) / step
    inside = 2.0 / math.pi * (angle + sine * total) if is_odd else sine * total
    return (1.0 + inside) / 2.0
