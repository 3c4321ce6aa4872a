"""Where hook calls are kept before they are acknowledged: one writer commits all that wait, so a flood is cheap."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from interlock.errors import InterlockError, StoreFault
from interlock.ports import Store
from interlock.source.notice import Notice

MOST_WAITING = 4096
"""Notices that may wait for the disk; one more is refused at once, and its sender told to come again."""
MOST_AT_ONCE = 512
"""Notices of one commit: a long one would make those in it wait longer than two short ones."""


class Inbox:
    """Keeps notices. ``ring`` is called after each commit, so that they are looked into."""

    def __init__(self, store: Store, ring: Callable[[], None]) -> None:
        self._store = store
        self._ring = ring
        self._waiting: deque[tuple[Notice, Future[None]]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._writer = threading.Thread(target=self._write, name="inbox", daemon=True)
        self._writer.start()

    def accept(self, notice: Notice) -> Future[None]:
        """Done once the notice is on the disk. StoreFault in it where it is not, or where too many wait already."""
        accepted: Future[None] = Future()
        with self._changed:
            if self._is_closed or len(self._waiting) >= MOST_WAITING:
                told = "this server is ending" if self._is_closed else f"{MOST_WAITING} hook calls wait for the disk"
                accepted.set_exception(StoreFault(told))
                return accepted
            self._waiting.append((notice, accepted))
            self._changed.notify()
        return accepted

    def close(self) -> None:
        """Takes no more; what waits is kept first."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._writer.join()

    def _write(self) -> None:
        while batch := self._next_batch():
            # A caller who went away has cancelled; the notice is kept all the same, for it was received.
            heard = [accepted for _, accepted in batch if accepted.set_running_or_notify_cancel()]
            try:
                self._store.note(*(notice for notice, _ in batch))
            except Exception as fault:  # noqa: BLE001 - the writer outlives every fault, and each waiter hears of it
                told = fault if isinstance(fault, InterlockError) else StoreFault(f"it was not kept: {fault!r}")
                for accepted in heard:
                    accepted.set_exception(told)
                continue
            for accepted in heard:
                accepted.set_result(None)
            self._ring()

    def _next_batch(self) -> list[tuple[Notice, Future[None]]]:
        """All that wait, at most MOST_AT_ONCE; none only when it is closed and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
