"""The log of one attempt: followed while it grows, bounded whatever the stage prints."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from interlock.access.masking import Masker

from .lines import LineIndex

LIMIT = 64 * 1024 * 1024
CHUNK = 1024 * 1024
ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class CappedLog:
    """Keeps the first and the last half of ``limit`` bytes, as they were sent but for secrets that ``masker`` hides.

    The first half is written straight to the file, so that a follower sees it at once. What comes after goes round and
    round in a second file, and is added, behind a line that tells how much is missing, when the log is closed. Beside
    the file grows its line index. Whoever reads it sees by a lock on the file that it is still written.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.masker = Masker(())
        self._half = limit // 2
        self._file = path.open("w+b", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._index = LineIndex(path)
        self._ring_path = path.with_name(f".{path.name}.ring")
        self._ring = -1
        self._written = 0
        self._overflow = 0
        self._is_line_open = False

    def write(self, content: bytes) -> None:
        """Adds bytes. OSError as from any write."""
        self._keep(self.masker.feed(content))

    def say(self, line: str) -> None:
        """Adds a line of Interlock's own, on a line of its own."""
        said = self.masker.mask(f"[interlock] {line}\n".encode(errors="backslashreplace"))
        self._keep(b"\n" * self._is_line_open + said)

    def flush(self) -> None:
        """Adds what was held back because it could have been the beginning of a secret: nothing follows it."""
        self._keep(self.masker.end())

    def read_tail(self, size: int = 256 * 1024) -> str:
        """The last so many bytes that were kept, as ``readable`` text. To be asked before the log is closed."""
        kept = min(self._overflow, self._half)
        behind = b"".join(self._ring_end(min(kept, size)))
        before = min(size - len(behind), self._written) if kept == self._overflow else 0
        return readable(os.pread(self._file.fileno(), before, self._written - before) + behind)

    def close(self) -> None:
        """Puts the end of the log behind its beginning; a second call does nothing."""
        if self._file.closed:
            return
        try:
            self.flush()
            if self._ring >= 0:
                self._append_ring()
        finally:
            self._index.close()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, content: bytes) -> None:
        head = content[: max(0, self._half - self._written)]
        self._put(head)
        self._written += len(head)
        if len(head) < len(content):
            self._write_ring(memoryview(content)[len(head) :])
        if content:
            self._is_line_open = not content.endswith(b"\n")

    def _put(self, content: bytes) -> None:
        while content:
            written = self._file.write(content)
            self._index.add(content[:written])
            content = content[written:]

    def _write_ring(self, content: memoryview) -> None:
        if self._ring < 0:
            self._ring = os.open(self._ring_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        while content:
            place = self._overflow % self._half
            piece = content[: self._half - place]
            os.pwrite(self._ring, piece, place)
            self._overflow += len(piece)
            content = content[len(piece) :]

    def _append_ring(self) -> None:
        kept = min(self._overflow, self._half)
        if self._overflow > kept:
            self._put(f"\n[interlock] {self._overflow - kept} bytes dropped\n".encode())
        for piece in self._ring_end(kept):
            self._put(piece)
        os.close(self._ring)
        self._ring = -1
        self._ring_path.unlink(missing_ok=True)

    def _ring_end(self, size: int) -> Iterator[bytes]:
        """The last so many bytes of what went round, in pieces."""
        place = (self._overflow - size) % self._half
        while size:
            piece = os.pread(self._ring, min(size, CHUNK, self._half - place), place)
            yield piece
            size -= len(piece)
            place = (place + len(piece)) % self._half


def readable(content: bytes) -> str:
    """Output as text a person reads: colours and control sequences left out, odd bytes escaped."""
    return ESCAPES.sub(b"", content).replace(b"\r", b"\n").replace(b"\0", b"").decode("utf-8", "backslashreplace")
