"""The application: every route behind the gate."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from interlock.app.services import Services
from interlock.errors import InterlockError
from interlock.web.entry.bodies import Bodies
from interlock.web.entry.gate import Gate
from interlock.web.hooks import Hooks
from interlock.web.live.streams import Streams
from interlock.web.metrics import Metrics
from interlock.web.problems import ProblemDetails
from interlock.web.refusals import Refusals
from interlock.web.routes import deliveries, events, health, people, repositories, runs

API = "/api/v1"
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
ERRORS = (InterlockError, HTTPException, RequestValidationError, Exception)
TOLD = {
    400: "It is no JSON, or not readable.",
    401: "No token, or one that is not good.",
    403: "The token does not allow it.",
    404: "There is no such thing.",
    408: "The body did not end in time.",
    409: "Not as things stand now.",
    412: "It has changed since the version in If-Match.",
    413: "The body is too large.",
    421: "The server does not answer to this host.",
    422: "The request is refused, with every problem.",
    503: "A fault of the server; try again after Retry-After.",
}


class Application:
    """The ASGI application and what ends with it. ``api`` holds its routes."""

    def __init__(self, services: Services) -> None:
        metrics = Metrics(services)
        refusals = Refusals(services, metrics)
        bodies = Bodies()
        self.streams = Streams()
        self.api = _routes(refusals)
        self.api.state.services = services
        self.api.state.metrics = metrics
        self.api.state.streams = self.streams
        self._hooks = Hooks(services, bodies)
        self._gate = Gate(self.api, self._hooks, services, metrics, refusals, bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        await self._gate(scope, receive, send)

    def close(self) -> None:
        """Ends what is followed, so that connections can end; called on the event loop."""
        self.streams.close()
        self._hooks.close()


def create_app(services: Services) -> Application:
    """The application of one server."""
    return Application(services)


class Api(FastAPI):
    """FastAPI, except that errors are described as what they are: ``application/problem+json``."""

    def openapi(self) -> dict[str, Any]:
        """The description of all routes."""
        if self.openapi_schema is None:
            described = super().openapi()
            for operations in described["paths"].values():
                for operation in operations.values():
                    operation["security"] = [{"token": []}]
                    for status, response in operation["responses"].items():
                        if int(status) in TOLD:
                            response["content"] = PROBLEM
            described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        return super().openapi()


def _routes(refusals: Refusals) -> Api:
    api = Api(
        title="Interlock",
        version="1",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={status: {"description": told, "model": ProblemDetails} for status, told in TOLD.items()},
        exception_handlers=dict.fromkeys(ERRORS, refusals.respond),
    )
    for part in (runs, events, deliveries, people, repositories):
        api.include_router(part.ROUTES, prefix=API)
    api.include_router(health.ROUTES)
    return api
