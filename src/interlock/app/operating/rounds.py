"""Work that comes round again and again beside the loop, each kind on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from interlock.control.bell import Bell
from interlock.errors import InterlockError


class Rounds:
    """Calls each work at once and then every so many seconds, or when its bell rings, until ``is_over``; with a
    ``rest``, never sooner than so many seconds after its last end, however often the bell rings.

    A fault ends one round, not the work; it is said, but not again while it stays the same.
    """

    def __init__(self, over: threading.Event, say: Callable[[str], None]) -> None:
        self._over = over
        self._say = say
        self._works: list[tuple[threading.Thread, Bell]] = []
        self._began: dict[str, float | None] = {}

    def begin(
        self, name: str, seconds: float, work: Callable[[], object], bell: Bell | None = None, rest: float = 0.0
    ) -> None:
        """The first round begins now."""
        bell = bell or Bell()
        self._began[name] = None
        thread = threading.Thread(target=self._go_round, args=(name, seconds, work, bell, rest), name=name, daemon=True)
        self._works.append((thread, bell))
        thread.start()

    def under_way(self) -> dict[str, float]:
        """By name, for how many seconds the round under way has gone on; 0 between two rounds."""
        now = time.monotonic()
        return {name: 0.0 if began is None else now - began for name, began in list(self._began.items())}

    def end(self, patience: float) -> None:
        """Waits for the rounds that are under way, for so many seconds together; ``over`` was set before.

        One that takes longer is left behind.
        """
        for _, bell in self._works:
            bell.ring()
        deadline = time.monotonic() + patience
        for thread, _ in self._works:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _go_round(self, name: str, seconds: float, work: Callable[[], object], bell: Bell, rest: float) -> None:
        told = ""
        while not self._over.is_set():
            problem = ""
            self._began[name] = time.monotonic()
            try:
                work()
            except InterlockError as fault:
                problem = f"{name}: {type(fault).__name__}: {fault}"
            except Exception as defect:  # noqa: BLE001 - a defect in one kind of work must not end the others for ever
                problem = f"{name}: a defect: {type(defect).__name__}: {defect}"
            if problem and problem != told:
                self._say(problem)
            told = problem
            self._began[name] = None
            if not self._over.wait(rest):
                bell.wait(seconds)
