"""Requests of the V2 inference protocol, checked before anything is allocated for them.

Rules: open inference protocol (REST) with its binary tensor data, and with ``null`` allowed in ``data`` for a missing
value.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .protocol.bodies import NO_BYTES
from .protocol.tensors import (
    DATATYPES,
    FLOATS,
    HALVES,
    INTEGERS,
    WRONG_NUMBERS,
    Array,
    InvalidRequest,
    from_bytes,
    from_numbers,
    from_values,
    narrow,
    shown,
)

__all__ = ["Array", "Batch", "Column", "InvalidRequest", "Signature", "names_of", "read_id"]

MOST_INPUTS = 4096
MOST_DIMENSIONS = 8
MOST_ELEMENTS = 1 << 23
LONGEST_NAME = 256
NO_DEFAULTS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True)
class Column:
    """One named input: its datatype, and its shape without the number of rows."""

    name: str
    datatype: str
    tail: tuple[int, ...] = ()


class Batch(NamedTuple):
    """What one request asks: ``arrays`` by input name, each of shape (rows, ...); ``wanted`` outputs (None: all)."""

    rows: int
    arrays: dict[str, Array]
    wanted: frozenset[str] | None


class Signature:
    """Which inputs a model takes, in order. Without columns nothing is known, and any inputs are read.

    ``defaults``: the inputs that a request may leave out, and the value that each row has then (None: a missing value).
    InvalidRequest where that is no value of the input's.
    """

    def __init__(self, columns: Iterable[Column] = (), defaults: Mapping[str, object] = NO_DEFAULTS) -> None:
        self.columns = {column.name: column for column in columns}
        self._defaults = {
            name: _default(column, defaults[name]) for name, column in self.columns.items() if name in defaults
        }
        self._plain = [
            (column.name, column.datatype, math.prod(column.tail), list(column.tail), (-1, *column.tail))
            for column in self.columns.values()
            if column.datatype in FLOATS or column.datatype in INTEGERS
        ]

    @classmethod
    def from_golden(cls, requests: Sequence[object], optional: Collection[str] = ()) -> Signature:
        """The signature that all golden requests share; InvalidRequest where they have none in common.

        ``optional`` are the inputs that some of them may leave out.
        """
        merged: dict[str, Column] = {}
        for number, request in enumerate(requests):
            columns = {column.name: column for column in map(_declared, _entries(request))}
            other = (columns.keys() ^ merged.keys()) - set(optional)
            if number and other:
                raise InvalidRequest(f"golden request {number} has other inputs: {_listed(other)}")
            merged |= {name: _widened(merged.get(name, column), column) for name, column in columns.items()}
        return cls(merged.values())

    def read(self, content: object, binary: memoryview = NO_BYTES, *, may_hold_booleans: bool = True) -> Batch:
        """The request's arrays in the order of the signature. InvalidRequest names what is wrong.

        ``binary`` is what follows the JSON, the binary tensors in the order of their inputs. ``may_hold_booleans`` is
        explained at ``tensors.from_values``.
        """
        if (batch := self._read_plainly(content, binary, may_hold_booleans)) is not None:
            return batch
        given: dict[str, tuple[Any, memoryview | None]] = {}
        place = 0
        for entry in _entries(content):
            name = _declared_name(entry)
            if name in given:
                raise InvalidRequest(f"input {shown(name)} is given twice")
            size = _binary_size(entry, name)
            if size is None:
                given[name] = entry, None
            else:
                if size > len(binary) - place:
                    raise InvalidRequest(f"input {shown(name)}: its {size} bytes end after the body does")
                given[name] = entry, binary[place : place + size]
                place += size
        if place != len(binary):
            raise InvalidRequest(f"{len(binary) - place} bytes of the body belong to no input")
        columns = self.columns
        missing = columns.keys() - given.keys()
        if missing and (missing == columns.keys() or not missing <= self._defaults.keys()):
            raise InvalidRequest(f"missing inputs: {_listed(missing - self._defaults.keys() or missing)}")
        arrays = {
            name: _read_array(name, *given[name], columns.get(name), may_hold_booleans)
            for name in columns or given
            if name in given
        }
        sizes = {len(array) for array in arrays.values()}
        if len(sizes) != 1:
            raise InvalidRequest(f"the inputs have different numbers of rows: {sorted(sizes)}")
        rows = sizes.pop()
        if missing:
            arrays = {name: arrays[name] if name in arrays else self._left_out(name, rows) for name in columns}
        return Batch(rows, arrays, _read_wanted(content))

    def _left_out(self, name: str, rows: int) -> Array:
        """What stands for an input that a request has not."""
        return np.full((rows, *self.columns[name].tail), self._defaults[name])

    def _read_plainly(self, content: Any, binary: memoryview, may_hold_booleans: bool) -> Batch | None:
        """A request of numbers that is just as the signature says; None for every other one.

        Most requests are such, and to look at all that could be wrong takes several times as long.
        """
        arrays: dict[str, Array] = {}
        place = 0
        try:
            entries = content["inputs"]
            if not entries or len(entries) != len(self._plain) or len(self._plain) != len(self.columns):
                return None
            rows = entries[0]["shape"][0]
            if type(rows) is not int or rows <= 0:
                return None
            for entry, (name, datatype, width, tail, shape) in zip(entries, self._plain, strict=True):
                if entry["name"] != name or entry["datatype"] != datatype or entry["shape"] != [rows, *tail]:
                    return None
                if "parameters" in entry:
                    size = entry["parameters"]["binary_data_size"]
                    if type(size) is not int or size <= 0 or len(entry["parameters"]) > 1 or "data" in entry:
                        return None
                    arrays[name] = from_bytes(binary[place : place + size], datatype, rows * width).reshape(shape)
                    place += size
                elif not may_hold_booleans and len(entry["data"]) == rows * width:
                    arrays[name] = from_numbers(entry["data"], datatype).reshape(shape)
                else:
                    return None
            return Batch(rows, arrays, _read_wanted(content)) if place == len(binary) else None
        except (LookupError, TypeError, ValueError, *WRONG_NUMBERS):
            return None

    def metadata(self) -> list[dict[str, object]]:
        """The inputs as the protocol's model metadata shows them; -1 is any number of rows."""
        return [
            {"name": column.name, "datatype": column.datatype, "shape": [-1, *column.tail]}
            for column in self.columns.values()
        ]


