"""Tensors as the protocol writes them, JSON and binary, and the arrays that they are.

A missing number is NaN (a column of integers with a missing value is FP64, as in a CSV file), a missing text or boolean
is None; only JSON can say so. Binary is little-endian and row-major, a text is its length in four bytes and then its
UTF-8 (open inference protocol, binary tensor data extension). Nothing is allocated before the length was found right.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

INTEGERS: Mapping[str, np.dtype[Any]] = {
    f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)
}
FLOATS: Mapping[str, np.dtype[Any]] = {"FP32": np.dtype(np.float32), "FP64": np.dtype(np.float64)}
HALVES = ("FP16", "BF16")
"""Two bytes a number, and only in binary; what is read is FP32, which holds every one of them."""
DATATYPES = (*INTEGERS, *FLOATS, "BOOL", "BYTES")

_DTYPES: Mapping[str, np.dtype[Any]] = {**INTEGERS, **FLOATS}
_NAMES: Mapping[np.dtype[Any], str] = {
    **{dtype: name for name, dtype in _DTYPES.items()},
    np.dtype(bool): "BOOL",
}
_WIDTHS = {**{name: dtype.itemsize for name, dtype in _DTYPES.items()}, "BOOL": 1, "FP16": 2, "BF16": 2}
_CODES = dict(zip(_DTYPES, "bhiqBHIQfd", strict=True))
_LENGTH = struct.Struct("<I")
_MOST_EXACT = 1 << 53
"""Up to here a number with fractions says every whole one."""

WRONG_NUMBERS = (struct.error, OverflowError)
"""What ``struct`` says of values that are not those of a datatype."""


class InvalidRequest(ValueError):
    """The client's request is wrong; the text tells how."""


def describe(found: Array) -> str:
    """The protocol's datatype of an output."""
    return _NAMES.get(found.dtype, "BYTES")


def from_values(flat: list[Any], datatype: str, *, may_hold_booleans: bool = True) -> Array:
    """The JSON values as an array; each must be what the datatype says, or null.

    ``may_hold_booleans`` is False where the text is known to hold none: then a number needs no look of ours, for
    the standard library's ``struct`` takes no text and no null for a number, and of a whole number no fraction.
    """
    if not may_hold_booleans and datatype in _DTYPES:
        with contextlib.suppress(*WRONG_NUMBERS):  # null, or what is wrong
            return from_numbers(flat, datatype)
    return _from_checked(flat, datatype)


def from_numbers(flat: list[Any], datatype: str) -> Array:
    """Values among which no boolean is, as an array of numbers.

    WRONG_NUMBERS where one is no number, no whole one where it should be, or outside of the datatype.
    """
    packed = np.empty(len(flat), _DTYPES[datatype])
    # Without "=" it would make infinity of what is outside of FP32.
    struct.pack_into(f"={len(flat)}{_CODES[datatype]}", packed.data, 0, *flat)
    return packed


def _from_checked(flat: list[Any], datatype: str) -> Array:
    types = set(map(type, flat))
    has_missing = type(None) in types
    types.discard(type(None))
    if datatype == "BYTES":
        _require(types <= {str}, datatype, flat, (str,))
        texts = np.empty(len(flat), dtype=object)
        texts[:] = flat
        return texts
    if datatype == "BOOL":
        _require(types <= {bool}, datatype, flat, (bool,))
        return np.array(flat, dtype=object if has_missing else bool)
    if datatype in INTEGERS:
        if float in types:
            flat = [_whole(value) for value in flat]
            types = set(map(type, flat)) - {type(None)}
        _require(types <= {int}, datatype, flat, (int,))
        limits = np.iinfo(INTEGERS[datatype])
        present = [value for value in flat if value is not None] if has_missing else flat
        if present and not (limits.min <= min(present) and max(present) <= limits.max):
            raise InvalidRequest(f"a value is outside of {datatype}")
        return np.array(flat, dtype=np.float64 if has_missing else INTEGERS[datatype])
    _require(types <= {int, float}, datatype, flat, (int, float))
    return narrow(np.array(flat, dtype=np.float64), datatype) if datatype == "FP32" else np.array(flat, np.float64)


