"""The store in memory: the fake, for tests of what stands above it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from interlock.edges.store.encoding import decode, decode_object, encode
from interlock.errors import AlreadyExists, StaleWrite
from interlock.vocabulary import Event, Json, Kind, Row, Write

Rows = dict[tuple[Kind, str], Row]


class MemoryStore:
    """The port ``Store`` in a dictionary; it ends with its process."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._turn = threading.Lock()
        self._rows: Rows = {}
        self._events: list[Event] = []
        self._numbers: dict[Kind, int] = defaultdict(int)
        self._facts: dict[tuple[str, str], list[str]] = defaultdict(list)

    def load(self, kind: Kind, key: str) -> Row | None:
        """The row, or None."""
        with self._turn:
            return _copy(self._rows.get((kind, key)))

    def find(self, kind: Kind, identity: str) -> Row | None:
        """The row of this identity, or None."""
        with self._turn:
            return _copy(_of_identity(self._rows, kind, identity))

    def rows(
        self, kind: Kind, *, phases: Sequence[str] | None = None, prefix: str | None = None, newest: int | None = None
    ) -> list[Row]:
        """Rows in order of creation; with ``newest`` the last so many, newest first."""
        with self._turn:
            found = [row for row in self._rows.values() if row.kind == kind and row.key.startswith(prefix or "")]
            chosen = [row.model_copy(deep=True) for row in found if phases is None or row.phase in phases]
        return chosen if newest is None else chosen[::-1][:newest]

    def save(self, *writes: Write) -> tuple[Row, ...]:
        """All or none. StaleWrite where a version moved; AlreadyExists where an insert collides."""
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
            self._rows = rows
            self._events += events
        return tuple(saved)

    def number(self, kind: Kind) -> int:
        """The next number of this kind, from 1; never given twice."""
        with self._turn:
            self._numbers[kind] += 1
            return self._numbers[kind]

    def events(self, kind: Kind | None = None, key: str | None = None, after: int = 0) -> list[Event]:
        """Events of one row (or of all), in order, with a number above ``after``."""
        with self._turn:
            return [
                event.model_copy(deep=True)
                for event in self._events[max(after, 0) :]
                if kind in (None, event.kind) and key in (None, event.key)
            ]

    def remember(self, space: str, key: str, fact: Json) -> None:
        """Appends a fact."""
        text = encode(fact, f"a fact of {space} {key}")
        with self._turn:
            self._facts[space, key].append(text)

    def recall(self, space: str, key: str, newest: int = 20) -> list[Json]:
        """The facts of a key, newest first."""
        with self._turn:
            return [decode(text) for text in self._facts[space, key][::-1][:newest]]


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
    return Row(
        kind=write.kind,
        key=write.key,
        version=write.expected + 1,
        phase=write.phase,
        state=decode_object(encode(write.state, name)),
        identity=write.identity if write.identity is not None or before is None else before.identity,
        created=before.created if before else at,
        updated=at,
    )


def _event(number: int, row: Row, write: Write) -> Event:
    observed = decode_object(encode(write.observed, f"{write.kind} {write.key}"))
    return Event(
        number=number,
        kind=row.kind,
        key=row.key,
        version=row.version,
        phase=row.phase,
        at=row.updated,
        because=write.because,
        observed=observed,
    )
