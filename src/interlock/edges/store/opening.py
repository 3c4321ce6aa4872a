"""Opening a database: its connections, and its schema brought to the one that this release knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from interlock.edges.store.migrations.newest import NEWEST, STATEMENTS
from interlock.edges.store.sqlite import SqliteConnections, opening_alone
from interlock.edges.store.values import Connections
from interlock.later import Later

if TYPE_CHECKING:
    from interlock.edges.store import postgres
    from interlock.edges.store.migrations import walking
else:  # SQLAlchemy takes longer to load than a small run takes; a file is spoken to without it
    postgres = Later("interlock.edges.store.postgres")
    walking = Later("interlock.edges.store.migrations.walking")

FILE = "sqlite:///"
IN_MEMORY = ":memory:"


def open_connections(url: str, is_durable: bool = True) -> Connections:
    """Connections to an up-to-date database.

    Refused for a URL of another kind of database, and for a database of a newer release.
    """
    path = file_of(url)
    if path is None:
        return postgres.open_postgres(url)
    connections = SqliteConnections(path, is_durable)
    try:
        with opening_alone(connections):
            _bring_up_to_date(connections)
    except BaseException:
        connections.close()
        raise
    return connections


def file_of(url: str) -> Path | None:
    """The file of a SQLite database; None where the URL is that of no file."""
    place = url.removeprefix(FILE)
    return Path(place) if place not in (url, "", IN_MEMORY) else None


def _bring_up_to_date(connections: SqliteConnections) -> None:
    """A new file is filled at once; an older one, and what is odd about any, is left to the migrations."""
    with connections.writing() as connection:
        tables = {found["name"] for found in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            for statement in STATEMENTS:
                connection.execute(statement)
            return
        steps = connection.execute("SELECT version_num FROM alembic_version") if "alembic_version" in tables else []
    if [step["version_num"] for step in steps] != [NEWEST]:
        walking.bring_file_up_to_date(connections.connect, str(connections.path))
