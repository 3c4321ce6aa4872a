"""What running processes use of the machine, as /proc tells it: see proc_pid_stat(5), proc_pid_io(5)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
BLOCK = 512
"""Bytes in which st_blocks counts."""


class Usage(NamedTuple):
    """A tree at one moment: bytes in memory, processes with their threads, processor seconds, bytes read and written.

    ``memory`` counts what processes share once for each. The last three include children that have ended.
    """

    memory: int
    processes: int
    cpu_seconds: float
    read: int
    written: int

    def most(self, other: Usage) -> Usage:
        """The larger of each figure: what has ended unseen is missing later."""
        return Usage(
            max(self.memory, other.memory),
            max(self.processes, other.processes),
            max(self.cpu_seconds, other.cpu_seconds),
            max(self.read, other.read),
            max(self.written, other.written),
        )


class DiskGuard:
    """Tells when more than ``limit`` bytes were added to a folder: half of what is free there, unless it is given.

    The folder is measured as it is now, and then only when its file system has lost as much as it may still grow. Files
    without a name that processes of the tree below ``root`` hold open count as well.
    """

    def __init__(self, folder: str, root: int, limit: int | None) -> None:
        self._folder, self._root = folder, root
        self._before = size_on_disk(folder)
        self._free = free_space(folder)
        self._added = 0
        self.limit = self._free // 2 if limit is None else limit

    def excess(self) -> int | None:
        """How much was added, where that is too much."""
        free = free_space(self._folder)
        if self._added + self._free - free <= self.limit:
            return None
        nameless = size_of_nameless(tree_of(self._root), Path(self._folder).stat().st_dev)
        self._added, self._free = size_on_disk(self._folder) + nameless - self._before, free
        return self._added if self._added > self.limit else None


def tree_of(pid: int) -> list[int]:
    """A process and its descendants that can be found now."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting.extend(children_of(one))
    return found


def measure(pids: Iterable[int]) -> Usage:
    """What these processes use now; those that have ended use nothing."""
    memory = processes = ticks = read = written = 0
    for pid in pids:
        place = f"{PROC}/{pid}"
        try:
            memory += int(_text(f"{place}/statm").split()[1]) * PAGE
            fields = _text(f"{place}/stat").rpartition(")")[2].split()
            moved = dict(line.split(": ") for line in _text(f"{place}/io").splitlines())
        except (OSError, IndexError):
            continue
        ticks += sum(map(int, fields[11:15]))
        processes += int(fields[17])
        read, written = read + int(moved["rchar"]), written + int(moved["wchar"])
    return Usage(memory, processes, ticks / TICKS, read, written)


def shared_out(pids: Iterable[int]) -> int:
    """Bytes in memory of these processes, where what several share counts once in all. Slower than ``measure``."""
    total = 0
    for pid in pids:
        try:
            lines = _text(f"{PROC}/{pid}/smaps_rollup").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def size_on_disk(folder: str) -> int:
    """Bytes that a folder's files take on the disk, each once however many names it has.

    Nobody sees by access times that it was looked at. What is not there any more, or not ours, counts nothing.
    """
    seen: set[int] = set()
    total, waiting = 0, [folder]
    while waiting:
        place = waiting.pop()
        with suppress(OSError), _opened(place) as descriptor, os.scandir(descriptor) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                if found.st_ino not in seen:
                    seen.add(found.st_ino)
                    total += found.st_blocks * BLOCK
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(f"{place}/{entry.name}")
    return total


def size_of_nameless(pids: Iterable[int], device: int) -> int:
    """Bytes on a disk of files that these processes have open and that nobody can find any more."""
    found: dict[int, int] = {}
    for pid in pids:
        place = f"{PROC}/{pid}/fd"
        with suppress(OSError):
            for link in Path(place).iterdir():
                with suppress(OSError):
                    file = link.stat()
                    if not file.st_nlink and file.st_dev == device:
                        found[file.st_ino] = file.st_blocks * BLOCK
    return sum(found.values())


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def free_space(folder: str) -> int:
    """Bytes that this user may still write to the folder's file system."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def ended_for_memory() -> int:
    """How many processes the kernel has ended on this machine, since it started, for want of memory."""
    counts = dict(line.split() for line in _text(f"{PROC}/vmstat").splitlines())
    return int(counts.get("oom_kill", 0))


def children_of(pid: int) -> Iterator[int]:
    """The children of a process that can be found now."""
    try:
        threads = os.listdir(PROC / str(pid) / "task")  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return
    for thread in threads:
        try:
            text = _text(f"{PROC}/{pid}/task/{thread}/children")
        except OSError:
            continue
        yield from map(int, text.split())


def _text(path: str) -> str:
    with open(path, errors="replace") as file:  # noqa: PTH123 - looked at often: half the cost of Path.read_text
        return file.read()
