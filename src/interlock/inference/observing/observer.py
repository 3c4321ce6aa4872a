"""Counts what is asked and answered, by column and bin; nothing of a request is kept.

At most so many rows of a second are counted; of what comes beyond that only the number is known.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from .reference import Column, read_columns

MOST_ROWS = 5000
"""Rows of a second that are counted."""
SECOND = 1.0

Arrays = Mapping[str, NDArray[Any]]


class Observer:
    """What a process has answered since its start, beside the reference in ``document``; ``now`` is monotonic.

    KeyError, TypeError or ValueError where the document is no reference.
    """

    def __init__(self, document: Mapping[str, Any], now: Callable[[], float] = time.monotonic) -> None:
        self._inputs, self._outputs = read_columns(document)
        self._now = now
        self._epoch = os.urandom(8).hex()
        self._in_second = 0
        self._second = now()
        self.rows = self.passed_over = 0
        """Rows that were counted, and that were not."""

    def note(self, rows: int, inputs: Arrays, outputs: Arrays) -> None:
        """One request was answered: so many rows."""
        now = self._now()
        if now - self._second >= SECOND:
            self._second, self._in_second = now, 0
        taken = min(rows, MOST_ROWS - self._in_second)
        self.passed_over += rows - taken
        if taken <= 0:
            return
        self._in_second += taken
        self.rows += taken
        _hold(self._inputs, inputs, taken, rows)
        _hold(self._outputs, outputs, taken, rows)

    def tell(self) -> dict[str, Any]:
        """All counts since the start of this process, whose name is ``epoch``: by side and column, bin by bin."""
        sides = {"input": self._inputs, "output": self._outputs}
        return {
            "epoch": self._epoch,
            "rows": self.rows,
            "passed_over": self.passed_over,
            **{side: {name: _settled(column) for name, column in columns.items()} for side, columns in sides.items()},
        }


def _hold(columns: Mapping[str, Column], arrays: Arrays, taken: int, rows: int) -> None:
    for name, column in columns.items():
        values = arrays.get(name)
        if values is None:
            continue
        try:
            column.hold(values if taken == rows else values[:taken])
        except (TypeError, ValueError):  # values of another kind than the reference's: to observe breaks no answer
            continue


def _settled(column: Column) -> list[int]:
    column.settle()
    counts: list[int] = column.counts.tolist()
    return counts
