"""What keeps an environment from going forward: a person's freeze, its windows, and approvals that were not given yet.

The way back is never closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from interlock.pipeline.plan import WindowPlan
from interlock.source.schedule import latest_slot, next_slot
from interlock.vocabulary import Stored


class Freeze(Stored):
    """Who froze it and why; ``until`` in wall seconds, None until somebody unfreezes it."""

    by: str
    reason: str
    until: float | None = None


class Retirement(Stored):
    """Who took the model away and why; ``at`` in wall seconds."""

    by: str
    reason: str
    at: float


def retired_because(retirement: Retirement) -> str:
    """Who retired it when, and why."""
    return f"retired by {retirement.by} at {moment(retirement.at)}: {retirement.reason}"


APPROVED = "of the approvals it waits for were given"
"""How every reason that waits for people tells it."""


class Approval(Stored):
    """A person's leave: ``by`` whom and why; ``of`` is what for: an environment of a release, a step of a rollout."""

    by: str
    reason: str
    of: str


def unapproved_because(needed: int, given: Sequence[Approval], of: str, thing: str) -> str | None:
    """What is missing of the approvals of so many different people; None where all were given.

    ``thing`` is what they approve: ``release/3``.
    """
    people = people_of(given, of)
    if len(people) >= needed:
        return None
    told = f" ({', '.join(people)})" if people else ""
    return f"{len(people)} of {needed} {APPROVED}{told}: interlock approve {thing}"


def people_of(given: Sequence[Approval], of: str) -> tuple[str, ...]:
    """Who approved, each once, in order."""
    return tuple(dict.fromkeys(one.by for one in given if one.of == of))


def held_because(freeze: Freeze | None, windows: Sequence[WindowPlan], now: float) -> str | None:
    """Why nothing may go forward now; None where it may. Without windows it always may."""
    frozen = frozen_because(freeze, now)
    if frozen is not None:
        return frozen
    if not windows or any(_is_open(window, now) for window in windows):
        return None
    opening = min(next_slot(window.opens, window.time_zone, now) for window in windows)
    return f"outside its windows until {moment(opening)}"


def frozen_because(freeze: Freeze | None, now: float) -> str | None:
    """Who froze it until when, and why; None where nobody did, or it is over."""
    if freeze is None or (freeze.until is not None and now >= freeze.until):
        return None
    until = "it is unfrozen" if freeze.until is None else moment(freeze.until)
    return f"frozen by {freeze.by} until {until}: {freeze.reason}"


def _is_open(window: WindowPlan, now: float) -> bool:
    return latest_slot([window.opens], window.time_zone, now - window.seconds, now) is not None


def moment(seconds: float) -> str:
    """A time (wall seconds) for people."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
