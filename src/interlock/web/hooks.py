"""Hook calls: from forges, signed, kept before they are acknowledged; and from git here, answered at once."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import get_args

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope

from interlock.access.audit import Deed
from interlock.app.services import Services
from interlock.errors import InterlockError, Refused, Unauthenticated
from interlock.source.hooks import read_call, verify
from interlock.source.notice import Notice
from interlock.source.repository import ForgeKind
from interlock.web.entry.bodies import Bodies
from interlock.web.entry.patience import Patience
from interlock.web.problems import Answer, answer_json, problem, tell

LARGEST = 25 << 20
"""Bytes of the largest call a forge makes."""
LARGEST_PUSH = 1 << 20
SMALL = 64 << 10
"""Bytes that are checked and read at once; a larger body would keep all others waiting, and gets a thread."""
LOOK_SECONDS = 4.5
"""How long a pusher waits for the answer; its hook waits a little longer."""
ACCEPTED = answer_json(202, {"notice": "accepted"})
NOTHING_TO_DO = answer_json(202, {"notice": "nothing to do"})
STILL_LOOKING = "interlock: the server is still looking at this push; interlock status tells what becomes of it"


class Push(BaseModel):
    """What git's own hook tells. Which commit a ref names now is asked of the repository all the same; ``pushed``,
    refs to commits, says whose runs the pusher wants to hear of.
    """

    git_directory: str
    pushed: dict[str, str] = {}


class Hooks:
    """Answers ``/hooks/FORGE/REPOSITORY`` and, over the Unix socket, ``/hooks/git``."""

    def __init__(self, services: Services, bodies: Bodies) -> None:
        self._services = services
        self._bodies = bodies
        self._threads = ThreadPoolExecutor(4, "hooks")
        # A repository that is not there is refused in the same way, and the same time, as a wrong signature.
        self._nobodys = (secrets.token_bytes(32),)
        self._forgeries = Patience(20, 30.0)
        self._untold = 0
        self._kept: Future[None] | None = None
        self._is_kept = asyncio.Event()

    def close(self) -> None:
        """Takes no more work; what is under way ends by itself."""
        self._threads.shutdown(wait=False)

    async def answer(self, scope: Scope, headers: Headers, receive: Receive) -> Answer:
        """The answer to one call. Raises what is wrong with it."""
        if scope["method"] != "POST":
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, "hooks are posted", {"allow": "POST"})
        named, _, repository = scope["path"].removeprefix("/hooks/").partition("/")
        if named == "git" and not repository and scope["state"]["peer"] is not None:
            async with self._bodies.read(scope, receive, headers, LARGEST_PUSH) as body:
                return await self._look(body)
        forge = next((known for known in get_args(ForgeKind) if known == named), None)
        if forge is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "no such forge: write /hooks/github/REPOSITORY, gitlab or gitea")
        try:
            async with self._bodies.read(scope, receive, headers, LARGEST) as body:
                work = partial(self._read, forge, repository, _joined(headers), body)
                if len(body) <= SMALL:
                    notice = work()
                else:
                    notice = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except Unauthenticated:
            await self._audit(scope)
            raise
        except Refused as refused:  # it is genuine, and not what was agreed
            status = 415 if refused.where == "content-type" else 400
            return tell(problem(status, refused.problem, refused.where, refused.remedy))
        if notice.kind in ("ping", "other"):
            return NOTHING_TO_DO
        await self._until_kept(notice)
        return ACCEPTED

    async def _until_kept(self, notice: Notice) -> None:
        """Calls whose notices share a commit share one event: a flood crosses from the writer's thread once for each
        commit, not once for each call.
        """
        kept = self._services.inbox.accept(notice)
        if kept is not self._kept:
            self._kept, self._is_kept = kept, asyncio.Event()
            kept.add_done_callback(partial(_tell, asyncio.get_running_loop(), self._is_kept))
        await self._is_kept.wait()
        kept.result()

    def _read(self, forge: ForgeKind, repository: str, headers: Mapping[str, str], body: bytes) -> Notice:
        watched = self._services.repositories.get(repository)
        known = self._services.webhook_secrets(repository) if watched is not None else ()
        verify(forge, headers, body, known or self._nobodys)
        return read_call(forge, headers, body, repository, watched.project if watched else None)

    async def _audit(self, scope: Scope) -> None:
        """A few lines tell of a flood as well as all of them, and do not fill the disk."""
        if not self._forgeries.spend("", time.monotonic()):
            self._untold += 1
            return
        address = scope["client"][0] if scope["client"] else ""
        detail = {"address": address, "untold": self._untold}
        self._untold = 0
        deed = Deed(who="nobody", action="hook refused", thing=scope["path"][:200], detail=detail)
        save = partial(self._services.store.save, audit=[deed])
        with suppress(InterlockError):  # who forges is refused, whether or not it can be written down
            await asyncio.get_running_loop().run_in_executor(self._threads, save)

    async def _look(self, body: bytes) -> Answer:
        try:
            push = Push.model_validate_json(body)
        except ValidationError as odd:
            raise Refused("it is not what a post-receive hook tells", "the body", "see docs/api.md") from odd
        looking = asyncio.get_running_loop().run_in_executor(self._threads, self._lines, push)
        try:
            lines = await asyncio.wait_for(asyncio.shield(looking), LOOK_SECONDS)
        except TimeoutError:
            lines = [STILL_LOOKING]
        return answer_json(200, {"lines": list(lines)})

    def _lines(self, push: Push) -> list[str]:
        directory = os.path.realpath(push.git_directory)
        for name, repository in self._services.repositories.items():
            if os.path.realpath(repository.git_directory) == directory:
                return self._services.look(name, push.pushed)
        return ["interlock: this repository is not configured"]


def _tell(loop: asyncio.AbstractEventLoop, event: asyncio.Event, _: Future[None]) -> None:
    if not loop.is_closed():  # at the end of a server what was received is kept, and nobody is left to hear of it
        loop.call_soon_threadsafe(event.set)


def _joined(headers: Headers) -> dict[str, str]:
    """By lower-case name; one that comes twice has both values, and so no signature that holds."""
    joined: dict[str, str] = {}
    for name, value in headers.items():
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined
