"""What commands that only look, or only ask, need of a state folder: the store, logs, and what people ask for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from interlock.app.folder import StateFolder
from interlock.app.settings import database_of
from interlock.control.delivering.requests import Requests
from interlock.control.front.keys import Keys
from interlock.control.front.retiring import Retiring
from interlock.control.people import People
from interlock.control.secrets import Secrets
from interlock.edges.executor import LogFiles
from interlock.edges.front import front_log
from interlock.edges.store import SqlStore
from interlock.edges.vault import LocalVault
from interlock.later import Later

if TYPE_CHECKING:
    from interlock.app.operating import outside
else:  # only who asks for the status needs it
    outside = Later("interlock.app.operating.outside")


@dataclass(frozen=True)
class Reading:
    """An open state folder."""

    folder: StateFolder
    store: SqlStore
    logs: LogFiles
    requests: Requests
    people: People
    keys: Keys
    retiring: Retiring
    secrets: Secrets

    @classmethod
    def open(cls, state: Path) -> Self:
        """Opens the state folder, creating it if need be, and the database that its settings name."""
        folder = StateFolder(state).make()
        store = SqlStore(database_of(folder))
        return cls(
            folder=folder,
            store=store,
            logs=LogFiles(folder.execution),
            requests=Requests(store, time.time),
            people=People(store, time.time),
            keys=Keys(store, time.time),
            retiring=Retiring(store, time.time, partial(front_log, folder.data)),
            secrets=Secrets(store, LocalVault(folder.keys), time.time),
        )

    def certificates(self) -> dict[str, float]:
        """By environment name when the certificate that the front shows there ends, in wall seconds."""
        return outside.certificates(self.folder.data)

    def close(self) -> None:
        """Closes the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
