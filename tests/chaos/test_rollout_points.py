"""A control plane that is killed, or stopped and woken, at every call by which a rollout changes a file.

D6 of the fault matrix. Envoy, supervise, database and loop are real; replicas are light (tests/rollout_lives.py).
A version is released under traffic, and the K-th call below the state folder is not done: the control plane is killed
there and another one begins; or two are at work, and one is killed there, or stopped, while a person asks for the way
back, and woken when the other one has gone on. K goes from 1 until nothing is left to break. Good versions and bad ones
take turns. What must hold: no request fails but those that a bad candidate answers; weights are 100 together, in the
rows and in Envoy; both agree within ten seconds; each rollout ends once.

Some points in every test run, every one of them in ``make rollout-points`` (``ROLLOUT_POINTS=1``: each; 5: each fifth).
"""

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.rollout_lives import Life, RolloutLives

from interlock.edges.store import sqlite
from interlock.system.sockets import free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("servers")]

STRIDE = int(os.environ.get("ROLLOUT_POINTS", "0"))
SOME_POINTS = {"killed": (40, 90), "stopped and woken": (40,)}
MOST_POINTS = 2000
LEAST_POINTS = 100
MISSED = 5
"""Points in a row that were not there, until none is left: of two that are at work each makes a part of the calls."""
ASLEEP_SECONDS = 2.5
"""For how long one is stopped at most; another may be waiting for a lock that it holds."""


@pytest.fixture(scope="module")
def lives() -> Iterator[RolloutLives]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ij-") as folder:
        patch.setattr(sqlite, "BUSY_SECONDS", 1)  # ours: a person does not wait for one that is stopped
        made = RolloutLives(Path(folder), free_port())
        try:
            first = made.begin()
            assert made.settle(made.release()) == "done"
            made.end(first)
            yield made
        finally:
            made.close()


def wait_until(lives: RolloutLives, life: Life, release: str) -> bool:
    """Whether the call was there: it was broken before the release was over."""
    deadline = time.monotonic() + 60
    while life.calls.at is None and not lives.is_over(release):
        lives.disagreement()
        assert time.monotonic() < deadline, lives.log[-2000:]
        time.sleep(0.05)
    life.calls.disarm()
    return life.calls.at is not None


def killed(lives: RolloutLives, life: Life, release: str, point: int) -> None:
    """Another one begins in its place."""
    lives.end(life)
    lives.begin()


def asleep(lives: RolloutLives, life: Life, release: str, point: int) -> None:
    """The other one goes on, at every second point a person wants the way back, and then it is woken."""
    if point % 2:
        lives.roll_back()
    deadline = time.monotonic() + ASLEEP_SECONDS
    while time.monotonic() < deadline and not lives.is_over(release):
        lives.disagreement()
        time.sleep(0.05)
    life.send(signal.SIGCONT)


def one_of_two(lives: RolloutLives, life: Life, release: str, point: int) -> None:
    """The other one goes on alone."""
    lives.end(life)


WAYS: dict[str, tuple[Callable[[RolloutLives, Life, str, int], None], signal.Signals]] = {
    "killed": (killed, signal.SIGKILL),
    "stopped and woken": (asleep, signal.SIGSTOP),
    "one of two killed": (one_of_two, signal.SIGKILL),
}


@pytest.mark.parametrize("way", WAYS if STRIDE else SOME_POINTS)
def test_broken_at_every_call_a_rollout_harms_nobody_and_ends_once(
    lives: RolloutLives, traffic: Callable[..., object], way: str
) -> None:
    break_it, number = WAYS[way]
    load = traffic(lives.url, 60.0)
    ends: Counter[str] = Counter()
    broken: list[bool] = []
    wanted = range(1, MOST_POINTS, STRIDE) if STRIDE else SOME_POINTS[way]
    for tried, point in enumerate(wanted):
        is_bad = tried % 2 == 1
        life = lives.begin()
        if way != "killed":
            lives.begin()  # two are at work
        life.calls.arm(point, 0, [life.pid], number)
        release = lives.release(is_bad=is_bad)
        was_there = wait_until(lives, life, release)
        told = f"point {point}, {life.calls.at}"
        try:
            if was_there:
                break_it(lives, life, release, point)
            phase = lives.settle(release)
        except AssertionError as wrong:
            raise AssertionError(f"{told}: {wrong}") from wrong
        ends[f"{'bad' if is_bad else 'good'}: {phase}"] += 1
        broken.append(was_there)
        assert not (is_bad and phase == "done"), told
        failed = [text for status, text in load.failures if status != 500 or not lives.is_of_a_bad_one(text)]
        assert failed == [], told
        lives.end_all()
        lives.unfreeze()
        if not any(broken[-MISSED:]):
            break
    print(f"{way}: broken at {sum(broken)} points up to {point}, {dict(ends)}, agreed within {lives.slowest:.2f} s")
    assert not STRIDE or LEAST_POINTS < point < MOST_POINTS - STRIDE
