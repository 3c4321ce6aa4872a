"""Runs: listed, shown, begun, ended, approved, let past gates; and what their stages print."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from interlock.access.caller import Action
from interlock.errors import NotFound
from interlock.ports import LogWindow
from interlock.run.run import Run
from interlock.vocabulary import Json, Kind, Phase, Row
from interlock.web.live.sources import LogSource
from interlock.web.live.streams import EventStream, Streams
from interlock.web.routes.asking import (
    MOST_PHASES,
    CallerOf,
    Cursor,
    Key,
    Limit,
    Number,
    ServicesOf,
    load_row,
    page_of,
    require_unchanged,
    told,
)
from interlock.web.routes.shapes import Approval, GateOverride, Page, Reason, Rerun, Resource, RunSummary, Trigger
from interlock.web.sight import may_see

ROUTES = APIRouter(tags=["runs"])
Attempt = Annotated[int, Query()]
MOST_LINES = 10_000


@ROUTES.get("/runs", response_model=Page[RunSummary])
def list_runs(
    services: ServicesOf,
    caller: CallerOf,
    repository: str | None = None,
    ref: str | None = None,
    phase: Annotated[list[Phase] | None, Query(max_length=MOST_PHASES)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """The newest runs first."""
    caller.require(Action.READ, repository=repository)
    names: list[str | None] = [repository] if repository is not None else [*caller.repositories] or [None]

    def read(newest: int, before: int | None) -> list[Row]:
        lists = [
            services.store.rows(Kind.RUN, repository=name, ref=ref, phases=phase, newest=newest, before=before)
            for name in names
        ]
        merged = heapq.merge(*lists, key=lambda row: row.place, reverse=True)
        return list(itertools.islice(merged, newest))

    return page_of(read, lambda row: may_see(services.store, caller, row), _summary, limit, cursor)


def _summary(row: Row) -> Mapping[str, Json]:
    """Taken from the stored state as it is: a list of fifty is no reason to check fifty plans."""
    state: Mapping[str, Any] = row.state
    commit, occasion, pull_request = state["commit"], state["occasion"], state.get("pull_request")
    return {
        "number": state["number"],
        "repository": commit["repository"],
        "ref": commit["ref"],
        "sha": commit["sha"],
        "subject": commit.get("subject", ""),
        "phase": row.phase,
        "because": state.get("because", ""),
        "occasion": {"kind": occasion["kind"], "detail": occasion.get("detail", ""), "by": occasion.get("by")},
        "by": occasion.get("by"),
        "is_trusted": state["is_trusted"],
        "pull_request": pull_request["number"] if pull_request else None,
        "version": row.version,
        "created": row.created,
        "updated": row.updated,
    }


@ROUTES.post("/runs", status_code=201, response_model=Resource[Run])
def trigger_run(asked: Trigger, request: Request, services: ServicesOf, caller: CallerOf, key: Key = "") -> Response:
    """Begins a run of what a ref names now."""
    watched = services.repositories.get(asked.repository)
    ref = asked.ref or (watched.default_branch if watched else "")
    run = services.runs.trigger(caller, asked.repository, ref, key)
    return _shown(request, services, caller, run, 201)


@ROUTES.get("/runs/{number}", response_model=Resource[Run])
def show_run(number: Number, request: Request, services: ServicesOf, caller: CallerOf) -> Response:
    """One run, its plan and its stages included."""
    return told(request, load_row(services, caller, Kind.RUN, str(number)), Run)


@ROUTES.post("/runs/{number}/cancel", response_model=Resource[Run])
def cancel_run(number: Number, asked: Reason, request: Request, services: ServicesOf, caller: CallerOf) -> Response:
    """Ends a run and everything it started."""
    require_unchanged(request, load_row(services, caller, Kind.RUN, str(number)))
    return _shown(request, services, caller, services.runs.cancel(caller, number, asked.reason), 200)


@ROUTES.post("/runs/{number}/rerun", status_code=201, response_model=Resource[Run])
def rerun_run(
    number: Number, asked: Rerun, request: Request, services: ServicesOf, caller: CallerOf, key: Key = ""
) -> Response:
    """Begins a run of the same commit again."""
    load_row(services, caller, Kind.RUN, str(number))
    return _shown(request, services, caller, services.runs.rerun(caller, number, asked.from_stage, key), 201)


@ROUTES.post("/runs/{number}/approve", response_model=Resource[Run])
def approve_run(number: Number, asked: Approval, request: Request, services: ServicesOf, caller: CallerOf) -> Response:
    """Lets a held run of somebody from outside go on, for this one commit."""
    require_unchanged(request, load_row(services, caller, Kind.RUN, str(number)))
    return _shown(request, services, caller, services.runs.approve(caller, number, asked.sha), 200)


@ROUTES.post("/runs/{number}/override", response_model=Resource[Run])
def override_gates(
    number: Number, asked: GateOverride, request: Request, services: ServicesOf, caller: CallerOf
) -> Response:
    """Lets a run go on past gates that did not pass: its model is registered and released, with who said so and why."""
    require_unchanged(request, load_row(services, caller, Kind.RUN, str(number)))
    return _shown(request, services, caller, services.runs.override(caller, number, asked.gates, asked.reason), 200)


def _shown(request: Request, services: ServicesOf, caller: CallerOf, run: Run, status: int) -> Response:
    response = told(request, load_row(services, caller, Kind.RUN, run.key), Run, status)
    if status == 201:
        response.headers["location"] = f"/api/v1/runs/{run.number}"
    return response


LOG = "/runs/{number}/stages/{stage}/attempts/{attempt}/log"


@ROUTES.get(LOG)
def read_log(
    number: Number,
    stage: str,
    attempt: Number,
    services: ServicesOf,
    caller: CallerOf,
    first: Annotated[int, Query(ge=-(2**53), le=2**53, description="Line from 0; below 0 from the end.")] = 0,
    most: Annotated[int, Query(ge=1, le=MOST_LINES)] = 1000,
) -> LogWindow:
    """Lines of what an attempt printed."""
    return services.logs.window(_attempt(services, caller, number, stage, attempt), first, most)


@ROUTES.get(f"{LOG}/stream", status_code=200, response_class=EventStream)
def follow_log(
    number: Number,
    stage: str,
    attempt: Number,
    request: Request,
    services: ServicesOf,
    caller: CallerOf,
    first: Annotated[int, Query(ge=-(2**53), le=2**53, description="Line from 0; below 0 from the end.")] = 0,
    last: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=2**53)] = None,
) -> EventStream:
    """The log as server-sent events: the id is a line's number, the data its text as JSON. The event `end` ends it."""
    key = _attempt(services, caller, number, stage, attempt)
    if last is not None:
        first = last + 1
    elif first < 0:
        first = services.logs.window(key, first, 1).first
    streams: Streams = request.app.state.streams
    return EventStream(streams, LogSource(services.logs, services.store, key), first)


def _attempt(services: ServicesOf, caller: CallerOf, number: int, stage: str, attempt: int) -> str:
    """The attempt's key. The stage is one of the run's: it becomes the name of a file."""
    row = load_row(services, caller, Kind.RUN, str(number))
    stages = row.state.get("stages")
    if not isinstance(stages, dict) or stage not in stages:
        raise NotFound(f"run {number} has no stage {stage}", remedy=f"/api/v1/runs/{number} lists them")
    return f"{number}/{stage}/{attempt}"
