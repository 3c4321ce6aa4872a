"""The steps from an older schema to the newest, one after the other, in the transaction of the caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from interlock.edges.store.migrations.newest import NEWEST
from interlock.edges.store.migrations.tables import METADATA, SCHEMA
from interlock.errors import Refused, StoreFault

MIGRATIONS = "interlock.edges.store:migrations"


def walk_to(connection: Connection, newest: str, current: str | None, where: str) -> None:
    """Brings the database from schema ``current`` to ``newest``. Refused for one that this release does not know."""
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.set_main_option("path_separator", "os")
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise Refused(
            f"the database has schema {current}, which this release does not know",
            where=where,
            remedy="start the newer release that wrote it, or restore the copy made before it",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, newest)


def bring_up_to_date(connection: Connection, where: str) -> None:
    """A new database is made as it is today; an older one is walked here, step by step."""
    tables = set(inspect(connection).get_table_names())
    if tables.isdisjoint(METADATA.tables):
        METADATA.create_all(connection)
        connection.execute(SCHEMA.insert().values(version_num=NEWEST))
        return
    current = connection.scalar(select(SCHEMA.c.version_num)) if SCHEMA.name in tables else None
    if current != NEWEST:
        walk_to(connection, NEWEST, current, where)


def bring_file_up_to_date(connect: Callable[[], sqlite3.Connection], where: str) -> None:
    """The same for a file that ``connect`` opens, in a transaction of its own."""
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    with faults(), engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        bring_up_to_date(connection, where)
        connection.exec_driver_sql("COMMIT")


@contextmanager
def faults() -> Iterator[None]:
    """What SQLAlchemy says of a database in the block is a StoreFault."""
    try:
        yield
    # the driver's own and the system's come from opening, a ValueError from a row that is no row any more
    except (SQLAlchemyError, OSError, ValueError) as problem:
        told = problem.orig if isinstance(problem, DBAPIError) else problem  # without the statement and its values
        raise StoreFault(f"the database did not do it: {told}") from problem
