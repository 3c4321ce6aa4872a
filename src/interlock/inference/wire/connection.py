"""One connection: its requests are answered one by one, in their order.

Reading, answering and writing happen in one turn of the event loop where the answer needs no waiting: a request costs
no hop between threads, and no task. While a request waits for its answer nothing more is read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Generator
from http import HTTPStatus
from types import coroutine
from typing import Any, Protocol

from ..protocol.answers import Answer
from .reading import Held, Reading, Request

PATIENCE = 6
"""In how many looks in a row a client may be found sending the same request, or not reading its answer."""

_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


class Gateway(Protocol):
    """What the connections of one socket have in common."""

    held: Held
    connections: set[Connection]
    lines: bytes
    """Of the head of every answer."""
    is_closing: bool
    """Whether each connection ends with its next answer."""

    async def answer(self, request: Request) -> Answer:
        """Answers one request. It raises nothing."""


class Connection(asyncio.Protocol):
    """One client, until it or we have had enough."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._reading = Reading(gateway.held)
        self._answering: asyncio.Task[None] | None = None
        self._is_paused = False
        self._is_writable = True
        self._looked_at: object = None
        self._looks = 0

    @property
    def is_busy(self) -> bool:
        """Whether a request arrives, or waits for its answer."""
        reading = self._reading
        return bool(reading.arrived) or reading.arriving is not None or self._answering is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        self._transport = transport
        self._gateway.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        """The client is gone. What the model is being asked it answers, to nobody."""
        self._reading.forget()
        self._gateway.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        reading = self._reading
        if reading.is_over:
            return
        reading.feed(data)
        if reading.arrived:
            self._answer_next()
        elif reading.is_continue_due:
            reading.is_continue_due = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def eof_received(self) -> bool:
        """The client sends nothing more; it may still read what it has asked for."""
        if self._reading.arriving is not None:
            self._reading.break_off(400, "the connection ended before the request did")
            self._answer_next()
        self._reading.is_over = True
        return self.is_busy

    def pause_writing(self) -> None:
        """The client reads more slowly than is written."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """The client has read."""
        self._is_writable = True
        self._answer_next()

    def look(self) -> None:
        """Called every now and then: one that is found too often sending the same request, or not reading, is left."""
        waits_for = self._reading.arriving if self._is_writable else self
        self._looks = self._looks + 1 if waits_for is self._looked_at and waits_for is not None else 0
        self._looked_at = waits_for
        if self._looks < PATIENCE:
            return
        if self._is_writable:
            self._reading.break_off(408, "the request did not arrive in time")
            self._answer_next()
        else:
            self._transport.abort()

    def end(self) -> None:
        """Nothing more is read, and what is written leaves."""
        self._reading.is_over = True
        self._transport.close()

    def _answer_next(self) -> None:
        arrived = self._reading.arrived
        if arrived and self._answering is None and self._is_writable:
            request = arrived.popleft()
            outcome = request.broken or begin(self._gateway.answer(request))
            if isinstance(outcome, Answer):
                self._write(request, outcome)
            else:
                self._answering = self._loop.create_task(self._answer_later(request, outcome))
        if arrived or self._answering is not None or self._is_paused:
            self._take_turns()

    async def _answer_later(self, request: Request, rest: Coroutine[Any, Any, Answer]) -> None:
        answer = await rest
        self._answering = None
        self._write(request, answer)
        self._take_turns()

    def _take_turns(self) -> None:
        """The next request gets a turn of its own, for other connections want theirs; until then nothing is read."""
        if self._transport.is_closing():
            return
        has_more = bool(self._reading.arrived)
        if has_more and self._answering is None:
            self._loop.call_soon(self._answer_next)
        is_paused = has_more or self._answering is not None
        if is_paused != self._is_paused:
            self._is_paused = is_paused
            (self._transport.pause_reading if is_paused else self._transport.resume_reading)()

    def _write(self, request: Request, answer: Answer) -> None:
        reading, gateway = self._reading, self._gateway
        reading.let_go(request)
        if self._transport.is_closing():
            return
        is_last = request.is_last or ((gateway.is_closing or reading.is_over) and not reading.arrived)
        status, body, headers = answer
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        if is_last:
            lines += "connection: close\r\n"
        head = b"%b%b%bcontent-length: %d\r\n\r\n" % (_LINES[status], gateway.lines, lines.encode(), len(body))
        self._transport.write(head if request.method == "HEAD" else head + body)
        if is_last:
            self.end()


def begin(work: Coroutine[Any, Any, Answer]) -> Answer | Coroutine[Any, Any, Answer]:
    """The answer where it comes without waiting; else the rest of the work."""
    try:
        waits_for = work.send(None)
    except StopIteration as ended:
        answer: Answer = ended.value
        return answer
    return _rest(work, waits_for)


@coroutine
def _rest(work: Coroutine[Any, Any, Answer], waits_for: Any) -> Generator[Any, Any, Answer]:
    with contextlib.suppress(Exception, asyncio.CancelledError):  # the future tells it again, to the work itself
        yield waits_for
    answer: Answer = yield from work  # what has begun cannot be awaited, only gone on with
    return answer
