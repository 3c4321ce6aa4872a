"""The store in a SQL database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from interlock.access.audit import GENESIS, AuditEntry, Deed, chain
from interlock.edges.store.encoding import decode, encode, readable
from interlock.edges.store.notices import SqlNotices
from interlock.edges.store.values import Collision, Connection, entry_of, event_of, row_of
from interlock.errors import AlreadyExists, StaleWrite
from interlock.vocabulary import Event, Fact, Json, Kind, Row, Write

BESIDE_STATE = 'kind, "key", version, phase, identity, place, repository, ref, created, updated'
LOAD = f'SELECT {BESIDE_STATE}, state FROM rows WHERE kind = :kind AND "key" = :key'
FIND = f"SELECT {BESIDE_STATE}, state FROM rows WHERE kind = :kind AND identity = :identity"
VERSION = 'SELECT version FROM rows WHERE kind = :kind AND "key" = :key'
EVENT = 'number, kind, "key", version, phase, at, because, observed'
TELL = (
    'INSERT INTO events (kind, "key", version, phase, at, because, observed) '
    "VALUES (:kind, :key, :version, :phase, :at, :because, :observed)"
)
REMEMBER = 'INSERT INTO facts (space, "key", fact) VALUES (:space, :key, :fact)'
RECALL = 'SELECT fact FROM facts WHERE space = :space AND "key" = :key ORDER BY number DESC LIMIT :newest'
COUNT = "UPDATE numbers SET last = last + 1 WHERE kind = :kind RETURNING last"
COUNT_FIRST = "INSERT INTO numbers (kind, last) VALUES (:kind, 1) RETURNING last"
ENTRY = "number, at, deed, previous, digest"
CHAIN = f"INSERT INTO audit ({ENTRY}) VALUES (:number, :at, :deed, :previous, :digest)"
KEYS_AT_ONCE = 500
"""Keys that are asked for in one statement."""
LAST = "\U0010ffff"
"""Behind every character that a key holds."""


class SqlStore(SqlNotices):
    """The port ``Store`` on SQLite and on PostgreSQL."""

    def load(self, kind: Kind, key: str) -> Row | None:
        """The row, or None."""
        return self._one(LOAD, kind=kind.value, key=key)

    def version(self, kind: Kind, key: str) -> int:
        """The version of the row; 0 where there is none."""
        with self._reading() as connection:
            found = connection.execute(VERSION, {"kind": kind.value, "key": key})
        return int(found[0]["version"]) if found else 0

    def find(self, kind: Kind, identity: str) -> Row | None:
        """The row of this identity, or None."""
        return self._one(FIND, kind=kind.value, identity=identity)

    def _one(self, query: str, **values: str) -> Row | None:
        with self._reading() as connection:
            found = connection.execute(query, values)
            return row_of(found[0]) if found else None

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
        asked = {"prefix": prefix or None, "repository": repository, "ref": ref, "before": before}
        wanted = ["kind = :kind", *(FILTERS[name] for name, value in asked.items() if value is not None)]
        values: dict[str, object] = {**asked, "kind": kind.value, "last": f"{prefix}{LAST}", "newest": newest}
        ending = f"ORDER BY place {'ASC' if newest is None else 'DESC LIMIT :newest'}"
        if phases is not None:
            values |= {f"phase{place}": str(phase) for place, phase in enumerate(dict.fromkeys(phases))}
            wanted = [_in_phases(wanted, [name for name in values if name.startswith("phase")], ending)]
        query = f"SELECT {BESIDE_STATE}, state FROM rows WHERE {' AND '.join(wanted)} {ending}"
        with self._reading() as connection:
            return [row_of(found) for found in connection.execute(query, values)]

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
                connection.execute(REMEMBER, *told)
        return saved

    def audit(self, after: int = 0, newest: int | None = None) -> list[AuditEntry]:
        """Entries of the audit log with a number above ``after``, in order; ``newest`` keeps the last so many."""
        ending = "" if newest is None else " LIMIT :most"
        query = f"SELECT {ENTRY} FROM audit WHERE number > :after ORDER BY number DESC{ending}"
        with self._reading() as connection:
            return [entry_of(found) for found in connection.execute(query, {"after": after, "most": newest})][::-1]

    def number(self, kind: Kind) -> int:
        """The next number of this kind, from 1; never given twice."""
        with self._writing() as connection:
            asked = {"kind": kind.value}
            counted = connection.execute(COUNT, asked) or connection.execute(COUNT_FIRST, asked)
        return int(counted[0]["last"])

    def events(
        self, kind: Kind | None = None, key: str | None = None, after: int = 0, most: int | None = None
    ) -> list[Event]:
        """Events of one row (or of all), in order, with a number above ``after``; the first ``most`` of them."""
        wanted = [
            "number > :after",
            *(["kind = :kind"] if kind else []),
            *(['"key" = :key'] if key is not None else []),
        ]
        ending = "" if most is None else " LIMIT :most"
        query = f"SELECT {EVENT} FROM events WHERE {' AND '.join(wanted)} ORDER BY number{ending}"
        values = {"after": after, "kind": kind and kind.value, "key": key, "most": most}
        with self._reading() as connection:
            return [event_of(found) for found in connection.execute(query, values)]

    def last_event(self) -> int:
        """The number of the newest event; 0 where there is none."""
        with self._reading() as connection:
            return connection.execute("SELECT max(number) AS last FROM events")[0]["last"] or 0

    def recall(self, space: str, key: str, newest: int = 20) -> list[Json]:
        """The facts of a key, newest first."""
        with self._reading() as connection:
            found = connection.execute(RECALL, {"space": space, "key": key, "newest": newest})
            return [decode(one["fact"]) for one in found]

    def recall_each(self, space: str, keys: Sequence[str], newest: int) -> dict[str, list[Json]]:
        """By key the newest facts of each, newest first."""
        found: dict[str, list[Json]] = {}
        with self._reading() as connection:
            for first in range(0, len(keys), KEYS_AT_ONCE):
                asked = {f"key{place}": key for place, key in enumerate(keys[first : first + KEYS_AT_ONCE])}
                values = {**asked, "space": space, "newest": newest}
                for one in connection.execute(_recalling(asked), values):
                    found.setdefault(one["key"], []).append(decode(one["fact"]))
        return found


FILTERS = {
    "prefix": '"key" >= :prefix AND "key" <= :last',
    "repository": "repository = :repository",
    "ref": "ref = :ref",
    "before": "place < :before",
}
"""What rows are chosen by beside their kind and phase, as conditions."""


def _in_phases(wanted: Sequence[str], phases: Sequence[str], ending: str) -> str:
    """That a row is in one of these phases, each looked for by itself: asked for several at once, SQLite reads through
    all rows in their order, and those that are active are few among many.
    """
    chosen = " AND ".join(wanted)
    parts = [
        f"SELECT place FROM (SELECT place FROM rows WHERE {chosen} AND phase = :{phase} {ending}) AS of_{phase}"
        for phase in phases
    ]
    return f"place IN ({' UNION ALL '.join(parts)})" if parts else "1 = 0"


def _recalling(keys: Iterable[str]) -> str:
    """The statement that finds the newest facts of each of these keys, newest first."""
    listed = ", ".join(f":{name}" for name in keys)
    ranked = (
        'SELECT "key", fact, row_number() OVER (PARTITION BY "key" ORDER BY number DESC) AS place '
        f'FROM facts WHERE space = :space AND "key" IN ({listed})'
    )
    return f'SELECT "key", fact FROM ({ranked}) AS ranked WHERE place <= :newest ORDER BY place'


def _states(writes: Sequence[Write]) -> Iterator[str | None]:
    """The text of each state; None where the same call writes its row again, so that nobody would ever read it."""
    last = {(write.kind, write.key): write for write in writes}
    for write in writes:
        is_read = write.expected == 0 or last[write.kind, write.key] is write
        yield encode(write.state, _name(write)) if is_read else None


def _name(write: Write) -> str:
    return f"{write.kind} {write.key}"


def _save(connection: Connection, write: Write, state: str | None, observed: str, at: float) -> Row:
    values: dict[str, object] = {"phase": str(write.phase), "version": write.expected + 1, "updated": at}
    named = {"state": state, "identity": write.identity, "repository": write.repository, "ref": write.ref}
    values |= {name: value for name, value in named.items() if value is not None}
    try:
        row = _insert(connection, write, values) if write.expected == 0 else _update(connection, write, values)
    except Collision as problem:
        raise AlreadyExists(f"{_name(write)} exists, by its key or its identity {write.identity}") from problem
    occurred = {"kind": row.kind.value, "key": row.key, "version": row.version, "phase": row.phase, "at": at}
    connection.execute(TELL, {**occurred, "because": readable(write.because), "observed": observed})
    return row


def _insert(connection: Connection, write: Write, values: Mapping[str, object]) -> Row:
    given = {"kind": write.kind.value, "key": write.key, "created": values["updated"], **values}
    columns, named = ", ".join(f'"{name}"' for name in given), ", ".join(f":{name}" for name in given)
    statement = f"INSERT INTO rows ({columns}) VALUES ({named}) RETURNING {BESIDE_STATE}"
    return row_of(connection.execute(statement, given)[0], write.state)


def _update(connection: Connection, write: Write, values: Mapping[str, object]) -> Row:
    changed = ", ".join(f'"{name}" = :{name}' for name in values)
    which = 'kind = :of AND "key" = :named AND version = :expected'
    statement = f"UPDATE rows SET {changed} WHERE {which} RETURNING {BESIDE_STATE}"
    asked = {"of": write.kind.value, "named": write.key, "expected": write.expected}
    found = connection.execute(statement, {**values, **asked})
    if not found:
        raise StaleWrite(f"{_name(write)} is not at version {write.expected} any more")
    return row_of(found[0], write.state)


def _append(connection: Connection, deeds: Sequence[Deed], at: float) -> None:
    """Chains the deeds to the last entry, which no other writer can add to meanwhile."""
    if not deeds:
        return
    newest = connection.execute("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1")
    last, previous = (newest[0]["number"], newest[0]["digest"]) if newest else (0, GENESIS)
    entries = []
    for number, deed in enumerate(deeds, last + 1):
        entry = chain(number, at, deed, previous)
        previous = entry.digest
        entries.append(entry.model_dump() | {"deed": encode(deed.model_dump(mode="json"), f"audit entry {number}")})
    connection.execute(CHAIN, *entries)
