"""Whether the server lives, is ready, and how it fares."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from interlock.access.caller import Action
from interlock.app.services import Health, Services
from interlock.web.live.streams import Streams
from interlock.web.metrics import Metrics
from interlock.web.problems import answer_json
from interlock.web.routes.asking import CallerOf

ROUTES = APIRouter(include_in_schema=False)
LOOP_SECONDS = 60.0
"""How long ago the loop may have passed for the server to be ready."""
ROUND_SECONDS = 900.0
"""How long a round that all repositories wait for may take: longer than git may say nothing, several times over."""


@ROUTES.get("/healthz")
async def is_alive(request: Request) -> Response:
    """200 while the process answers and its last look at the store was good."""
    return _told(_health(request).store_problem is None)


@ROUTES.get("/readyz")
async def is_ready(request: Request) -> Response:
    """200 where, besides, the loop has passed lately and no round that all repositories wait for hangs."""
    health = _health(request)
    has_passed = health.loop_age is not None and health.loop_age <= LOOP_SECONDS
    return _told(health.store_problem is None and has_passed and health.slowest <= ROUND_SECONDS)


@ROUTES.get("/metrics", response_class=PlainTextResponse)
def show_metrics(request: Request, caller: CallerOf) -> Response:
    """All numbers, for Prometheus."""
    caller.require(Action.READ)
    metrics: Metrics = request.app.state.metrics
    streams: Streams = request.app.state.streams
    return PlainTextResponse(metrics.text(streams.count), media_type="text/plain; version=0.0.4")


def _health(request: Request) -> Health:
    services: Services = request.app.state.services
    return services.health()


def _told(is_well: bool) -> Response:
    """Strangers may ask: they learn whether, not why."""
    if is_well:
        return answer_json(200, {"status": "ok"}).response()
    return answer_json(503, {"status": "unwell"}, {"retry-after": "5"}).response()
