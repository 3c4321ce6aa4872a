"""PostgreSQL: the store of several machines."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event

from interlock.errors import Refused, StoreFault

BUSY_SECONDS = 30
ABANDONED_SECONDS = 60
WRITERS = 0x494E5445524C4F43
"""The advisory lock of all who write: ``INTERLOC`` in ASCII."""


def postgres_engine(url: URL) -> Engine:
    """An engine on the database, which must exist. A connection that was lost is noticed before it is used.

    Every transaction on a connection with the execution option ``is_write`` takes the writers' lock when it begins and
    keeps it until it is seen by all. So numbers become visible in their order: whoever read up to one has seen all
    before it. Readers wait for nobody. The lock of a writer that stopped in the middle is freed after a minute.
    """
    patience = f"-c lock_timeout={BUSY_SECONDS}s -c idle_in_transaction_session_timeout={ABANDONED_SECONDS}s"
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10, "options": patience},
    )
    event.listen(engine, "begin", _begin)
    return engine


def dump(url: URL, path: Path) -> None:
    """Writes the database, as it is at one moment, into a file of ``pg_dump``, while others read and write it."""
    _run(url, "pg_dump", "--format=custom", "--no-owner", f"--file={path}")


def restore_dump(path: Path, url: URL) -> None:
    """Fills an empty database from a file of ``pg_dump``, all or nothing."""
    _run(url, "pg_restore", "--no-owner", "--single-transaction", "--exit-on-error", str(path))


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


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("is_write", False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
