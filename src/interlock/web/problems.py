"""Every error as the caller sees it: ``application/problem+json`` (RFC 9457), with where it is and the remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from interlock.errors import (
    Conflict,
    Fault,
    Forbidden,
    InterlockError,
    NotFound,
    Refused,
    SeveralRefused,
    StaleWrite,
    Unauthenticated,
)
from interlock.vocabulary import Json, Stored

RETRY_SECONDS = 5
"""What a caller is told to wait after a fault of ours."""
MOST_TROUBLES, LONGEST_WHERE = 100, 200
"""What is told of a request of another shape: it may have thousands of keys, each as long as it likes."""
STATUSES: tuple[tuple[type[InterlockError], int], ...] = (
    (NotFound, 404),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (Conflict, 409),
    (Refused, 422),
    (StaleWrite, 409),
    (Fault, 503),
)
"""The first that fits counts. What is on no line (a signature that does not hold) is 500."""


class Trouble(Stored):
    """One of several things wrong with a request."""

    problem: str
    where: str = ""
    remedy: str = ""


class ProblemDetails(Stored):
    """The body of every error. ``type`` names the kind for programs; ``problems`` lists several."""

    type: str
    title: str
    status: int
    detail: str
    where: str = ""
    remedy: str = ""
    problems: tuple[Trouble, ...] = ()


class Answer(NamedTuple):
    """A whole answer, before anything speaks HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> Response:
        """As Starlette sends it."""
        return Response(self.body, self.status, self.headers)


def answer_json(status: int, value: Json, headers: dict[str, str] | None = None) -> Answer:
    """An answer of JSON, in ASCII: half a character that somebody stored is no reason to fail."""
    return Answer(status, {"content-type": "application/json", **(headers or {})}, json.dumps(value).encode())


def tell(told: ProblemDetails, headers: dict[str, str] | None = None) -> Answer:
    """The answer that tells of a problem."""
    added = {"content-type": "application/problem+json", **(headers or {})}
    if told.status == HTTPStatus.UNAUTHORIZED:
        added["www-authenticate"] = 'Bearer realm="interlock"'
    if told.status == HTTPStatus.SERVICE_UNAVAILABLE:
        added["retry-after"] = str(RETRY_SECONDS)
    return Answer(told.status, added, json.dumps(told.model_dump(mode="json")).encode())


def problem_of(error: InterlockError) -> ProblemDetails:
    """An error of ours in the words of HTTP."""
    status = next((number for kind, number in STATUSES if isinstance(error, kind)), 500)
    if isinstance(error, SeveralRefused):
        troubles = [Trouble(problem=one.problem, where=one.where, remedy=one.remedy) for one in error.refusals]
        return problem(status, f"{len(troubles)} problems", problems=troubles)
    if isinstance(error, Refused):
        return problem(status, error.problem, error.where, error.remedy)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return unexpected()
    return problem(status, str(error), remedy="try again")


def problem_of_http(error: HTTPException) -> ProblemDetails:
    """What HTTP itself refuses: no such route, too large, too slow, of the wrong type, for another host."""
    remedy = "/api/v1/openapi.json lists every route" if error.status_code in (404, 405) else ""
    return problem(error.status_code, str(error.detail), remedy=remedy)


def unexpected() -> ProblemDetails:
    """What a caller is told of a defect of ours: nothing of the inside."""
    return problem(500, "something unexpected went wrong", remedy="the server's log tells what")


def problem(
    status: int, detail: str, where: str = "", remedy: str = "", problems: Sequence[Trouble] = ()
) -> ProblemDetails:
    """A problem of this status."""
    title = HTTPStatus(status).phrase
    return ProblemDetails(
        type=f"urn:interlock:problem:{title.lower().replace(' ', '-')}",
        title=title,
        status=status,
        detail=detail,
        where=where,
        remedy=remedy,
        problems=tuple(problems),
    )


def problem_of_shape(error: RequestValidationError) -> ProblemDetails:
    """A request that does not have the documented shape: 400 for what is no JSON, else 422."""
    found = error.errors()
    told = found[:MOST_TROUBLES]
    troubles = [Trouble(problem=str(one["msg"]), where=".".join(map(str, one["loc"]))[:LONGEST_WHERE]) for one in told]
    status = 400 if any(one["type"] == "json_invalid" for one in found) else 422
    return problem(status, "the request is not as documented", problems=troubles)
