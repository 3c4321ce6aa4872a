"""Files whose digests are known, copied into the store many at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from interlock.errors import ArtifactFault
from interlock.system.files import sync_folder, write_all
from interlock.system.hashing import hash_file
from interlock.vocabulary import Digest

BATCH = 10_000
"""Files that become durable together: one by one each costs a wait for the disk."""


def copy_known(files: Iterable[tuple[Digest, str]], incoming: Path, place_of: Callable[[Digest], Path]) -> None:
    """Copies files, checked while they are read, to where they belong. What was copied is on the disk.

    ArtifactFault where one is not, or no longer, what its digest says; what came before it may have been stored.
    """
    for batch in _batches(files):
        names: dict[Digest, Path] = {}
        try:
            for digest, place in batch:
                names[digest] = _copy(digest, place, incoming, is_alone=len(batch) == 1)
            if len(batch) > 1:
                os.sync()
            folders = set()
            for digest, name in names.items():
                aim = place_of(digest)
                aim.parent.mkdir(exist_ok=True)
                name.replace(aim)
                folders |= {aim.parent, aim.parent.parent}
        finally:
            for name in names.values():
                name.unlink(missing_ok=True)
        for folder in folders:
            sync_folder(folder)


def _batches(files: Iterable[tuple[Digest, str]]) -> Iterator[list[tuple[Digest, str]]]:
    batch: list[tuple[Digest, str]] = []
    for one in files:
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _copy(digest: Digest, place: str, incoming: Path, *, is_alone: bool) -> Path:
    descriptor, name = tempfile.mkstemp(dir=incoming)
    try:
        with open(place, "rb", buffering=0) as file, os.fdopen(descriptor, "wb", buffering=0) as copy:  # noqa: PTH123 - many
            found = hash_file(file.fileno(), lambda piece: write_all(copy.fileno(), piece))
            os.fchmod(copy.fileno(), 0o444)
            if is_alone:
                os.fsync(copy.fileno())
        if f"blake3:{found}" != digest:
            raise ArtifactFault(f"{place} has changed: its content is that of blake3:{found}, not of {digest}")
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)
