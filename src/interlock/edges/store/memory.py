"""The store in memory: the fake, for tests of what stands above it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from interlock.access.audit import GENESIS, AuditEntry, Deed, chain
from interlock.edges.store.encoding import decode, decode_object, encode, readable
from interlock.errors import AlreadyExists, StaleWrite, StoreFault
from interlock.source.notice import Notice
from interlock.vocabulary import Event, Fact, Json, Kind, Row, Write

Rows = dict[tuple[Kind, str], Row]


class MemoryNotices:
    """The part of the store that keeps notices."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._turn = threading.Lock()
        self._notices: dict[int, tuple[float, Notice]] = {}
        self._settled: dict[int, float] = {}
        self._noted = 0

    def note(self, *notices: Notice) -> None:
        """Keeps notices."""
        with self._turn:
            at = self._now()
            for notice in notices:
                self._noted += 1
                self._notices[self._noted] = at, notice

    def pending(self, most: int) -> list[tuple[int, Notice]]:
        """The oldest notices that are not settled, each with its number."""
        with self._turn:
            return [(number, notice) for number, (_, notice) in self._notices.items()][:most]

    def settle(self, numbers: Sequence[int]) -> None:
        """These notices have been looked into."""
        with self._turn:
            for number in self._notices.keys() & set(numbers):
                self._settled[number], _ = self._notices.pop(number)

    def forget_notices(self, before: float) -> int:
        """Removes settled notices that came before this moment; how many."""
        with self._turn:
            old = [number for number, at in self._settled.items() if at < before]
            for number in old:
                del self._settled[number]
            return len(old)


