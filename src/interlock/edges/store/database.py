"""A database that is open, and copies of it: reading, writing in turn, and its faults under one name."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from interlock.edges.store.opening import open_engines, parse_url
from interlock.edges.store.postgres import dump, restore_dump
from interlock.edges.store.sqlite import copy_file, refuse_damage
from interlock.errors import Refused, StoreFault

COPY, DUMP = "interlock.db", "interlock.dump"
"""Names of the copy of a database in its folder."""


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    # the drivers' own and the system's come from opening, a ValueError from a row that is no row any more
    except (SQLAlchemyError, sqlite3.Error, OSError, ValueError) as problem:
        told = problem.orig if isinstance(problem, DBAPIError) else problem  # without the statement and its values
        raise StoreFault(f"the database did not do it: {told}") from problem


class Database:
    """An open database, for several threads and several processes at once.

    What a call saved is on the disk when it returns. A call that raised saved nothing, except that after a StoreFault
    of a failing disk or a lost connection nobody can know: the caller loads the row again, as after StaleWrite.
    """

    def __init__(self, url: str, now: Callable[[], float] = time.time, *, is_durable: bool = True) -> None:
        """Opens ``url`` (``sqlite:////folder/file.db``, ``postgresql://user@host/name``) and brings its schema up to
        date; ``now`` in seconds. Without ``is_durable`` a power cut may undo what was saved last to SQLite.
        """
        with _faults():
            self._engines = open_engines(url, is_durable)
        self._now = now
        self._turn = threading.Lock()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _faults(), self._engines.reader.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _faults(), self._turn, self._engines.writer.begin() as connection:  # threads queue here, processes there
            yield connection

    def check(self) -> None:
        """Refused, with the command that mends it, where the file of a SQLite database is damaged; it reads all of it.

        PostgreSQL checks each page as it reads it.
        """
        with _faults():
            if self._engines.reader.dialect.name == "sqlite":
                refuse_damage(self._engines.reader)

    def prove_writable(self) -> None:
        """A write that changes nothing reaches the disk. StoreFault where it does not: to write nothing would say
        nothing of a disk that fails, or is read-only.
        """
        with self._writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")

    def close(self) -> None:
        """Closes the connections."""
        self._engines.writer.dispose()


def copy_database(url: str, folder: Path) -> None:
    """Copies the database, as it is at one moment, into a file in ``folder``, while others read and write it.

    Refused where there is none, or PostgreSQL's programs are missing.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "postgresql":
        dump(parsed, folder / DUMP)
        return
    path = Path(str(parsed.database))
    if not path.is_file():
        raise Refused("there is no database", str(path), "name the state folder of a server")
    with _faults():
        copy_file(path, folder / COPY)


def restore_database(folder: Path, url: str) -> None:
    """Makes the database from its copy in ``folder``, and brings its schema up to date.

    Refused where ``folder`` holds no copy of this kind of database, the database is there already, or it is damaged.
    """
    parsed = parse_url(url)
    is_file = parsed.get_backend_name() == "sqlite"
    copy = folder / (COPY if is_file else DUMP)
    if not copy.is_file():
        raise Refused(f"there is no {copy.name} in it", str(folder), "name a backup, and the database it is of")
    if not is_file:
        restore_dump(copy, parsed)
    elif Path(str(parsed.database)).exists():
        raise Refused("this database is there already", str(parsed.database), "move it away first")
    else:
        with _faults():
            copy_file(copy, Path(str(parsed.database)))
    database = Database(url)
    try:
        database.check()
    finally:
        database.close()
