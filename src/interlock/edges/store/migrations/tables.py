"""The tables of a new database, as SQLAlchemy makes them in PostgreSQL; in a file they are made by ``newest``.

Migrations bring an older database here; tests hold all three together.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData()

NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts by itself only in a column that is called INTEGER; it is as wide."""
KEY = String().with_variant(String(collation="C"), "postgresql")
"""Compared byte by byte everywhere, so that keys of one beginning stand together in the index."""

ROWS = Table(
    "rows",
    METADATA,
    Column("place", NUMBER, primary_key=True),  # order of creation: the clock may jump, this does not
    Column("kind", String, nullable=False),
    Column("key", KEY, nullable=False),
    Column("version", Integer, nullable=False),
    Column("phase", String, nullable=False),
    Column("state", Text, nullable=False),
    Column("identity", String),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("repository", String),
    Column("ref", String),
    UniqueConstraint("kind", "key", name="one_row_of_a_key"),
    UniqueConstraint("kind", "identity", name="one_row_of_an_identity"),
    Index("rows_by_phase", "kind", "phase", "place"),
    Index("rows_in_order", "kind", "place"),
    Index("rows_of_a_repository", "kind", "repository", "place"),
    Index("rows_of_a_repository_by_phase", "kind", "repository", "phase", "place"),
    Index("rows_of_a_ref", "kind", "repository", "ref", "place"),
    sqlite_autoincrement=True,
)

EVENTS = Table(
    "events",
    METADATA,
    Column("number", NUMBER, primary_key=True),
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
    Column("number", NUMBER, primary_key=True),
    Column("space", String, nullable=False),
    Column("key", String, nullable=False),
    Column("fact", Text, nullable=False),
    Index("facts_of_a_key", "space", "key", "number"),
    sqlite_autoincrement=True,
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),  # without a gap, so the writer counts
    Column("at", Float, nullable=False),
    Column("deed", Text, nullable=False),
    Column("previous", String, nullable=False),
    Column("digest", String, nullable=False),
)

NOTICES = Table(
    "notices",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("repository", String, nullable=False),
    Column("content", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("is_settled", Boolean, nullable=False),
    Index("notices_by_settling", "is_settled", "number"),
    sqlite_autoincrement=True,
)

SCHEMA = Table(
    "alembic_version",
    METADATA,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Which step of the migrations the database has behind it; the table is Alembic's own."""
