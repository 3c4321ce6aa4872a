"""Control groups of this machine, version 1 or 2: where stages' groups can be made, and what such a group does.

The files are those of the kernel's documentation, admin-guide/cgroup-v1 and admin-guide/cgroup-v2.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from interlock.ports import Bounds, CellSeen

OWN_PROCESSES = 4
"""What is in a group beside the stage's own: the thread that starts it, the launcher, the first process inside, and the
shell that waits for the stage."""
PERIOD = 100_000
"""Microseconds over which processor time is shared out; the kernel's own default."""
LEAST_QUOTA = 1000
CONTROLLERS = ("memory", "pids", "cpu")
NAME = "interlock"
PATIENCE, PAUSES = 5.0, (0.001, 0.02)
"""Seconds for which what is in a group is killed before giving up; the first and the longest pause between tries."""


class Group(Protocol):
    """One control group, used for one program after the other."""

    is_late: bool

    def enter(self) -> None:
        """The calling thread, and what it starts from now on, is in the group. Nothing happens where ``is_late``."""

    def admit(self, pid: int) -> None:
        """A process, and what it starts from now on, is in the group."""

    def bound(self, bounds: Bounds) -> None:
        """These bounds hold from now on, and what was counted is forgotten."""

    def look(self) -> CellSeen:
        """What is used and was refused since ``bound``."""

    def empty(self) -> None:
        """Kills all in the group but this process; TimeoutError where one does not end."""

    def remove(self) -> None:
        """The group is gone. To be asked when no thread is in it."""


class _Counts(NamedTuple):
    """What the kernel counted since the group was made."""

    kills: int
    refusals: int


class _Files:
    """The few ways in which a group's files are read and written."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)
        self._places = {controller: str(folder) for controller, folder in folders.items()}
        self._before = _Counts(0, 0)
        self._peak = 0
        for folder in set(folders.values()):
            folder.mkdir()

    def _read(self, controller: str, name: str) -> str:
        return _content(f"{self._places[controller]}/{name}")

    def _write(self, controller: str, name: str, value: object) -> None:
        descriptor = os.open(
            f"{self._places[controller]}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644
        )
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)

    def _table(self, controller: str, name: str) -> dict[str, int]:
        words = self._read(controller, name).split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def _others(self) -> set[int]:
        texts = [_content(f"{place}/cgroup.procs") for place in set(self._places.values())]
        return {int(pid) for text in texts for pid in text.split()} - {os.getpid()}

    def _since(self, now: _Counts) -> _Counts:
        before = self._before
        return _Counts(now.kills - before.kills, now.refusals - before.refusals)

    def _kill(self) -> None:
        for pid in self._others():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def empty(self) -> None:
        """See Group."""
        for pause in _pauses():
            if not self._others():
                return
            self._kill()
            time.sleep(pause)
        raise TimeoutError(f"the processes {sorted(self._others())} do not end")

    def remove(self) -> None:
        """See Group. A thread that has ended may be counted for a moment longer."""
        for folder in set(self._folders.values()):
            for pause in _pauses():
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(pause)
                else:
                    break


def _content(place: str) -> str:
    """The text of one of the kernel's own files: these are read at every look, so with few calls."""
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, 1 << 16):
            pieces.append(piece)
        return b"".join(pieces).decode()
    finally:
        os.close(descriptor)


def _pauses() -> Iterator[float]:
    """Growing pauses, until they are PATIENCE together: most of what is waited for comes within the first."""
    pause, passed = PAUSES[0], 0.0
    while passed < PATIENCE:
        yield pause
        passed += pause
        pause = min(2 * pause, PAUSES[1])


