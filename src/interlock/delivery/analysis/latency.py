"""Latencies: the stable side's own recent quantiles, and how many requests of each side exceed them.

A threshold is fixed before the tick it judges, so that whatever slows both sides alike changes nothing. Latencies are
counted in bins that grow by 2 %; ``bin_of`` says which.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

from interlock.vocabulary import Stored

QUANTILES = (0.5, 0.9, 0.99)
_FEWEST = {0.5: 20.0, 0.9: 50.0, 0.95: 100.0, 0.99: 200.0}  # requests behind an estimate of each of them
_SHORTEST = 0.5  # milliseconds that stand for an answer that took none, as the proxy counts
_HALF_LIFE = 180.0  # seconds
_GROWTH = math.log(1.02)
_HEAVIEST = 1e100  # weights are scaled down once a request weighs so much


Span = tuple[float, float]
"""At least and at most so many milliseconds."""


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

    def thresholds(self, quantiles: Sequence[float] = QUANTILES) -> tuple[int | None, ...]:
        """For each of the quantiles, in their order, the first bin above it; None where too few requests are known."""
        indices = sorted(self.weights)
        sums = list(accumulate([self.weights[index] for index in indices], initial=0.0))
        total = sums[-1]
        return tuple(
            [
                None
                if total < _FEWEST[quantile] * self.unit
                else indices[bisect_left(sums, quantile * total * (1.0 - 1e-9)) - 1] + 1
                for quantile in quantiles
            ]
        )


def bins_of_sides(candidate: Mapping[Span, int], stable: Mapping[Span, int]) -> tuple[dict[int, int], dict[int, int]]:
    """Bins of answers that are only known to have taken between so many milliseconds and so many.

    The candidate's are taken at their lower bounds and stable's at their upper ones. So a candidate whose answers take
    at most r times as long never has a larger share above r times a threshold than stable has above the threshold.
    """
    lower: dict[int, int] = {}
    upper: dict[int, int] = {}
    for (least, _), count in candidate.items():
        index = bin_of(max(least, _SHORTEST))
        lower[index] = lower.get(index, 0) + count
    for (_, most), count in stable.items():
        index = bin_of(max(most, _SHORTEST))
        upper[index] = upper.get(index, 0) + count
    return lower, upper


def limit_bin(milliseconds: float) -> int:
    """The first bin of which every latency is longer than so many milliseconds."""
    return bin_of(milliseconds) + 1


def exceeding(counts: Mapping[int, int], threshold: int) -> int:
    """How many latencies are in the bin ``threshold`` or above."""
    return sum([count for index, count in counts.items() if index >= threshold])


def tolerance_bins(ratio: float) -> int:
    """By how many bins the candidate may be slower where ``ratio`` is tolerated; rounded up, in its favour."""
    return math.ceil(math.log(ratio) / _GROWTH - 1e-9)
