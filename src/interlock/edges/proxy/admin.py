"""What Envoy says about itself, over its admin socket."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from interlock.errors import ProxyFault
from interlock.system.processes import identity_of
from interlock.system.sockets import connect, http_over

SECONDS = 1.0
EXPIRES = re.compile(r"listener\..*\.ssl\.certificate\.(?P<name>[^.]+)\.expiration_unix_time_seconds")
"""What it tells of the certificate that a listener shows; ``name`` is that of the secret, which is the listener's."""


class Bucket(NamedTuple):
    """So many answers took ``lower`` to ``lower`` + ``width`` milliseconds, the part below a millisecond cut off."""

    lower: float
    width: float
    answers: int


class Admin:
    """Envoy's admin at a Unix socket. Whatever goes wrong is a ProxyFault."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    def epoch(self) -> str:
        """Which process answers: a counter of another one began at 0."""
        try:
            with connect(self._folder, self._name, SECONDS) as connection:
                peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError as problem:
            raise ProxyFault(f"the proxy cannot be reached: {problem}") from problem
        identity = identity_of(int(struct.unpack("3i", peer)[0]))
        if identity is None:
            raise ProxyFault("the proxy ended just now")
        return identity

    def is_ready(self) -> bool:
        """Whether it has its first configuration and takes requests."""
        try:
            return http_over(self._folder, self._name, "GET", "/ready", timeout=SECONDS).status == 200
        except OSError:
            return False

    def stats(self, *names: str) -> dict[str, int | str]:
        """Numbers and texts by full name, of all whose names begin with one of these."""
        pattern = "^(" + "|".join(re.escape(name) for name in names) + ")"
        found = self._read(f"/stats?format=json&filter={quote(pattern, safe='')}")
        return {one["name"]: one["value"] for one in found["stats"] if "name" in one}

    def times(self, names: Iterable[str]) -> dict[str, list[Bucket]]:
        """How long answers took, by the full name of the histogram."""
        pattern = "^(" + "|".join(re.escape(name) for name in names) + ")$"
        found = self._read(f"/stats?format=json&histogram_buckets=detailed&filter={quote(pattern, safe='')}")
        details = [one for part in found["stats"] for one in part.get("histograms", {}).get("details", [])]
        return {
            one["name"]: [Bucket(part["lower_bound"], part["width"], part["count"]) for part in one["totals"]]
            for one in details
        }

    def clusters(self) -> dict[str, list[dict[str, Any]]]:
        """The hosts of each cluster that is warm, as Envoy shows them."""
        found = self._read("/clusters?format=json").get("cluster_statuses", [])
        return {one["name"]: one.get("host_statuses", []) for one in found}

    def certificates(self) -> dict[str, float]:
        """By listener when the certificate that it shows ends, in wall seconds; none of listeners without TLS."""
        stats = self.stats("listener.").items()
        return {named["name"]: float(value) for name, value in stats if (named := EXPIRES.fullmatch(name))}

    def _read(self, path: str) -> dict[str, Any]:
        try:
            answer = http_over(self._folder, self._name, "GET", path, timeout=SECONDS)
            document: dict[str, Any] = json.loads(answer.body)
        except (OSError, ValueError) as problem:
            raise ProxyFault(f"the proxy cannot be read: {problem}") from problem
        return document
