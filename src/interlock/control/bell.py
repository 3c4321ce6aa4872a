"""The bell that wakes whoever steps rows, and how long he sleeps without it."""

from __future__ import annotations

import threading

BUSY_SECONDS = 0.2
"""Between passes while something moves or is being served in steps."""
IDLE_SECONDS = 1.0


class Bell:
    """Wakes the loop. It carries nothing: what happened is read from the world."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """Wakes the loop now, or keeps it from falling asleep once."""
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Until the bell rings, at most so long."""
        self._event.wait(seconds)
        self._event.clear()
