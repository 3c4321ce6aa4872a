"""PostgreSQL: the store of several machines."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, IntegrityError

from interlock.edges.store.migrations import walking
from interlock.edges.store.values import Collision, Found
from interlock.errors import Refused, StoreFault

BUSY_SECONDS = 30
ABANDONED_SECONDS = 60
WRITERS = 0x494E5445524C4F43
"""The advisory lock of all who write: ``INTERLOC`` in ASCII."""


class PostgresConnections:
    """The database, which must exist. A connection that was lost is noticed before it is used.

    Every transaction that writes takes the writers' lock when it begins and keeps it until it is seen by all. So
    numbers become visible in their order: whoever read up to one has seen all before it. Readers wait for nobody. The
    lock of a writer that stopped in the middle is freed after a minute.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        patience = f"-c lock_timeout={BUSY_SECONDS}s -c idle_in_transaction_session_timeout={ABANDONED_SECONDS}s"
        self._writer = create_engine(
            self.url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "options": patience},
        )
        self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def reading(self) -> Iterator[PostgresConnection]:
        """See the protocol."""
        with walking.faults(), self._reader.connect() as connection:
            yield PostgresConnection(connection)

    @contextmanager
    def writing(self) -> Iterator[PostgresConnection]:
        """See the protocol."""
        with walking.faults(), self._writer.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
            yield PostgresConnection(connection)

    def close(self) -> None:
        """See the protocol."""
        self._writer.dispose()


class PostgresConnection:
    """See the protocol ``Connection``; ``raw`` is what migrations are walked on."""

    def __init__(self, raw: Connection) -> None:
        self.raw = raw

    def execute(self, statement: str, *values: Mapping[str, object]) -> list[Found]:
        """See the protocol."""
        try:
            done = self.raw.execute(text(statement), values if len(values) > 1 else values[0] if values else {})
        except IntegrityError as problem:
            raise Collision(f"the database did not do it: {problem.orig}") from problem
        return list(done.mappings()) if done.returns_rows else []


def open_postgres(url: str) -> PostgresConnections:
    """Connections to an up-to-date database. Refused for a URL of another kind, and a database of a newer release."""
    connections = PostgresConnections(url)
    try:
        with connections.writing() as connection:
            walking.bring_up_to_date(connection.raw, connections.url.render_as_string())
    except BaseException:
        connections.close()
        raise
    return connections


def parse_url(url: str) -> URL:
    """The parts of the URL. Refused where it is that of no database we know."""
    remedy = "write the store as sqlite:////folder/interlock.db or postgresql://user@host/database"
    try:
        parsed = make_url(url)
    except ArgumentError as problem:
        raise Refused("this is not the URL of a database", where=url, remedy=remedy) from problem
    if parsed.get_backend_name() != "postgresql" or not parsed.database:
        raise Refused("only SQLite in a file and PostgreSQL are supported", parsed.render_as_string(), remedy)
    return parsed


def dump(url: str, path: Path) -> None:
    """Writes the database, as it is at one moment, into a file of ``pg_dump``, while others read and write it."""
    _run(parse_url(url), "pg_dump", "--format=custom", "--no-owner", f"--file={path}")


def restore_dump(path: Path, url: str) -> None:
    """Fills an empty database from a file of ``pg_dump``, all or nothing."""
    _run(parse_url(url), "pg_restore", "--no-owner", "--single-transaction", "--exit-on-error", str(path))


def _run(url: URL, program: str, *words: str) -> None:
    """Runs one of PostgreSQL's programs; the password is not in its command line, where others could read it."""
    place = url.set(drivername="postgresql", password=None).render_as_string()
    command = [program, *words, f"--dbname={place}"]
    env = os.environ | ({"PGPASSWORD": str(url.password)} if url.password else {})
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError as problem:
        remedy = "install PostgreSQL's client programs, not older than the server"
        raise Refused(f"there is no {program} here", place, remedy) from problem
    if done.returncode != 0:
        raise StoreFault(f"{program} did not do it: {done.stderr.strip() or done.returncode}")
