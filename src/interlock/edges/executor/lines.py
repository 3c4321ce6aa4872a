"""Logs by line: any window of a log in the time of a few reads, however long the log is and while it grows."""

from __future__ import annotations

import fcntl
import io
import os
import struct
from array import array
from bisect import bisect_left
from pathlib import Path
from urllib.parse import quote

from interlock.errors import NotFound
from interlock.ports import LogWindow

STEP = 64 * 1024
ENTRY = struct.Struct("=Q")
MOST_BYTES = 1024 * 1024
"""Of one window, but for a line that is longer alone."""
LONGEST = 64 * 1024
"""Bytes of a line that are shown; the log itself keeps all of them."""


def index_path(log: Path) -> Path:
    """Where the line index of a log is: how many lines ended before each 64 KiB of it, 64-bit numbers one by one."""
    return log.with_name(f"{log.name}.lines")


class LineIndex:
    """Writes the index of a log while the log is written; it is never ahead of the log.

    A log whose index ends early is read all the same: an index that cannot be written is given up, and fails nobody. A
    short log has none.
    """

    def __init__(self, log: Path) -> None:
        self._path = index_path(log)
        self._file: io.FileIO | None = None
        self._is_ended = False
        self._size = self._lines = 0

    def add(self, content: bytes) -> None:
        """What was written to the log just now."""
        entries, at = b"", 0
        while len(content) - at >= (room := STEP - self._size % STEP):
            self._lines += content.count(b"\n", at, at + room)
            entries += ENTRY.pack(self._lines)
            self._size += room
            at += room
        self._lines += content.count(b"\n", at)
        self._size += len(content) - at
        if entries and not self._is_ended:
            self._write(entries)

    def close(self) -> None:
        """Ends the index; a second call does nothing."""
        self._is_ended = True
        if self._file is not None:
            self._file.close()

    def _write(self, entries: bytes) -> None:
        try:
            self._file = self._file or self._path.open("wb", buffering=0)
            written = self._file.write(entries)
        except OSError:
            written = 0
        if written < len(entries):
            self.close()


class LogFiles:
    """The port ``Logs`` over the logs below ``folder``, the executor's own. It only reads."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).absolute() / "logs"

    def path(self, attempt: str) -> Path:
        """Where the log of an attempt is, or will be. NotFound for what is no name of one."""
        parts = attempt.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise NotFound(f"{attempt!r} is no name of an attempt", remedy="it is RUN/STAGE/NUMBER")
        return Path(f"{self._folder.joinpath(*(quote(part, safe='') for part in parts))}.log")

    def window(self, attempt: str, first: int, most: int) -> LogWindow:
        """At most ``most`` lines and 1 MiB; a line of more than 64 KiB is cut, and says so.

        A last line without an end is only shown when nobody writes to the log any more.
        """
        path = self.path(attempt)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return LogWindow(first=max(0, first), lines=(), following=max(0, first), is_end=True)
        try:
            return _Lines(descriptor, _read_index(index_path(path))).window(first, most)
        finally:
            os.close(descriptor)


class _Lines:
    """An open log as it is at this moment."""

    def __init__(self, descriptor: int, ended: array[int]) -> None:
        self._descriptor = descriptor
        # Asked before the size: whoever has stopped writing by now has written everything.
        is_growing = _is_written(descriptor)
        self._size = os.fstat(descriptor).st_size
        self._ended = ended[: self._size // STEP]
        self._complete_index()
        rest = self._read(len(self._ended) * STEP, self._size)
        self._total = (self._ended[-1] if self._ended else 0) + rest.count(b"\n")
        if rest and not rest.endswith(b"\n") and not is_growing:
            self._total += 1

    def window(self, first: int, most: int) -> LogWindow:
        first = max(0, self._total + first) if first < 0 else first
        last = min(first + max(0, most), self._total)
        if first >= last:
            return LogWindow(first=first, lines=(), following=first, is_end=first >= self._total)
        begin, end = self._begin_of(first), self._begin_of(last)
        content = self._read(begin, min(end, begin + MOST_BYTES))
        lines = content.removesuffix(b"\n").split(b"\n")
        if begin + len(content) < end and not content.endswith(b"\n"):
            lines = lines[:-1] or [content]
        following = first + len(lines)
        unread = max(0, self._begin_of(following) - 1 - begin - len(content)) if len(lines) == 1 else 0
        return LogWindow(
            first=first, lines=_as_text(lines, unread), following=following, is_end=following >= self._total
        )

    def _complete_index(self) -> None:
        """An older log has no index, and that of a killed writer may lack its end."""
        while len(self._ended) < self._size // STEP:
            at = len(self._ended) * STEP
            before = self._ended[-1] if self._ended else 0
            self._ended.append(before + self._read(at, at + STEP).count(b"\n"))

    def _begin_of(self, number: int) -> int:
        """Where the line of this number begins: behind the end of the one before it."""
        if number == 0:
            return 0
        block = bisect_left(self._ended, number)
        missing = number - (self._ended[block - 1] if block else 0)
        content = self._read(block * STEP, min((block + 1) * STEP, self._size))
        parts = content.split(b"\n", missing)
        return block * STEP + len(content) - (len(parts[-1]) if len(parts) > missing else 0)

    def _read(self, begin: int, end: int) -> bytes:
        return os.pread(self._descriptor, max(0, end - begin), begin)


def _read_index(path: Path) -> array[int]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    return array("Q", content[: len(content) // ENTRY.size * ENTRY.size])


def _is_written(descriptor: int) -> bool:
    """Whether some process holds the log open for writing: it has the lock, also when it is not this one."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _as_text(lines: list[bytes], unread: int) -> tuple[str, ...]:
    """The lines as text, over-long ones cut; of a single one ``unread`` bytes more were not read."""
    if not unread and max(map(len, lines)) <= LONGEST:
        return tuple(b"\n".join(lines).decode("utf-8", "replace").split("\n"))
    shown = []
    for line in lines:
        text, left = line[:LONGEST].decode("utf-8", "replace"), max(0, len(line) - LONGEST) + unread
        shown.append(f"{text} [interlock: {left} more bytes of this line]" if left else text)
    return tuple(shown)
