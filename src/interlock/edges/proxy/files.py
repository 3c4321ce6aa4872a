"""The files that Envoy reads, changed under one lock, the versions of the rows they were decided at, and whether Envoy
took what was written: a rejection is an error for who wrote it, not a line in a log.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from interlock.errors import ProxyFault, StaleWrite
from interlock.system.files import locked, write_atomically

from .admin import Admin

LOCK = "lock"
VERSIONS = "versions.json"
MODE = 0o600
"""Routes name the keys that open them, if by their digests alone."""

PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.005
LOG_TAIL = 16384


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


class Acceptance:
    """Compares files with what Envoy says it took. A dead Envoy is no error: it will start from the files."""

    def __init__(self, admin: Admin, files: ConfigurationFiles, log: Path) -> None:
        self._admin = admin
        self._files = files
        self._log = log

    def rejections(self, prefix: str) -> int:
        """How many updates of this subscription Envoy has refused so far; 0 where it is not there."""
        try:
            return _rejections(self._admin.stats(prefix), prefix)
        except ProxyFault:
            return 0

    def wait_for(self, change: Change, prefix: str, rejections: int) -> None:
        """Returns when the file's content is in force; ``rejections`` were counted before it was written.

        Where Envoy rejects it, the change is undone and ProxyFault says why: a file that is in force nowhere would be
        what Envoy starts from.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            try:
                stats = self._admin.stats(prefix)
            except ProxyFault:
                return
            if stats.get(f"{prefix}version_text") == self._files.version(change.name):
                return
            if _rejections(stats, prefix) > rejections:
                self._files.undo(change)
                raise ProxyFault(f"the proxy rejected {change.name}: {self.reason()}")
            time.sleep(LOOK_SECONDS)
        raise ProxyFault(f"the proxy did not take {change.name} in {PATIENCE_SECONDS:g} s: {self.reason()}")

    def wait_until_warm(self, cluster: str) -> None:
        """Returns when requests can be routed to the cluster. ProxyFault where that takes too long."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            try:
                if cluster in self._admin.clusters():
                    return
            except ProxyFault:
                return
            time.sleep(LOOK_SECONDS)
        raise ProxyFault(f"the proxy did not get {cluster} ready in {PATIENCE_SECONDS:g} s: {self.reason()}")

    def wait_until_ready(self, seconds: float) -> None:
        """Returns when Envoy takes requests. ProxyFault where that takes longer than ``seconds``."""
        until = time.monotonic() + seconds
        while not self._admin.is_ready():
            if time.monotonic() > until:
                raise ProxyFault(f"the proxy did not start in {seconds:g} s: {self.reason()}")
            time.sleep(LOOK_SECONDS * 4)

    def reason(self) -> str:
        """The last thing that Envoy complained of."""
        try:
            with self._log.open("rb") as log:
                size = log.seek(0, 2)
                log.seek(max(0, size - LOG_TAIL))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return "it has said nothing"
        told = [line for line in lines if line.strip()]
        complaints = [line for line in told if "reject" in line or "failure" in line or "error" in line.lower()]
        return (complaints or told or ["it has said nothing"])[-1]


def _rejections(stats: dict[str, int | str], prefix: str) -> int:
    return sum(int(stats.get(f"{prefix}{name}", 0)) for name in ("update_rejected", "update_failure"))
