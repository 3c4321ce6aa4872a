"""The reference of a model version: for each column of its inputs and outputs the bins that are counted.

It is a JSON document, made when the model is measured (``probes.offline.reference``): ``{"columns": [column, ...]}``.
A column has a ``name``, a ``side`` (``input`` or ``output``) and a ``kind``. A ``number`` has ``edges``, which part its
bins (a value that is an edge belongs above it), and ``lowest`` and ``highest``, outside of which nothing was. A
``category`` has ``values``, each with a bin of its own as far as there are ``bins``, the others in the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

MISSING, STRANGE, FIRST = 0, 1, 2
"""Places in the counts of a column: no value; a value that the reference has not (outside, unseen); its first bin."""


HELD = 512
"""Values of a column that wait to be counted: so many together take little more than one."""


class Column(Protocol):
    """One column, counted. Values are copied: to keep the arrays of many requests costs more than to count them."""

    name: str
    counts: Counts
    """How many of the values that were settled fell where; each is counted once."""

    def hold(self, values: NDArray[Any]) -> None:
        """Takes values, to be counted later. TypeError or ValueError where they are of another kind."""

    def settle(self) -> None:
        """Counts all that were taken."""


class NumberColumn:
    """A column of numbers or truth values."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.name = str(document["name"])
        self._edges = np.asarray(document["edges"], float)
        self._lowest, self._highest = float(document["lowest"]), float(document["highest"])
        self.counts: Counts = np.zeros(FIRST + len(self._edges) + 1, np.int64)
        self._held = np.empty(HELD)
        self._holds = 0

    def hold(self, values: NDArray[Any]) -> None:
        """See ``Column``."""
        rows = values.size
        if rows > HELD - self._holds:
            self.settle()
        if values.dtype == object:
            values = _numbers(values.ravel())
        if rows > HELD:
            self._count(values.astype(float).ravel())
        else:
            self._held[self._holds : self._holds + rows] = values if values.ndim == 1 else values.ravel()
            self._holds += rows

    def settle(self) -> None:
        """See ``Column``."""
        self._count(self._held[: self._holds])
        self._holds = 0

    def _count(self, numbers: NDArray[np.float64]) -> None:
        places = np.searchsorted(self._edges, numbers, side="right") + FIRST
        places[(numbers < self._lowest) | (numbers > self._highest)] = STRANGE
        places[np.isnan(numbers)] = MISSING
        self.counts += np.bincount(places, minlength=len(self.counts))


class CategoryColumn:
    """A column of texts."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.name = str(document["name"])
        bins = int(document["bins"])
        self.counts: Counts = np.zeros(FIRST + bins, np.int64)
        self._held: list[int] = []
        self._places: dict[Any, int] = {
            value: FIRST + min(place, bins - 1) for place, value in enumerate(document["values"])
        }
        self._places[None] = MISSING

    def hold(self, values: NDArray[Any]) -> None:
        """See ``Column``."""
        place = self._places.get
        self._held += [place(value, STRANGE) for value in values.ravel().tolist()]
        if len(self._held) > HELD:
            self.settle()

    def settle(self) -> None:
        """See ``Column``."""
        if self._held:
            self.counts += np.bincount(self._held, minlength=len(self.counts))
            self._held.clear()


def read_columns(document: Mapping[str, Any]) -> tuple[dict[str, Column], dict[str, Column]]:
    """The columns of inputs and of outputs, by name. KeyError, TypeError or ValueError where it is no reference."""
    sides: dict[str, dict[str, Column]] = {"input": {}, "output": {}}
    for column in document["columns"]:
        made: Column = NumberColumn(column) if column["kind"] == "number" else CategoryColumn(column)
        sides[column["side"]][made.name] = made
    return sides["input"], sides["output"]


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Truth values and numbers among which nothing stands for a missing one."""
    return np.asarray([np.nan if value is None else value for value in values.tolist()], float)