def names_of(requests: Iterable[object]) -> set[str]:
    """The inputs that any of the requests has; InvalidRequest where one is none of the protocol."""
    return {_declared_name(entry) for request in requests for entry in _entries(request)}


def read_id(content: object) -> str | None:
    """The request's own id, None where it has none. InvalidRequest where it is no short text."""
    identity = content.get("id") if isinstance(content, dict) else None
    if identity is None or (isinstance(identity, str) and 0 < len(identity) <= LONGEST_NAME):
        return identity
    raise InvalidRequest(f'"id" must be a text of 1 to {LONGEST_NAME} characters')


def _default(column: Column, value: object) -> Array:
    try:
        return from_values([value], column.datatype)
    except InvalidRequest as wrong:
        raise InvalidRequest(f"the default of input {shown(column.name)}: {wrong}") from None


def _entries(content: object) -> list[object]:
    if not isinstance(content, dict):
        raise InvalidRequest("the request is not a JSON object")
    entries = content.get("inputs")
    if not isinstance(entries, list) or not entries:
        raise InvalidRequest('"inputs" must be a list of at least one tensor')
    if len(entries) > MOST_INPUTS:
        raise InvalidRequest(f"more than {MOST_INPUTS} inputs")
    return entries


def _read_wanted(content: Any) -> frozenset[str] | None:
    outputs = content.get("outputs")
    if outputs is None or outputs == []:
        return None
    if not isinstance(outputs, list) or len(outputs) > MOST_INPUTS:
        raise InvalidRequest('"outputs" must be a list')
    return frozenset(map(_declared_name, outputs))


def _declared_name(entry: Any) -> str:
    if not isinstance(entry, dict):
        raise InvalidRequest("a tensor is not a JSON object")
    name = entry.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise InvalidRequest(f'a tensor needs a "name" of 1 to {LONGEST_NAME} characters')
    parameters = entry.get("parameters")
    if parameters is not None:
        if not isinstance(parameters, dict):
            raise InvalidRequest(f'tensor {shown(name)}: "parameters" must be an object')
        if any(key.startswith("shared_memory") for key in parameters):
            raise InvalidRequest(f"tensor {shown(name)}: shared memory is not supported, send the data")
    return name


def _binary_size(entry: Any, name: str) -> int | None:
    """How many bytes of the body are the input's data; None where it has none there."""
    parameters = entry.get("parameters")
    if not parameters or "binary_data_size" not in parameters:
        return None
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise InvalidRequest(f"input {shown(name)}: binary_data_size must be a whole number, 0 or more")
    if entry.get("data") is not None:
        raise InvalidRequest(f"input {shown(name)} has data in the JSON and binary data")
    return size


