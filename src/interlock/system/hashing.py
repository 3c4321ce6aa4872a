"""The BLAKE3 of large files, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable

from blake3 import blake3

PIECE = 4 << 20
"""Bytes that are read at a time: enough to share among cores, little enough to stay near them."""


def hash_file(descriptor: int, between: Callable[[memoryview], object] = lambda _piece: None) -> str:
    """The digits of an open file's digest, from its beginning; ``between`` is given each piece.

    The file is read, not mapped: a mapped file that somebody shortens meanwhile would end this process. Of one that
    grows no more is read than it had.
    """
    content = blake3(max_threads=blake3.AUTO)
    left = os.fstat(descriptor).st_size
    view = memoryview(bytearray(min(PIECE, left)))
    while left and (count := os.readv(descriptor, [view[: min(PIECE, left)]])):
        content.update(view[:count])
        between(view[:count])
        left -= count
    return content.hexdigest()
