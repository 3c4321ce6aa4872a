"""How a listing becomes a fingerprint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from blake3 import blake3

from interlock.errors import WatchFault
from interlock.vocabulary import canonical

MOST = 500_000
"""Files that are looked at in one place."""


class Entry(NamedTuple):
    """One file or object: its name below the place, its bytes, and what changes with its content."""

    name: str
    size: int
    mark: str


def fingerprint_of(location: str, entries: Iterable[Entry]) -> str:
    """The digest of a listing, whatever its order.

    WatchFault where there is nothing, so that data that is gone for a moment is no new data, and for more than half a
    million files.
    """
    lines: list[bytes] = []
    for entry in entries:
        lines.append(canonical(list(entry)) + b"\n")
        if len(lines) > MOST:
            raise WatchFault(f"{location}: there are more than {MOST} files; name a place further down")
    if not lines:
        raise WatchFault(f"{location}: there is nothing; create it, or correct the address")
    return "blake3:" + blake3(b"".join(sorted(lines))).hexdigest()
