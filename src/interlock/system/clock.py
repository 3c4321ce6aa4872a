"""The clock, as a thing that is handed over, so that a test can bring its own."""

from __future__ import annotations

import time


class Clock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since 1970 (UTC): for people and for the store; it may jump."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed moment: for durations; it never goes back."""
        return time.monotonic()
