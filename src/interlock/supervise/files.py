"""Files that are never seen half written, the lock, and the record of events."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LARGEST_LOG = 10 * 1024 * 1024
"""Bytes of a log before it is rotated; one older part is kept."""


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. ValueError where it holds anything else; OSError as from any read."""
    document = json.loads(path.read_bytes())
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - what a file says is a value, not a type
    return document


def write_atomically(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON object so that any reader sees the old one or the new."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Holds the exclusive lock on ``path`` in the block; yields False where another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def rotate(log: Path) -> None:
    """Keeps a log small: a large one is copied aside and emptied. Writers that append go on in the same file."""
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        shutil.copyfile(log, log.with_suffix(log.suffix + ".1"))
        os.truncate(log, 0)


def record(folder: Path, name: str, event: str, because: str) -> None:
    """Appends what was done, and why, to ``events.jsonl``."""
    path = folder / "events.jsonl"
    rotate(path)
    line = json.dumps({"at": round(time.time(), 3), "name": name, "event": event, "because": because})
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
