"""Columns cut into slices, and rows added up by slice: in one pass, by however many columns they are cut."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from interlock.gate.row_metrics import Array, pieces
from interlock.gate.rows.arrays import Column

MOST_VALUES = 20
"""A column of numbers with more different values than this is cut at its quantiles."""
QUANTILES = 4
"""Parts of a column of numbers where the gate does not say how many."""

_Number = TypeVar("_Number", np.intp, np.float64)

_MOST_CELLS = 8192  # their sums stay in the processor's cache


class Parts(NamedTuple):
    """One column cut into slices: for each row the number of its slice, and the slices' names."""

    codes: NDArray[np.intp]
    names: tuple[str, ...]


def cut(name: str, column: Column, quantiles: int | None = None) -> Parts:
    """The slices of a column: its values, or for numbers with many values its quantiles."""
    is_missing = _is_missing(column)
    if is_missing.any():
        there = cut(name, column[~is_missing], quantiles)
        codes = np.full(column.size, len(there.names), dtype=np.intp)
        codes[~is_missing] = there.codes
        return Parts(codes, (*there.names, f"{name} missing"))
    if not np.issubdtype(column.dtype, np.number):
        values, codes = np.unique(column.astype(str), return_inverse=True)
        return Parts(codes.astype(np.intp), tuple(f"{name}={value}" for value in values))
    if quantiles is None:
        by_value = _by_value(name, column)
        if by_value is not None:
            return by_value
    return _by_quantile(name, column.astype(np.float64), quantiles or QUANTILES)


def _is_missing(column: Column) -> NDArray[np.bool_]:
    if column.dtype == object:
        return np.array([cell is None for cell in column.tolist()], dtype=np.bool_)
    return np.isnan(column.astype(np.float64)) if column.dtype.kind == "f" else np.zeros(column.size, dtype=np.bool_)


def _by_value(name: str, column: Column) -> Parts | None:
    if column.size and np.issubdtype(column.dtype, np.integer):
        least = int(column.min())
        span = int(column.max()) - least + 1
        if span <= MOST_VALUES:  # a value that is not there is a slice without rows
            whole = column.astype(np.intp, copy=False)
            codes = whole - least if least else whole
            return Parts(codes, tuple(f"{name}={least + place}" for place in range(span)))
    values, found = np.unique(column, return_inverse=True)
    if values.size > MOST_VALUES:
        return None
    return Parts(found.astype(np.intp), tuple(f"{name}={float(value):g}" for value in values))


def _by_quantile(name: str, column: Array, parts: int) -> Parts:
    edges = np.unique(np.quantile(column, np.arange(1, parts) / parts)) if column.size else np.empty(0)
    codes = np.searchsorted(edges, column, side="right").astype(np.intp)
    ends = [f"{edge:g}" for edge in edges]
    lowest = [f"{name} below {ends[0]}"] if ends else [f"{name} of any value"]
    between = [f"{name} {low} to below {high}" for low, high in itertools.pairwise(ends)]
    highest = [f"{name} from {ends[-1]}"] if ends else []
    return Parts(codes, (*lowest, *between, *highest))


def count_by(parts: Sequence[Parts], kinds: NDArray[np.integer[Any]], different: int) -> list[NDArray[np.intp]]:
    """For each column, how many rows of each kind each of its slices has: (slices, different)."""
    tables: list[NDArray[np.intp]] = []
    for group in _groups(parts, different):
        size = math.prod(_sizes(group)) * different
        cells = np.zeros(size, dtype=np.intp)
        for some in pieces(kinds.size):
            cells += np.bincount(_places(group, some) * different + kinds[some], minlength=size)
        tables += _margins(cells.reshape(*_sizes(group), different))
    return tables


def sum_by(parts: Sequence[Parts], rows: int, values: Callable[[slice], Sequence[Array]]) -> list[Array]:
    """For each column, the sums of the values of each of its slices' rows, after their count: (slices, 1 + values).

    ``values`` answers so many arrays of values of some of the rows.
    """
    tables: list[Array] = []
    for group in _groups(parts, 1):
        size = math.prod(_sizes(group))
        counts, *sums = [np.zeros(size) for _ in range(1 + len(values(slice(0))))]
        for some in pieces(rows):
            places = _places(group, some)
            counts += np.bincount(places, minlength=size)
            for place, value in enumerate(values(some)):
                sums[place] += np.bincount(places, weights=value, minlength=size)
        tables += _margins(np.stack([counts, *sums], axis=1).reshape(*_sizes(group), 1 + len(sums)))
    return tables


def _groups(parts: Sequence[Parts], different: int) -> Iterator[list[Parts]]:
    """Neighbouring columns whose cells, one for each combination of their slices, are few enough to sum in one pass."""
    group: list[Parts] = []
    for part in parts:
        if group and math.prod(_sizes([*group, part])) * different > _MOST_CELLS:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _sizes(group: Sequence[Parts]) -> list[int]:
    return [len(part.names) for part in group]


def _places(group: Sequence[Parts], some: slice) -> NDArray[np.intp]:
    """The cell of each row."""
    first, *others = group
    places = first.codes[some]
    for part in others:
        places = places * len(part.names)
        places += part.codes[some]
    return places


def _margins(cells: NDArray[_Number]) -> list[NDArray[_Number]]:
    """For each axis but the last, the sums over the others."""
    axes = range(cells.ndim - 1)
    return [cells.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]
