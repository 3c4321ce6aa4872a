"""Evidence that a share is above its bound, block by block: bets that begin with a suspicion.

A block is a stretch of time, and says one number: the share of what came in it. While the mean of that share, given all
that was before, is at most the bound, the wealth is above w with a chance of at most 1 / w, however often one looks
(Ville): rows within a block may depend on one another as they like. Nothing is bet while nothing is suspected, so that
a quiet year costs nothing. A suspicion comes from earlier blocks only, and brings fresh money: the i-th of them
1 / (i (i + 1)) of the whole.
"""

from __future__ import annotations

from interlock.vocabulary import Stored

STAKES = (0.25, 0.6, 0.95)
"""Shares of what is there that are bet, each by a third of the money."""
RICHEST = 1e200


class Bets(Stored):
    """``wealth`` by stake; ``suspicions`` counts how often betting began, ``is_on`` whether it goes on now."""

    suspicions: int = 0
    wealth: tuple[float, ...] = (0.0,) * len(STAKES)
    is_on: bool = False

    @property
    def value(self) -> float:
        """The e-value: what was won, and what was never bet."""
        return sum(self.wealth) + 1.0 / (self.suspicions + 1)

    def settle(self, share: float, bound: float) -> Bets:
        """After a block with this share; the bound is between 0 and 1, and was known before the block."""
        if not self.is_on:
            return self
        won = tuple(
            min(RICHEST, wealth * (1.0 + stake * (share - bound) / bound))
            for wealth, stake in zip(self.wealth, STAKES, strict=True)
        )
        return self.model_copy(update={"wealth": won})

    def suspect(self, is_suspected: bool) -> Bets:
        """Before the next block: whether to bet on it."""
        if is_suspected == self.is_on:
            return self
        if not is_suspected:
            return self.model_copy(update={"is_on": False})
        number = self.suspicions + 1
        fresh = 1.0 / (number * (number + 1)) / len(STAKES)
        wealth = tuple(one + fresh for one in self.wealth)
        return Bets(suspicions=number, wealth=wealth, is_on=True)
