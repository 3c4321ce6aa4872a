"""A socket and its connections, from the first request to a gentle end.

On SIGTERM or SIGINT the service is told first, so that its readiness fails. Then, for ``LINGER`` seconds, every answer
asks its client to close the connection; then the socket's file goes, so that no new connection arrives; when nothing is
in flight any more the program ends.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import stat
from email.utils import formatdate
from pathlib import Path

import uvloop

from .connection import Connection, Service
from .reading import Held

LINGER = 0.5
LOOK_SECONDS = 10.0
"""How often each connection is looked at; a client has PATIENCE times that to send a request."""
MOST_CONNECTIONS = 1024


def serve(service: Service, socket_path: str) -> None:
    """Serves at the path, relative or absolute, until SIGTERM or SIGINT. A socket left there before is replaced.

    FileExistsError where something other than a socket is there.
    """
    path = Path(socket_path)
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        pass
    else:
        if not is_socket:
            raise FileExistsError(f"{socket_path} exists and is not a socket")
        path.unlink()
    # What was loaded stays: to look through it again and again for garbage took a tenth of the time of small requests.
    gc.collect()
    gc.freeze()
    uvloop.run(_Socket(service, path).run())


class _Socket:
    """Brings connections and the service together, and knows what is in flight."""

    def __init__(self, service: Service, path: Path) -> None:
        self.service = service
        self._path = path
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in service.headers)
        self._stopping = asyncio.Event()
        self.held = Held()
        self.connections: set[Connection] = set()
        self.lines = b""
        self.is_closing = False

    async def run(self) -> None:
        """Serves until a signal comes and everything in flight is answered."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._tell_time()
        self._look()
        server = await loop.create_unix_server(self._connect, str(self._path), backlog=MOST_CONNECTIONS)
        await self._stopping.wait()
        self.service.fail_readiness()
        self.is_closing = True
        await asyncio.sleep(LINGER)
        self._path.unlink(missing_ok=True)
        # A connection made just before may not have been read yet: quiet for a moment, not only now.
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0.02)
            quiet = 0 if any(connection.is_busy for connection in self.connections) else quiet + 1
        server.close()
        for connection in list(self.connections):
            connection.end()

    def _connect(self) -> asyncio.Protocol:
        return Connection(self) if len(self.connections) < MOST_CONNECTIONS else _OneTooMany()

    def _tell_time(self) -> None:
        self.lines = f"{self._headers}date: {formatdate(usegmt=True)}\r\n".encode()
        asyncio.get_running_loop().call_later(1.0, self._tell_time)

    def _look(self) -> None:
        for connection in list(self.connections):
            connection.look()
        asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)


class _OneTooMany(asyncio.Protocol):
    """A connection that is told to come again."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: application/json\r\n")
        transport.write(b'connection: close\r\ncontent-length: 33\r\n\r\n{"error":"too many connections"}\n')
        transport.close()
