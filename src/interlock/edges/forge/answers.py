"""What a forge's answer means: taken, worth another try later, or not. Bodies are never shown."""

from __future__ import annotations

from collections.abc import Collection
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from interlock.errors import ForgeFault, Refused

if TYPE_CHECKING:
    import httpx

LIMITED_SECONDS = 60.0
"""Where a forge says only that there was too much of it: GitHub asks for a minute at least."""
_REMEDIES = {
    400: "this version of the forge is perhaps not one that Interlock knows",
    401: "the token is not valid, or not any more: give a new one (for an app, check this machine's clock too)",
    403: "give the token write access to commit statuses and to pull requests",
    404: "check the project's name, that the commit was pushed to it, and that the token may see it",
    410: "comments are switched off there",
    422: "the commit is perhaps not in this repository, or has all the statuses it can have",
}


def check_answer(api: str, asked: str, response: httpx.Response, also: Collection[int]) -> None:
    """Nothing for a success, or one of ``also`` that is no limit of requests.

    ForgeFault for what may go better later, Refused for what will not by itself.
    """
    status = response.status_code
    if 200 <= status < 300:
        return
    told = f"{api} answered {status} to {asked}"
    if 300 <= status < 400:
        remedy = "the project or the forge moved: write its new address; a token is never sent on"
        raise Refused("it redirects elsewhere", told, remedy)
    wait = _wait_asked_for(response)
    if status == 429 or (status == 403 and wait is not None):
        raise ForgeFault(f"{told}: too many requests", wait or LIMITED_SECONDS)
    if status in also:
        return
    if status in (408, 409) or status >= 500:
        raise ForgeFault(told, wait)
    raise Refused("it does not take this", told, _REMEDIES.get(status, "see the forge's own log"))


def _wait_asked_for(response: httpx.Response) -> float | None:
    """Seconds, by the forge's own clock where it names a moment; None where it asks for nothing."""
    headers = response.headers
    after = headers.get("Retry-After")
    if after is not None:
        return _seconds(after) if after.strip().isdigit() else _until(_moment(after), headers)
    if headers.get("x-ratelimit-remaining", headers.get("RateLimit-Remaining")) == "0":
        return _until(_seconds(headers.get("x-ratelimit-reset", headers.get("RateLimit-Reset", ""))), headers)
    return None


def _until(moment: float | None, headers: httpx.Headers) -> float:
    here = _moment(headers.get("Date", ""))
    return LIMITED_SECONDS if moment is None or here is None else max(1.0, moment - here)


def _seconds(text: str) -> float | None:
    digits = text.strip()
    return float(digits) if digits.isdecimal() and len(digits) < 16 else None


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
