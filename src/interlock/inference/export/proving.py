"""Whether an exported model answers as its original: on rows of the holdout, and on rows made to tell them apart.

Made rows have one value changed: missing, huge and tiny numbers, numbers at and beside each split of a tree, texts that
no training has seen. Where the original refuses a row, the exported model has to refuse it too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..inputs import Array, Batch, Column
from ..model import Model
from ..protocol.tensors import FLOATS, INTEGERS

TOLERANCE = 1e-6
"""How far two numbers may be apart, relative above 1; the same as of golden requests."""

BASES = 12
"""Rows that are changed in every way."""
MOST_SPLITS, LEAST_SPLITS = 4_000, 40
"""Splits looked at: of all columns together, of each at least so many of its own; evenly chosen."""
AT_ONCE = 512
"""Rows asked together."""

SINGLE = float(np.finfo(np.float32).max)
DOUBLE = float(np.finfo(np.float64).max)
NUMBERS = (math.nan, 0.0, -0.0, 1.0, -1.0, 1e6, -1e6, 5e-324, 1e-30, SINGLE, 1e39, -1e39, 1e300, -1e300)
INFINITE = (math.inf, -math.inf)
TEXTS = (None, "", " ", "never seen before", "\u2603", "x" * 1000, "nan", "None")

Table = Mapping[str, Array]
"""Columns by name, each of shape (rows, ...)."""

Splits = Mapping[tuple[str, int], Array]
"""Where trees change their answer: sorted numbers, by the input and the place in its row."""


class Proof(NamedTuple):
    """``because`` is None where every row was answered alike; ``largest`` is the largest difference of two numbers."""

    because: str | None
    rows: int
    largest: float


def rows_of(table: Table) -> int:
    """How many rows the table has."""
    return len(next(iter(table.values())))


def find_limits(original: Model, base: Table, columns: Sequence[Column]) -> dict[str, dict[str, Any]]:
    """What the original refuses of each column of numbers: missing ones, or those that are too large."""
    found = {}
    for column in columns:
        if column.datatype not in FLOATS and column.datatype not in INTEGERS:
            continue

        def is_refused(value: float, name: str = column.name) -> bool:
            return _answers(original, _changed(base, name, value))[0] is None

        beyond = ((SINGLE, 1e300), (DOUBLE, math.inf)) if column.datatype in FLOATS else ()
        most = next((at for at, value in beyond if is_refused(value)), None)
        limit = {"is_missing_refused": is_refused(math.nan), "most": most}
        if limit["is_missing_refused"] or most is not None:
            found[column.name] = limit
    return found


def made_rows(base: Table, columns: Sequence[Column], splits: Splits) -> Iterator[Table]:
    """A table of made rows for each column, and one for each place that trees split on."""
    for column in columns:
        changed = [_changed(base, column.name, value) for value in _values_for(column)]
        yield {name: np.concatenate([table[name] for table in changed]) for name in base}
        if column.datatype in INTEGERS:
            yield _changed(base, column.name, math.nan)
    most = max(LEAST_SPLITS, MOST_SPLITS // max(1, len(splits)))
    for (name, place), thresholds in splits.items():
        chosen = thresholds[np.unique(np.linspace(0, len(thresholds) - 1, most).astype(int))]
        values = _beside(chosen, base[name].dtype)
        table = _repeated(base, len(values))
        table[name].reshape(len(values), -1)[:, place] = values
        yield table


def prove(original: Model, exported: Model, tables: Iterator[Table]) -> Proof:
    """Whether all rows are answered alike; stops at the first that is not."""
    rows, largest = 0, 0.0
    for table in tables:
        for start in range(0, rows_of(table), AT_ONCE):
            part = {name: array[start : start + AT_ONCE] for name, array in table.items()}
            answers = zip(_answers(original, part), _answers(exported, part), strict=True)
            for place, (one, other) in enumerate(answers):
                rows += 1
                because, apart = _difference(one, other)
                if because:
                    return Proof(f"{because} for {_shown(part, place)}", rows, largest)
                largest = max(largest, apart)
    return Proof(None, rows, largest)


def _values_for(column: Column) -> Sequence[Any]:
    if column.datatype == "BYTES":
        return TEXTS
    if column.datatype in INTEGERS:
        limits = np.iinfo(INTEGERS[column.datatype])
        return [value for value in (0, 1, -1, 10**6, limits.min, limits.max) if limits.min <= value <= limits.max]
    if column.datatype in FLOATS:
        return (*NUMBERS, *INFINITE)
    return (True, False)


def _beside(thresholds: Array, dtype: np.dtype[Any]) -> Array:
    """Numbers at and next to each threshold, as far as the input can say them."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        within = thresholds[(thresholds > float(limits.min)) & (thresholds < float(limits.max))]
        whole = np.floor(within).astype(dtype)
        return np.unique(np.concatenate([whole, whole + dtype.type(1)]))
    near = [thresholds, np.nextafter(thresholds, -np.inf), np.nextafter(thresholds, np.inf)]
    with np.errstate(over="ignore"):
        single = thresholds.astype(np.float32)
        near += [single, np.nextafter(single, np.float32(-np.inf)), np.nextafter(single, np.float32(np.inf))]
        return np.unique(np.concatenate(near).astype(dtype))