def _declared(entry: object) -> Column:
    """Name, datatype and shape of one input; nothing is read from its data."""
    name = _declared_name(entry)
    assert isinstance(entry, dict)
    _check_declaration(name, entry, DATATYPES)
    return Column(name, entry["datatype"], tuple(entry["shape"][1:]))


def _check_declaration(name: str, entry: Mapping[str, Any], allowed: tuple[str, ...]) -> int:
    """How many elements the input says it has."""
    datatype, shape = entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str) or datatype not in allowed:
        hint = ", half precision has no JSON form: send FP32, or binary data" if datatype in HALVES else ""
        raise InvalidRequest(f"input {shown(name)}: datatype {shown(datatype)} is not one of {allowed}{hint}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= MOST_DIMENSIONS:
        raise InvalidRequest(f"input {shown(name)}: shape must be a list of 1 to {MOST_DIMENSIONS} numbers")
    for size in shape:
        if type(size) is not int or size <= 0:
            raise InvalidRequest(f"input {shown(name)}: every number of the shape must be a whole number above 0")
    count = math.prod(shape)
    if count > MOST_ELEMENTS:
        raise InvalidRequest(f"input {shown(name)}: more than {MOST_ELEMENTS} elements")
    return count


def _read_array(
    name: str, entry: Any, raw: memoryview | None, expected: Column | None, may_hold_booleans: bool
) -> Array:
    count = _check_declaration(name, entry, DATATYPES if raw is None else (*DATATYPES, *HALVES))
    shape, datatype = entry["shape"], entry["datatype"]
    if expected is not None and (datatype != expected.datatype or tuple(shape[1:]) != expected.tail):
        _require_fitting(name, datatype, tuple(shape[1:]), expected)
    try:
        if raw is not None:
            array = from_bytes(raw, datatype, count)
            if expected is not None and datatype != expected.datatype:
                array = narrow(array, expected.datatype)
        else:
            flat = _flatten(entry.get("data"), shape, count)
            array = from_values(
                flat, datatype if expected is None else expected.datatype, may_hold_booleans=may_hold_booleans
            )
    except InvalidRequest as wrong:
        raise InvalidRequest(f"input {shown(name)}: {wrong}") from None
    return array.reshape(shape if expected is None else (-1, *expected.tail))


def _require_fitting(name: str, datatype: str, tail: tuple[int, ...], expected: Column) -> None:
    """The signature's datatype and shape, or a datatype that promises no more than that."""
    numbers = datatype in INTEGERS or (expected.datatype in FLOATS and (datatype in FLOATS or datatype in HALVES))
    is_narrower = numbers and (expected.datatype in FLOATS or expected.datatype in INTEGERS)
    if datatype != expected.datatype and not is_narrower:
        raise InvalidRequest(f"input {shown(name)}: datatype {datatype}, expected {expected.datatype}")
    # A column of n values may be written as [n] or as [n, 1].
    if tail != expected.tail and {tail, expected.tail} != {(), (1,)}:
        shapes = [", ".join(["rows", *map(str, sizes)]) for sizes in (tail, expected.tail)]
        raise InvalidRequest(f"input {shown(name)}: shape [{shapes[0]}], expected [{shapes[1]}]")


def _flatten(data: object, shape: list[int], count: int) -> list[Any]:
    """Row-major elements of ``data``, which is flat already or nested as ``shape`` says."""
    if not isinstance(data, list):
        raise InvalidRequest('"data" must be a list')
    if data and isinstance(data[0], list):
        expected = shape[0]
        for size in shape[1:]:
            if len(data) != expected or not all(isinstance(part, list) and len(part) == size for part in data):
                raise InvalidRequest(f"the nesting of data differs from shape {shape}")
            data = list(chain.from_iterable(data))
            expected *= size
    if len(data) != count:
        raise InvalidRequest(f"{len(data)} values, shape {shape} needs {count}")
    return data


def _widened(first: Column, second: Column) -> Column:
    """One column that holds both; golden requests may write 1 as INT64 here and 1.5 as FP64 there."""
    if first == second:
        return first
    numbers = {*INTEGERS, *FLOATS}
    if first.tail != second.tail or not {first.datatype, second.datatype} <= numbers:
        raise InvalidRequest(f"golden requests disagree about input {shown(first.name)}: {first} and {second}")
    is_whole = {first.datatype, second.datatype} <= INTEGERS.keys()
    return Column(first.name, "INT64" if is_whole else "FP64", first.tail)


def _listed(names: Iterable[str]) -> str:
    listed = [shown(name) for name in sorted(names)]
    return ", ".join(listed[:10]) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
