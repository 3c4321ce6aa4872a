"""A database that is open, and copies of it: reading, writing in turn, and its faults under one name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.edges.store.opening import file_of, open_connections
from interlock.edges.store.sqlite import SqliteConnections, copy_file, refuse_damage
from interlock.edges.store.values import Connection
from interlock.errors import Refused
from interlock.later import Later

if TYPE_CHECKING:
    from interlock.edges.store import postgres
else:
    postgres = Later("interlock.edges.store.postgres")

COPY, DUMP = "interlock.db", "interlock.dump"
"""Names of the copy of a database in its folder."""


class Database:
    """An open database, for several threads and several processes at once.

    What a call saved is on the disk when it returns. A call that raised saved nothing, except that after a StoreFault
    of a failing disk or a lost connection nobody can know: the caller loads the row again, as after StaleWrite.
    """

    def __init__(self, url: str, now: Callable[[], float] = time.time, *, is_durable: bool = True) -> None:
        """Opens ``url`` (``sqlite:////folder/file.db``, ``postgresql://user@host/name``) and brings its schema up to
        date; ``now`` in seconds. Without ``is_durable`` a power cut may undo what was saved last to SQLite.
        """
        self._connections = open_connections(url, is_durable)
        self._now = now
        self._turn = threading.Lock()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._connections.reading() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._turn, self._connections.writing() as connection:  # threads queue here, processes there
            yield connection

    def check(self) -> None:
        """Refused, with the command that mends it, where the file of a SQLite database is damaged; it reads all of it.

        PostgreSQL checks each page as it reads it.
        """
        if isinstance(self._connections, SqliteConnections):
            refuse_damage(self._connections)

    def prove_writable(self) -> None:
        """A write that changes nothing reaches the disk. StoreFault where it does not: to write nothing would say
        nothing of a disk that fails, or is read-only.
        """
        with self._writing() as connection:
            connection.execute("UPDATE alembic_version SET version_num = version_num")

    def close(self) -> None:
        """Closes the connections."""
        self._connections.close()


def copy_database(url: str, folder: Path) -> None:
    """Copies the database, as it is at one moment, into a file in ``folder``, while others read and write it.

    Refused where there is none, or PostgreSQL's programs are missing.
    """
    path = file_of(url)
    if path is None:
        postgres.dump(url, folder / DUMP)
        return
    if not path.is_file():
        raise Refused("there is no database", str(path), "name the state folder of a server")
    copy_file(path, folder / COPY)


def restore_database(folder: Path, url: str) -> None:
    """Makes the database from its copy in ``folder``, and brings its schema up to date.

    Refused where ``folder`` holds no copy of this kind of database, the database is there already, or it is damaged.
    """
    path = file_of(url)
    copy = folder / (DUMP if path is None else COPY)
    if not copy.is_file():
        raise Refused(f"there is no {copy.name} in it", str(folder), "name a backup, and the database it is of")
    if path is None:
        postgres.restore_dump(copy, url)
    elif path.exists():
        raise Refused("this database is there already", str(path), "move it away first")
    else:
        copy_file(copy, path)
    database = Database(url)
    try:
        database.check()
    finally:
        database.close()
