"""One connection: its requests are answered one by one, in their order.

Reading, answering and writing happen in one turn of the event loop where the answer needs no waiting: a request costs
no hop between threads, and no task. While a request waits for its answer nothing more is read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Generator
from functools import lru_cache
from http import HTTPStatus
from types import coroutine
from typing import Any, Protocol, TypeAlias

from ..protocol.answers import Answer, refusal
from .reading import Held, Reading, Request

Rest: TypeAlias = Coroutine[Any, Any, Answer]
"""The work that is left until there is an answer."""

PATIENCE = 6
"""In how many looks in a row a client may be found sending the same request, or not reading its answer."""

_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


class Service(Protocol):
    """What answers the requests of one socket. ``headers`` go with every answer."""

    headers: tuple[tuple[str, str], ...]

    def answer(self, request: Request) -> Answer | Rest:
        """The answer to a request, or the work that ends with it. What either raises is answered with 500."""

    def fail_readiness(self) -> None:
        """From now on says that it wants no more requests, while it answers those that come."""


class Gateway(Protocol):
    """What the connections of one socket have in common."""

    service: Service
    held: Held
    connections: set[Connection]
    lines: bytes
    """Of the head of every answer."""
    is_closing: bool
    """Whether each connection ends with its next answer."""


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
            outcome = request.broken or begin(self._gateway.service, request)
            if isinstance(outcome, Answer):
                self._write(request, outcome)
            else:
                self._answering = self._loop.create_task(self._answer_later(request, outcome))
        if arrived or self._answering is not None or self._is_paused:
            self._take_turns()

    async def _answer_later(self, request: Request, rest: Rest) -> None:
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
        ending = b"connection: close\r\n" if is_last else b""
        head = b"%b%b%b%bcontent-length: %d\r\n\r\n" % (
            _LINES[status], gateway.lines, _lines_of(headers), ending, len(body)
        )  # fmt: skip
        self._transport.write(head if request.method == "HEAD" else head + body)
        if is_last:
            self.end()


@lru_cache(64)
def _lines_of(headers: tuple[tuple[str, str], ...]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode()


def begin(service: Service, request: Request) -> Answer | Rest:
    """The answer where it comes without waiting; else the rest of the work, which raises nothing."""
    try:
        outcome = service.answer(request)
        if isinstance(outcome, Answer):
            return outcome
        waits_for = outcome.send(None)
    except StopIteration as ended:
        answer: Answer = ended.value
        return answer
    except Exception as fault:  # noqa: BLE001 - the last resort: whatever it was, the client gets an answer
        return _explain(fault)
    return _rest(outcome, waits_for)


@coroutine
def _rest(work: Rest, waits_for: Any) -> Generator[Any, Any, Answer]:
    with contextlib.suppress(Exception, asyncio.CancelledError):  # the future tells it again, to the work itself
        yield waits_for
    try:
        answer: Answer = yield from work  # what has begun cannot be awaited, only gone on with
    except Exception as fault:  # noqa: BLE001 - as above
        return _explain(fault)
    return answer


def _explain(fault: Exception) -> Answer:
    return refusal(500, f"{type(fault).__name__}: {fault}"[:500])
