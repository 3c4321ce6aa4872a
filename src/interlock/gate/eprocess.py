"""E-values: evidence that may be looked at after every tick, because its mean stays at most 1 under the null.

By Ville's inequality an e-process ever reaches 1/alpha with probability at most alpha while its null holds. All
arithmetic is in logarithms, each update O(1) or bounded work, every state a handful of floats. Within one tick the
requests of a side are taken to be exchangeable; nothing is assumed of how rates move from tick to tick.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from interlock.vocabulary import Stored

RATIOS = (1.25, 1.6, 2.0, 3.0, 5.0, 10.0, 25.0, 60.0)
"""How much worse than tolerated the candidate may be: the alternatives that share the wealth."""

RATIO_WEIGHTS = (0.2, 0.2, 0.15, 0.15, 0.1, 0.1, 0.05, 0.05)

STAKES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.95)
"""Shares of the wealth staked on each pair by the promotion test."""

STAKE_WEIGHTS = (0.04, 0.06, 0.08, 0.1, 0.14, 0.2, 0.38)
"""Most of the wealth bets boldly: a healthy candidate makes no errors and is then proven soonest."""

_NOTHING = -1e300  # stands for the logarithm of 0: finite, so that it survives JSON
_HIGHEST = 600.0  # logarithms of wealth are cut here; cutting can only lower the evidence
_EXACT_CELLS = 400  # pairings are averaged exactly up to so many cases a tick


class EProcess(Stored):
    """Wealth spread over RATIOS and over the ticks at which a regression may have begun.

    ``kept`` bets since the first tick, ``begun`` on a start at any later tick (logarithms, by ratio); ``share`` is
    what
    was put on the first tick, the rest is spent evenly over ``horizon`` ticks, of which ``ticks`` are gone. Later
    ticks begin nothing new.
    """

    horizon: int
    share: float = 0.5
    ticks: int = 0
    kept: tuple[float, ...] = (0.0,) * len(RATIOS)
    begun: tuple[float, ...] = (_NOTHING,) * len(RATIOS)

    @property
    def log_value(self) -> float:
        """The logarithm of the e-value now."""
        cash = (1.0 - self.share) * (1.0 - min(1.0, self.ticks / self.horizon))
        parts = [_log(self.share) + _log(w) + kept for w, kept in zip(RATIO_WEIGHTS, self.kept, strict=True)]
        parts += [_log(w) + begun for w, begun in zip(RATIO_WEIGHTS, self.begun, strict=True)]
        return min(_HIGHEST, log_sum([*parts, _log(cash)]))

    def grow(self, gains: Sequence[float]) -> EProcess:
        """One tick later: ``gains`` are the logarithms of the likelihood ratios, one for each of RATIOS."""
        spent = _log((1.0 - self.share) / self.horizon) if self.ticks < self.horizon else _NOTHING
        return self.model_copy(
            update={
                "ticks": self.ticks + 1,
                "kept": tuple(_grown(kept, gain) for kept, gain in zip(self.kept, gains, strict=True)),
                "begun": tuple(
                    _grown(log_sum([begun, spent]), gain) for begun, gain in zip(self.begun, gains, strict=True)
                ),
            }
        )


def ratio_gains(candidate: tuple[int, int], stable: tuple[int, int], tolerated: float) -> tuple[float, ...]:
    """Evidence of one tick that the candidate's rate exceeds ``tolerated`` times the stable one.

    Each side is (events, requests). Given the events of both sides, the candidate's share of them is compared with
    what the requests alone explain; valid at any rate, for any weight (Lindon and Malek 2022, with a margin).
    """
    (x1, n1), (x0, n0) = candidate, stable
    weighted = n1 * tolerated
    null = weighted / (weighted + n0)
    gains = []
    for ratio in RATIOS:
        share = weighted * ratio / (weighted * ratio + n0)
        gains.append(x1 * math.log(share / null) + x0 * math.log((1.0 - share) / (1.0 - null)))
    return tuple(gains)


def limit_gains(candidate: tuple[int, int], limit: float) -> tuple[float, ...]:
    """Evidence of one tick that the candidate's rate exceeds ``limit``: binomial likelihood ratios.

    Alternatives are ``limit`` times RATIOS, kept half way below certainty. A limit of 0 is refuted by one event, one
    of
    1 by nothing.
    """
    events, requests = candidate
    if limit >= 1.0:
        return (0.0,) * len(RATIOS)
    if limit <= 0.0:
        return ((_HIGHEST if events else 0.0),) * len(RATIOS)
    gains = []
    for ratio in RATIOS:
        rate = min(limit * ratio, (1.0 + limit) / 2.0)
        gains.append(events * math.log(rate / limit) + (requests - events) * math.log((1.0 - rate) / (1.0 - limit)))
    return tuple(gains)


def safety_gains(candidate: tuple[int, int], stable: tuple[int, int], margin: float) -> tuple[float, ...]:
    """Evidence of one tick that the candidate's rate is below the stable one plus ``margin``, for each of STAKES.

    Each side is (events, requests). The smaller side's requests are paired at random with requests of the other, and
    the bet's factor 1 + stake (event of stable - event of candidate + margin) is multiplied over the pairs and
    averaged over all pairings, which keeps it an e-value. Where that average has too many cases, the geometric mean
    over the pairings stands for it: it is never larger, so the test stays valid.
    """
    candidate_is_smaller = candidate[1] <= stable[1]
    smaller, larger = (candidate, stable) if candidate_is_smaller else (stable, candidate)
    cases = _pairings(smaller, larger)
    gains = []
    for stake in STAKES:
        tie = math.log1p(stake * margin)
        worse = math.log1p(stake * (margin - 1.0)) - tie
        better = math.log1p(stake * (margin + 1.0)) - tie
        in_smaller, in_larger = (worse, better) if candidate_is_smaller else (better, worse)
        mean = log_sum([chance + in_smaller * alone + in_larger * other for chance, alone, other in cases])
        gains.append(smaller[1] * tie + mean)
    return tuple(gains)


def _pairings(smaller: tuple[int, int], larger: tuple[int, int]) -> list[tuple[float, float, float]]:
    """Cases of random pairings: the logarithm of their chance, and how many pairs have an event in one side only.

    The second number counts pairs with an event in the smaller side alone, the third those with one in the larger
    alone. Where there would be too many cases, their mean is the only one.
    """
    (x, n), (events, requests) = smaller, larger
    if (min(x, events) + 1) * (events + 1) > _EXACT_CELLS:
        return [(0.0, x * (1.0 - events / requests), (n - x) * events / requests)]
    return [
        (log_shared + log_other, x - shared, other)
        for shared, log_shared in _hypergeometric(requests, events, x)
        for other, log_other in _hypergeometric(requests - x, events - shared, n - x)
    ]


def _hypergeometric(total: int, marked: int, drawn: int) -> list[tuple[int, float]]:
    """Each number of marked ones among ``drawn`` of ``total``, with the logarithm of its probability."""
    whole = _log_choose(total, drawn)
    lowest, highest = max(0, drawn - (total - marked)), min(marked, drawn)
    return [
        (k, _log_choose(marked, k) + _log_choose(total - marked, drawn - k) - whole) for k in range(lowest, highest + 1)
    ]


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def log_sum(logarithms: Sequence[float]) -> float:
    """The logarithm of the sum of exponentials; the sequence must not be empty."""
    highest = max(logarithms)
    return highest + math.log(math.fsum(math.exp(max(value - highest, -745.0)) for value in logarithms))


def _grown(wealth: float, gain: float) -> float:
    return max(_NOTHING, min(_HIGHEST, wealth + gain))


def _log(value: float) -> float:
    return math.log(value) if value > 0.0 else _NOTHING