class MemoryStore(MemoryNotices):
    """The port ``Store`` in a dictionary; it ends with its process."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        super().__init__(now)
        self._rows: Rows = {}
        self._events: list[Event] = []
        self._entries: list[AuditEntry] = []
        self._numbers: dict[Kind, int] = defaultdict(int)
        self._facts: dict[tuple[str, str], list[str]] = defaultdict(list)

    def load(self, kind: Kind, key: str) -> Row | None:
        """The row, or None."""
        with self._turn:
            return _copy(self._rows.get((kind, key)))

    def version(self, kind: Kind, key: str) -> int:
        """The version of the row; 0 where there is none."""
        with self._turn:
            row = self._rows.get((kind, key))
            return row.version if row else 0

    def find(self, kind: Kind, identity: str) -> Row | None:
        """The row of this identity, or None."""
        with self._turn:
            return _copy(_of_identity(self._rows, kind, identity))

    def rows(
        self,
        kind: Kind,
        *,
        phases: Sequence[str] | None = None,
        prefix: str | None = None,
        repository: str | None = None,
        ref: str | None = None,
        newest: int | None = None,
        before: int | None = None,
    ) -> list[Row]:
        """Rows in order of creation; with ``newest`` the last so many, newest first."""
        with self._turn:
            chosen = [
                row.model_copy(deep=True)
                for row in self._rows.values()
                if row.kind == kind
                and row.key.startswith(prefix or "")
                and (phases is None or row.phase in phases)
                and repository in (None, row.repository)
                and ref in (None, row.ref)
                and (before is None or row.place < before)
            ]
        return chosen if newest is None else chosen[::-1][:newest]

    def save(self, *writes: Write, audit: Sequence[Deed] = (), facts: Sequence[Fact] = ()) -> tuple[Row, ...]:
        """All or none. StaleWrite where a version moved; AlreadyExists where an insert collides."""
        told = [(fact.space, fact.key, encode(fact.fact, f"a fact of {fact.space} {fact.key}")) for fact in facts]
        with self._turn:
            at = self._now()
            rows = dict(self._rows)
            events: list[Event] = []
            saved: list[Row] = []
            for write in writes:
                row = _next(rows, write, at)
                rows[row.kind, row.key] = row
                events.append(_event(len(self._events) + len(events) + 1, row, write))
                saved.append(row.model_copy(deep=True))
            entries = _chained(self._entries, audit, at)
            self._rows = rows
            self._events += events
            self._entries = entries
            for space, key, text in told:
                self._facts[space, key].append(text)
        return tuple(saved)

    def audit(self, after: int = 0, newest: int | None = None) -> list[AuditEntry]:
        """Entries of the audit log with a number above ``after``, in order; ``newest`` keeps the last so many."""
        with self._turn:
            found = [entry.model_copy(deep=True) for entry in self._entries[max(after, 0) :]]
        return found if newest is None else found[max(len(found) - newest, 0) :]

    def number(self, kind: Kind) -> int:
        """The next number of this kind, from 1; never given twice."""
        with self._turn:
            self._numbers[kind] += 1
            return self._numbers[kind]

    def events(
        self, kind: Kind | None = None, key: str | None = None, after: int = 0, most: int | None = None
    ) -> list[Event]:
        """Events of one row (or of all), in order, with a number above ``after``; the first ``most`` of them."""
        with self._turn:
            found = [
                event.model_copy(deep=True)
                for event in self._events[max(after, 0) :]
                if kind in (None, event.kind) and key in (None, event.key)
            ]
        return found[:most]

    def last_event(self) -> int:
        """The number of the newest event; 0 where there is none."""
        with self._turn:
            return len(self._events)

    def recall(self, space: str, key: str, newest: int = 20) -> list[Json]:
        """The facts of a key, newest first."""
        with self._turn:
            return [decode(text) for text in self._facts[space, key][::-1][:newest]]

    def recall_each(self, space: str, keys: Sequence[str], newest: int) -> dict[str, list[Json]]:
        """By key the newest facts of each, newest first."""
        found = {key: self.recall(space, key, newest) for key in keys}
        return {key: facts for key, facts in found.items() if facts}


def _copy(row: Row | None) -> Row | None:
    return row.model_copy(deep=True) if row else None


def _of_identity(rows: Rows, kind: Kind, identity: str) -> Row | None:
    return next((row for row in rows.values() if row.kind == kind and row.identity == identity), None)


def _next(rows: Rows, write: Write, at: float) -> Row:
    name = f"{write.kind} {write.key}"
    before = rows.get((write.kind, write.key))
    if write.expected == 0 and before is not None:
        raise AlreadyExists(f"{name} exists")
    if write.expected != 0 and (before is None or before.version != write.expected):
        raise StaleWrite(f"{name} is not at version {write.expected} any more")
    if write.identity is not None and _of_identity(rows, write.kind, write.identity) not in (None, before):
        raise AlreadyExists(f"another {write.kind} has the identity {write.identity}")
    row = Row(
        kind=write.kind,
        key=write.key,
        version=write.expected + 1,
        phase=write.phase,
        state=decode_object(encode(write.state, name)),
        place=before.place if before else len(rows) + 1,
        created=before.created if before else at,
        updated=at,
    )
    labels = {"identity": write.identity, "repository": write.repository, "ref": write.ref}
    kept = before.model_dump(include=set(labels)) if before else {}
    return row.model_copy(update=kept | {name: label for name, label in labels.items() if label is not None})


def _event(number: int, row: Row, write: Write) -> Event:
    observed = decode_object(encode(write.observed, f"{write.kind} {write.key}"))
    return Event(
        number=number,
        kind=row.kind,
        key=row.key,
        version=row.version,
        phase=row.phase,
        at=row.updated,
        because=readable(write.because),
        observed=observed,
    )


def _chained(entries: list[AuditEntry], deeds: Sequence[Deed], at: float) -> list[AuditEntry]:
    chained = list(entries)
    try:
        for deed in deeds:
            previous = chained[-1].digest if chained else GENESIS
            chained.append(chain(len(chained) + 1, at, deed.model_copy(deep=True), previous))
    except ValueError as problem:
        raise StoreFault(f"this cannot be stored as JSON: {problem}") from problem
    return chained
