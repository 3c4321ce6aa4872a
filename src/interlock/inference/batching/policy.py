"""How many rows to ask a model at once, and how long to wait for them: pure functions of what was measured.

The time of one call is taken as ``fixed + each * rows`` seconds, fitted by least squares over what was seen, older
calls counting less. Batching saves the fixed part, so that it helps where this is much, and nowhere else. A batch is
never larger than what half of the latency limit allows: a request may have to wait for one batch before its own.
"""

from __future__ import annotations

import math

FORGETTING = 0.98
"""Weight of an observation against the next one: the last fifty or so count."""
SURE_AFTER = 20
LARGEST_SURPRISE = 4.0
"""A call that took longer than so many times what was expected (the machine was busy) counts as that."""

MOST_ROWS = 1024
WORTH_SECONDS = 50e-6
"""Less than about this much is what it costs to bring requests together and to part their answers again."""
WORTH_SHARE = 0.1
"""Of the time that two rows take one by one, what must be saved by asking them together."""
SHARE_OF_LIMIT = 0.5


class ServiceCurve:
    """Seconds that a call takes by its rows, learnt from calls."""

    def __init__(self) -> None:
        self._weight = self._rows = self._seconds = self._rows_rows = self._rows_seconds = 0.0
        self._count = 0
        self.fixed = 0.0
        self.each = 0.0

    @property
    def is_known(self) -> bool:
        """Whether anything was seen yet."""
        return self._count > 0

    def observe(self, rows: int, seconds: float) -> None:
        """One call of so many rows took so long."""
        if self._count >= SURE_AFTER:
            seconds = min(seconds, LARGEST_SURPRISE * self.seconds(rows))
        self._count += 1
        self._weight = FORGETTING * self._weight + 1.0
        self._rows = FORGETTING * self._rows + rows
        self._seconds = FORGETTING * self._seconds + seconds
        self._rows_rows = FORGETTING * self._rows_rows + rows * rows
        self._rows_seconds = FORGETTING * self._rows_seconds + rows * seconds
        self._fit()

    def seconds(self, rows: int) -> float:
        """What a call of so many rows is expected to take; 0 where nothing is known."""
        return self.fixed + self.each * rows

    def rows_within(self, seconds: float) -> float:
        """How many rows a call may have that is expected to take less than that; 0 where nothing is known."""
        if not self.is_known:
            return 0.0
        room = seconds - self.fixed
        return room / self.each if self.each > 0 else math.copysign(math.inf, room)

    def _fit(self) -> None:
        mean_rows, mean_seconds = self._rows / self._weight, self._seconds / self._weight
        variance = self._rows_rows / self._weight - mean_rows * mean_rows
        if variance <= 1e-6 * mean_rows * mean_rows:
            # Calls of one size only: their time is known, and the share of the fixed part stays what it was.
            expected = self.seconds(1) and self.fixed + self.each * mean_rows
            scale = mean_seconds / expected if expected else 0.0
            self.fixed, self.each = (
                (self.fixed * scale, self.each * scale) if expected else (0.0, mean_seconds / mean_rows)
            )
            return
        covariance = self._rows_seconds / self._weight - mean_rows * mean_seconds
        self.each = min(max(0.0, covariance / variance), mean_seconds / mean_rows)
        self.fixed = mean_seconds - self.each * mean_rows


def helps(curve: ServiceCurve) -> bool:
    """Whether rows asked together take clearly less time than one by one."""
    return curve.fixed > WORTH_SECONDS and curve.fixed > WORTH_SHARE * 2 * curve.seconds(1)


def most_rows(curve: ServiceCurve, limit: float) -> int:
    """The largest batch that half of the latency limit (seconds) allows; 1 where batching does not help."""
    if not helps(curve):
        return 1
    room = SHARE_OF_LIMIT * limit - curve.fixed
    if room <= 0:
        return 1
    return MOST_ROWS if curve.each * MOST_ROWS <= room else max(1, int(room / curve.each))


def wait_seconds(curve: ServiceCurve, rows: int, gap: float, limit: float) -> float:
    """How long ``rows`` that could be asked now should wait for the next ones, which come ``gap`` seconds apart.

    To wait costs each of them the gap, and saves the fixed part of one call: worth it where the first is less. At most
    twice the gap, and never longer than the fixed part, nor than the latency limit leaves.
    """
    if rows >= most_rows(curve, limit) or rows * gap >= curve.fixed:
        return 0.0
    return max(0.0, min(2 * gap, curve.fixed, SHARE_OF_LIMIT * limit - curve.seconds(rows + 1)))


def seconds_ahead(curve: ServiceCurve, waiting_rows: int, calls: int) -> float:
    """How long those that wait will take, in so many calls."""
    return curve.fixed * calls + curve.each * waiting_rows
