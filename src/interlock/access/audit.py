"""The audit log: what people and programs did, each entry chained to the one before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from blake3 import blake3

from interlock.vocabulary import Json, Stored, canonical

GENESIS = "0" * 64
"""What the first entry is chained to."""
HEAD = re.compile(r"(?P<number>[1-9][0-9]{0,17}):[0-9a-f]{64}")


class Deed(Stored):
    """Something that was done or refused: who, what (``release``, ``login refused``), to what, and its particulars."""

    who: str
    action: str
    thing: str
    detail: dict[str, Json] = {}


class AuditEntry(Stored):
    """One line of the log. ``digest`` is over ``previous`` and everything else of the entry."""

    number: int
    at: float
    deed: Deed
    previous: str
    digest: str


def chain(number: int, at: float, deed: Deed, previous: str) -> AuditEntry:
    """The next entry after the one whose digest is ``previous``."""
    content = canonical([number, at, deed.model_dump(mode="json"), previous])
    return AuditEntry(number=number, at=at, deed=deed, previous=previous, digest=blake3(content).hexdigest())


def first_break(entries: Iterable[AuditEntry], previous: str = GENESIS) -> str | None:
    """What is wrong with the first entry that does not follow from the one before it; None where all do."""
    expected = 1
    for entry in entries:
        if entry.number != expected:
            return f"entry {expected} is missing: {entry.number} follows {expected - 1}"
        if entry.previous != previous:
            return f"entry {entry.number} does not follow entry {expected - 1}: one of them was changed or replaced"
        if entry != chain(entry.number, entry.at, entry.deed, previous):
            return f"entry {entry.number} was changed after it was written"
        previous, expected = entry.digest, expected + 1
    return None


def head_of(entry: AuditEntry) -> str:
    """``number:digest`` of an entry. Kept elsewhere it stands for the whole log up to there."""
    return f"{entry.number}:{entry.digest}"


def lacks(entries: Sequence[AuditEntry], head: str) -> str | None:
    """Why a whole chain of entries is not a continuation of the log that had this head; None where it is."""
    found = HEAD.fullmatch(head)
    if found is None:
        return f"{head!r} is no head of a log: it is NUMBER:DIGEST"
    number = int(found["number"])
    if len(entries) < number:
        return f"the log ends at entry {len(entries)}, but it had {number} entries: its end was cut off"
    if head_of(entries[number - 1]) != head:
        return f"entry {number} is not the one that the log had: it was written anew from there or before"
    return None
