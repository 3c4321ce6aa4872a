"""SQLite in a file: the store of one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from interlock.edges.store.values import Collision, Found
from interlock.errors import Refused, StoreFault
from interlock.system.files import locked

BUSY_SECONDS = 30


@contextmanager
def sqlite_faults() -> Iterator[None]:
    """What goes wrong with a file in the block is a StoreFault."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as problem:  # a ValueError comes from a row that is no row any more
        raise StoreFault(f"the database did not do it: {problem}") from problem


class SqliteConnections:
    """The file, which is made where there is none, for several threads and processes.

    Every transaction that writes takes the write lock when it begins: one that reads first and writes later can
    otherwise fail at any moment, and no waiting helps it then. Without ``is_durable`` the file is whole after a power
    cut too, but may lack what was committed last.
    """

    def __init__(self, path: Path, is_durable: bool) -> None:
        self.path = path
        self._synchronous = "FULL" if is_durable else "NORMAL"
        self._idle: list[sqlite3.Connection] = []

    @contextmanager
    def reading(self) -> Iterator[_SqliteConnection]:
        """See the protocol."""
        with self._connected() as connection:
            yield _SqliteConnection(connection)

    @contextmanager
    def writing(self) -> Iterator[_SqliteConnection]:
        """See the protocol."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield _SqliteConnection(connection)
            connection.execute("COMMIT")

    def close(self) -> None:
        """See the protocol."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with sqlite_faults():
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self.connect()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        """It is used again, unless it cannot leave the transaction that failed."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.close()
        else:
            self._idle.append(connection)

    def connect(self) -> sqlite3.Connection:
        """A connection of one's own, to be closed by whoever asked for it."""
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        return connection


class _SqliteConnection:
    """See the protocol ``Connection``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, *values: Mapping[str, object]) -> list[Found]:
        """See the protocol."""
        found: list[Found] = []
        try:
            for one in values or ({},):
                found += self._connection.execute(statement, one).fetchall()
        except sqlite3.IntegrityError as problem:
            raise Collision(f"the database did not do it: {problem}") from problem
        return found


@contextmanager
def opening_alone(connections: SqliteConnections) -> Iterator[None]:
    """No other process opens this file in the block. It becomes a file whose readers and writer never wait for each
    other; that is remembered in it, and cannot be changed within a transaction.
    """
    path = connections.path
    with sqlite_faults(), locked(path.with_name(f"{path.name}.opening")):
        with connections.reading() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        yield


def refuse_damage(connections: SqliteConnections) -> None:
    """Refused, with the command that mends it, where the file is damaged. It reads the whole file."""
    try:
        with connections.reading() as connection:
            damages = [str(told["integrity_check"]) for told in connection.execute("PRAGMA integrity_check(5)")]
    except StoreFault as fault:
        damages = [str(fault.__cause__)]
    if damages != ["ok"]:
        path = connections.path
        command = f"sqlite3 {path} .recover | sqlite3 {path}.mended, then put it in the place of the other"
        raise Refused(f"the database is damaged: {damages[0]}", str(path), f"keep a copy; {command}")


def copy_file(path: Path, copy: Path) -> None:
    """Copies the database at ``path``, as it is at one moment, while others read and write it."""
    there = f"{path.resolve().as_uri()}?mode=rw"
    with (
        sqlite_faults(),
        closing(sqlite3.connect(there, uri=True, timeout=BUSY_SECONDS)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