def _changed(base: Table, name: str, value: Any) -> Table:
    is_missing = isinstance(value, float) and math.isnan(value)
    array = base[name].astype(np.float64) if is_missing and base[name].dtype.kind in "iu" else base[name].copy()
    with np.errstate(over="ignore"):  # what is too large for single precision becomes infinite
        if array.ndim > 1 and array.shape[1] > 1:
            array[:, :: max(1, array.shape[1] // 2)] = value
        else:
            array[...] = value
    return {**base, name: array}


def _repeated(base: Table, rows: int) -> dict[str, Array]:
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in base.items()}


def _answers(model: Model, table: Table) -> list[dict[str, Any] | None]:
    """The outputs of each row; None for rows that the model refuses, found by halves."""
    rows = rows_of(table)
    try:
        with np.errstate(all="ignore"):
            outputs = model.answer(Batch(rows=rows, arrays=dict(table), wanted=None))
    except Exception:  # noqa: BLE001 - the model's own code may raise anything: then it does not answer
        if rows == 1:
            return [None]
        half = rows // 2
        parts = ({name: array[cut] for name, array in table.items()} for cut in (slice(half), slice(half, None)))
        return [answer for part in parts for answer in _answers(model, part)]
    return [{name: array[row] for name, array in outputs.items()} for row in range(rows)]


def _difference(one: dict[str, Any] | None, other: dict[str, Any] | None) -> tuple[str | None, float]:
    """Why two answers are not the same, or None, and how far their numbers are apart."""
    if one is None or other is None:
        refused = "the original refuses, and the graph answers" if one is None else "the graph refuses to answer"
        return (None, 0.0) if one is other else (refused, 0.0)
    if one.keys() != other.keys():
        return f"the outputs are {sorted(other)}, not {sorted(one)},", 0.0
    largest = 0.0
    for name, found in one.items():
        left, right = np.asarray(found), np.asarray(other[name])
        if left.dtype.kind != "f":
            if left.shape != right.shape or not np.array_equal(left, right):
                return f"{name} is {right}, not {left},", 0.0
            continue
        apart = np.abs(left.astype(float) - right.astype(float))
        apart = np.where((np.isnan(left) & np.isnan(right)) | (left == right), 0.0, apart)
        if not (apart <= TOLERANCE * np.maximum(1.0, np.abs(left))).all():
            return f"{name} is {right}, not {left},", 0.0
        largest = max(largest, float(np.max(apart / np.maximum(1.0, np.abs(left)))))
    return None, largest


def _shown(table: Table, place: int) -> str:
    told = [f"{name}={np.asarray(array[place]).tolist()!r}" for name, array in table.items()]
    return ", ".join(told)[:400]
