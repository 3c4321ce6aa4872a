"""Who waits for the model: quick calls are made at once, others in turn in one thread, and together where that helps.

A request waits no longer than its deadline. One that cannot be answered in time, or that finds too many before it, is
told so at once, for it to go elsewhere while there is time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ..inputs import Batch
from ..protocol.tensors import Array
from .policy import SURE_AFTER, ServiceCurve, most_rows, seconds_ahead, wait_seconds

QUICK_SECONDS = 0.005
MOST_WAITING = 256
SELDOM = 7
"""Of quick calls one in eight is learnt from: to learn takes as long as a small model does."""
SHORTEST_SLEEP = 0.001
"""The event loop's timers are no finer; a shorter wait is one turn of the loop."""

Outputs = dict[str, Array]


class Overloaded(Exception):
    """Too many wait before it. ``seconds`` is how long they will take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__("too many requests are waiting")


class TooLate(Exception):
    """The deadline of the request is over, or will be before it can be answered."""


class _Waiting(NamedTuple):
    batch: Batch
    kind: object
    deadline: float
    answered: asyncio.Future[Outputs]


class Asking:
    """Asks one model. ``may_merge`` says that rows are answered alike alone and among others.

    ``limit`` is the latency in seconds that batching keeps below.
    """

    def __init__(
        self, answer: Callable[[Batch], Outputs], curve: ServiceCurve, *, may_merge: bool, limit: float
    ) -> None:
        self._answer = answer
        self.curve = curve
        self._may_merge = may_merge
        self._limit = limit
        # One thread asks the model; quick answers are given without it, for the hop costs as much as they do.
        self._thread = ThreadPoolExecutor(1, "model")
        self._waiting: deque[_Waiting] = deque()
        self._rows = 0
        self._is_turn_due = False
        self._is_asking = False
        self._came = 0.0
        self._gap = 1.0
        self._quick_rows = 0.0
        self.calls = self.merged = 0
        self.most_rows = 1
        """How many rows it asks at once at most, as far as it may bring requests together."""
        self._learn_size()

    def ask_at_once(self, batch: Batch) -> Outputs | None:
        """The model's outputs where it answers quickly, nobody is before, and nobody is to join; else None: ``ask``.

        Raises whatever the model raises.
        """
        if batch.rows < self._quick_rows and self.most_rows == 1 and not self._waiting and not self._is_asking:
            return self._ask_timed(batch)
        return None

    async def ask(self, batch: Batch, deadline: float) -> Outputs:
        """The model's outputs, when its turn has come. ``deadline`` is on ``time.monotonic``.

        Overloaded, TooLate, or whatever the model raises.
        """
        self._admit(batch, deadline)
        answered: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(batch, kind_of(batch), deadline, answered))
        self._rows += batch.rows
        self._schedule()
        return await answered

    def _admit(self, batch: Batch, deadline: float) -> None:
        now = time.monotonic()
        self._gap += 0.2 * (min(1.0, now - self._came) - self._gap)
        self._came = now
        together = self.most_rows
        calls = len(self._waiting) if together == 1 else -(-self._rows // together)
        ahead = seconds_ahead(self.curve, self._rows, calls + self._is_asking)
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded(ahead)
        if now + ahead + self.curve.seconds(batch.rows) > deadline:
            raise TooLate(f"about {ahead * 1000:.0f} ms of other requests are before it")

    def _schedule(self) -> None:
        if self._waiting and not self._is_turn_due and not self._is_asking:
            self._is_turn_due = True
            # What has arrived already joins before the turn comes.
            asyncio.get_running_loop().call_soon(self._consider)

    def _consider(self) -> None:
        wait = wait_seconds(self.curve, self._rows, self._gap, self._limit) if self._may_merge else 0.0
        if wait >= SHORTEST_SLEEP:
            asyncio.get_running_loop().call_later(wait, self._turn)
        elif wait > 0:
            asyncio.get_running_loop().call_soon(self._turn)
        else:
            self._turn()

    def _turn(self) -> None:
        self._is_turn_due = False
        together = self._take()
        if not together:
            return
        if sum(each.batch.rows for each in together) < self._quick_rows:
            self._finish(together, self._ask_together([each.batch for each in together]))
            self._schedule()
            return
        self._is_asking = True
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._thread, self._ask_together, [each.batch for each in together])
        asked.add_done_callback(lambda done: self._come_back(together, done.result()))

    def _come_back(self, together: Sequence[_Waiting], results: Sequence[Outputs | Exception]) -> None:
        self._is_asking = False
        self._finish(together, results)
        self._schedule()

    def _take(self) -> list[_Waiting]:
        """The next requests that go together, the oldest first; those that are too late are told so."""
        now, most = time.monotonic(), self.most_rows
        together: list[_Waiting] = []
        rows = 0
        while self._waiting:
            first = self._waiting[0]
            is_late = first.deadline < now
            if not is_late and together and (rows + first.batch.rows > most or first.kind != together[0].kind):
                break
            self._waiting.popleft()
            self._rows -= first.batch.rows
            if not is_late:
                together.append(first)
                rows += first.batch.rows
            elif not first.answered.done():
                first.answered.set_exception(TooLate("its time is over"))
        return together

    def _finish(self, together: Sequence[_Waiting], results: Sequence[Outputs | Exception]) -> None:
        for each, result in zip(together, results, strict=True):
            if each.answered.done():  # nobody waits for it any more
                continue
            if isinstance(result, Exception):
                each.answered.set_exception(result)
            else:
                each.answered.set_result(result)

    def _ask_together(self, batches: Sequence[Batch]) -> list[Outputs | Exception]:
        if len(batches) > 1:
            self.merged += len(batches)
            # Where that fails one of them is at fault: each is asked alone, and answers for itself.
            with contextlib.suppress(Exception):
                return list(divide(self._ask_timed(merge(batches)), batches))
        return [self._ask_alone(batch) for batch in batches]

    def _ask_alone(self, batch: Batch) -> Outputs | Exception:
        try:
            return self._ask_timed(batch)
        except Exception as fault:  # noqa: BLE001 - the model's own code may raise anything; it is the answer
            return fault

    def _ask_timed(self, batch: Batch) -> Outputs:
        began = time.perf_counter()
        try:
            return self._answer(batch)
        finally:
            took = time.perf_counter() - began
            self.calls += 1
            if self.calls & SELDOM == 0 or self.calls < SURE_AFTER or took > QUICK_SECONDS:
                self.curve.observe(batch.rows, took)
                self._learn_size()

    def _learn_size(self) -> None:
        self._quick_rows = self.curve.rows_within(QUICK_SECONDS)
        self.most_rows = most_rows(self.curve, self._limit) if self._may_merge else 1


def merge(batches: Sequence[Batch]) -> Batch:
    """One batch with the rows of all, which are of one kind."""
    arrays = {name: np.concatenate([batch.arrays[name] for batch in batches]) for name in batches[0].arrays}
    return Batch(sum(batch.rows for batch in batches), arrays, batches[0].wanted)


def divide(outputs: Outputs, batches: Sequence[Batch]) -> list[Outputs]:
    """The outputs of a merged batch, for each of the batches."""
    parts: list[Outputs] = []
    start = 0
    for batch in batches:
        end = start + batch.rows
        parts.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return parts


def kind_of(batch: Batch) -> object:
    """What must be equal for two batches to be merged."""
    return batch.wanted, [(name, array.dtype, array.shape[1:]) for name, array in batch.arrays.items()]
