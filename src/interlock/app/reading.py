"""What commands that only look, or only ask, need: the store, requests, and where logs lie."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from interlock.app.folder import StateFolder
from interlock.control.delivering.requests import Requests
from interlock.edges.store import SqlStore


@dataclass(frozen=True)
class Reading:
    """An open state folder."""

    folder: StateFolder
    store: SqlStore
    requests: Requests

    @classmethod
    def open(cls, state: Path) -> Self:
        """Opens the state folder, creating it if need be."""
        folder = StateFolder(state).make()
        store = SqlStore(folder.database)
        return cls(folder=folder, store=store, requests=Requests(store, time.time))

    def log_path(self, attempt: str) -> Path:
        """Where an attempt's output is written while it runs."""
        return self.folder.execution / "logs" / f"{attempt}.log"

    def close(self) -> None:
        """Closes the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
