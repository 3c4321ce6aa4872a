"""The control plane is stopped in the middle of a canary, another rolls it back, and it goes on: it undoes nothing.

C3 of the fault matrix, a part of ``make storm``: ``ASLEEP_SECONDS`` says for how long. What a server does that slept
while nothing moved is in every test run (test_fault_server.py).
"""

import os
import signal
import sqlite3
import time
from contextlib import closing

import pytest

from interlock.control.delivering.requests import Requests
from interlock.control.people import local_caller
from interlock.edges.store import SqlStore
from interlock.vocabulary import Kind, Row

ASLEEP_SECONDS = float(os.environ.get("ASLEEP_SECONDS", "0"))
pytestmark = pytest.mark.skipif(not ASLEEP_SECONDS, reason="it takes a minute: make storm")


def canary(journey) -> Row | None:
    """The rollout into production, once its candidate has traffic."""
    for row in journey.rows(Kind.ROLLOUT)[::-1]:
        if row.state["candidate"]["environment"] == "small/production" and row.phase == "progressing":
            return row if row.state["weight"] > 0 else None
    return None


def put_to_sleep(journey) -> None:
    """Not in the middle of a transaction: others shall be able to write."""
    while True:
        journey.server.send_signal(signal.SIGSTOP)
        path = journey.state / "interlock.db"
        with closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as writer:
            try:
                writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                journey.server.send_signal(signal.SIGCONT)
                time.sleep(0.05)
            else:
                return


@pytest.mark.slow
def test_who_slept_through_a_rollback_does_not_undo_it(journey, traffic) -> None:
    # Given a canary under way
    journey.start()
    journey.push("first model")
    assert journey.until(Kind.RELEASE, 1, "done stopped").phase == "done"
    load = traffic(journey.url())
    journey.edit("params.yaml", "c: 1.0", "c: 0.5")
    journey.push("another model")
    deadline = time.monotonic() + 120
    while (rollout := canary(journey)) is None:
        assert time.monotonic() < deadline, [(row.key, row.phase) for row in journey.rows(Kind.ROLLOUT)]
        time.sleep(0.02)
    # When its control plane sleeps, another rolls it back, and it wakes
    put_to_sleep(journey)
    store = SqlStore(f"sqlite:///{journey.state / 'interlock.db'}")
    Requests(store, time.time).roll_back(local_caller("another"), "small/production", "it looks bad")
    store.close()
    time.sleep(ASLEEP_SECONDS)
    journey.server.send_signal(signal.SIGCONT)
    # Then the rollback holds, in the rows and in the traffic
    ended = journey.until(Kind.ROLLOUT, len(journey.rows(Kind.ROLLOUT)), "promoted rolled_back cancelled superseded")
    assert (ended.key, ended.phase) == (rollout.key, "rolled_back")
    assert "it looks bad" in ended.state["because"]
    production = next(row for row in journey.rows(Kind.ENVIRONMENT) if row.key == "small/production")
    assert production.state["stable"]["version"] == 1
    assert sum(production.state["weights"].values()) == 100
    time.sleep(1.5)
    load.stop()
    after = traffic(journey.url())
    time.sleep(2)
    after.stop()
    assert load.failures == after.failures == []
    assert sum(load.served.values()) > 100
    assert set(after.served) == {f"small.production.r{production.state['stable']['number']}"}
