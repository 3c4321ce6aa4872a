"""The store in a SQL database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    bindparam,
    false,
    func,
    insert,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError

from interlock.access.audit import GENESIS, AuditEntry, Deed, chain
from interlock.edges.store.encoding import decode, encode, readable
from interlock.edges.store.notices import SqlNotices
from interlock.edges.store.schema import AUDIT, EVENTS, FACTS, NUMBERS, ROWS, entry_of, event_of, row_of
from interlock.errors import AlreadyExists, StaleWrite
from interlock.vocabulary import Event, Fact, Json, Kind, Row, Write

BESIDE_STATE = [column for column in ROWS.columns if column is not ROWS.c.state]
LOAD = select(ROWS).where(ROWS.c.kind == bindparam("kind"), ROWS.c.key == bindparam("key"))
VERSION = LOAD.with_only_columns(ROWS.c.version)
INSERT = insert(ROWS).returning(*BESIDE_STATE)
UPDATE = (
    update(ROWS)
    .where(ROWS.c.kind == bindparam("of"), ROWS.c.key == bindparam("named"), ROWS.c.version == bindparam("expected"))
    .returning(*BESIDE_STATE)
)
TELL = insert(EVENTS)
"""These and the next are needed for every stage of every run, and so put together once: to do that takes as long as to
execute them."""
KEYS_AT_ONCE = 500
"""Keys that are asked for in one statement."""
RECALL = (
    select(FACTS.c.fact)
    .where(FACTS.c.space == bindparam("space"), FACTS.c.key == bindparam("key"))
    .order_by(FACTS.c.number.desc())
    .limit(bindparam("newest"))
)
LAST = "\U0010ffff"
"""Behind every character that a key holds."""


class SqlStore(SqlNotices):
    """The port ``Store`` on SQLite and on PostgreSQL."""

    def load(self, kind: Kind, key: str) -> Row | None:
        """The row, or None."""
        return self._one(LOAD, kind=kind, key=key)

    def version(self, kind: Kind, key: str) -> int:
        """The version of the row; 0 where there is none."""
        with self._reading() as connection:
            version: int | None = connection.scalar(VERSION, {"kind": kind, "key": key})
        return version or 0

    def find(self, kind: Kind, identity: str) -> Row | None:
        """The row of this identity, or None."""
        return self._one(select(ROWS).where(ROWS.c.kind == kind, ROWS.c.identity == identity))

    def _one(self, query: Select[tuple[object, ...]], **values: str) -> Row | None:
        with self._reading() as connection:
            found = connection.execute(query, values).one_or_none()
            return row_of(found) if found else None

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
        wanted: list[ColumnElement[bool]] = [ROWS.c.kind == kind]
        if prefix:
            wanted += [ROWS.c.key >= prefix, ROWS.c.key <= prefix + LAST]
        if repository is not None:
            wanted.append(ROWS.c.repository == repository)
        if ref is not None:
            wanted.append(ROWS.c.ref == ref)
        if before is not None:
            wanted.append(ROWS.c.place < before)
        order = ROWS.c.place if newest is None else ROWS.c.place.desc()
        if phases is not None:
            wanted = [ROWS.c.place.in_(_places(wanted, phases, order, newest))]
        query = select(ROWS).where(*wanted).order_by(order).limit(newest)
        with self._reading() as connection:
            return [row_of(found) for found in connection.execute(query)]

    def save(self, *writes: Write, audit: Sequence[Deed] = (), facts: Sequence[Fact] = ()) -> tuple[Row, ...]:
        """All or none, each with its event.

        StaleWrite where a version moved; AlreadyExists where an insert collides. A row keeps the identity and the
        labels it was inserted with unless a later write names others.
        """
        encoded = [
            (state, encode(write.observed, _name(write))) for write, state in zip(writes, _states(writes), strict=True)
        ]
        told = [{**fact._asdict(), "fact": encode(fact.fact, f"a fact of {fact.space} {fact.key}")} for fact in facts]
        if not writes and not audit and not facts:
            return ()
        with self._writing() as connection:
            at = self._now()
            saved = tuple(
                _save(connection, write, state, observed, at)
                for write, (state, observed) in zip(writes, encoded, strict=True)
            )
            _append(connection, audit, at)
            if told:
                connection.execute(insert(FACTS), told)
        return saved

    def audit(self, after: int = 0, newest: int | None = None) -> list[AuditEntry]:
        """Entries of the audit log with a number above ``after``, in order; ``newest`` keeps the last so many."""
        query = select(AUDIT).where(AUDIT.c.number > after).order_by(AUDIT.c.number.desc()).limit(newest)
        with self._reading() as connection:
            return [entry_of(found) for found in connection.execute(query)][::-1]

    def number(self, kind: Kind) -> int:
        """The next number of this kind, from 1; never given twice."""
        counting = update(NUMBERS).where(NUMBERS.c.kind == kind).values(last=NUMBERS.c.last + 1)
        with self._writing() as connection:
            last: int | None = connection.scalar(counting.returning(NUMBERS.c.last))
            if last is None:
                last = 1
                connection.execute(insert(NUMBERS).values(kind=kind, last=last))
        return last

    def events(
        self, kind: Kind | None = None, key: str | None = None, after: int = 0, most: int | None = None
    ) -> list[Event]:
        """Events of one row (or of all), in order, with a number above ``after``; the first ``most`` of them."""
        query = select(EVENTS).where(EVENTS.c.number > after).order_by(EVENTS.c.number).limit(most)
        if kind is not None:
            query = query.where(EVENTS.c.kind == kind)
        if key is not None:
            query = query.where(EVENTS.c.key == key)
        with self._reading() as connection:
            return [event_of(found) for found in connection.execute(query)]

    def last_event(self) -> int:
        """The number of the newest event; 0 where there is none."""
        with self._reading() as connection:
            last: int | None = connection.scalar(select(func.max(EVENTS.c.number)))
        return last or 0

    def recall(self, space: str, key: str, newest: int = 20) -> list[Json]:
        """The facts of a key, newest first."""
        with self._reading() as connection:
            found = connection.scalars(RECALL, {"space": space, "key": key, "newest": newest})
            return [decode(text) for text in found]

    def recall_each(self, space: str, keys: Sequence[str], newest: int) -> dict[str, list[Json]]:
        """By key the newest facts of each, newest first."""
        place = func.row_number().over(partition_by=FACTS.c.key, order_by=FACTS.c.number.desc()).label("place")
        found: dict[str, list[Json]] = {}
        with self._reading() as connection:
            for first in range(0, len(keys), KEYS_AT_ONCE):
                wanted = FACTS.c.key.in_(keys[first : first + KEYS_AT_ONCE])
                ranked = select(FACTS.c.key, FACTS.c.fact, place).where(FACTS.c.space == space, wanted).subquery()
                query = select(ranked.c.key, ranked.c.fact).where(ranked.c.place <= newest).order_by(ranked.c.place)
                for key, text in connection.execute(query):
                    found.setdefault(key, []).append(decode(text))
        return found


def _places(
    wanted: Sequence[ColumnElement[bool]], phases: Sequence[str], order: ColumnElement[int], newest: int | None
) -> Select[tuple[int]] | CompoundSelect[tuple[int]]:
    """Where the rows in these phases are, each phase looked for by itself: asked for several at once, SQLite reads
    through all rows in their order, and those that are active are few among many.
    """
    by_phase = [
        select(ROWS.c.place).where(*wanted, ROWS.c.phase == phase).order_by(order).limit(newest).subquery()
        for phase in set(phases)
    ]
    return union_all(*[select(part.c.place) for part in by_phase]) if by_phase else select(ROWS.c.place).where(false())


def _states(writes: Sequence[Write]) -> Iterator[str | None]:
    """The text of each state; None where the same call writes its row again, so that nobody would ever read it."""
    last = {(write.kind, write.key): write for write in writes}
    for write in writes:
        is_read = write.expected == 0 or last[write.kind, write.key] is write
        yield encode(write.state, _name(write)) if is_read else None


def _name(write: Write) -> str:
    return f"{write.kind} {write.key}"


def _save(connection: Connection, write: Write, state: str | None, observed: str, at: float) -> Row:
    values: dict[str, object] = {"phase": write.phase, "version": write.expected + 1, "updated": at}
    named = {"state": state, "identity": write.identity, "repository": write.repository, "ref": write.ref}
    values |= {name: value for name, value in named.items() if value is not None}
    try:
        row = _insert(connection, write, values) if write.expected == 0 else _update(connection, write, values)
    except IntegrityError as problem:
        raise AlreadyExists(f"{_name(write)} exists, by its key or its identity {write.identity}") from problem
    occurred = {"kind": row.kind, "key": row.key, "version": row.version, "phase": row.phase, "at": at}
    connection.execute(TELL, {**occurred, "because": readable(write.because), "observed": observed})
    return row


def _insert(connection: Connection, write: Write, values: dict[str, object]) -> Row:
    named = {"kind": write.kind, "key": write.key, "created": values["updated"]}
    found = connection.execute(INSERT, {**named, **values}).one()
    return row_of(found, write.state)


def _update(connection: Connection, write: Write, values: dict[str, object]) -> Row:
    expected = {"of": write.kind, "named": write.key, "expected": write.expected}
    found = connection.execute(UPDATE, {**expected, **values}).one_or_none()
    if found is None:
        raise StaleWrite(f"{_name(write)} is not at version {write.expected} any more")
    return row_of(found, write.state)


def _append(connection: Connection, deeds: Sequence[Deed], at: float) -> None:
    """Chains the deeds to the last entry, which no other writer can add to meanwhile."""
    if not deeds:
        return
    newest = select(AUDIT.c.number, AUDIT.c.digest).order_by(AUDIT.c.number.desc()).limit(1)
    last, previous = connection.execute(newest).one_or_none() or (0, GENESIS)
    entries = []
    for number, deed in enumerate(deeds, last + 1):
        entry = chain(number, at, deed, previous)
        previous = entry.digest
        entries.append(entry.model_dump() | {"deed": encode(deed.model_dump(mode="json"), f"audit entry {number}")})
    connection.execute(insert(AUDIT), entries)
