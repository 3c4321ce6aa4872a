"""Server-sent events: one reader for each log or list of events, however many follow it.

A follower first catches up by itself, as fast as its connection takes it. Where it has reached its source's shared
reader it joins: from there on every piece comes from that one reader. Both read the same numbered entries, so that
nothing is missed and nothing comes twice, and a follower that comes back names the last number it saw.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from interlock.errors import Fault, InterlockError, Unauthenticated

READ_EVERY = 0.03
"""Seconds between two looks at a source that had nothing more."""
ASK_EVERY = 0.5
"""Seconds between two questions whether a source is over."""
ASK_TOKEN_EVERY = 5.0
"""Seconds after which a follower's token is looked at again: one that was revoked follows nothing for longer."""
KEEP_ALIVE_SECONDS = 15.0
MOST_QUEUED = 1 << 20
"""Bytes that wait for one follower; beyond that it is dropped, and catches up when it comes back."""
SEND_SECONDS = 60.0
"""How long a follower may take nothing at all."""
READERS = 4
BEGIN = b"retry: 1000\n\n"
KEEP_ALIVE = b": still here\n\n"
END = b"event: end\ndata: {}\n\n"


class Piece(NamedTuple):
    """Entries as they are sent. ``following`` is the position behind them; ``is_end``: nothing more is there yet."""

    content: bytes
    following: int
    is_end: bool


class Source(Protocol):
    """Numbered entries that are only ever added. Calls block. Equal sources share one reader."""

    def end(self) -> int:
        """The position behind all that is there now."""

    def read(self, position: int, until: int | None) -> Piece:
        """Entries from ``position`` on, not beyond ``until``; a bounded number of them."""

    def is_over(self) -> bool:
        """Whether nothing more will ever be added."""


