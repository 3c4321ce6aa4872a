"""The client of a server: over HTTP, or over the Unix socket of a state folder on this machine.

::

    from interlock.client.api import Client

    with Client("https://interlock.example.org", token=os.environ["INTERLOCK_TOKEN"]) as client:
        run = client.runs.trigger("flights", "main")
        for line in client.runs.follow_log(run.state.number, "train", 1):
            print(line)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from .connection import Connection
from .models import Caller, Event
from .resources import API, PAGE, Audit, Deliveries, Environments, Keys, Models, Repositories, Runs, Secrets, Tokens

UNIX = "unix:"
TIMEOUT = 30.0
"""Seconds for each step of a request."""


class Client:
    """A server, as one caller sees it. To be closed, or used as a context.

    Raises Unreachable where no answer comes, and ApiError for an answer that is no success (see ``errors``). Requests
    are tried again where that does nothing twice.
    """

    def __init__(
        self, url: str, token: str | None = None, *, ca_file: str | Path | None = None, timeout: float = TIMEOUT
    ) -> None:
        """``ca_file`` (PEM) vouches for the server's certificate, else those that this machine trusts.

        ValueError for what is no URL of a server, and for a token that would cross a network in the clear.
        """
        connection = (
            Connection.to_socket(Path(url.removeprefix(UNIX)), timeout)
            if url.startswith(UNIX)
            else Connection.to_url(url, token, ca_file, timeout)
        )
        self._connection = connection
        self.runs = Runs(connection)
        self.deliveries = Deliveries(connection)
        self.environments = Environments(connection)
        self.repositories = Repositories(connection)
        self.tokens = Tokens(connection)
        self.keys = Keys(connection)
        self.models = Models(connection)
        self.secrets = Secrets(connection)
        self.audit = Audit(connection)

    @classmethod
    def on_socket(cls, path: str | Path, *, timeout: float = TIMEOUT) -> Self:
        """The server that listens on a Unix socket (``control.sock`` in its state folder), however long the path is.

        It takes no token: whoever can open the socket is an admin. OSError where its folder is not there.
        """
        return cls(f"{UNIX}{path}", timeout=timeout)

    def whoami(self) -> Caller:
        """Who asks, as the server knows them."""
        return Caller.model_validate(self._connection.get(f"{API}/whoami"))

    def events(self, kind: str | None = None, key: str | None = None, after: int = 0) -> Iterator[Event]:
        """The decisions about one thing, a kind of things, or all, with a number above ``after``, in order."""
        following: int | str | None = after
        while following is not None:
            asked = {"kind": kind, "key": key, "after": following, "limit": PAGE}
            page = self._connection.get(f"{API}/events", asked)
            yield from map(Event.model_validate, page["items"])
            following = page["next"]

    def follow_events(
        self, kind: str | None = None, key: str | None = None, after: int | None = None
    ) -> Iterator[Event]:
        """The same, and those that come, each once and in order, over lost connections; of a run, until it ends.

        Without ``after`` those of one thing from its first, and all others from now on.
        """
        stream = self._connection.follow(f"{API}/events/stream", {"kind": kind, "key": key, "after": after})
        return (Event.model_validate(json.loads(event.data)) for event in stream)

    def close(self) -> None:
        """Closes its connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
