"""Reading what a caller sends: bounded in size, in time, and over all callers together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive

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

    @asynccontextmanager
    async def read(self, receive: Receive, headers: Headers, most: int) -> AsyncIterator[bytes]:
        """The whole body, held until the block ends. 413 beyond ``most`` bytes, 408 for one that does not end."""
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                await self._fill(body, receive, most)
            yield bytes(body)
        except TimeoutError:
            raise HTTPException(408, f"the body did not end within {BODY_SECONDS:g} s", CLOSING) from None
        finally:
            self._held -= len(body)

    async def _fill(self, body: bytearray, receive: Receive, most: int) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the caller left before the body ended")
            piece: bytes = message.get("body", b"")
            body += piece
            self._held += len(piece)
            if len(body) > most:
                raise _too_large(most)
            if self._held > MOST_HELD:
                raise HTTPException(503, "too much is being sent at this moment")
            if not message.get("more_body"):
                return


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"the body is larger than {most} bytes")
