"""Every decision that was saved, listed and followed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request

from interlock.access.caller import Action
from interlock.vocabulary import Event, Kind
from interlock.web.live.sources import EventSource, shared
from interlock.web.live.streams import EventStream, Streams
from interlock.web.routes.asking import CallerOf, Limit, ServicesOf
from interlock.web.routes.shapes import EventList
from interlock.web.sight import EventSight

ROUTES = APIRouter(prefix="/events", tags=["events"])
RowKey = Annotated[str | None, Query(max_length=500)]
After = Annotated[int | None, Query(ge=0, le=2**53, description="The number of the last one that is known.")]


@ROUTES.get("")
def list_events(
    services: ServicesOf,
    caller: CallerOf,
    kind: Kind | None = None,
    key: RowKey = None,
    after: After = 0,
    limit: Limit = 100,
) -> EventList:
    """Events in order of their numbers."""
    caller.require(Action.READ)
    sight = EventSight(services.store, caller)
    seen: list[Event] = []
    following = after or 0
    while len(seen) < limit:
        events = services.store.events(kind, key, after=following, most=limit)
        taken = [event for event in events if sight.may_see(event)][: limit - len(seen)]
        seen += taken
        following = taken[-1].number if len(seen) == limit else events[-1].number if events else following
        if len(events) < limit:
            break
    return EventList(items=tuple(seen), next=str(following) if len(seen) == limit else None)


@ROUTES.get("/stream", status_code=200, response_class=EventStream)
def follow_events(
    request: Request,
    services: ServicesOf,
    caller: CallerOf,
    kind: Kind | None = None,
    key: RowKey = None,
    after: After = None,
    last: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=2**53)] = None,
) -> EventStream:
    """Events as server-sent events: behind `Last-Event-ID`, else behind `after`, else those of one row from its first
    and all others from now on. The events of one run end when the run has.
    """
    caller.require(Action.READ)
    begin = last if last is not None else after
    if begin is None:
        begin = 0 if key is not None else services.store.last_event()
    streams: Streams = request.app.state.streams
    return EventStream(streams, EventSource(services.store, kind, key, shared(caller)), begin)
