"""Opening a database: its settings, and its schema brought to the one that this release knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from interlock.errors import Refused
from interlock.system.files import locked

BUSY_SECONDS = 30
MIGRATIONS = "interlock.edges.store:migrations"


def open_engine(url: str) -> Engine:
    """An engine on an up-to-date database; the file is made where there is none.

    Every transaction on a connection with the execution option ``is_write`` takes the write lock when it begins: a
    transaction that reads first and writes later can otherwise fail at any moment, and no waiting helps it then.
    Refused for a database that is not SQLite in a file, and for one of a newer release.
    """
    path = _file_of(url)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        with locked(path.with_name(f"{path.name}.opening")):
            _use_write_ahead_log(engine)
            _migrate(engine, str(path))
    except BaseException:
        engine.dispose()
        raise
    return engine


def _file_of(url: str) -> Path:
    remedy = "write the store as sqlite:////folder/interlock.db"
    try:
        parsed = make_url(url)
    except ArgumentError as problem:
        raise Refused("this is not the URL of a database", where=url, remedy=remedy) from problem
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise Refused("only SQLite in a file is supported yet", where=parsed.render_as_string(), remedy=remedy)
    return Path(parsed.database)


def _configure(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins no transactions by itself; _begin does
    connection.execute("PRAGMA synchronous = FULL")


def _begin(connection: Connection) -> None:
    is_write = connection.get_execution_options().get("is_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _use_write_ahead_log(engine: Engine) -> None:
    """Readers and the writer do not wait for each other. The file remembers it; it cannot change in a transaction."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _migrate(engine: Engine, where: str) -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    with engine.execution_options(is_write=True).begin() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise Refused(
                f"the database has schema {current}, which this release does not know",
                where=where,
                remedy="start the newer release that wrote it, or restore the copy made before it",
            )
        if current != script.get_current_head():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
