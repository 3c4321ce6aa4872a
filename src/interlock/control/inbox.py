"""Where hook calls are kept before they are acknowledged: one writer commits all that wait, so a flood is cheap."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
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
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self._open: _Batch | None = None
        self._count = 0
        self._turn = threading.Lock()
        self._is_closed = False
        self._writer = threading.Thread(target=self._write, name="inbox", daemon=True)
        self._writer.start()

    def accept(self, notice: Notice) -> Future[None]:
        """Done once the notice is on the disk. StoreFault in it where it is not, or where too many wait already.

        All notices of one commit have the same future, which none of their callers can cancel.
        """
        with self._turn:
            if self._is_closed or self._count >= MOST_WAITING:
                told = "this server is ending" if self._is_closed else f"{MOST_WAITING} hook calls wait for the disk"
                refused: Future[None] = Future()
                refused.set_exception(StoreFault(told))
                return refused
            if self._open is None or len(self._open.notices) >= MOST_AT_ONCE:
                self._open = _Batch([], Future())
                self._open.kept.set_running_or_notify_cancel()
                self._batches.put(self._open)
            self._open.notices.append(notice)
            self._count += 1
            return self._open.kept

    def close(self) -> None:
        """Takes no more; what waits is kept first."""
        with self._turn:
            self._is_closed = True
        self._batches.put(None)
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
        """What has waited longest, which takes no more from now on; None once it is closed and nothing is left."""
        batch = self._batches.get()
        with self._turn:
            if batch is not None:
                self._count -= len(batch.notices)
            if batch is self._open:
                self._open = None
        return batch
