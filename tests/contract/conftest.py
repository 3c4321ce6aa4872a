from collections.abc import Iterator

import pytest
from tests.object_store import SETTINGS, object_store
from tests.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests of this process that ask for one."""
    with PostgresServer(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One S3 server for all tests of this process that ask for one; answers its endpoint."""
    with object_store(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The S3 server, known to its clients in this test."""
    for name, value in {**SETTINGS, "AWS_ENDPOINT": s3_server}.items():
        monkeypatch.setenv(name, value)
    return s3_server
