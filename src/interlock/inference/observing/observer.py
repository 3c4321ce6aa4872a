"""Counts what is asked and answered, by column and bin; nothing of a request is kept.

An answer waits for none of it: requests are noted, and counted together once there are many of them or a second has
passed. At most so many rows of a second are counted; of what comes beyond that only the number is known.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .reference import Column, Counts, read_columns

MOST_NOTED = 512
"""Rows that wait to be counted: so many together take little more than one."""
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
        self._counts: dict[str, dict[str, Counts]] = {"input": {}, "output": {}}
        self._noted: list[tuple[Arrays, Arrays]] = []
        self._waiting = self._in_second = 0
        self._second = now()
        self.rows = self.passed_over = 0
        """Rows that were counted, and that were not."""

    def note(self, rows: int, inputs: Arrays, outputs: Arrays) -> None:
        """One request was answered: so many rows. The arrays are looked at later, and must stay as they are."""
        now = self._now()
        if now - self._second >= SECOND:
            self._count()
            self._second, self._in_second = now, 0
        taken = min(rows, MOST_ROWS - self._in_second)
        self.passed_over += rows - taken
        if taken <= 0:
            return
        if taken < rows:
            inputs, outputs = _first(inputs, taken), _first(outputs, taken)
        self._in_second += taken
        self._waiting += taken
        self._noted.append((inputs, outputs))
        if self._waiting >= MOST_NOTED:
            self._count()

    def tell(self) -> dict[str, Any]:
        """All counts since the start of this process, whose name is ``epoch``: by side and column, bin by bin."""
        self._count()
        return {
            "epoch": self._epoch,
            "rows": self.rows,
            "passed_over": self.passed_over,
            **{
                side: {name: counts.tolist() for name, counts in columns.items()}
                for side, columns in self._counts.items()
            },
        }

    def _count(self) -> None:
        noted, rows = self._noted, self._waiting
        if not noted:
            return
        self._noted, self._waiting = [], 0
        self.rows += rows
        self._add("input", self._inputs, [inputs for inputs, _ in noted])
        self._add("output", self._outputs, [outputs for _, outputs in noted])

    def _add(self, side: str, columns: Mapping[str, Column], noted: list[Arrays]) -> None:
        known = self._counts[side]
        for name, column in columns.items():
            parts = [arrays[name] for arrays in noted if name in arrays]
            if not parts:
                continue
            try:
                counts = column.count((parts[0] if len(parts) == 1 else np.concatenate(parts)).ravel())
            except (TypeError, ValueError):  # values of another kind than the reference's: to observe breaks no answer
                continue
            known[name] = known[name] + counts if name in known else counts


def _first(arrays: Arrays, rows: int) -> Arrays:
    return {name: array[:rows] for name, array in arrays.items()}
