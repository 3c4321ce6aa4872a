"""All programs of a data-plane folder, looked at again and again."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from . import leases
from .files import record, rotate
from .keeper import Keeper
from .program import Program, Programs

FOLDERS = ("processes", "status", "logs", "leases")
LOOK_SECONDS = 0.05
LEASE_SECONDS = 0.5
LOG_SECONDS = 10.0


def has_room(beginning: int, serving: int, cores: int) -> bool:
    """Whether one more program may begin beside those that begin.

    A start takes a core for seconds. While anybody serves, at most half of the cores do so at a time; where nobody
    serves yet, nobody is disturbed.
    """
    return not serving or beginning < max(1, cores // 2)


class Supervisor:
    """Keeps what the folder's files ask for alive. There is one for a folder: whoever makes it holds the lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._programs = Programs(folder / "processes")
        self._cores = len(os.sched_getaffinity(0))
        now = time.monotonic()
        names = [path.name.removesuffix(".json") for path in (folder / "status").glob("[!.]*.json")]
        self._keepers = {name: Keeper.adopt(folder, name, now) for name in names}
        self._next_leases = self._next_logs = now

    def look(self) -> None:
        """One look at programs, leases and logs."""
        wanted, problems = self._programs.look()
        for name, problem in problems.items():
            record(self._folder, name, "refused", problem)
        self._keep(wanted)
        now = time.monotonic()
        if now >= self._next_leases:
            self._next_leases = now + LEASE_SECONDS
            leases.expire(self._folder, time.time())
        if now >= self._next_logs:
            self._next_logs = now + LOG_SECONDS
            for log in (self._folder / "logs").glob("*.log"):
                rotate(log)

    def stop(self) -> bool:
        """One look at which everything is ended, gently. Answers whether anything still runs."""
        self._keep({})
        return bool(self._keepers)

    def _keep(self, wanted: dict[str, Program]) -> None:
        for name in sorted({*wanted, *self._keepers}):
            keeper = self._keepers.setdefault(name, Keeper(self._folder, name))
            now = time.monotonic()
            try:
                is_left = keeper.look(wanted.get(name), now, has_room=self._has_room(now))
            except (
                OSError
            ) as problem:  # no memory, no processes, no space: the others are kept, this one is tried again
                sys.stderr.write(f"{name}: {problem}\n")
                continue
            if not is_left:
                del self._keepers[name]

    def _has_room(self, now: float) -> bool:
        keepers = self._keepers.values()
        beginning = sum(keeper.is_beginning(now) for keeper in keepers)
        return has_room(beginning, sum(keeper.is_serving for keeper in keepers), self._cores)


def run(folder: Path, is_ending: list[bool]) -> None:
    """Looks until ``is_ending`` holds something; then ends everything and returns."""
    supervisor = Supervisor(folder)
    while not is_ending:
        try:
            supervisor.look()
        except OSError as problem:
            sys.stderr.write(f"supervise: {problem}\n")
        time.sleep(LOOK_SECONDS)
    while supervisor.stop():
        time.sleep(LOOK_SECONDS)
