"""Bodies of requests: unpacked and parted, within limits; and answers packed where the client takes that.

A compressed body is unpacked no further than a plain one may be long: a bomb costs no more than a large request does.
JSON costs more memory than its text does, most of all empty lists and objects; how many there may be is bounded too.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import orjson

from .tensors import InvalidRequest

LONGEST_BODY = 8 * 1024 * 1024
MOST_CONTAINERS = 1 << 17
SMALLEST_PACKED = 1024
"""Bytes of an answer below which packing it saves nothing."""

NO_BYTES = memoryview(b"")

_WITHOUT_COUNTING = 2 * MOST_CONTAINERS
"""Bytes: a shorter text cannot hold more containers, for each has a beginning and an end."""
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15


class UnreadableBody(ValueError):
    """The body of a request is larger than allowed, torn or packed wrongly. ``status`` is how that is answered."""

    def __init__(self, status: int, because: str) -> None:
        self.status = status
        super().__init__(because)


class Document(NamedTuple):
    """The JSON of a body, and the binary tensors behind it."""

    content: object
    binary: memoryview
    may_hold_booleans: bool


def unpack(body: bytes, encoding: str) -> bytes:
    """The body without its content encodings. UnreadableBody: 400 unknown or torn, 413 over LONGEST_BODY."""
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("", "identity"):
            continue
        if name not in _WINDOWS:
            raise UnreadableBody(400, f"content-encoding {name[:40]!r} is not gzip or deflate")
        body = _inflate(body, _RAW_DEFLATE if name == "deflate" and not _has_zlib_header(body) else _WINDOWS[name])
    return body


def _has_zlib_header(body: bytes) -> bool:
    # RFC 1950: method 8, and the first two bytes a multiple of 31. Some clients leave the header out.
    return len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _inflate(body: bytes, window: int) -> bytes:
    parts, size = [], 0
    while True:
        inflating = zlib.decompressobj(window)
        try:
            part = inflating.decompress(body, LONGEST_BODY + 1 - size)
        except zlib.error as fault:
            raise UnreadableBody(400, f"the body cannot be unpacked: {fault}") from fault
        size += len(part)
        if size > LONGEST_BODY:
            raise UnreadableBody(413, f"the unpacked body is larger than {LONGEST_BODY} bytes")
        if not inflating.eof:
            raise UnreadableBody(400, "the packed body ends too early")
        parts.append(part)
        body = inflating.unused_data
        if not body:
            return b"".join(parts)
        if window != _WINDOWS["gzip"] or len(parts) >= 64:  # only gzip may have several members
            raise UnreadableBody(400, "something follows the packed body")


def part(body: bytes, json_length: str | None) -> Document:
    """The JSON and the binary tensors of a body. ``json_length`` is the header ``Inference-Header-Content-Length``.

    InvalidRequest where the header is no number within the body, or the text is no JSON; UnreadableBody 413 where it
    holds more than MOST_CONTAINERS lists and objects.
    """
    text, binary = body, NO_BYTES
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdigit() and len(json_length) < 12):
            raise InvalidRequest("inference-header-content-length must be a number")
        if (length := int(json_length)) > len(body):
            raise InvalidRequest(f"inference-header-content-length is {length}, the body has {len(body)} bytes")
        text, binary = body[:length], memoryview(body)[length:]
    if len(text) > _WITHOUT_COUNTING and text.count(b"[") + text.count(b"{") > MOST_CONTAINERS:
        raise UnreadableBody(413, f"more than {MOST_CONTAINERS} lists and objects: send data flat, or binary")
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as wrong:
        raise InvalidRequest(str(wrong)) from wrong
    return Document(content, binary, _may_hold_booleans(text))


def _may_hold_booleans(text: bytes) -> bool:
    # To look for one letter is many times faster than to look for a word, and most requests have neither letter.
    return (b"r" in text and b"true" in text) or (b"l" in text and b"false" in text)


def choose_encoding(accepted: str) -> str | None:
    """Gzip or deflate, where the client's ``Accept-Encoding`` names one that it does not forbid."""
    offers = {}
    for offer in accepted.lower().split(","):
        name, _, quality = offer.partition(";")
        offers[name.strip()] = quality.replace(" ", "")
    return next((name for name in ("gzip", "deflate") if offers.get(name, "q=0") not in ("q=0", "q=0.0")), None)


def pack(body: bytes, encoding: str) -> bytes:
    """The body in that encoding, quickly rather than tightly."""
    packing = zlib.compressobj(1, zlib.DEFLATED, _WINDOWS[encoding])
    return packing.compress(body) + packing.flush()
