"""What every request passes before it reaches a route: the host it names, its origin, who asks, how long it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from functools import partial
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interlock.access.caller import Caller
from interlock.app.services import Services
from interlock.control.people import local_caller
from interlock.errors import Unauthenticated
from interlock.vocabulary import Json
from interlock.web.entry.bodies import Bodies
from interlock.web.entry.patience import Patience
from interlock.web.hooks import Hooks
from interlock.web.metrics import Metrics
from interlock.web.problems import Answer
from interlock.web.refusals import Refusals

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Answered to anybody. Hooks are open too: they bring a signature, not a token."""
HOOKS = "/hooks/"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LARGEST_BODY = 1 << 20
GUESSES = 30
"""Wrong tokens of one address that are answered at once; one more each GUESS_SECONDS."""
GUESS_SECONDS = 2.0
PENALTY_SECONDS = 1.0
"""How long the answer to a wrong token is kept back after that. A right one never waits."""
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Gate:
    """An ASGI application before another. A scope's ``state`` brings ``peer``, the user of this machine who called over
    the Unix socket (None over TCP), and ``hosts``, the names that its listener answers to.
    """

    def __init__(
        self, api: ASGIApp, hooks: Hooks, services: Services, metrics: Metrics, refusals: Refusals, bodies: Bodies
    ) -> None:
        self._api = api
        self._hooks = hooks
        self._services = services
        self._metrics = metrics
        self._refusals = refusals
        self._bodies = bodies
        self._guesses = Patience(GUESSES, GUESS_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, whatever becomes of it, and says so."""
        began = time.monotonic()
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *SECURITY_HEADERS]}
            await send(message)

        try:
            await self._admit(scope, receive, send_on)
        except Exception as error:  # noqa: BLE001 - every error has its answer, a defect of ours too
            if status == 0:  # else the API has answered it, and tells of it once more
                await _send(await self._refusals.answer(scope, error), send_on)
        finally:
            self._record(scope, status, time.monotonic() - began)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        path: str = scope["path"]
        _check_host(scope, headers)
        if "\0" in path or b"%00" in scope["query_string"]:
            raise HTTPException(400, "a NUL character is in it, which no name here holds")
        if path.startswith(HOOKS):
            await _send(await self._hooks.answer(scope, headers, receive), send)
            return
        if path not in OPEN_PATHS:
            scope["state"]["caller"] = await self._caller(scope, headers)
        if scope["method"] in SAFE:
            await self._api(scope, receive, send)
            return
        _check_origin(scope, headers)
        async with self._bodies.read(scope, receive, headers, LARGEST_BODY) as body:
            await self._api(scope, _Replay(body, receive), send)

    async def _caller(self, scope: Scope, headers: Headers) -> Caller:
        path: str = scope["path"]
        peer: str | None = scope["state"]["peer"]
        given = headers.get("authorization", "")
        if not given and peer is not None:
            return local_caller(peer)
        scheme, _, text = given.partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise Unauthenticated("a token is needed", path, "send the header Authorization: Bearer ilk_...")
        ask = partial(self._services.people.authenticate, text.strip())
        scope["state"]["ask_again"] = ask  # what takes long has to ask whether the token is still good
        try:
            return await run_in_threadpool(ask)
        except Unauthenticated:
            if not self._guesses.spend(_address(scope), time.monotonic()):
                await asyncio.sleep(PENALTY_SECONDS)
            raise

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        is_hook = scope["path"].startswith(HOOKS)
        route = "/hooks" if is_hook else getattr(scope.get("route"), "path", "none")
        self._metrics.record(scope["method"], route, status, seconds)
        caller: Caller | None = scope["state"].get("caller")
        line: dict[str, Json] = {
            "method": scope["method"],
            "path": scope["path"][:500],  # never the query: a token does not belong there, and would stay in the log
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
            "address": _address(scope),
            "caller": caller.name if caller else None,
        }
        self._services.say(line)


class _Replay:
    """A body that was read already, to be received once more; then what the connection says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        """The body, then the end of the connection."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _check_host(scope: Scope, headers: Headers) -> None:
    """A name that is not ours is a page in somebody's browser that had its own name point here."""
    hosts: Collection[str] | None = scope["state"]["hosts"]
    given = headers.getlist("host")
    if hosts is not None and (len(given) != 1 or _hostname(f"//{given[0]}") not in hosts):
        raise HTTPException(421, "this server does not answer to that host: list it in the server's settings")


def _check_origin(scope: Scope, headers: Headers) -> None:
    """No page of another site writes here, whatever its reader's browser would send along."""
    hosts: Collection[str] = scope["state"]["hosts"] or ("localhost",)
    origin = headers.get("origin")
    site = headers.get("sec-fetch-site", "none")
    if (origin is not None and _hostname(origin) not in hosts) or site not in ("none", "same-origin"):
        raise HTTPException(403, "requests of other sites' pages are refused")


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope["client"] else "local"


async def _send(answer: Answer, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    length = (b"content-length", str(len(answer.body)).encode())
    await send({"type": "http.response.start", "status": answer.status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
