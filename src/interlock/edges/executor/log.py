"""The log of one attempt: followed while it grows, bounded whatever the stage prints."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Self

LIMIT = 64 * 1024 * 1024
CHUNK = 1024 * 1024
ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class CappedLog:
    """Keeps the first and the last half of ``limit`` bytes, as they were sent.

    The first half is written straight to the file, so that a follower sees it at once. What comes after goes round and
    round in a second file, and is added, behind a line that tells how much is missing, when the log is closed.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._half = limit // 2
        self._file = path.open("wb", buffering=0)
        self._ring_path = path.with_name(f".{path.name}.ring")
        self._ring = -1
        self._written = 0
        self._overflow = 0
        self._is_line_open = False

    def write(self, content: bytes) -> None:
        """Adds bytes. OSError as from any write."""
        head = content[: max(0, self._half - self._written)]
        self._file.write(head)
        self._written += len(head)
        if len(head) < len(content):
            self._write_ring(memoryview(content)[len(head) :])
        if content:
            self._is_line_open = not content.endswith(b"\n")

    def say(self, line: str) -> None:
        """Adds a line of Interlock's own, on a line of its own."""
        self.write(b"\n" * self._is_line_open + f"[interlock] {line}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        """Puts the end of the log behind its beginning; a second call does nothing."""
        if self._file.closed:
            return
        if self._ring >= 0:
            self._append_ring()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
            self._file.write(f"\n[interlock] {self._overflow - kept} bytes dropped\n".encode())
        place = (self._overflow - kept) % self._half
        while kept:
            piece = os.pread(self._ring, min(kept, CHUNK, self._half - place), place)
            self._file.write(piece)
            kept -= len(piece)
            place = (place + len(piece)) % self._half
        os.close(self._ring)
        self._ring = -1
        self._ring_path.unlink(missing_ok=True)


def read_tail(path: Path, size: int = 256 * 1024) -> str:
    """The end of a log as text a person reads: colours and control sequences left out, odd bytes escaped."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - size))
        content = file.read()
    return ESCAPES.sub(b"", content).replace(b"\r", b"\n").replace(b"\0", b"").decode("utf-8", "backslashreplace")
