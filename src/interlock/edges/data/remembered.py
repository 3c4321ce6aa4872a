"""What was found at a place when it was last looked at, so that only what has changed is read again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import orjson
from blake3 import blake3

from interlock.system.files import write_atomically
from interlock.vocabulary import Digest

VERSION = 1
"""Raised when the form below changes: what is remembered in another is forgotten."""

Mark: TypeAlias = list[str | int | None]
"""What changes with a file's content: device, inode, size and times, or what an object store says of it."""


class Sighting(NamedTuple):
    """One file or object as it was seen. ``name`` is relative to the place, empty for the place itself.

    ``mark`` is None where it cannot tell whether the content changes from now on.
    """

    name: str
    mark: Mark | None
    size: int
    is_executable: bool = False


class Memory(NamedTuple):
    """``digest`` is the artifact of all; ``digests`` those of the files, in the order of ``marks``: (name, mark,
    is it executable).
    """

    digest: Digest
    marks: list[list[object]]
    digests: list[Digest]

    def known(self) -> Mapping[str, tuple[object, Digest]]:
        """By name the mark and the digest."""
        return {str(name): (mark, digest) for (name, mark, _), digest in zip(self.marks, self.digests, strict=True)}


def marks_of(sightings: Sequence[Sighting]) -> list[list[object]]:
    """The marks as they are kept and compared."""
    return [[one.name, one.mark, one.is_executable] for one in sightings]


class Remembered:
    """One file for each place, in ``folder``. It may be lost at any time: then everything is read again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, place: str) -> Memory | None:
        """What is remembered of a place; None where that is nothing, or cannot be read."""
        try:
            version, digest, marks, digests = orjson.loads(self._path(place).read_bytes())
            is_whole = version == VERSION and len(marks) == len(digests)
        except (OSError, ValueError, TypeError):
            return None
        return Memory(Digest(digest), marks, digests) if is_whole else None

    def keep(self, place: str, memory: Memory) -> None:
        """Remembers it instead of what was."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(place), orjson.dumps([VERSION, *memory]))

    def _path(self, place: str) -> Path:
        return self._folder / f"{blake3(os.fsencode(place)).hexdigest(length=16)}.json"
