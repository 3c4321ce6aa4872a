"""What most routes need: the services, who asks, pages of rows, and single rows with their ETag."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from interlock.access.caller import Caller
from interlock.app.services import Services
from interlock.control.rows import read_state
from interlock.errors import NotFound, Refused
from interlock.vocabulary import Json, Kind, Row, Stored
from interlock.web.problems import answer_json
from interlock.web.sight import require_sight

StateT = TypeVar("StateT", bound=Stored)


async def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


async def _caller(request: Request) -> Caller:
    found: Caller = request.scope["state"]["caller"]
    return found


ServicesOf = Annotated[Services, Depends(_services)]
CallerOf = Annotated[Caller, Depends(_caller)]
Number = Annotated[int, Path(ge=1, le=2**53)]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
MOST_PHASES = 20
"""Phases that one list is asked for by: more than there are."""
Cursor = Annotated[str | None, Query(max_length=100, description="`next` of the part before.")]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        description="The same key of the same caller is the same request: sent again, it answers what it did.",
    ),
]


def load_row(services: Services, caller: Caller, kind: Kind, key: str) -> Row:
    """The row, for a caller who may see it."""
    row = services.store.load(kind, key)
    if row is None:
        raise NotFound(f"there is no {kind} {key}")
    require_sight(services.store, caller, row)
    return row


def told(request: Request, row: Row, shape: type[StateT], status: int = 200) -> Response:
    """The row with its ETag; 304 for a caller who has it already."""
    etag = f'"{row.version}"'
    if status == 200 and request.method == "GET" and _names(request, "if-none-match", etag):
        return Response(status_code=304, headers={"etag": etag})
    return answer_json(status, envelope(row, read_state(row, shape)), {"etag": etag}).response()


def envelope(row: Row, state: Stored) -> dict[str, Json]:
    """A row as a Resource."""
    held = row.model_dump(mode="json", include=set(ENVELOPE))
    return {**held, "state": state.model_dump(mode="json")}


ENVELOPE = ("kind", "key", "version", "phase", "repository", "ref", "created", "updated")


def require_unchanged(request: Request, row: Row) -> None:
    """412 for a caller who decided on another version of the row than there is."""
    if "if-match" in request.headers and not _names(request, "if-match", f'"{row.version}"'):
        raise HTTPException(412, f"{row.kind} {row.key} is at version {row.version} now")


def _names(request: Request, header: str, etag: str) -> bool:
    given = [tag.strip().removeprefix("W/") for tag in request.headers.get(header, "").split(",")]
    return etag in given or given == ["*"]


def page_of(
    read: Callable[[int, int | None], list[Row]],
    may_see: Callable[[Row], bool],
    show: Callable[[Row], Mapping[str, Json]],
    limit: int,
    cursor: str | None,
) -> Response:
    """The newest ``limit`` rows behind the cursor that the caller may see. ``read`` takes a number and a place."""
    before = None if cursor is None else _place(cursor)
    seen: list[Row] = []
    while len(seen) <= limit:
        rows = read(limit + 1, before)
        seen += [row for row in rows if may_see(row)]
        if len(rows) <= limit:
            break
        before = rows[-1].place
    following = _cursor(seen[limit - 1].place) if len(seen) > limit else None
    items: list[Json] = [dict(show(row)) for row in seen[:limit]]
    return answer_json(200, {"items": items, "next": following}).response()


def _cursor(place: int) -> str:
    return base64.urlsafe_b64encode(str(place).encode()).decode().rstrip("=")


def _place(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        if not text.isdigit() or int(text) >= 2**63:
            raise ValueError(text)
    except (ValueError, binascii.Error):
        raise Refused("this is no cursor of ours", "cursor", "give next as the part before told it") from None
    return int(text)
