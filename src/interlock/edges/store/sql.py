"""The store in a SQL database."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or_update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from interlock.edges.store.encoding import decode, encode
from interlock.edges.store.opening import open_engine
from interlock.edges.store.schema import EVENTS, FACTS, NUMBERS, ROWS, event_of, row_of
from interlock.errors import AlreadyExists, Refused, StaleWrite, StoreFault
from interlock.vocabulary import Event, Json, Kind, Row, Write


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    # the driver's own and the system's come from opening, a ValueError from a row that is no row any more
    except (SQLAlchemyError, sqlite3.Error, OSError, ValueError) as problem:
        raise StoreFault(f"the database did not do it: {problem}") from problem


class SqlStore:
    """The port ``Store`` on SQLite, for several threads and several processes at once.

    What a call saved is on the disk when it returns. A call that raised saved nothing, except that after a StoreFault
    of a failing disk nobody can know: the caller loads the row again, as after StaleWrite.
    """

    def __init__(self, url: str, now: Callable[[], float] = time.time) -> None:
        """Opens ``url`` (``sqlite:////folder/file.db``) and brings its schema up to date; ``now`` in seconds."""
        with _faults():
            self._engine = open_engine(url)
        self._now = now
        self._turn = threading.Lock()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _faults(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        writer = self._engine.execution_options(is_write=True)
        with _faults(), self._turn, writer.begin() as connection:  # threads queue here, processes in SQLite
            yield connection

    def check(self) -> None:
        """Refused, with the command that mends it, where the database's file is damaged. It reads the whole file."""
        try:
            with self._reading() as connection:
                damages = [str(told) for told in connection.exec_driver_sql("PRAGMA integrity_check(5)").scalars()]
        except StoreFault as fault:
            damages = [str(fault.__cause__)]
        if damages != ["ok"]:
            path = self._engine.url.database
            command = f"sqlite3 {path} .recover | sqlite3 {path}.mended, then put it in the place of the other"
            raise Refused(f"the database is damaged: {damages[0]}", str(path), f"keep a copy; {command}")

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def load(self, kind: Kind, key: str) -> Row | None:
        """The row, or None."""
        with self._reading() as connection:
            found = connection.execute(select(ROWS).where(ROWS.c.kind == kind, ROWS.c.key == key)).one_or_none()
            return row_of(found) if found else None

    def find(self, kind: Kind, identity: str) -> Row | None:
        """The row of this identity, or None."""
        query = select(ROWS).where(ROWS.c.kind == kind, ROWS.c.identity == identity)
        with self._reading() as connection:
            found = connection.execute(query).one_or_none()
            return row_of(found) if found else None

    def rows(
        self, kind: Kind, *, phases: Sequence[str] | None = None, prefix: str | None = None, newest: int | None = None
    ) -> list[Row]:
        """Rows in order of creation; with ``newest`` the last so many, newest first."""
        query = select(ROWS).where(ROWS.c.kind == kind)
        if phases is not None:
            query = query.where(ROWS.c.phase.in_(list(phases)))
        if prefix:
            query = query.where(func.substr(ROWS.c.key, 1, len(prefix)) == prefix)
        query = query.order_by(ROWS.c.place) if newest is None else query.order_by(ROWS.c.place.desc()).limit(newest)
        with self._reading() as connection:
            return [row_of(found) for found in connection.execute(query)]

    def save(self, *writes: Write) -> tuple[Row, ...]:
        """All or none, each with its event.

        StaleWrite where a version moved; AlreadyExists where an insert collides. A row keeps the identity it was
        inserted with unless a later write names another.
        """
        encoded = [(encode(write.state, _name(write)), encode(write.observed, _name(write))) for write in writes]
        with self._writing() as connection:
            at = self._now()
            return tuple(
                _save(connection, write, state, observed, at)
                for write, (state, observed) in zip(writes, encoded, strict=True)
            )

    def number(self, kind: Kind) -> int:
        """The next number of this kind, from 1; never given twice."""
        first = insert_or_update(NUMBERS).values(kind=kind, last=1)
        following = first.on_conflict_do_update(index_elements=["kind"], set_={"last": NUMBERS.c.last + 1})
        with self._writing() as connection:
            last: int = connection.execute(following.returning(NUMBERS.c.last)).scalar_one()
        return last

    def events(self, kind: Kind | None = None, key: str | None = None, after: int = 0) -> list[Event]:
        """Events of one row (or of all), in order, with a number above ``after``."""
        query = select(EVENTS).where(EVENTS.c.number > after).order_by(EVENTS.c.number)
        if kind is not None:
            query = query.where(EVENTS.c.kind == kind)
        if key is not None:
            query = query.where(EVENTS.c.key == key)
        with self._reading() as connection:
            return [event_of(found) for found in connection.execute(query)]

    def remember(self, space: str, key: str, fact: Json) -> None:
        """Appends a fact."""
        text = encode(fact, f"a fact of {space} {key}")
        with self._writing() as connection:
            connection.execute(insert(FACTS).values(space=space, key=key, fact=text))

    def recall(self, space: str, key: str, newest: int = 20) -> list[Json]:
        """The facts of a key, newest first."""
        query = select(FACTS.c.fact).where(FACTS.c.space == space, FACTS.c.key == key)
        with self._reading() as connection:
            return [decode(text) for text in connection.scalars(query.order_by(FACTS.c.number.desc()).limit(newest))]


def _name(write: Write) -> str:
    return f"{write.kind} {write.key}"


def _save(connection: Connection, write: Write, state: str, observed: str, at: float) -> Row:
    values = {"phase": write.phase, "state": state, "version": write.expected + 1, "updated": at}
    try:
        row = _insert(connection, write, values) if write.expected == 0 else _update(connection, write, values)
    except IntegrityError as problem:
        raise AlreadyExists(f"{_name(write)} exists, by its key or its identity {write.identity}") from problem
    occurred = {"kind": row.kind, "key": row.key, "version": row.version, "phase": row.phase, "at": at}
    connection.execute(insert(EVENTS).values(**occurred, because=write.because, observed=observed))
    return row


def _insert(connection: Connection, write: Write, values: dict[str, object]) -> Row:
    named = {"kind": write.kind, "key": write.key, "identity": write.identity, "created": values["updated"]}
    return row_of(connection.execute(insert(ROWS).values(**named, **values).returning(ROWS)).one())


def _update(connection: Connection, write: Write, values: dict[str, object]) -> Row:
    expected = (ROWS.c.kind == write.kind, ROWS.c.key == write.key, ROWS.c.version == write.expected)
    named = {"identity": write.identity} if write.identity is not None else {}
    found = connection.execute(update(ROWS).where(*expected).values(**named, **values).returning(ROWS)).one_or_none()
    if found is None:
        raise StaleWrite(f"{_name(write)} is not at version {write.expected} any more")
    return row_of(found)
