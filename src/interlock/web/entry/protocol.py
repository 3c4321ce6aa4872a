"""One connection: HTTP as uvicorn speaks it, with no patience for who is slow, endless or one too many."""

from __future__ import annotations

import asyncio
import pwd
import socket
import struct
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

HEAD_SECONDS = 9.0
"""How long a request's line and headers may take, from its first byte or the connection's beginning."""
LINGER_SECONDS = 5.0
"""How long the rest of a body that was refused is read and thrown away, so that its sender hears the answer."""
LONGEST_HEAD = 64 << 10
MOST_CONNECTIONS = 512
CREDENTIALS = struct.Struct("3i")
TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
HEAD_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class PatientProtocol(HttpToolsProtocol):
    """Each request's ``state`` also holds ``peer``, the user at the other end of a Unix socket, ``abort``, and
    ``is_body_here``, which tells whether its body has come whole.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._deadline: asyncio.TimerHandle | None = None
        self._head = 0
        self._is_in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection begins, unless there are too many."""
        super().connection_made(_Joined(transport))  # type: ignore[arg-type]  # what it has not, the transport has
        if len(self.connections) > MOST_CONNECTIONS:
            transport.write(TOO_MANY)
            transport.close()
            return
        more = {"peer": _peer(transport), "abort": transport.abort, "is_body_here": self._is_body_here}
        self.app_state = {**self.app_state, **more}
        self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection ended."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.transport.is_closing() or self.loop.is_closed():  # a loop that closes still reads once
            return
        if self._is_in_head:
            self._head += len(data)
        super().data_received(data)
        if self._is_in_head and self._head > LONGEST_HEAD:
            self.transport.write(HEAD_TOO_LONG)
            self.transport.close()
        is_idle = self.cycle is None or self.cycle.response_complete
        is_idle = is_idle and self.timeout_keep_alive_task is None  # empty lines between requests keep nobody here
        if self._deadline is None and (self._is_in_head or is_idle):
            self._wait(HEAD_SECONDS)

    def on_message_begin(self) -> None:
        """A request's first byte came."""
        super().on_message_begin()
        self._is_in_head = True

    def on_headers_complete(self) -> None:
        """A request's headers came."""
        self._is_in_head = False
        self._head = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request's body came, perhaps after its answer."""
        super().on_message_complete()
        self._stop_waiting()
        self.cycle.more_body = False

    def on_response_complete(self) -> None:
        """A request was answered, perhaps before its body came."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()
        if self.cycle.more_body and not self.transport.is_closing():
            self._wait(LINGER_SECONDS)

    def _is_body_here(self) -> bool:
        """Of the request that came last: those before it, whose answers wait for their turn, are here then as well."""
        return self.cycle is not None and not self.cycle.more_body

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Joined:
    """A transport by which the head of an answer of known length leaves with its body: its reader wakes once for both.

    uvicorn writes them one after the other. The head of a stream, whose length nobody knows, is never kept back.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends, or keeps back until the next piece, the end of the answer or that of the connection."""
        if not self._head and data.startswith(b"HTTP/1.1 ") and b"\r\ncontent-length: " in data:
            self._head = data
            return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def flush(self) -> None:
        """Sends what was kept back."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Sends what was kept back, and closes the connection."""
        self.flush()
        self._transport.close()


def _peer(transport: asyncio.Transport) -> str | None:
    """The user at the other end of a Unix socket; None over TCP."""
    connection: socket.socket = transport.get_extra_info("socket")
    if connection.family != socket.AF_UNIX:
        return None
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user, _ = CREDENTIALS.unpack(told)
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
