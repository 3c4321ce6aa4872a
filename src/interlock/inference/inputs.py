"""Requests of the V2 inference protocol as JSON, checked before anything is allocated for them.

Rules: open inference protocol (REST), with ``null`` allowed in ``data`` for a missing value. A missing number is NaN
(a column of integers with a missing value is FP64, as in a CSV file), a missing text or boolean is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

INTEGERS = {f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)}
FLOATS = {"FP32": np.dtype(np.float32), "FP64": np.dtype(np.float64)}
DATATYPES = (*INTEGERS, *FLOATS, "BOOL", "BYTES")

MOST_INPUTS = 4096
MOST_DIMENSIONS = 8
MOST_ELEMENTS = 1 << 23
LONGEST_NAME = 256


class InvalidRequest(ValueError):
    """The client's request is wrong; the text tells how."""


@dataclass(frozen=True)
class Column:
    """One named input: its datatype, and its shape without the number of rows."""

    name: str
    datatype: str
    tail: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """What one request asks: ``arrays`` by input name, each of shape (rows, ...); ``wanted`` outputs (None: all)."""

    rows: int
    arrays: dict[str, Array]
    wanted: frozenset[str] | None


class Signature:
    """Which inputs a model takes, in order. Without columns nothing is known, and any inputs are read."""

    def __init__(self, columns: Iterable[Column] = ()) -> None:
        self.columns = {column.name: column for column in columns}

    @classmethod
    def from_golden(cls, requests: Sequence[object]) -> Signature:
        """The signature that all golden requests share; InvalidRequest where they have none in common."""
        merged: dict[str, Column] = {}
        for number, request in enumerate(requests):
            columns = {column.name: column for column in map(_declared, _entries(request))}
            if number and columns.keys() != merged.keys():
                raise InvalidRequest(
                    f"golden request {number} has other inputs: {_listed(columns.keys() ^ merged.keys())}"
                )
            merged = {name: _widened(merged.get(name, column), column) for name, column in columns.items()}
        return cls(merged.values())

    def read(self, document: object) -> Batch:
        """The request's arrays in the order of the signature. InvalidRequest names what is wrong."""
        entries = {}
        for entry in _entries(document):
            name = _declared_name(entry)
            if name in entries:
                raise InvalidRequest(f"input {_shown(name)} is given twice")
            entries[name] = entry
        if missing := self.columns.keys() - entries.keys():
            raise InvalidRequest(f"missing inputs: {_listed(missing)}")
        names = list(self.columns) or list(entries)
        arrays = {name: _read_array(entries[name], self.columns.get(name)) for name in names}
        rows = {len(array) for array in arrays.values()}
        if len(rows) != 1:
            raise InvalidRequest(f"the inputs have different numbers of rows: {sorted(rows)}")
        assert isinstance(document, dict)
        return Batch(rows=rows.pop(), arrays=arrays, wanted=_read_wanted(document))

    def metadata(self) -> list[dict[str, object]]:
        """The inputs as the protocol's model metadata shows them; -1 is any number of rows."""
        return [
            {"name": column.name, "datatype": column.datatype, "shape": [-1, *column.tail]}
            for column in self.columns.values()
        ]


def describe(array: Array) -> str:
    """The protocol's datatype of an output."""
    if array.dtype.kind == "b":
        return "BOOL"
    for name, dtype in (*INTEGERS.items(), *FLOATS.items()):
        if array.dtype == dtype:
            return name
    return "BYTES"


def _entries(document: object) -> list[object]:
    if not isinstance(document, dict):
        raise InvalidRequest("the request is not a JSON object")
    entries = document.get("inputs")
    if not isinstance(entries, list) or not entries:
        raise InvalidRequest('"inputs" must be a list of at least one tensor')
    if len(entries) > MOST_INPUTS:
        raise InvalidRequest(f"more than {MOST_INPUTS} inputs")
    return entries


def read_id(document: object) -> str | None:
    """The request's own id, None where it has none. InvalidRequest where it is no short text."""
    identity = document.get("id") if isinstance(document, dict) else None
    if identity is None or (isinstance(identity, str) and 0 < len(identity) <= LONGEST_NAME):
        return identity
    raise InvalidRequest(f'"id" must be a text of 1 to {LONGEST_NAME} characters')


def _read_wanted(document: Mapping[str, object]) -> frozenset[str] | None:
    outputs = document.get("outputs")
    if outputs is None or outputs == []:
        return None
    if not isinstance(outputs, list) or len(outputs) > MOST_INPUTS:
        raise InvalidRequest('"outputs" must be a list')
    return frozenset(map(_declared_name, outputs))


def _declared_name(entry: object) -> str:
    if not isinstance(entry, dict):
        raise InvalidRequest("a tensor is not a JSON object")
    name = entry.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise InvalidRequest(f'a tensor needs a "name" of 1 to {LONGEST_NAME} characters')
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidRequest(f'tensor {_shown(name)}: "parameters" must be an object')
    if "binary_data_size" in parameters or parameters.get("binary_data"):
        raise InvalidRequest(f"tensor {_shown(name)}: binary tensors are not supported, send JSON data")
    return name


