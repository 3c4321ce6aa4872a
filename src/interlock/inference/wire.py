"""HTTP on a Unix socket: requests in, answers out, and a gentle end.

On SIGTERM or SIGINT the service is told first, so that its readiness fails. Then, for ``LINGER`` seconds, every answer
asks its client to close the connection; then the socket's file goes, so that no new connection arrives; when nothing is
in flight any more the program ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]
from granian.server.embed import Server

from .protocol.answers import Answer, refusal
from .protocol.bodies import LONGEST_BODY, UnreadableBody

LINGER = 0.5
MOST_DISCARDED = 16 * LONGEST_BODY
LONG_BODY = 64 * 1024
"""From this length on a body counts against MOST_HELD."""
MOST_HELD = 8 * LONGEST_BODY
"""Bytes of long bodies that are under way at once; what they become in memory is several times that."""


class Held:
    """How many bytes of long bodies are under way."""

    def __init__(self) -> None:
        self.size = 0


class Request:
    """One HTTP request. ``header`` answers a header by its lower-case name, ``names`` are those that there are."""

    __slots__ = ("_body", "_held", "_size", "header", "is_read", "method", "names", "path")

    def __init__(self, scope: Any, body: Any, held: Held) -> None:
        headers = scope.headers
        self.method: str = scope.method
        self.path: str = scope.path
        self.names: list[str] = headers.keys()
        self.header: Callable[[str], str | None] = headers.get
        self._body = body
        self.is_read = False
        self._held = held
        self._size = 0

    async def read(self) -> bytes:
        """The whole body, once. UnreadableBody: 413 over LONGEST_BODY, 503 where too many others are under way.

        Of a body that is refused no more than LONGEST_BODY is kept.
        """
        self.is_read = True
        announced = self.header("content-length")
        try:
            if announced is not None and len(announced) < 12 and announced.isdigit():
                size = int(announced)
                if size <= LONG_BODY or (size <= LONGEST_BODY and self._hold(size)):
                    content: bytes = await self._body()
                    return content
            return await self._read_in_parts()
        except ProtocolClosed as closed:
            raise UnreadableBody(400, "the connection ended before the body did") from closed

    def let_go(self) -> None:
        """The request is answered: its body is no longer under way."""
        self._held.size -= self._size

    def _hold(self, size: int) -> bool:
        if self._held.size + size > MOST_HELD:
            return False
        self._held.size += size
        self._size += size
        return True

    async def _read_in_parts(self) -> bytes:
        kept, size, is_held = [], 0, True
        async for chunk in self._body:
            size += len(chunk)
            is_held = is_held and size <= LONGEST_BODY and self._hold(len(chunk))
            if is_held:
                kept.append(chunk)
            elif size > MOST_DISCARDED:
                break
            else:
                # What is too much is read and forgotten: a client that is still sending would not see the answer.
                kept.clear()
        if size > LONGEST_BODY:
            raise UnreadableBody(413, f"the body is larger than {LONGEST_BODY} bytes")
        if not is_held:
            raise UnreadableBody(503, "too many long requests are under way")
        return b"".join(kept)

    async def discard(self) -> None:
        """Reads what nobody wanted to read: the connection would be closed on a client that is still sending."""
        if not (self.header("content-length") or self.header("transfer-encoding")):
            return
        with contextlib.suppress(UnreadableBody):
            await self.read()


class Service(Protocol):
    """What answers the requests of one socket. ``headers`` go with every answer."""

    headers: tuple[tuple[str, str], ...]

    async def answer(self, request: Request) -> Answer:
        """Answers one request. What it raises is answered with 500."""

    def fail_readiness(self) -> None:
        """From now on says that it wants no more requests, while it answers those that come."""


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
    uvloop.run(_Gateway(service, path).run())


class _Gateway:
    """Brings granian and the service together, and knows what is in flight."""

    def __init__(self, service: Service, path: Path) -> None:
        self._service = service
        self._path = path
        self._in_flight = 0
        self._held = Held()
        self._headers = service.headers
        self._closing: asyncio.Task[None] | None = None
        self._server = Server(
            self,
            uds=path,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            websockets=False,
            backlog=1024,
            backpressure=1024,
            log_enabled=False,
        )
        # Granian makes the path absolute; a socket's path may have 107 bytes at most, so a relative one stays relative.
        self._server.bind_uds = path

    async def run(self) -> None:
        """Serves until a signal comes and everything in flight is answered."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._begin_to_close)
        await self._server.serve()

    async def __call__(self, scope: Any, protocol: Any) -> None:
        """Granian's way in: one request."""
        self._in_flight += 1
        request = Request(scope, protocol, self._held)
        try:
            try:
                status, body, headers = await self._service.answer(request)
            except Exception as fault:  # noqa: BLE001 - the last resort: whatever it was, the client gets an answer
                status, body, headers = refusal(500, f"{type(fault).__name__}: {fault}"[:500])
            if not request.is_read:
                await request.discard()
            headers += self._headers
            protocol.response_bytes(status, headers, body)
        finally:
            request.let_go()
            self._in_flight -= 1

    def _begin_to_close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        self._service.fail_readiness()
        self._headers += (("connection", "close"),)
        await asyncio.sleep(LINGER)
        self._path.unlink(missing_ok=True)
        # A connection made just before may not have been read yet: quiet for a moment, not only now.
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0.02)
            quiet = 0 if self._in_flight else quiet + 1
        self._server.stop()  # type: ignore[no-untyped-call]
