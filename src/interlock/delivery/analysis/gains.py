"""What one tick says: logarithms of e-values, one for each alternative. Each side is (events, requests).

Every tick is compared within itself, with the requests that were really answered: traffic, weight, and whatever befalls
both sides alike may change from tick to tick. A tick without events, or with one side alone, says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from interlock.delivery.analysis.wealth import HIGHEST, RATIOS

EXACT_CASES = 64
"""The exact form is used up to so many cases a tick: beyond, its bound is as good and takes no longer for more."""

Side = tuple[int, int]


def ratio_gains(candidate: Side, stable: Side, tolerated: float, ratios: Sequence[float] = RATIOS) -> tuple[float, ...]:
    """Evidence that the candidate's rate exceeds ``tolerated`` times the stable one ("binomial split").

    With t0 = n1 M / (n1 M + n0) and t = n1 M r / (n1 M r + n0): x1 ln(t / t0) + x0 ln((1 - t) / (1 - t0)). Valid at any
    rate without conditioning, for E <= exp(n1 p1 (t/t0 - 1) + n0 p0 ((1-t)/(1-t0) - 1)) <= 1 while p1 <= M p0, by
    1 + x <= e^x (after Lindon and Malek, NeurIPS 2022, with the counts as they came).
    """
    (x1, n1), (x0, n0) = candidate, stable
    if n1 == 0 or n0 == 0 or x1 + x0 == 0:
        return (0.0,) * len(ratios)
    weighted = n1 * tolerated
    null = weighted + n0
    gains = []
    for ratio in ratios:
        shrunk = math.log(null / (weighted * ratio + n0))
        gains.append((x1 + x0) * shrunk + x1 * math.log(ratio))
    return tuple(gains)


def paired_gains(
    worse: int, better: int, both: int, tolerated: float, ratios: Sequence[float] = RATIOS
) -> tuple[float, ...]:
    """Evidence of requests that both sides were asked: ``worse`` and ``better`` failed on one side alone, ``both`` on
    both.

    For a ratio r the stake is s = (r - 1) / (r + 1) / M: worse ln(1 + s) + better ln(1 - s M) + both ln(1 + s (1 - M)).
    The mean of a pair's factor is 1 + s (p1 - M p0) <= 1 while p1 <= M p0, however much the sides fail together. With
    M = 1 it is the likelihood ratio of McNemar's test.
    """
    if worse + better + both == 0:
        return (0.0,) * len(ratios)
    gains = []
    for ratio in ratios:
        stake = (ratio - 1.0) / (ratio + 1.0) / tolerated
        gains.append(
            worse * math.log1p(stake)
            + better * math.log1p(-stake * tolerated)
            + both * math.log1p(stake * (1.0 - tolerated))
        )
    return tuple(gains)


def odds_gains(candidate: Side, stable: Side, tolerated: float = 1.0) -> tuple[float, ...]:
    """Evidence that the candidate's odds exceed ``tolerated`` times the stable ones, given the events of both sides.

    Exact where there are few cases: x1 ln r - ln(G(M r) / G(M)), G(w) the mean of w^X of a hypergeometric X. Else, with
    nothing tolerated, its bound (Hoeffding 1963: a hypergeometric is dominated by either binomial); with a tolerance
    ``ratio_gains``.
    """
    (x1, n1), (x0, n0) = candidate, stable
    events = x1 + x0
    if n1 == 0 or n0 == 0 or events == 0 or events == n1 + n0:
        return (0.0,) * len(RATIOS)
    if min(n1, events) <= EXACT_CASES:
        steps = _steps(n1, n0, events)
        least = max(0, events - n0)
        null = _mean_power(steps, tolerated)
        means = [_mean_power(steps, tolerated * ratio) for ratio in RATIOS]
        if max(means) < math.inf:
            return tuple(
                [
                    (x1 - least) * math.log(ratio) - math.log(mean / null)
                    for ratio, mean in zip(RATIOS, means, strict=True)
                ]
            )
    if tolerated > 1.0:
        return ratio_gains(candidate, stable, tolerated)
    requests = n1 + n0
    return tuple(
        [
            x1 * math.log(ratio)
            - min(
                events * math.log1p(n1 / requests * (ratio - 1.0)), n1 * math.log1p(events / requests * (ratio - 1.0))
            )
            for ratio in RATIOS
        ]
    )


def _steps(n1: int, n0: int, events: int) -> list[float]:
    """p(x + 1) / p(x) of the hypergeometric, from its last case down to its first."""
    least, most = max(0, events - n0), min(n1, events)
    return [(n1 - x) * (events - x) / ((x + 1) * (n0 - events + x + 1)) for x in range(most - 1, least - 1, -1)]


def _mean_power(steps: Sequence[float], factor: float) -> float:
    """The mean of factor^(X - its least case), times a constant: Horner's rule over ``steps``."""
    total = 1.0
    for step in steps:
        total = 1.0 + step * factor * total
    return total


def limit_gains(candidate: Side, limit: float) -> tuple[float, ...]:
    """Evidence that the candidate's rate exceeds ``limit``: binomial likelihood ratios.

    Alternatives are ``limit`` times RATIOS, kept half way below certainty. A limit of 0 is refuted by one event, one of
    1 by nothing.
    """
    events, requests = candidate
    if limit >= 1.0:
        return (0.0,) * len(RATIOS)
    if limit <= 0.0:
        return ((HIGHEST if events else 0.0),) * len(RATIOS)
    gains = []
    for ratio in RATIOS:
        rate = min(limit * ratio, (1.0 + limit) / 2.0)
        gains.append(events * math.log(rate / limit) + (requests - events) * math.log((1.0 - rate) / (1.0 - limit)))
    return tuple(gains)
