"""Whether Envoy took what was written: a rejection is an error for who wrote it, not a line in a log."""

from __future__ import annotations

import time
from pathlib import Path

from interlock.errors import ProxyFault

from .admin import Admin
from .files import Change, ConfigurationFiles

PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.005
LOG_TAIL = 16384


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
