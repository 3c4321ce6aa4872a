"""HTTP on a Unix socket: requests in, answers out, and a gentle end.

On SIGTERM or SIGINT the service is told first, so that its readiness fails. Then, for ``LINGER`` seconds, every answer
asks its client to close the connection; then the socket's file goes, so that no new connection arrives; when nothing is
in flight any more the program ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson
from granian.constants import HTTPModes, Interfaces
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]
from granian.server.embed import Server

LINGER = 0.5
LONGEST_BODY = 8 * 1024 * 1024
MOST_DISCARDED = 16 * LONGEST_BODY


class Answer(NamedTuple):
    """One HTTP answer. ``body`` is JSON."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Request:
    """One HTTP request. ``header`` answers a header by its lower-case name."""

    __slots__ = ("_body", "_is_read", "header", "method", "path")

    def __init__(self, scope: Any, body: Any) -> None:
        self.method: str = scope.method
        self.path: str = scope.path
        self.header: Callable[[str], str | None] = scope.headers.get
        self._body = body
        self._is_read = False

    async def read(self) -> bytes:
        """The whole body, once. UnreadableBody where it is over LONGEST_BODY, of which no more than that is kept."""
        self._is_read = True
        try:
            return await self._read()
        except ProtocolClosed as closed:
            raise UnreadableBody(400, "the connection ended before the body did") from closed

    async def _read(self) -> bytes:
        announced = self.header("content-length")
        if announced is not None and announced.isdigit() and int(announced) <= LONGEST_BODY:
            content: bytes = await self._body()
            return content
        kept, size = [], 0
        async for chunk in self._body:
            size += len(chunk)
            if size <= LONGEST_BODY:
                kept.append(chunk)
            elif size > MOST_DISCARDED:
                break
            else:
                # What is too much is read and forgotten: a client that is still sending would not see the answer.
                kept.clear()
        if size > LONGEST_BODY:
            raise UnreadableBody(413, f"the body is larger than {LONGEST_BODY} bytes")
        return b"".join(kept)

    async def discard(self) -> None:
        """Reads what nobody wanted to read: the connection would be closed on a client that is still sending."""
        if self._is_read or not (self.header("content-length") or self.header("transfer-encoding")):
            return
        with contextlib.suppress(UnreadableBody):
            await self.read()


class UnreadableBody(ValueError):
    """The body of a request is larger than allowed, or torn. ``status`` is how that is answered."""

    def __init__(self, status: int, because: str) -> None:
        self.status = status
        super().__init__(because)


class Service(Protocol):
    """What answers the requests of one socket."""

    async def answer(self, request: Request) -> Answer:
        """Answers one request. What it raises is answered with 500."""

    def fail_readiness(self) -> None:
        """From now on says that it wants no more requests, while it answers those that come."""


def refusal(status: int, because: str, *headers: tuple[str, str]) -> Answer:
    """An answer that is not 200, in the protocol's form."""
    # Text from a library's exception may hold what cannot be encoded.
    text = because.encode(errors="replace").decode()
    return Answer(status, orjson.dumps({"error": text}), headers)


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
    asyncio.run(_Gateway(service, path).run())


class _Gateway:
    """Brings granian and the service together, and knows what is in flight."""

    def __init__(self, service: Service, path: Path) -> None:
        self._service = service
        self._path = path
        self._in_flight = 0
        self._is_closing = False
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
        try:
            request = Request(scope, protocol)
            try:
                answer = await self._service.answer(request)
            except Exception as fault:  # noqa: BLE001 - the last resort: whatever it was, the client gets an answer
                answer = refusal(500, f"{type(fault).__name__}: {fault}"[:500])
            await request.discard()
            headers = [("content-type", "application/json"), *answer.headers]
            if self._is_closing:
                headers.append(("connection", "close"))
            protocol.response_bytes(answer.status, headers, answer.body)
        finally:
            self._in_flight -= 1

    def _begin_to_close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        self._service.fail_readiness()
        self._is_closing = True
        await asyncio.sleep(LINGER)
        self._path.unlink(missing_ok=True)
        # A connection made just before may not have been read yet: quiet for a moment, not only now.
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0.02)
            quiet = 0 if self._in_flight else quiet + 1
        self._server.stop()  # type: ignore[no-untyped-call]
