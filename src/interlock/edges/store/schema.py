"""The tables as queries see them. The migrations make them; a test holds the two together."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy import Row as Found

from interlock.edges.store.encoding import decode_object
from interlock.vocabulary import Event, Kind, Row

METADATA = MetaData()

ROWS = Table(
    "rows",
    METADATA,
    Column("place", Integer, primary_key=True),  # order of creation: the clock may jump, this does not
    Column("kind", String, nullable=False),
    Column("key", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("phase", String, nullable=False),
    Column("state", Text, nullable=False),
    Column("identity", String),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    UniqueConstraint("kind", "key", name="one_row_of_a_key"),
    UniqueConstraint("kind", "identity", name="one_row_of_an_identity"),
    Index("rows_by_phase", "kind", "phase", "place"),
    Index("rows_in_order", "kind", "place"),
    sqlite_autoincrement=True,
)

EVENTS = Table(
    "events",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("key", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("phase", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("because", Text, nullable=False),
    Column("observed", Text, nullable=False),
    Index("events_of_a_row", "kind", "key", "number"),
    sqlite_autoincrement=True,
)

NUMBERS = Table(
    "numbers",
    METADATA,
    Column("kind", String, primary_key=True),
    Column("last", Integer, nullable=False),
)

FACTS = Table(
    "facts",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("space", String, nullable=False),
    Column("key", String, nullable=False),
    Column("fact", Text, nullable=False),
    Index("facts_of_a_key", "space", "key", "number"),
    sqlite_autoincrement=True,
)


def row_of(found: Found[Any]) -> Row:
    """A row of ROWS in the words of the domain."""
    return Row(
        kind=Kind(found.kind),
        key=found.key,
        version=found.version,
        phase=found.phase,
        state=decode_object(found.state),
        identity=found.identity,
        created=found.created,
        updated=found.updated,
    )


def event_of(found: Found[Any]) -> Event:
    """A row of EVENTS in the words of the domain."""
    return Event(
        number=found.number,
        kind=Kind(found.kind),
        key=found.key,
        version=found.version,
        phase=found.phase,
        at=found.at,
        because=found.because,
        observed=decode_object(found.observed),
    )