class FirstGroup(_Files):
    """A group of version 1: a folder in each hierarchy. A single thread can be in it, and its children are."""

    is_late = False

    def enter(self) -> None:
        """See Group."""
        for folder in set(self._folders.values()):
            (folder / "tasks").write_text(str(threading.get_native_id()))

    def admit(self, pid: int) -> None:
        """See Group."""
        for folder in set(self._folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def bound(self, bounds: Bounds) -> None:
        """See Group."""
        has_swap = (self._folders["memory"] / "memory.memsw.limit_in_bytes").exists()
        files = ["memory.limit_in_bytes", *(["memory.memsw.limit_in_bytes"] if has_swap else [])]
        for name in reversed(files):  # memory alone never above memory with swap
            self._write("memory", name, -1)
        for name in files if bounds.memory is not None else ():
            self._write("memory", name, bounds.memory)
        self._write("pids", "pids.max", "max" if bounds.processes is None else bounds.processes + OWN_PROCESSES)
        self._write("cpu", "cpu.cfs_quota_us", -1 if bounds.cpu is None else max(LEAST_QUOTA, int(bounds.cpu * PERIOD)))
        self._write("memory", "memory.max_usage_in_bytes", 0)
        self._peak, self._before = 0, self._counts()

    def look(self) -> CellSeen:
        """See Group."""
        used = self._table("memory", "memory.stat")
        memory = used["rss"] + used["shmem"]
        most = int(self._read("memory", "memory.max_usage_in_bytes")) - (used["cache"] - used["shmem"])
        self._peak = max(self._peak, memory, most)
        processes = int(self._read("pids", "pids.current")) - OWN_PROCESSES
        return CellSeen(memory, self._peak, max(0, processes), *self._since(self._counts()))

    def _counts(self) -> _Counts:
        kills = self._table("memory", "memory.oom_control")["oom_kill"]
        refusals = self._table("pids", "pids.events")["max"]
        return _Counts(kills, refusals)


class SecondGroup(_Files):
    """A group of version 2. Only whole processes can be in it, so they are brought there once they wait at a gate."""

    is_late = True

    def __init__(self, folder: Path) -> None:
        super().__init__(dict.fromkeys(CONTROLLERS, folder))

    def enter(self) -> None:
        """See Group."""

    def admit(self, pid: int) -> None:
        """See Group."""
        self._write("pids", "cgroup.procs", pid)

    def bound(self, bounds: Bounds) -> None:
        """See Group."""
        self._write("memory", "memory.max", "max" if bounds.memory is None else bounds.memory)
        if (self._folders["memory"] / "memory.swap.max").exists():
            self._write("memory", "memory.swap.max", "max" if bounds.memory is None else 0)
        self._write("pids", "pids.max", "max" if bounds.processes is None else bounds.processes + OWN_PROCESSES)
        quota = "max" if bounds.cpu is None else max(LEAST_QUOTA, int(bounds.cpu * PERIOD))
        self._write("cpu", "cpu.max", f"{quota} {PERIOD}")
        self._peak, self._before = 0, self._counts()

    def look(self) -> CellSeen:
        """See Group."""
        used = self._table("memory", "memory.stat")
        memory = used["anon"] + used["shmem"]
        self._peak = max(self._peak, memory)
        processes = int(self._read("pids", "pids.current")) - OWN_PROCESSES
        return CellSeen(memory, self._peak, max(0, processes), *self._since(self._counts()))

    def _counts(self) -> _Counts:
        kills = self._table("memory", "memory.events").get("oom_kill", 0)
        refusals = self._table("pids", "pids.events")["max"]
        return _Counts(kills, refusals)

    def _kill(self) -> None:
        """All at once where the kernel can (Linux 5.14): it holds this process never, which is not in the group."""
        try:
            self._write("pids", "cgroup.kill", 1)
        except OSError:
            super()._kill()


class Places:
    """Where groups can be made: below this process's own in each hierarchy of version 1, or the nearest one of
    version 2 that passes the controllers on. OSError at construction where this user may make none.
    """

    def __init__(self, mounts: str | None = None, own: str | None = None) -> None:
        mounts = Path("/proc/self/mountinfo").read_text() if mounts is None else mounts
        own = Path("/proc/self/cgroup").read_text() if own is None else own
        found = dict(_own_folders(mounts, own))
        self._is_first = all(controller in found for controller in CONTROLLERS)
        if self._is_first:
            self._folders = {controller: found[controller] for controller in CONTROLLERS}
        else:
            self._folders = dict.fromkeys(CONTROLLERS, _passing(found.get("")))
        self._made = 0
        self._sweep()
        self.make().remove()

    def make(self) -> Group:
        """A group of its own. OSError where it cannot be made."""
        while True:
            self._made += 1
            name = f"{NAME}-{_family()}-{os.getpid()}-{self._made}"
            folders = {controller: folder / name for controller, folder in self._folders.items()}
            with suppress(FileExistsError):  # another of this process, or what an earlier one of its number left behind
                return FirstGroup(folders) if self._is_first else SecondGroup(folders["memory"])

    def _sweep(self) -> None:
        """What processes that were killed left behind: empty groups."""
        for folder in set(self._folders.values()):
            for left in folder.glob(f"{NAME}-{_family()}-*-*"):
                pid = left.name.split("-")[2]
                if not Path("/proc", pid).exists():
                    with suppress(OSError):
                        left.rmdir()


def _family() -> int:
    """Which process namespace the numbers in a name belong to: several may share the groups of a machine."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _own_folders(mounts: str, own: str) -> Iterator[tuple[str, Path]]:
    """The folder of this process's group by controller; version 2 is the one without a name."""
    groups: dict[str, str] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), path)
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split()[:3]
        names = [""] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
        for name in names:
            if name in groups:
                path = groups[name]
                inside = path.removeprefix(root) if path.startswith(root) else path
                yield name, Path(point) / inside.lstrip("/")


def _passing(own: Path | None) -> Path:
    """The nearest group from this one upwards whose children have all controllers, switched on here where need be."""
    folder = own
    while folder is not None and (folder / "cgroup.controllers").is_file():
        if set(CONTROLLERS) <= set((folder / "cgroup.controllers").read_text().split()):
            try:
                if not set(CONTROLLERS) <= set((folder / "cgroup.subtree_control").read_text().split()):
                    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in CONTROLLERS))
                if os.access(folder / "cgroup.procs", os.W_OK):
                    return folder
            except OSError:  # other processes are in it, or it is not ours: its parent may do
                pass
        folder = folder.parent
    raise OSError("no control group of this user passes on memory, pids and cpu")