def _whole(value: Any) -> Any:
    """20.0 is the whole number 20: so do clients write it whose numbers are all of one kind."""
    return int(value) if type(value) is float and value.is_integer() and abs(value) <= _MOST_EXACT else value


def from_bytes(content: memoryview, datatype: str, count: int) -> Array:
    """``count`` elements of a binary tensor, as an array of its own. InvalidRequest where the bytes are not those."""
    if datatype == "BYTES":
        return _read_texts(content, count)
    if len(content) != count * _WIDTHS[datatype]:
        raise InvalidRequest(f"{len(content)} bytes, {count} values of {datatype} have {count * _WIDTHS[datatype]}")
    if datatype == "BOOL":
        octets = np.frombuffer(content, np.uint8)
        if count and octets.max() > 1:
            raise InvalidRequest("a boolean is a byte 0 or 1")
        return octets.astype(bool)
    if datatype == "FP16":
        return np.frombuffer(content, "<f2").astype(np.float32)
    if datatype == "BF16":
        # The upper half of an FP32.
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, _DTYPES[datatype].newbyteorder("<")).astype(_DTYPES[datatype])


def _read_texts(content: memoryview, count: int) -> Array:
    if len(content) < 4 * count:
        raise InvalidRequest(f"{len(content)} bytes are too few for {count} texts")
    texts = np.empty(count, dtype=object)
    place = 0
    for number in range(count):
        start = place + 4
        end = start + _LENGTH.unpack_from(content, place)[0] if start <= len(content) else start
        if end > len(content):
            raise InvalidRequest(f"text {number} ends after the tensor does")
        try:
            texts[number] = str(content[start:end], "utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest(f"text {number} is not UTF-8") from None
        place = end
    if place != len(content):
        raise InvalidRequest(f"{len(content) - place} bytes follow the last of {count} texts")
    return texts


def to_bytes(found: Array) -> bytes:
    """The array as a binary tensor. Of texts, each is its length in four bytes and its UTF-8."""
    if found.dtype != object:
        return found.astype(found.dtype.newbyteorder("<"), copy=False).tobytes()
    encoded = [str(value).encode() for value in found.ravel().tolist()]
    return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))


def narrow(found: Array, datatype: str) -> Array:
    """Numbers as the datatype that a signature expects. InvalidRequest where one is outside of it."""
    wanted = _DTYPES[datatype]
    if found.dtype == wanted:
        return found
    if datatype in INTEGERS:
        limits = np.iinfo(wanted)
        if found.size and not (limits.min <= int(found.min()) and int(found.max()) <= limits.max):
            raise InvalidRequest(f"a value is outside of {datatype}")
        return found.astype(wanted)
    with np.errstate(over="ignore"):
        narrowed = found.astype(wanted)
    if np.isinf(narrowed).sum() > (np.isinf(found).sum() if found.dtype.kind == "f" else 0):
        raise InvalidRequest(f"a value is outside of {datatype}")
    return narrowed


def is_extreme(found: Array) -> bool:
    """Whether it holds what many a model refuses: a missing or infinite value, or one outside of FP32."""
    if found.dtype == object:
        return any(value is None for value in found.ravel().tolist())
    largest = float(np.finfo(np.float32).max)
    return found.dtype.kind == "f" and not bool((np.abs(found) <= largest).all())


def _require(is_right: bool, datatype: str, flat: list[Any], allowed: tuple[type, ...]) -> None:
    if not is_right:
        wrong = next(value for value in flat if value is not None and type(value) not in allowed)
        raise InvalidRequest(f"{shown(wrong)} is no {datatype}")


def shown(value: object) -> str:
    """A short form for messages. Containers show only their kind: a nested one may be too deep to print."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return repr(value if not isinstance(value, str) or len(value) <= 80 else value[:77] + "...")
