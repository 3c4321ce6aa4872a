"""Opening a database: its engines, and its schema brought to the one that this release knows."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from interlock.edges.store.postgres import postgres_engine
from interlock.edges.store.sqlite import opening_alone, sqlite_engine
from interlock.errors import Refused

MIGRATIONS = "interlock.edges.store:migrations"


@dataclass(frozen=True)
class Engines:
    """Two views of one pool of connections. A transaction of ``writer`` excludes all other writers; ``reader`` sees
    what was committed when its statement began, and waits for nobody.
    """

    reader: Engine
    writer: Engine


def open_engines(url: str, is_durable: bool = True) -> Engines:
    """Engines on an up-to-date database.

    Refused for a URL of another kind of database, and for a database of a newer release.
    """
    parsed = parse_url(url)
    is_file = parsed.get_backend_name() == "sqlite"
    engine = sqlite_engine(parsed, is_durable) if is_file else postgres_engine(parsed)
    writer = engine.execution_options(is_write=True)
    try:
        with opening_alone(engine) if is_file else nullcontext():
            _migrate(writer, str(parsed.database) if is_file else parsed.render_as_string())
    except BaseException:
        engine.dispose()
        raise
    reader = engine if is_file else engine.execution_options(isolation_level="AUTOCOMMIT")
    return Engines(reader=reader, writer=writer)


def parse_url(url: str) -> URL:
    """The parts of a store's URL. Refused where it is that of no database we know."""
    remedy = "write the store as sqlite:////folder/interlock.db or postgresql://user@host/database"
    try:
        parsed = make_url(url)
    except ArgumentError as problem:
        raise Refused("this is not the URL of a database", where=url, remedy=remedy) from problem
    backend, is_named = parsed.get_backend_name(), parsed.database not in (None, "", ":memory:")
    if backend not in ("sqlite", "postgresql") or not is_named:
        raise Refused("only SQLite in a file and PostgreSQL are supported", parsed.render_as_string(), remedy)
    return parsed


def _migrate(writer: Engine, where: str) -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    with writer.begin() as connection:
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
