"""Opening a database: its engines, and its schema brought to the one that this release knows."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import URL, Engine, inspect, make_url, select
from sqlalchemy.exc import ArgumentError

from interlock.edges.store.postgres import postgres_engine
from interlock.edges.store.schema import METADATA, NEWEST, SCHEMA
from interlock.edges.store.sqlite import opening_alone, sqlite_engine
from interlock.errors import Refused
from interlock.later import Later

if TYPE_CHECKING:
    from interlock.edges.store.migrations import walking
else:
    walking = Later("interlock.edges.store.migrations.walking")


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
            _bring_up_to_date(writer, str(parsed.database) if is_file else parsed.render_as_string())
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


def _bring_up_to_date(writer: Engine, where: str) -> None:
    """A new database is made as it is today; an older one is walked here, step by step."""
    with writer.begin() as connection:
        tables = set(inspect(connection).get_table_names())
        if tables.isdisjoint(METADATA.tables):
            METADATA.create_all(connection)
            connection.execute(SCHEMA.insert().values(version_num=NEWEST))
            return
        current = connection.scalar(select(SCHEMA.c.version_num)) if SCHEMA.name in tables else None
        if current != NEWEST:
            walking.walk_to(connection, NEWEST, current, where)
