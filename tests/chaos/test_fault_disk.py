"""A disk that fails under a real server, and a database that another holds: what is not on the disk is not
acknowledged, health says so, and it comes back.

S3 and S4 of the fault matrix. Calls fail by their names, so that it needs no privilege and no other file system.
"""

import errno
import json
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException
from pathlib import Path

import pytest
from tests.lives import Lives
from tests.small_server import push_of, send, wait_for

pytestmark = pytest.mark.xdist_group("faults")

SYNCS = ("fsync", "fdatasync")
CHANGES = ("write", "pwrite64", "writev", "ftruncate", "fallocate", "rename", "renameat", "unlink", "unlinkat", "mkdir",
           "mkdirat", "link", "linkat", "open", "openat")  # fmt: skip
ILLNESSES = {
    "failing syncs": dict.fromkeys(SYNCS, errno.EIO),
    "failing writes": dict.fromkeys((*SYNCS, "write", "pwrite64", "writev"), errno.EIO),
    "read-only": dict.fromkeys(CHANGES, errno.EROFS),
}
SICK_SECONDS = 15.0


@pytest.fixture
def lives() -> Iterator[Lives]:
    with tempfile.TemporaryDirectory(prefix="ij-") as folder:
        made = Lives(Path(folder))
        try:
            yield made
        finally:
            if made.calls is not None:
                made.calls.fail()
            made.close()


def health(lives: Lives) -> int:
    return send(lives.server.url, "GET", "/healthz").status


def test_a_disk_that_fails_is_told_and_nothing_is_acknowledged_on_it(lives: Lives) -> None:
    lives.start()
    lives.push()
    token = lives.server.token()
    for illness, errors in ILLNESSES.items():
        assert lives.calls is not None
        kept = lives.kept
        # When the disk fails
        lives.calls.fail(**errors)
        answers = []
        deadline = time.monotonic() + SICK_SECONDS
        while time.monotonic() < deadline and not (len(answers) >= 5 and health(lives) == 503):
            try:
                answers.append(lives.server.hook("small", "push", push_of(lives.shas[-1])).status)
            except (OSError, HTTPException) as lost:
                pytest.fail(f"{illness}: {lost!r}")
            time.sleep(0.1)
        # Then nothing is acknowledged, health says so, and what is there can be read
        assert set(answers) == {503}, illness
        assert health(lives) == 503, illness
        assert send(lives.server.url, "GET", "/readyz").status == 503, illness
        assert lives.server.get("/api/v1/runs", token).status == 200, illness
        # When it works again
        lives.calls.fail()
        # Then the same process goes on, and what was refused was not kept in secret as acknowledged
        wait_for(lambda: health(lives) == 200, f"the good health after {illness}")
        lives.push()
        assert lives.kept == kept + 1
    assert int(lives.ask("select count(*) from notices")[0][0]) >= lives.kept
    assert lives.ask("pragma integrity_check") == [("ok",)]
    phases = [phase for (phase,) in lives.ask("select phase from rows where kind = 'run'")]
    assert phases == ["succeeded"] * len(lives.shas)


def test_a_database_that_another_holds_for_too_long_is_a_503(lives: Lives) -> None:
    lives.variant = "impatient"
    lives.start()
    lives.push()
    token = lives.server.token()
    trigger = json.dumps({"repository": "small", "ref": "main"}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with closing(sqlite3.connect(lives.state / "interlock.db", isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        # When it is locked for longer than the server waits
        called = lives.server.hook("small", "push", push_of(lives.shas[-1]))
        asked = send(lives.server.url, "POST", "/api/v1/runs", trigger, headers)
        # Then nothing is acknowledged, callers are told when to come again, and reads go on
        for answer in (called, asked):
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert b"Traceback" not in answer.body
        assert lives.server.get("/api/v1/runs", token).status == 200
        wait_for(lambda: health(lives) == 503, "the bad health", 30)
        locker.execute("ROLLBACK")
    wait_for(lambda: health(lives) == 200, "the good health")
    lives.push()
    phases = [phase for (phase,) in lives.ask("select phase from rows where kind = 'run'")]
    assert phases == ["succeeded"] * len(lives.shas)
