"""How far replicas of one revision differ from each other by themselves, and how much less evidence is worth for it.

Replicas that are slow or fail in spells of their own look like harm to any test that takes requests to be
exchangeable. How much they do is learnt from the baseline's replicas in the past hours; evidence is divided by it
(tempered). An approximation, not a theorem: docs/rollouts.md has what it was measured to hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interlock.vocabulary import Stored

BLOCKS = (60.0, 300.0, 900.0)
"""Lengths of time in seconds over which replicas are compared: spells may be short or long."""


class Spread(Stored):
    """Variance between ``replicas`` beyond chance, by block length in seconds, relative to the squared mean rate."""

    replicas: int = 2
    variances: dict[float, float] = {}

    def divisor(self, expected_per_second: float) -> float:
        """What evidence is divided by where so many events a second are expected of the candidate (known beforehand).

        The largest, over the block lengths, of 1 + (1 + 1/P) s2 (expected events in a block).
        """
        largest = 0.0
        for seconds, variance in self.variances.items():
            largest = max(largest, variance * expected_per_second * seconds)
        return 1.0 + (1.0 + 1.0 / self.replicas) * largest


def learn(history: Mapping[float, Sequence[Sequence[tuple[int, int]]]]) -> Spread:
    """The spread seen in a history: by block length blocks, each with (events, requests) of every baseline replica.

    For each length s2 = max(0, sum(chi2 - (P - 1)(1 - m/N)) / sum(m (P - 1) / P)), chi2 = sum (x - m n/N)^2 / (m n/N).
    Blocks with fewer than two replicas, or without events, say nothing.
    """
    variances: dict[float, float] = {}
    fewest = 0
    for seconds, blocks in history.items():
        excess = weight = 0.0
        for block in blocks:
            answered = [(events, requests) for events, requests in block if requests > 0]
            total, events = sum(n for _, n in answered), sum(x for x, _ in answered)
            if len(answered) < 2 or events == 0:
                continue
            count = len(answered)
            fewest = min(fewest or count, count)
            squares = sum((x - events * n / total) ** 2 / (events * n / total) for x, n in answered)
            excess += squares - (count - 1) * (1.0 - events / total)
            weight += events * (count - 1) / count
        if weight:
            variances[seconds] = max(0.0, excess / weight)
    return Spread(replicas=max(2, fewest), variances=variances)
