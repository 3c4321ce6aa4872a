"""The log of what was predicted: one JSON line for each inference request, in one file for each revision and process.

What may be lost: the lines of the last second when the process is killed, and whatever does not fit on a full disk
(counted in ``lost``). Serving never waits for the log and never fails because of it.
"""

from __future__ import annotations

import os
from pathlib import Path

import orjson

FLUSH_SECONDS = 1.0
BUFFERED_BYTES = 256 * 1024


class PredictionLog:
    """Appends to ``folder/revision-pid.jsonl``. Whole lines are written at once, so that processes may share a file."""

    def __init__(self, folder: Path, revision: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{revision}-{os.getpid()}.jsonl"
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._lines: list[bytes] = []
        self._size = 0
        self.lost = 0
        self._is_torn = False
        length = os.fstat(self._file).st_size
        if length and os.pread(self._file, 1, length - 1) != b"\n":
            # Another process was killed while it wrote here: its torn line must not swallow ours.
            self._is_torn = True

    def append(self, record: dict[str, object]) -> None:
        """Keeps one record, to be written by the next ``flush`` (or now, when much is kept)."""
        line = orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BUFFERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what is kept."""
        if not self._lines:
            return
        content, count = (b"\n" if self._is_torn else b"") + b"".join(self._lines), len(self._lines)
        self._lines.clear()
        self._size = 0
        try:
            written = os.write(self._file, content)
        except OSError:
            self.lost += count
            return
        self._is_torn = written < len(content)
        self.lost += content[written:].count(b"\n")

    def close(self) -> None:
        """Writes what is kept and closes the file."""
        self.flush()
        os.close(self._file)
