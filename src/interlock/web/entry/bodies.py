"""Reading what a caller sends: bounded in size, in time, and over all callers together."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope

BODY_SECONDS = 9.0
"""How long a body may take; with it and its answer a slow caller is gone within 10 s."""
MOST_HELD = 128 << 20
"""Bytes of all bodies together that are held at one moment; who comes then is told to come again."""
CLOSING = {"connection": "close"}
"""Who was slow once is not waited for again until the rest of the body comes."""


class Bodies:
    """Reads bodies, and knows how much of them is held."""

    def __init__(self) -> None:
        self._held = 0

    def read(self, scope: Scope, receive: Receive, headers: Headers, most: int) -> _Held:
        """The whole body, held until the block ends. 413 beyond ``most`` bytes, 408 for one that does not end."""
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(most)
        return _Held(self, receive, most, is_here=scope["state"]["is_body_here"]())

    def count(self, size: int) -> None:
        """So many bytes more are held, or fewer. 503 where that is too much."""
        self._held += size
        if size > 0 and self._held > MOST_HELD:
            raise HTTPException(503, "too much is being sent at this moment")


class _Held:
    """One body, read when the block is entered; a class, because a flood of calls makes very many of them."""

    def __init__(self, bodies: Bodies, receive: Receive, most: int, *, is_here: bool) -> None:
        self._bodies, self._receive, self._most, self._is_here = bodies, receive, most, is_here
        self._body = bytearray()

    async def __aenter__(self) -> bytes:
        try:
            if self._is_here:  # then nothing is waited for, and no clock is needed
                await self._fill()
            else:
                async with asyncio.timeout(BODY_SECONDS):
                    await self._fill()
        except BaseException as odd:
            self._bodies.count(-len(self._body))
            if isinstance(odd, TimeoutError):
                raise HTTPException(408, f"the body did not end within {BODY_SECONDS:g} s", CLOSING) from None
            raise
        return bytes(self._body)

    async def __aexit__(self, *_: object) -> None:
        self._bodies.count(-len(self._body))

    async def _fill(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the caller left before the body ended")
            piece: bytes = message.get("body", b"")
            self._body += piece
            self._bodies.count(len(piece))
            if len(self._body) > self._most:
                raise _too_large(self._most)
            if not message.get("more_body"):
                return


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"the body is larger than {most} bytes")
