"""From an exception to its answer, with what has to be noted of it."""

from __future__ import annotations

import time
import traceback
from contextlib import suppress

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from interlock.access.audit import Deed
from interlock.app.services import Services
from interlock.errors import Fault, Forbidden, InterlockError, StoreFault
from interlock.web.entry.patience import Patience
from interlock.web.metrics import Metrics
from interlock.web.problems import Answer, problem_of, problem_of_http, problem_of_shape, tell, unexpected


class Refusals:
    """Answers errors. A refused write is kept in the audit log; of a refused read only the access log tells, for a read
    must not write.
    """

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._services = services
        self._metrics = metrics
        self._deeds = Patience(20, 30.0)

    async def respond(self, request: Request, error: Exception) -> Response:
        """The answer, as FastAPI asks for it."""
        return (await self.answer(request.scope, error)).response()

    async def answer(self, scope: Scope, error: Exception) -> Answer:
        """The answer to whatever was raised."""
        if isinstance(error, HTTPException):
            return tell(problem_of_http(error), dict(error.headers or {}))
        if isinstance(error, RequestValidationError):
            return tell(problem_of_shape(error))
        if isinstance(error, Forbidden):
            await self._note(scope, error)
        self._metrics.store_faults += isinstance(error, StoreFault)
        if isinstance(error, InterlockError):
            told = problem_of(error)
            if isinstance(error, Fault):
                self._services.say({"fault": f"{type(error).__name__}: {error}", "path": scope["path"]})
            return tell(told)
        defect = "".join(traceback.format_exception(error))
        self._services.say({"defect": defect, "path": scope["path"]})
        return tell(unexpected())

    async def _note(self, scope: Scope, error: Forbidden) -> None:
        """At a pace that fills no disk."""
        caller = scope["state"].get("caller")
        if caller is None or scope["method"] in ("GET", "HEAD") or not self._deeds.spend(caller.name, time.monotonic()):
            return
        detail = {"method": scope["method"], "problem": error.problem}
        deed = Deed(who=caller.name, action="refused", thing=scope["path"][:200], detail=detail)
        with suppress(InterlockError):  # it is refused, whether or not that can be written down
            await run_in_threadpool(self._services.store.save, audit=[deed])
