"""SQLite in a file: the store of one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from interlock.errors import Refused
from interlock.system.files import locked

BUSY_SECONDS = 30


def sqlite_engine(url: URL, is_durable: bool) -> Engine:
    """An engine on the file, which is made where there is none.

    Every transaction on a connection with the execution option ``is_write`` takes the write lock when it begins: a
    transaction that reads first and writes later can otherwise fail at any moment, and no waiting helps it then.
    Without ``is_durable`` the file is whole after a power cut too, but may lack what was committed last.
    """
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _configure_durable if is_durable else _configure)
    event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def opening_alone(engine: Engine) -> Iterator[None]:
    """No other process opens this file in the block. It becomes a file whose readers and writer never wait for each
    other; that is remembered in it, and cannot be changed within a transaction.
    """
    path = Path(engine.url.database or "")
    with locked(path.with_name(f"{path.name}.opening")):
        with closing(engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA journal_mode = WAL")
        yield


def refuse_damage(engine: Engine) -> None:
    """Refused, with the command that mends it, where the file is damaged. It reads the whole file."""
    try:
        with engine.connect() as connection:
            damages = [str(told) for told in connection.exec_driver_sql("PRAGMA integrity_check(5)").scalars()]
    except DBAPIError as fault:
        damages = [str(fault.orig)]
    if damages != ["ok"]:
        path = engine.url.database
        command = f"sqlite3 {path} .recover | sqlite3 {path}.mended, then put it in the place of the other"
        raise Refused(f"the database is damaged: {damages[0]}", str(path), f"keep a copy; {command}")


def copy_file(path: Path, copy: Path) -> None:
    """Copies the database at ``path``, as it is at one moment, while others read and write it."""
    there = f"{path.resolve().as_uri()}?mode=rw"
    with (
        closing(sqlite3.connect(there, uri=True, timeout=BUSY_SECONDS)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def _configure(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins no transactions by itself; _begin does
    connection.execute("PRAGMA synchronous = NORMAL")


def _configure_durable(connection: Any, record: object) -> None:
    _configure(connection, record)
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: Connection) -> None:
    is_write = connection.get_execution_options().get("is_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
