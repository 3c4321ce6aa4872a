from collections.abc import Iterator

import pytest
from tests.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests of this process that ask for one."""
    with PostgresServer(durable=False) as server:
        yield server
