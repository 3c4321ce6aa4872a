"""The tables of a new SQLite database as its own statements: to load SQLAlchemy takes longer than to make them."""

from __future__ import annotations

NEWEST = "0002"
"""The last step of the migrations: what a new database has behind it."""

STATEMENTS = (
    """CREATE TABLE rows (
        place INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        kind VARCHAR NOT NULL,
        "key" VARCHAR NOT NULL,
        version INTEGER NOT NULL,
        phase VARCHAR NOT NULL,
        state TEXT NOT NULL,
        identity VARCHAR,
        created FLOAT NOT NULL,
        updated FLOAT NOT NULL,
        repository VARCHAR,
        ref VARCHAR,
        CONSTRAINT one_row_of_a_key UNIQUE (kind, "key"),
        CONSTRAINT one_row_of_an_identity UNIQUE (kind, identity)
    )""",
    "CREATE INDEX rows_by_phase ON rows (kind, phase, place)",
    "CREATE INDEX rows_in_order ON rows (kind, place)",
    "CREATE INDEX rows_of_a_repository ON rows (kind, repository, place)",
    "CREATE INDEX rows_of_a_repository_by_phase ON rows (kind, repository, phase, place)",
    "CREATE INDEX rows_of_a_ref ON rows (kind, repository, ref, place)",
    """CREATE TABLE events (
        number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        kind VARCHAR NOT NULL,
        "key" VARCHAR NOT NULL,
        version INTEGER NOT NULL,
        phase VARCHAR NOT NULL,
        at FLOAT NOT NULL,
        because TEXT NOT NULL,
        observed TEXT NOT NULL
    )""",
    'CREATE INDEX events_of_a_row ON events (kind, "key", number)',
    "CREATE TABLE numbers (kind VARCHAR NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (kind))",
    """CREATE TABLE facts (
        number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        space VARCHAR NOT NULL,
        "key" VARCHAR NOT NULL,
        fact TEXT NOT NULL
    )""",
    'CREATE INDEX facts_of_a_key ON facts (space, "key", number)',
    """CREATE TABLE audit (
        number INTEGER NOT NULL,
        at FLOAT NOT NULL,
        deed TEXT NOT NULL,
        previous VARCHAR NOT NULL,
        digest VARCHAR NOT NULL,
        PRIMARY KEY (number)
    )""",
    """CREATE TABLE notices (
        number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        repository VARCHAR NOT NULL,
        content TEXT NOT NULL,
        at FLOAT NOT NULL,
        is_settled BOOLEAN NOT NULL
    )""",
    "CREATE INDEX notices_by_settling ON notices (is_settled, number)",
    """CREATE TABLE alembic_version (
        version_num VARCHAR(32) NOT NULL,
        CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
    )""",
    f"INSERT INTO alembic_version (version_num) VALUES ('{NEWEST}')",  # noqa: S608 - two lines above
)
