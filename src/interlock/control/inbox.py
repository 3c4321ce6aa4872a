"""Where hook calls are kept before they are acknowledged: one writer commits all that wait, so a flood is cheap."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

from interlock.errors import InterlockError, StoreFault
from interlock.ports import Store
from interlock.source.notice import Notice

MOST_WAITING = 4096
"""Notices that may wait for the disk; one more is refused at once, and its sender told to come again."""
MOST_AT_ONCE = 512
"""Notices of one commit: a long one would make those in it wait longer than two short ones."""


class _Batch(NamedTuple):
    """Notices of one commit, and the future of all who brought them."""

    notices: list[Notice]
    kept: Future[None]


class Inbox:
    """Keeps notices. ``ring`` is called after each commit, so that they are looked into."""

    def __init__(self, store: Store, ring: Callable[[], None]) -> None:
        self._store = store
        self._ring = ring
        self._batches: deque[_Batch] = deque()
        self._count = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._writer = threading.Thread(target=self._write, name="inbox", daemon=True)
        self._writer.start()

    def accept(self, notice: Notice) -> Future[None]:
        """Done once the notice is on the disk. StoreFault in it where it is not, or where too many wait already.

        All notices of one commit have the same future, which none of their callers can cancel.
        """
        with self._changed:
            if self._is_closed or self._count >= MOST_WAITING:
                told = "this server is ending" if self._is_closed else f"{MOST_WAITING} hook calls wait for the disk"
                refused: Future[None] = Future()
                refused.set_exception(StoreFault(told))
                return refused
            if not self._batches or len(self._batches[-1].notices) >= MOST_AT_ONCE:
                self._batches.append(_Batch([], Future()))
                self._batches[-1].kept.set_running_or_notify_cancel()
                self._changed.notify()
            batch = self._batches[-1]
            batch.notices.append(notice)
            self._count += 1
        return batch.kept

    def close(self) -> None:
        """Takes no more; what waits is kept first."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._writer.join()

    def _write(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                self._store.note(*batch.notices)
            except Exception as fault:  # noqa: BLE001 - the writer outlives every fault, and each waiter hears of it
                told = fault if isinstance(fault, InterlockError) else StoreFault(f"it was not kept: {fault!r}")
                batch.kept.set_exception(told)
                continue
            batch.kept.set_result(None)
            self._ring()

    def _next_batch(self) -> _Batch | None:
        """What has waited longest; none only when it is closed and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._is_closed)
            if not self._batches:
                return None
            batch = self._batches.popleft()
            self._count -= len(batch.notices)
            return batch
