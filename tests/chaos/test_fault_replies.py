"""A store that did what it was asked, and whose answer was lost: nothing is begun twice, and nothing is not begun.

S6 of the fault matrix, under a whole server: webhooks, intake, attempts, and callers who ask again with the same key.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lives import Lives
from tests.small_server import send, wait_for

from interlock.run.run import Run
from interlock.vocabulary import Phase

pytestmark = pytest.mark.xdist_group("faults")

PUSHES, TRIGGERS, RERUNS = 12, 10, 6
MOST_TRIES = 20


@pytest.fixture
def lives() -> Iterator[Lives]:
    with tempfile.TemporaryDirectory(prefix="ij-") as folder:
        made = Lives(Path(folder), poll_every=1)
        try:
            yield made
        finally:
            made.close()


def post(lives: Lives, token: str, path: str, body: dict[str, str], key: str) -> tuple[int, int]:
    """The number of the run that it began, asked again with the same key as often as the answer is 503; and how often
    it was.
    """
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": key}
    for tries in range(MOST_TRIES):
        answer = send(lives.server.url, "POST", path, json.dumps(body).encode(), headers)
        assert answer.status in (201, 503), answer.body
        if answer.status == 201:
            return int(answer.json["state"]["number"]), tries
    raise AssertionError(f"{path} is never answered")


def test_an_answer_that_is_lost_begins_nothing_twice(lives: Lives) -> None:
    lives.start()
    lives.push()
    token = lives.server.token()
    lives.end()
    lives.variant = "forgetful"
    lives.start()
    # When one answer in ten of the store is lost
    for _ in range(PUSHES):
        lives.push()
    asked = [
        post(lives, token, "/api/v1/runs", {"repository": "small", "ref": "main"}, f"trigger {number}")
        for number in range(TRIGGERS)
    ]
    wait_for(lambda: all(phase == "succeeded" for (phase,) in phases(lives)), "the end of what was asked for")
    again = [post(lives, token, "/api/v1/runs/1/rerun", {}, f"rerun {number}") for number in range(RERUNS)]
    wait_for(lambda: all(phase == "succeeded" for (phase,) in phases(lives)), "the end of what was run again")
    # Then there is one run for each commit and each key, however often it was asked for
    runs = [Run.model_validate_json(text) for (text,) in lives.ask("select state from rows where kind = 'run'")]
    kinds = Counter(run.occasion.kind for run in runs)
    assert len({number for number, _ in (*asked, *again)}) == TRIGGERS + RERUNS
    assert (kinds["person"], kinds["rerun"]) == (TRIGGERS, RERUNS)
    assert Counter(run.commit.sha for run in runs if run.occasion.kind == "push") == Counter(lives.shas)
    assert {run.phase for run in runs} == {Phase.SUCCEEDED}
    assert sum(tries for _, tries in (*asked, *again)) > 0, "no answer was lost"
    assert "the answer of the database was lost" in lives.server.log
    # And the log of what people did has each deed once
    deeds = Counter(text for (text,) in lives.ask("select json_extract(deed, '$.thing') from audit"))
    assert {deeds[f"run/{number}"] for number, _ in (*asked, *again)} == {1}


def phases(lives: Lives) -> list[tuple[str, ...]]:
    return lives.ask("select phase from rows where kind = 'run'")
