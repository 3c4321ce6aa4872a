"""A freeze: nothing goes forward in an environment, on a person's word. The way back is never closed."""

from __future__ import annotations

from datetime import UTC, datetime

from interlock.vocabulary import Stored


class Freeze(Stored):
    """Who froze it and why; ``until`` in wall seconds, None until somebody unfreezes it."""

    by: str
    reason: str
    until: float | None = None


def frozen_because(freeze: Freeze | None, now: float) -> str | None:
    """Why nothing may go forward now; None where it may."""
    if freeze is None or (freeze.until is not None and now >= freeze.until):
        return None
    until = (
        "it is unfrozen" if freeze.until is None else f"{datetime.fromtimestamp(freeze.until, UTC):%Y-%m-%d %H:%M} UTC"
    )
    return f"frozen by {freeze.by} until {until}: {freeze.reason}"
