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


class Column(Protocol):
    """One column, counted."""

    name: str

    def count(self, values: NDArray[Any]) -> Counts:
        """How many of the values fell where. Whatever the values are, each is counted once."""


class NumberColumn:
    """A column of numbers or truth values."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.name = str(document["name"])
        self._edges = np.asarray(document["edges"], float)
        self._lowest, self._highest = float(document["lowest"]), float(document["highest"])
        self._size = FIRST + len(self._edges) + 1

    def count(self, values: NDArray[Any]) -> Counts:
        """See ``Column``."""
        numbers = values.astype(float) if values.dtype != object else _numbers(values)
        places = np.searchsorted(self._edges, numbers, side="right") + FIRST
        places[(numbers < self._lowest) | (numbers > self._highest)] = STRANGE
        places[np.isnan(numbers)] = MISSING
        return np.bincount(places, minlength=self._size)


class CategoryColumn:
    """A column of texts."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.name = str(document["name"])
        bins = int(document["bins"])
        self._size = FIRST + bins
        self._places: dict[Any, int] = {
            value: FIRST + min(place, bins - 1) for place, value in enumerate(document["values"])
        }
        self._places[None] = MISSING

    def count(self, values: NDArray[Any]) -> Counts:
        """See ``Column``."""
        place = self._places.get
        return np.bincount([place(value, STRANGE) for value in values.tolist()], minlength=self._size)


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