def _declared(entry: object) -> Column:
    """Name, datatype and shape of one input; nothing is read from its data."""
    name = _declared_name(entry)
    assert isinstance(entry, dict)
    datatype, shape = entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        hint = ", half precision has no JSON form: send FP32" if datatype in ("FP16", "BF16") else ""
        raise InvalidRequest(f"input {_shown(name)}: datatype {_shown(datatype)} is not one of {DATATYPES}{hint}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= MOST_DIMENSIONS:
        raise InvalidRequest(f"input {_shown(name)}: shape must be a list of 1 to {MOST_DIMENSIONS} numbers")
    if not all(type(size) is int and size > 0 for size in shape):
        raise InvalidRequest(f"input {_shown(name)}: every number of the shape must be a whole number above 0")
    if math.prod(shape) > MOST_ELEMENTS:
        raise InvalidRequest(f"input {_shown(name)}: more than {MOST_ELEMENTS} elements")
    return Column(name, datatype, tuple(shape[1:]))


def _read_array(entry: object, expected: Column | None) -> Array:
    column = _declared(entry)
    datatype = column.datatype
    if expected is not None:
        datatype = _accepted(column, expected)
    assert isinstance(entry, dict)
    flat = _flatten(entry.get("data"), entry["shape"], column.name)
    try:
        array = _convert(flat, datatype)
    except InvalidRequest as wrong:
        raise InvalidRequest(f"input {_shown(column.name)}: {wrong}") from None
    return array.reshape(entry["shape"]) if expected is None else array.reshape((-1, *expected.tail))


def _accepted(given: Column, expected: Column) -> str:
    """The datatype to read the input as: the signature's, where the given one promises no more than that."""
    where = f"input {_shown(given.name)}"
    narrower = expected.datatype in FLOATS and (given.datatype in FLOATS or given.datatype in INTEGERS)
    narrower = narrower or (expected.datatype in INTEGERS and given.datatype in INTEGERS)
    if given.datatype != expected.datatype and not narrower:
        raise InvalidRequest(f"{where}: datatype {given.datatype}, expected {expected.datatype}")
    # A column of n values may be written as [n] or as [n, 1].
    if given.tail != expected.tail and {given.tail, expected.tail} != {(), (1,)}:
        shapes = [", ".join(["rows", *map(str, column.tail)]) for column in (given, expected)]
        raise InvalidRequest(f"{where}: shape [{shapes[0]}], expected [{shapes[1]}]")
    return expected.datatype


def _flatten(data: object, shape: list[int], name: str) -> list[Any]:
    """Row-major elements of ``data``, which is flat already or nested as ``shape`` says."""
    if not isinstance(data, list):
        raise InvalidRequest(f'input {_shown(name)}: "data" must be a list')
    if data and isinstance(data[0], list):
        expected = shape[0]
        for size in shape[1:]:
            if len(data) != expected or not all(isinstance(part, list) and len(part) == size for part in data):
                raise InvalidRequest(f"input {_shown(name)}: the nesting of data differs from shape {shape}")
            data = list(chain.from_iterable(data))
            expected *= size
    if len(data) != math.prod(shape):
        raise InvalidRequest(f"input {_shown(name)}: {len(data)} values, shape {shape} needs {math.prod(shape)}")
    return data


def _convert(flat: list[Any], datatype: str) -> Array:
    """The values as an array of the datatype; each value must be what the datatype says, or null."""
    types = set(map(type, flat))
    has_missing = type(None) in types
    types.discard(type(None))
    if datatype == "BYTES":
        _require(types <= {str}, datatype, flat, (str,))
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        return array
    if datatype == "BOOL":
        _require(types <= {bool}, datatype, flat, (bool,))
        return np.array(flat, dtype=object if has_missing else bool)
    if datatype in INTEGERS:
        _require(types <= {int}, datatype, flat, (int,))
        limits = np.iinfo(INTEGERS[datatype])
        present = [value for value in flat if value is not None] if has_missing else flat
        if present and not (limits.min <= min(present) and max(present) <= limits.max):
            raise InvalidRequest(f"a value is outside of {datatype}")
        return np.array(flat, dtype=np.float64 if has_missing else INTEGERS[datatype])
    _require(types <= {int, float}, datatype, flat, (int, float))
    array = np.array(flat, dtype=np.float64)
    if datatype == "FP32":
        # JSON has no infinity, so that one can only come from a number too large for the narrower type.
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if np.isinf(array).any():
            raise InvalidRequest("a value is outside of FP32")
    return array


def _require(is_right: bool, datatype: str, flat: list[Any], allowed: tuple[type, ...]) -> None:
    if not is_right:
        wrong = next(value for value in flat if value is not None and type(value) not in allowed)
        raise InvalidRequest(f"{_shown(wrong)} is no {datatype}")


def _widened(first: Column, second: Column) -> Column:
    """One column that holds both; golden requests may write 1 as INT64 here and 1.5 as FP64 there."""
    if first == second:
        return first
    numbers = {*INTEGERS, *FLOATS}
    if first.tail != second.tail or not {first.datatype, second.datatype} <= numbers:
        raise InvalidRequest(f"golden requests disagree about input {_shown(first.name)}: {first} and {second}")
    is_whole = {first.datatype, second.datatype} <= INTEGERS.keys()
    return Column(first.name, "INT64" if is_whole else "FP64", first.tail)


def _listed(names: Iterable[str]) -> str:
    shown = [_shown(name) for name in sorted(names)]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")


def _shown(value: object) -> str:
    """A short form for messages. Containers show only their kind: a nested one may be too deep to print."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return repr(value if not isinstance(value, str) or len(value) <= 80 else value[:77] + "...")
