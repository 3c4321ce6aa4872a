"""Processes as they are: which one a number means, whether it lives, and the end of a whole tree."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
POLL_SECONDS = 0.02
KILL_ROUNDS = 250
"""Rounds of KILL before giving up on a process that the kernel does not let go."""


class _Process(NamedTuple):
    """What /proc/PID/stat says (proc_pid_stat(5)); ``started`` in clock ticks since boot."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: int

    @property
    def has_ended(self) -> bool:
        """Whether it only waits for its parent to notice."""
        return self.state in "ZX"


def _process(pid: int) -> _Process | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
    return _Process(pid, fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def _everything() -> list[_Process]:
    found = (_process(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit())
    return [process for process in found if process is not None]


def identity_of(pid: int) -> str | None:
    """Which process a number means now: ``pid:start:boot``. None where it has ended.

    A later process of the same number, also after a reboot, has another identity.
    """
    process = _process(pid)
    if process is None or process.has_ended:
        return None
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{pid}:{process.started}:{boot}"


def age_of(identity: str) -> float | None:
    """How many seconds ago that process began; None where it has ended."""
    if not is_alive(identity):
        return None
    since_boot = float((PROC / "uptime").read_text().split()[0])
    return max(0.0, since_boot - int(identity.split(":")[1]) / os.sysconf("SC_CLK_TCK"))


def is_alive(identity: str) -> bool:
    """Whether that very process still runs."""
    pid = identity.partition(":")[0]
    return pid.isdigit() and identity_of(int(pid)) == identity


class _Tree:
    """A process, its descendants, and whoever shares their process groups or sessions, found again at each look.

    What was found once stays found, so that a child whose parent ended first is not lost.
    """

    def __init__(self, root: int) -> None:
        self._members: set[tuple[int, int]] = set()
        self._groups: set[int] = set()
        own = _process(os.getpid())
        self._spared_groups = {own.group, own.session} if own else set()
        self._spared_pids = self._ancestors(os.getpid())
        process = _process(root)
        if process is not None and root not in self._spared_pids:
            self._take(process)

    @staticmethod
    def _ancestors(pid: int) -> set[int]:
        """A process and its parents: they are never part of a tree to kill."""
        found: set[int] = set()
        while pid > 0 and pid not in found:
            found.add(pid)
            process = _process(pid)
            pid = process.parent if process else 0
        return found

    def _take(self, process: _Process) -> None:
        self._members.add((process.pid, process.started))
        leads = {group for group in (process.group, process.session) if group == process.pid}
        self._groups |= leads - self._spared_groups

    def alive(self) -> list[_Process]:
        """The members that still run."""
        everything = [process for process in _everything() if process.pid not in self._spared_pids]
        has_grown = True
        while has_grown:
            before = len(self._members)
            now = {process.pid for process in everything if (process.pid, process.started) in self._members}
            for process in everything:
                if process.parent in now or self._groups & {process.group, process.session}:
                    self._take(process)
            has_grown = len(self._members) > before
        return [one for one in everything if (one.pid, one.started) in self._members and not one.has_ended]

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal to all that run; whether there were any."""
        alive = self.alive()
        for process in alive:
            current = _process(process.pid)
            if current is not None and current.started == process.started:
                try:
                    os.kill(process.pid, number)
                except (ProcessLookupError, PermissionError):
                    continue
        return bool(alive)


def kill_tree(pid: int, grace: float) -> None:
    """Ends a process and all it started: TERM, up to ``grace`` seconds of patience, then KILL; without grace at once.

    The tree is the process, its descendants, and the process groups and sessions they lead. This process and its
    parents are always spared. Returns when none is left (a child of the caller is still the caller's to reap);
    TimeoutError where the kernel does not let one go for 5 seconds. A process that left the group and whose parent
    ended before this call cannot be found: for that, start the tree in a process namespace.
    """
    tree = _Tree(pid)
    until = time.monotonic() + grace
    if grace:
        tree.signal(signal.SIGTERM)
    while time.monotonic() < until:
        if not tree.alive():
            return
        time.sleep(POLL_SECONDS)
    for _ in range(KILL_ROUNDS):
        if not tree.signal(signal.SIGKILL):
            return
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"process {pid} or one it started does not end")
