"""The files that Envoy reads, changed under one lock, and the versions of the rows they were decided at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from interlock.errors import ProxyFault, StaleWrite
from interlock.system.files import locked, write_atomically

LOCK = "lock"
VERSIONS = "versions.json"
MODE = 0o600
"""Routes name the keys that open them, if by their digests alone."""


class Change(NamedTuple):
    """What a file said before (None: it was not there) and says now."""

    name: str
    before: bytes | None
    after: bytes


class ConfigurationFiles:
    """A folder of ``{"version_info", "resources"}`` files; ``version_info`` names their content.

    Read, compare and rename happen while ``locked``; so do those of whoever ends a lease.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the lock in the block. Nothing slow belongs inside. ProxyFault where the files cannot be used."""
        try:
            with locked(self.folder / LOCK):
                yield
        except OSError as problem:
            raise ProxyFault(f"the proxy's files cannot be written: {problem}") from problem

    def read(self, name: str) -> list[dict[str, Any]]:
        """The resources of a file; none where it is not there."""
        resources: list[dict[str, Any]] = self._document(name).get("resources", [])
        return resources

    def version(self, name: str) -> str:
        """The ``version_info`` of a file; empty where it is not there."""
        return str(self._document(name).get("version_info", ""))

    def write(self, name: str, resources: list[dict[str, Any]]) -> Change:
        """Writes a file unless it says this already."""
        before = self._content(name)
        if before is not None and self.read(name) == resources:
            return Change(name, before, before)
        digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
        content = json.dumps({"version_info": digest[:16], "resources": resources}, indent=1).encode()
        write_atomically(self.folder / name, content, MODE)
        return Change(name, before, content)

    def undo(self, change: Change) -> None:
        """Puts back what the file said before, unless somebody has written it since."""
        with self.locked():
            if self._content(change.name) != change.after:
                return
            if change.before is None:
                self.remove(change.name)
            else:
                write_atomically(self.folder / change.name, change.before, MODE)

    def remove(self, name: str) -> None:
        """The file is not there."""
        (self.folder / name).unlink(missing_ok=True)

    def advance(self, thing: str, version: int) -> None:
        """Remembers the row version at which a thing was decided; StaleWrite where a newer one is in force.

        What was removed is remembered too, or one who slept could bring it back.
        """
        versions: dict[str, int] = self._document(VERSIONS)
        in_force = versions.get(thing, 0)
        if version < in_force:
            raise StaleWrite(f"{thing} was decided at version {in_force}; an act of version {version} comes too late")
        if version > in_force:
            write_atomically(self.folder / VERSIONS, json.dumps({**versions, thing: version}).encode())

    def _content(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _document(self, name: str) -> dict[str, Any]:
        content = self._content(name)
        if content is None:
            return {}
        try:
            document: dict[str, Any] = json.loads(content)
        except ValueError as problem:
            raise ProxyFault(f"{self.folder / name} is torn: {problem}") from problem
        return document
