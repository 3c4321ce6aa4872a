"""What one command works with: its output, and the state folder or the server that it asks."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from interlock.cli.output import Output
from interlock.cli.standing import default_state
from interlock.errors import Refused

if TYPE_CHECKING:
    from interlock.app.local import Local
    from interlock.cli.asking import Requests
    from interlock.cli.reading import Reading
    from interlock.client.api import Client

CallableT = TypeVar("CallableT", bound=Callable[..., Any])
SOCKET = "control.sock"
PATIENCE = 2.0
"""Seconds to find out whether a server listens on the state folder's socket."""


class Address(NamedTuple):
    """A server elsewhere; the file of the token for it, else ``$INTERLOCK_TOKEN``; the file of who vouches for it."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None


class Session:
    """``address`` names a server elsewhere; without it the state folder of this machine is meant."""

    def __init__(
        self, state: Path, address: Address | None, output: Output, open_local: Callable[[Path, str], Local]
    ) -> None:
        self.state = state
        self.address = address
        self.output = output
        self._open_local = open_local

    def read(self) -> Reading:
        """What is kept: by the server that was named, or in the state folder. Refused where nothing was ever kept."""
        from interlock.cli.reading import LocalReading, RemoteReading

        if self.address is not None:
            return RemoteReading(_open_client(self.address))
        self._require_state()
        return LocalReading.open(self.state)

    def ask(self) -> Requests:
        """Whom to ask for a change: the server that was named or runs here, else the state folder itself."""
        from interlock.cli.asking import ServerRequests, open_state

        if self.address is None:
            self._require_state()
        client = self._client()
        return open_state(self.state) if client is None else ServerRequests(client)

    def server(self) -> Client:
        """The server that was named or runs here. Refused where there is none."""
        client = self._client()
        if client is None:
            raise Refused(
                "no server runs on this state folder",
                str(self.state),
                "start it with `interlock server`, or name another with --server",
            )
        return client

    def open_local(self, sandbox_kind: str = "namespace") -> Local:
        """What plans and runs working trees; makes the state folder if need be."""
        return self._open_local(self.state, sandbox_kind)

    def _client(self) -> Client | None:
        if self.address is not None:
            return _open_client(self.address)
        if not _is_listening(self.state):
            return None
        from interlock.client.api import Client

        return Client.on_socket(self.state / SOCKET)

    def _require_state(self) -> None:
        if not self.state.is_dir():
            raise Refused(
                "nothing was run here yet",
                str(self.state),
                "begin with `interlock run` or `interlock server`, or name another folder with --state",
            )


def open_local(state: Path, sandbox_kind: str) -> Local:
    """The real thing; imported here because it brings the whole house."""
    from interlock.app.local import Local

    return Local(state, sandbox_kind)


def with_session(function: CallableT) -> CallableT:
    """Adds ``--state`` and ``--json`` to a command and hands it a Session as its first argument."""

    @click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="The state folder.")
    @click.option("--json", "is_json", is_flag=True, help="JSON on standard output, and nothing else there.")
    @functools.wraps(function)
    def command(state: Path | None, is_json: bool, **arguments: Any) -> Any:
        return function(_open(state, is_json, None), **arguments)

    return command  # type: ignore[return-value]  # the decorators above change its type


def with_server(function: CallableT) -> CallableT:
    """As ``with_session``, for a command that can also ask a server elsewhere."""

    @click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="The state folder.")
    @click.option("--server", metavar="URL", help="Ask this server, and not the state folder.")
    @click.option(
        "--token-file", type=click.Path(path_type=Path, dir_okay=False), help="The token; else $INTERLOCK_TOKEN."
    )
    @click.option("--ca-file", type=click.Path(path_type=Path, dir_okay=False), help="Who vouches for its certificate.")
    @click.option("--json", "is_json", is_flag=True, help="JSON on standard output, and nothing else there.")
    @functools.wraps(function)
    def command(
        state: Path | None,
        server: str | None,
        token_file: Path | None,
        ca_file: Path | None,
        is_json: bool,
        **arguments: Any,
    ) -> Any:
        above = _above()
        if (server or above.get("server")) and (state or above.get("state")):
            raise click.UsageError("--server and --state name two places: write one of them")
        url = (
            server or above.get("server") or ("" if state or above.get("state") else os.environ.get("INTERLOCK_SERVER"))
        )
        files = token_file or above.get("token_file"), ca_file or above.get("ca_file")
        return function(_open(state, is_json, Address(url, *files) if url else None), **arguments)

    return command  # type: ignore[return-value]  # the decorators above change its type


def _above() -> dict[str, Any]:
    """Options of the group above: `interlock models --json list` means the same as `interlock models list --json`."""
    parent = click.get_current_context().parent
    return parent.params if parent is not None else {}


def _open(state: Path | None, is_json: bool, address: Address | None) -> Session:
    folder = state or _above().get("state") or Path(default_state())
    output = Output(is_json or bool(_above().get("is_json")))
    return Session(folder.absolute(), address, output, click.get_current_context().obj or open_local)


def _open_client(address: Address) -> Client:
    from interlock.client.api import Client

    try:
        return Client(address.url, _read_token(address.token_file), ca_file=address.ca_file)
    except ValueError as wrong:
        raise Refused(str(wrong), "--server") from wrong
    except OSError as problem:
        raise Refused(
            f"it cannot be read: {problem}", str(address.ca_file), "name a file of certificates (PEM)"
        ) from problem


def _read_token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("INTERLOCK_TOKEN", "").strip() or None
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise Refused(f"it cannot be read: {problem}", str(file), "name a file that holds the token") from problem
    if not token:
        raise Refused("it is empty", str(file), "name a file that holds the token")
    return token


def _is_listening(state: Path) -> bool:
    from interlock.system.sockets import connect

    try:
        connect(state, SOCKET, PATIENCE).close()
    except OSError:
        return False
    return True
