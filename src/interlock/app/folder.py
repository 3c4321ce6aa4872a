"""The state folder: the one place where Interlock keeps anything."""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StateFolder:
    """Paths within the state folder.

    ``data`` is the data plane's own: it serves on without the rest.
    """

    root: Path

    @property
    def database(self) -> str:
        """The store's URL."""
        return f"sqlite:///{self.root / 'interlock.db'}"

    @property
    def artifacts(self) -> Path:
        """Content-addressed bytes."""
        return self.root / "artifacts"

    @property
    def environments(self) -> Path:
        """Python environments by digest."""
        return self.root / "environments"

    @property
    def snapshots(self) -> Path:
        """Private git directories of working trees that were run."""
        return self.root / "snapshots"

    @property
    def mirrors(self) -> Path:
        """Mirrors of remote repositories."""
        return self.root / "mirrors"

    @property
    def execution(self) -> Path:
        """Workspaces and logs of stages."""
        return self.root / "execution"

    @property
    def places(self) -> Path:
        """What was found at places that hold data, so that only what has changed is read again."""
        return self.root / "places"

    @property
    def keys(self) -> Path:
        """The signing key, readable by its owner only."""
        return self.root / "keys"

    @property
    def data(self) -> Path:
        """Processes, sockets, configuration and logs of the data plane."""
        return self.root / "data"

    @property
    def settings(self) -> Path:
        """The server's settings, unless another file is named."""
        return self.root / "server.yaml"

    @property
    def lock(self) -> Path:
        """Held by the one server of this folder, with its process id inside."""
        return self.root / "server.lock"

    def make(self) -> StateFolder:
        """Creates the folder, for its owner only; one that is there is closed to everybody but its owner and group."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = stat.S_IMODE(self.root.stat().st_mode)
        if mode & stat.S_IRWXO and not mode & stat.S_ISVTX:
            with suppress(PermissionError):  # it is another user's: theirs to close
                self.root.chmod(mode & ~stat.S_IRWXO)
        return self
