"""From a webhook to the end of its run, broken at every call that changes a file: nothing is lost or doubled.

C1 of the fault matrix. A real server takes a signed call over HTTP, keeps it by group commit, fetches, begins the run
and takes it to its end, with git, sandbox and executor. The K-th call below the state folder, whichever process or
thread makes it, is not done: the server is killed there, and who made it; or the call fails with ENOSPC or EIO. K goes
from 1 until nothing is left to break. Two wrong orders are planted, and have to be found: otherwise the harness shows
nothing.

In every test run a series of the same call on the same file is one point: nothing else changes within it. ``make
crash-points`` takes each call of it too, commits that each need an environment of their own, errors to the end, and the
second of the wrong orders.
"""

import errno
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lives import KILL, MARK, MOST_PUSHES, Lives
from tests.small_server import marked, wait_for

from interlock.edges.blobs import LocalBlobs
from interlock.errors import ArtifactFault
from interlock.run.run import Run
from interlock.vocabulary import Phase

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("servers")]

EVERY = os.environ.get("CRASH_POINTS") == "every"
LEAST_POINTS = 60
ACKNOWLEDGEMENT = 4
"""Points until a call is acknowledged and its look begins: as far as errors are taken in every test run."""
FIRST_TRIES = 5
"""How often the first point is tried where a problem has to be found: what a life began with may still be written."""
RESTART_SECONDS = 3.0


class Promises:
    """What must hold of the state folder of a server."""

    def __init__(self, lives: Lives) -> None:
        self._lives = lives
        self._state = lives.state

    def broken_on_disk(self) -> Iterator[str]:
        """Promises that the files break as they are, nobody having mended them."""
        if self._lives.ask("pragma integrity_check") != [("ok",)]:
            yield "the database is damaged"
        if int(self._lives.ask("select count(*) from notices")[0][0]) < self._lives.kept:
            yield "an acknowledged notice is lost"
        blobs = LocalBlobs(self._state / "artifacts")
        for (text,) in self._lives.ask("select state from rows where kind = 'run' order by place desc limit 1"):
            lock = Run.model_validate_json(text).lock
            if lock is None or not blobs.has(lock):
                yield "a run names an artifact that is not there"

    def broken_in_the_end(self) -> Iterator[str]:
        """Promises that are broken when the server had its time again."""
        try:
            wait_for(self._lives.is_last_over, "the end of the run")
        except AssertionError as late:
            yield f"{late}: {self._lives.server.log[-2000:]}"
        runs = self._runs()
        count = Counter(run.commit.sha for run in runs)
        if count != Counter(self._lives.shas):
            yield f"{count[self._lives.shas[-1]]} runs of the commit, {len(runs)} of {len(self._lives.shas)} commits"
        yield from (f"run {run.number} is {run.phase}: {run.because}" for run in runs if run.phase != Phase.SUCCEEDED)
        stages = [stage for run in runs for stage in run.stages.values()]
        yield from (f"{stage.attempt} attempts" for stage in stages if stage.attempt not in (1, 2))
        for has_come, told in (
            (self._lives.is_settled, "the settling of every notice"),
            (lambda: not marked(MARK), "the end of every stage"),
        ):
            try:
                wait_for(has_come, told, 5)
            except AssertionError as late:
                yield str(late)

    def torn_objects(self) -> list[str]:
        """Every object of the store that is not what its name says."""
        blobs, torn = LocalBlobs(self._state / "artifacts"), []
        for run in self._runs():
            products = [digest for stage in run.stages.values() for digest in stage.products.values()]
            for digest in (run.lock, *products):
                try:
                    assert digest is not None
                    for file in blobs.files(digest).values():
                        blobs.read(file)
                except ArtifactFault as fault:
                    torn.append(str(fault))
        return torn

    def _runs(self) -> list[Run]:
        states = self._lives.ask("select state from rows where kind = 'run'")
        return [Run.model_validate_json(state) for (state,) in states]


def sweep(lives: Lives, fault: int, stop_at: str = "", most: int = MOST_PUSHES - 2) -> tuple[int, list[str]]:
    """How many points there were, ``most`` at most, and what was wrong after each; up to a problem with ``stop_at``."""
    wrong: list[str] = []
    promises = Promises(lives)
    lives.start()
    lives.push()  # the environment is made here, once
    tries = FIRST_TRIES if stop_at else 1
    for point in (*[1] * tries, *range(2, most + 1)):
        was_there = lives.push(point, fault)
        calls = lives.calls
        assert calls is not None
        problems = list(promises.broken_on_disk())
        if was_there and fault == KILL:
            lives.start()
        problems += promises.broken_in_the_end() if not problems else ()
        if lives.calls is not calls:
            calls.close()
        wrong += [f"point {point}, {calls.at}: {problem}" for problem in problems]
        if not was_there or (stop_at and any(stop_at in problem for problem in problems)):
            return point - 1, wrong
    return most, wrong


@pytest.fixture
def lives(request: pytest.FixtureRequest) -> Iterator[Lives]:
    """``param`` is further words for Lives."""
    with tempfile.TemporaryDirectory(prefix="ij-") as folder:
        words = {"is_terse": not EVERY, "has_new_locks": EVERY, **getattr(request, "param", {})}
        made = Lives(Path(folder), **words)
        try:
            yield made
        finally:
            made.close()


def test_killed_at_every_call_it_loses_and_doubles_nothing(lives: Lives) -> None:
    points, wrong = sweep(lives, KILL)
    restarts = sorted(lives.starts[2:])
    print(f"{points} points; restarts {statistics.median(restarts):.2f} s, the slowest {restarts[-1]:.2f} s")
    assert wrong == []
    assert LEAST_POINTS <= points < MOST_PUSHES - 2
    assert statistics.median(restarts) <= RESTART_SECONDS  # the machine may be somebody else's for a while
    assert Promises(lives).torn_objects() == []


@pytest.mark.parametrize("lives", [{"poll_every": 1}], indirect=True, ids=[""])
@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO], ids=lambda fault: errno.errorcode[fault])
def test_failed_at_every_call_it_loses_and_doubles_nothing(lives: Lives, fault: int) -> None:
    points, wrong = sweep(lives, fault) if EVERY else sweep(lives, fault, most=ACKNOWLEDGEMENT)
    print(f"{points} points")
    assert wrong == []
    assert points == ACKNOWLEDGEMENT or LEAST_POINTS <= points < MOST_PUSHES - 2
    assert Promises(lives).torn_objects() == []


@pytest.mark.parametrize(
    ("lives", "problem"),
    [
        ({"variant": "answer-first"}, "an acknowledged notice is lost"),
        pytest.param(
            {"variant": "row-first", "has_new_locks": True},
            "an artifact that is not there",
            marks=pytest.mark.skipif(not EVERY, reason="each of its pushes makes an environment: make crash-points"),
        ),
    ],
    indirect=["lives"],
    ids=["answer-first", "row-first"],
)
def test_a_wrong_order_of_writes_is_found(lives: Lives, problem: str) -> None:
    _, wrong = sweep(lives, KILL, stop_at=problem)
    assert any(problem in one for one in wrong), wrong
