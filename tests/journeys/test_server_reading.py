"""Given a real server with all its rounds, when everything is read, then only that a token was used is written."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.test_web_routes import ROUTES
from tests.database import content_of
from tests.postgres import PostgresServer
from tests.small_server import SmallRepository, SmallServer, on_github, wait_for

from interlock.vocabulary import Kind, Phase

pytestmark = pytest.mark.xdist_group("quiet servers")

QUICK = "version: 1\nchecks: []\nstages:\n  train: {cmd: 'echo read me > made', outs: [made]}\n"
BOOKS = 5.0
"""Every so many seconds the server writes down what it noted in memory."""


@pytest.fixture(params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[SmallServer]:
    with tempfile.TemporaryDirectory(prefix="ij-") as folder:
        postgres = PostgresServer(durable=False).__enter__() if request.param == "postgres" else None
        repository = SmallRepository(Path(folder), "small", QUICK)
        repository.arrive()
        more = {"database": postgres.create()} if postgres else {}
        made = SmallServer(Path(folder), {"small": on_github(repository)}, **more)
        try:
            made.start()
            made.until("small", 1, Phase.SUCCEEDED)
            yield made
        finally:
            made.end()
            if postgres:
                postgres.__exit__()


def test_reading_writes_nothing_but_that_a_token_was_used(server: SmallServer) -> None:
    token = server.token()
    url = str(server.settings.get("database") or f"sqlite:///{server.state / 'interlock.db'}")
    time.sleep(BOOKS)  # until what the run left to tell is told
    before = content_of(url)

    def read_everything() -> None:
        asked = [route.path for (method, _), route in ROUTES.items() if method == "GET"]
        for path in [*(path for path in asked if "key=2" not in path), "/healthz", "/readyz"]:  # run 2 has no end here
            for shown in (token, "ilk_nobody"):
                assert server.get(path, shown).status in (200, 401, 403, 404)

    read_everything()
    assert wait_for(lambda: [one for one in server.store.events(Kind.TOKEN) if one.because == "it was used"], "a note")
    after = content_of(url)
    assert {name for name in before if before[name] != after[name]} == {"rows", "events"}
    (event,) = after["events"] - before["events"]
    assert "it was used" in event
    (row,) = after["rows"] - before["rows"]
    assert "'token'" in row
    assert before["events"] < after["events"]
    read_everything()
    time.sleep(BOOKS + 2)
    assert content_of(url) == after
