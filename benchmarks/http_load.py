"""Requests over kept-alive connections to a Unix socket or a port, one after the other on each."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple


class Load(NamedTuple):
    """Requests a second, milliseconds of the middle one and of 99 in 100, and what was not answered with 200."""

    rate: float
    middle: float
    late: float
    wrong: list[bytes]


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, over: float, took: list[float], wrong: list[bytes]) -> None:
        self._request, self._over, self._took, self._wrong = request, over, took, wrong
        self._received, self._length = b"", 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._length:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._received[:end].lower()
            if b"transfer-encoding: chunked" in head:
                if not data.endswith(b"\r\n0\r\n\r\n") and data != b"0\r\n\r\n":
                    return
                self._length = len(self._received)
            else:
                place = head.index(b"content-length:") + 15
                self._length = end + 4 + int(head[place:].split(b"\r\n", 1)[0])
        if len(self._received) < self._length:
            return
        now = time.perf_counter()
        self._took.append(now - self._began)
        if not self._received.startswith(b"HTTP/1.1 200"):
            self._wrong.append(self._received[:300])
        self._received, self._length = b"", 0
        if now < self._over:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if time.perf_counter() < self._over:
            self._wrong.append(f"the connection was lost: {exc}".encode())
        self.done.set_result(None)


async def load(address: str, request: bytes, seconds: float, connections: int) -> Load:
    """What so many connections get answered. ``address`` is a socket's path, or a port of this machine."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    wrong: list[bytes] = []
    began = time.perf_counter()
    made = [_Connection(request, began + seconds, took, wrong) for _ in range(connections)]
    for each in made:
        if address.isdigit():
            await loop.create_connection(lambda each=each: each, "127.0.0.1", int(address))
        else:
            await loop.create_unix_connection(lambda each=each: each, address)
    await asyncio.gather(*(each.done for each in made))
    elapsed = time.perf_counter() - began
    took.sort()
    return Load(len(took) / elapsed, took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000, wrong)


def post(path: str, body: bytes, *headers: str) -> bytes:
    """One request as bytes."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body
