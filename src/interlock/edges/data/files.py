"""Files and folders of this machine: walked over, and read once."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from interlock.edges.data.remembered import Mark, Sighting
from interlock.errors import DataFault, NotFound, Refused
from interlock.ports import KnownFile
from interlock.system.hashing import hash_file
from interlock.vocabulary import Digest

TICK_NS = 20_000_000
"""A file system tells times in ticks of at most ten milliseconds, as the kernel does."""
COARSE_TICK_NS = 2_000_000_000
"""Of one that keeps whole seconds or less."""
CHUNK = 50
"""Files that one thread reads in a row."""
TRIES = 3
"""How often a file is read that changes meanwhile."""


class FilePlace:
    """A file or folder at ``place``, an absolute path. ``check`` refuses what a link leads to and may not be read.

    A symbolic link counts as the file that it leads to; one to a folder, within a folder, is refused.
    """

    def __init__(self, place: str, check: Callable[[str], None]) -> None:
        self.place = place
        self._check = check

    def look(self) -> list[Sighting]:
        """What is there now, by name. NotFound for nothing; Refused for what is neither file nor folder.

        Files that were written within the last tick of the clock are waited for: their next change would look the same.
        """
        now = time.time_ns()
        found = self._walk(now)
        if any(one.mark is None for one in found):
            time.sleep(2 * TICK_NS / 1e9)
            found = self._walk(time.time_ns())
        return found

    def read(self, names: list[str], pause: Callable[[], None]) -> dict[str, KnownFile]:
        """The digests of these files. DataFault for one that changes all the time."""

        def read_one(name: str) -> KnownFile:
            return _read(f"{self.place}/{name}" if name else self.place, pause)

        if len(names) == 1:
            return {names[0]: read_one(names[0])}
        parts = [names[first : first + CHUNK] for first in range(0, len(names), CHUNK)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            read = [one for part in pool.map(lambda part: [read_one(name) for name in part], parts) for one in part]
        return dict(zip(names, read, strict=True))

    def _walk(self, now: int) -> list[Sighting]:
        try:
            facts = Path(self.place).stat()
            if stat.S_ISREG(facts.st_mode):
                return [_sighting("", facts, now)]
            if not stat.S_ISDIR(facts.st_mode):
                raise Refused("this is neither a file nor a folder", self.place, "name a file or folder")
            found: list[Sighting] = []
            self._collect("", now, found)
            found.sort()
        except FileNotFoundError as problem:
            remedy = "put it there, or correct the path in interlock.yaml"
            raise NotFound("there is nothing", str(problem.filename), remedy) from problem
        except (PermissionError, NotADirectoryError, OSError) as problem:
            raise DataFault(f"{problem.filename}: {problem.strerror}; let the user of Interlock read it") from problem
        if not found:
            raise NotFound("the folder holds no files", self.place, "put them there, or correct the path")
        return found

    def _collect(self, folder: str, now: int, found: list[Sighting]) -> None:
        with os.scandir(f"{self.place}/{folder}") as entries:
            for entry in entries:
                name = folder + entry.name
                if entry.is_symlink():
                    found.append(_sighting(name, self._behind(entry.path), now))
                elif entry.is_dir(follow_symlinks=False):
                    self._collect(f"{name}/", now, found)
                else:
                    found.append(_sighting(name, entry.stat(follow_symlinks=False), now))

    def _behind(self, path: str) -> os.stat_result:
        try:
            facts = Path(path).stat()
        except OSError as problem:
            raise Refused("the symbolic link points to no file", path, "remove it") from problem
        if stat.S_ISDIR(facts.st_mode):
            raise Refused("the symbolic link points to a folder", path, "put the folder itself there")
        self._check(path)
        return facts


def _sighting(name: str, facts: os.stat_result, now: int) -> Sighting:
    if not stat.S_ISREG(facts.st_mode):
        raise Refused("this is neither a file nor a folder", name, "remove it from the folder")
    mark = _mark(facts) if is_settled(facts, now) else None
    return Sighting(name, mark, facts.st_size, bool(facts.st_mode & stat.S_IXUSR))


def is_settled(facts: os.stat_result, now: int) -> bool:
    """Whether any change after ``now`` (nanoseconds) must give the file another time of change than it has.

    That time cannot be set by hand, unlike the time of modification.
    """
    is_coarse = facts.st_ctime_ns % 1_000_000 == 0
    return facts.st_ctime_ns < now - (COARSE_TICK_NS if is_coarse else TICK_NS)


def _mark(facts: os.stat_result) -> Mark:
    return [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def _read(path: str, pause: Callable[[], None]) -> KnownFile:
    for _ in range(TRIES):
        pause()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as problem:
            raise DataFault(f"{path}: {problem.strerror}; it was there a moment ago") from problem
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise Refused("this is neither a file nor a folder", path, "remove it")
            digits = hash_file(descriptor, lambda _piece: pause())
            after, named = os.fstat(descriptor), Path(path).stat()
        except OSError as problem:
            raise DataFault(f"{path}: {problem.strerror}; it could not be read to its end") from problem
        finally:
            os.close(descriptor)
        if _mark(before) == _mark(after) == _mark(named):
            return KnownFile(path, Digest(f"blake3:{digits}"), bool(before.st_mode & stat.S_IXUSR))
    raise DataFault(f"{path}: it changes while it is read; wait until it is complete, and put it there in one step")
