"""Databases of tests: a new one of either kind, and everything that one holds."""

from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine, select


def database_url(request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of a new database of the kind that the test's parameter names."""
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'interlock.db'}"
    made: str = request.getfixturevalue("postgres").create()
    return made


def content_of(url: str) -> dict[str, set[str]]:
    """Every row of every table that is there, as another process reads them."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        tables = MetaData()
        tables.reflect(engine)
        with engine.connect() as connection:
            return {
                name: {repr(tuple(row)) for row in connection.execute(select(table))}
                for name, table in tables.tables.items()
            }
    finally:
        engine.dispose()
