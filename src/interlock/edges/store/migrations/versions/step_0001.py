"""The first tables: rows, events, numbers, facts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# PostgreSQL came with the second step and took this one as well; SQLite's columns are what they were.
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# Keys are compared byte by byte on both, so that those of one beginning stand together in the index.
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "rows",
        sa.Column("place", NUMBER, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("identity", sa.String),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
        sa.UniqueConstraint("kind", "key", name="one_row_of_a_key"),
        sa.UniqueConstraint("kind", "identity", name="one_row_of_an_identity"),
        sqlite_autoincrement=True,
    )
    op.create_index("rows_by_phase", "rows", ["kind", "phase", "place"])
    op.create_index("rows_in_order", "rows", ["kind", "place"])
    op.create_table(
        "events",
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("because", sa.Text, nullable=False),
        sa.Column("observed", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_a_row", "events", ["kind", "key", "number"])
    op.create_table(
        "numbers",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("last", sa.Integer, nullable=False),
    )
    op.create_table(
        "facts",
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("space", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("fact", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("facts_of_a_key", "facts", ["space", "key", "number"])


def downgrade() -> None:
    """Removes the tables."""
    for table in ("facts", "numbers", "events", "rows"):
        op.drop_table(table)