class _Follower:
    """What waits for one connection. ``sending`` is the patience with the send under way."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()
        self.size = 0
        self.changed = asyncio.Event()
        self.sending: asyncio.Timeout | None = None
        self.is_dropped = False

    def offer(self, content: bytes) -> None:
        """Queues a piece, or drops the follower."""
        self.size += len(content)
        if self.size <= MOST_QUEUED:
            self.queue.append(content)
        elif not self.is_dropped:
            self.is_dropped = True
            if self.sending is not None:
                with suppress(RuntimeError):  # its patience has just ended by itself
                    self.sending.reschedule(0)
        self.changed.set()

    def take(self) -> bytes:
        """All that waits."""
        content = b"".join(self.queue)
        self.queue.clear()
        self.size = 0
        self.changed.clear()
        return content


class _Tail:
    """The shared reader of one source. It lives as long as somebody follows, also those who still catch up."""

    def __init__(self, source: Source, position: int, readers: ThreadPoolExecutor) -> None:
        self.position = position
        self.is_over = False
        self.is_broken = False
        self.users = 0
        self.followers: set[_Follower] = set()
        self._source = source
        self._readers = readers
        self._is_last = False
        self._asked = 0.0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.is_over:
            try:
                piece = await loop.run_in_executor(self._readers, self._look)
            except Exception:  # noqa: BLE001 - whatever it was, who follows is sent away and comes back
                self.is_broken = True
                self._wake()
                return
            self.position = piece.following
            self.is_over = self._is_last and piece.is_end
            if piece.content:
                for follower in self.followers:
                    follower.offer(piece.content)
            elif self.is_over:
                self._wake()
            if piece.is_end and not self.is_over:
                await asyncio.sleep(READ_EVERY)

    def _wake(self) -> None:
        for follower in self.followers:
            follower.changed.set()

    def _look(self) -> Piece:
        # Whether it is over is asked before it is read: what was added before its end is then read too.
        if not self._is_last and time.monotonic() - self._asked > ASK_EVERY:
            self._is_last, self._asked = self._source.is_over(), time.monotonic()
        return self._source.read(self.position, None)


class Streams:
    """All that is followed. Used on one event loop."""

    def __init__(self) -> None:
        self._tails: dict[Source, _Tail] = {}
        self._readers = ThreadPoolExecutor(READERS, "streams")
        self._followers: set[_Follower] = set()
        self._is_closing = False

    @property
    def count(self) -> int:
        """How many streams are followed now."""
        return len(self._followers)

    def close(self) -> None:
        """Every stream ends where it is; who follows comes back elsewhere or later."""
        self._is_closing = True
        for follower in self._followers:
            follower.changed.set()
        self._readers.shutdown(wait=False)

    @asynccontextmanager
    async def _tail(self, source: Source) -> AsyncIterator[_Tail]:
        if source not in self._tails:
            end = await asyncio.get_running_loop().run_in_executor(self._readers, source.end)
            if source not in self._tails:  # another follower may have come meanwhile
                self._tails[source] = _Tail(source, end, self._readers)
        tail = self._tails[source]
        tail.users += 1
        try:
            yield tail
        finally:
            tail.users -= 1
            if tail.users == 0:
                tail.task.cancel()
                del self._tails[source]

    async def follow(self, source: Source, position: int, send: Send, gone: asyncio.Future[None]) -> None:
        """Sends what there is from ``position`` on and what is added, until it is over or ``gone`` is done.

        TimeoutError where the connection does not take it.
        """
        if self._is_closing:
            return
        follower = _Follower()
        gone.add_done_callback(lambda _: follower.changed.set())
        self._followers.add(follower)
        try:
            async with self._tail(source) as tail:
                await self._catch_up(source, min(position, tail.position), tail, follower, send, gone)
                tail.followers.add(follower)  # no await since the positions were found equal
                try:
                    await self._listen(tail, follower, send, gone)
                finally:
                    tail.followers.discard(follower)
        finally:
            self._followers.discard(follower)

    async def _catch_up(
        self,
        source: Source,
        position: int,
        tail: _Tail,
        follower: _Follower,
        send: Send,
        gone: asyncio.Future[None],
    ) -> None:
        loop = asyncio.get_running_loop()
        await _send(follower, BEGIN, send)
        while position < tail.position and not gone.done() and not self._is_closing:
            piece = await loop.run_in_executor(self._readers, source.read, position, tail.position)
            if piece.following <= position:
                return  # it was removed meanwhile
            position = piece.following
            await _send(follower, piece.content, send)

    async def _listen(self, tail: _Tail, follower: _Follower, send: Send, gone: asyncio.Future[None]) -> None:
        while not (gone.done() or self._is_closing or tail.is_broken):
            content = follower.take()
            if content:
                await _send(follower, content, send)
            elif tail.is_over:
                await _send(follower, END, send)
                return
            else:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                        await follower.changed.wait()
                except TimeoutError:
                    await _send(follower, KEEP_ALIVE, send)
            if follower.is_dropped:
                raise TimeoutError


async def _send(follower: _Follower, content: bytes, send: Send) -> None:
    async with asyncio.timeout(SEND_SECONDS) as follower.sending:
        await send({"type": "http.response.body", "body": content, "more_body": True})
    follower.sending = None


class EventStream(Response):
    """Follows ``source`` from ``position`` on, as ``text/event-stream``."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, source: Source, position: int) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._streams = streams
        self._source = source
        self._position = position

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until it is over, the follower has gone or may not see it any more, or the server ends; cuts off who
        takes nothing.
        """
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        gone = asyncio.ensure_future(_until_gone(receive, scope["state"].get("ask_again")))
        try:
            await self._streams.follow(self._source, self._position, send, gone)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            scope["state"]["abort"]()
            await gone
        except InterlockError:  # a fault in the middle: it comes back for the rest
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone


async def _until_gone(receive: Receive, ask_again: Callable[[], object] | None) -> None:
    """Until the connection has ended, or the token that it was opened with is no longer good."""
    left = asyncio.ensure_future(_until_left(receive))
    try:
        while not (await asyncio.wait((left,), timeout=ASK_TOKEN_EVERY))[0]:
            if ask_again is not None:
                with suppress(Fault):  # it cannot be told now: asked again
                    await run_in_threadpool(ask_again)
    except Unauthenticated:
        return
    finally:
        left.cancel()
        with suppress(asyncio.CancelledError):
            await left


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
