"""What wears out: how often an address may guess at tokens, and how often the audit log hears of one thing."""

from __future__ import annotations

from collections import OrderedDict

MOST_KEYS = 10_000
"""Addresses or things remembered; the one not heard of for longest is forgotten first."""


class Patience:
    """A bucket for each key: ``most`` at once, and one more every ``seconds``. Used by one thread at a time."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, key: str, now: float) -> bool:
        """Takes one from the key's bucket; False where it is empty. ``now`` is monotonic seconds."""
        left, at = self._buckets.pop(key, (float(self._most), now))
        left = min(self._most, left + (now - at) / self._seconds)
        is_left = left >= 1
        self._buckets[key] = (left - is_left, now)
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)
        return is_left
