"""Latencies: the stable side's own recent quantiles, and how many requests of each side exceed them.

A threshold is fixed before the tick it judges, so that whatever slows both sides alike changes nothing. Latencies are
counted in bins that grow by 2 %; ``bin_of`` says which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from interlock.vocabulary import Stored

QUANTILES = (0.5, 0.9, 0.99)
_FEWEST = (20.0, 50.0, 200.0)  # requests behind an estimate of each of them
_HALF_LIFE = 180.0  # seconds
_GROWTH = math.log(1.02)
_HEAVIEST = 1e100  # weights are scaled down once a request weighs so much


def bin_of(milliseconds: float) -> int:
    """The bin of a latency above 0: bin b holds [1.02^b, 1.02^(b + 1)) milliseconds."""
    return math.floor(math.log(milliseconds) / _GROWTH)


def edge_of(index: int) -> float:
    """The lower edge of a bin, in milliseconds."""
    return math.exp(index * _GROWTH)


class Histogram(Stored):
    """Latencies of the stable side, older ones weighing less: half as much every 180 seconds.

    ``weights`` by bin; ``unit`` is what a request weighs now (it grows, so that no weight has to shrink).
    """

    weights: dict[int, float] = {}
    unit: float = 1.0

    def add(self, counts: Mapping[int, int], seconds: float) -> Histogram:
        """After a tick of so many seconds."""
        unit = self.unit * 2.0 ** (seconds / _HALF_LIFE)
        weights = dict(self.weights)
        if unit > _HEAVIEST:
            weights = {index: weight / unit for index, weight in weights.items()}
            unit = 1.0
        for index, count in counts.items():
            weights[index] = weights.get(index, 0.0) + count * unit
        return self.model_copy(update={"weights": weights, "unit": unit})

    @property
    def thresholds(self) -> tuple[int | None, ...]:
        """For each of QUANTILES the first bin that is above it; None where too few requests are known."""
        total = math.fsum(self.weights.values())
        found: list[int | None] = []
        below, reached = 0.0, iter(sorted(self.weights))
        last = 0
        for quantile, fewest in zip(QUANTILES, _FEWEST, strict=True):
            if total < fewest * self.unit:
                found.append(None)
                continue
            while below < quantile * total * (1.0 - 1e-9):
                last = next(reached)
                below += self.weights[last]
            found.append(last + 1)
        return tuple(found)


def exceeding(counts: Mapping[int, int], threshold: int) -> int:
    """How many latencies are in the bin ``threshold`` or above."""
    return sum(count for index, count in counts.items() if index >= threshold)


def tolerance_bins(ratio: float) -> int:
    """By how many bins the candidate may be slower where ``ratio`` is tolerated; rounded up, in its favour."""
    return math.ceil(math.log(ratio) / _GROWTH - 1e-9)
