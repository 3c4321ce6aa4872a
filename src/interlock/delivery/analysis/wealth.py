"""Evidence as wealth: an e-process may be looked at after every tick, because its mean stays at most 1 under the null.

By Ville's inequality it ever reaches 1/alpha with probability at most alpha while its null holds. An average of
e-processes is one again, whatever connects them: that is how metrics, strata and rules share one alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from interlock.vocabulary import Stored

RATIOS = (1.25, 1.6, 2.0, 3.0, 5.0, 10.0, 25.0, 60.0)
"""How much worse than tolerated the candidate may be: the alternatives that share the wealth."""
RATIO_WEIGHTS = (0.2, 0.2, 0.15, 0.15, 0.1, 0.1, 0.05, 0.05)

PAIR_RATIOS = (1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
"""The alternatives for pairs of answers to one request, of which only those that differ count."""
PAIR_WEIGHTS = (1.0 / 6.0,) * 6

HIGHEST = 600.0
"""Logarithms of wealth are cut here: cutting can only lower the evidence."""
_RICHEST = math.exp(HIGHEST)


class EProcess(Stored):
    """Wealth spread over alternatives (``weights``, which add up to 1) and over the ticks at which harm may begin.

    ``kept`` are logarithms of what was bet on the first tick; ``begun`` is what was bet on a start at any later tick.
    ``first`` is the share for the first tick; the rest is spent evenly over ``horizon`` ticks, of which ``ticks`` are
    gone. Later ticks begin nothing new.
    """

    weights: tuple[float, ...] = RATIO_WEIGHTS
    horizon: int
    first: float = 0.5
    ticks: int = 0
    kept: tuple[float, ...] = (0.0,) * len(RATIOS)
    begun: tuple[float, ...] = (0.0,) * len(RATIOS)

    @property
    def value(self) -> float:
        """The e-value now: E = first sum w e^L + sum w S + what is not yet spent."""
        total = (1.0 - self.first) * (1.0 - min(1.0, self.ticks / self.horizon))
        for weight, kept, begun in zip(self.weights, self.kept, self.begun, strict=True):
            total += weight * (self.first * math.exp(kept) + begun)
        return min(_RICHEST, total)

    def grow(self, gains: Sequence[float]) -> EProcess:
        """One tick later; ``gains`` are logarithms of likelihood ratios, one for each alternative.

        A tick whose gains are all 0 says nothing: it is not counted, and what was meant for it is bet later.
        """
        if not any(gains):
            return self
        spent = (1.0 - self.first) / self.horizon if self.ticks < self.horizon else 0.0
        return self.model_copy(
            update={
                "ticks": self.ticks + 1,
                "kept": tuple([min(HIGHEST, kept + gain) for kept, gain in zip(self.kept, gains, strict=True)]),
                "begun": tuple(
                    [
                        min(_RICHEST, (begun + spent) * math.exp(min(HIGHEST, gain)))
                        for begun, gain in zip(self.begun, gains, strict=True)
                    ]
                ),
            }
        )


def paired_process(horizon: int) -> EProcess:
    """An e-process over PAIR_RATIOS, without evidence."""
    nothing = (0.0,) * len(PAIR_RATIOS)
    return EProcess(weights=PAIR_WEIGHTS, horizon=horizon, kept=nothing, begun=nothing)


def log_sum(logarithms: Sequence[float]) -> float:
    """The logarithm of the sum of exponentials; the sequence must not be empty."""
    highest = max(logarithms)
    return highest + math.log(math.fsum(math.exp(max(value - highest, -745.0)) for value in logarithms))
