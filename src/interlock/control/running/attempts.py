"""Attempts: the one thing that is not idempotent. Each is claimed by inserting its row before it is started."""

from __future__ import annotations

import time
from collections.abc import Callable

from interlock.control.rows import read_state, write_state
from interlock.errors import AlreadyExists, ArtifactFault, StaleWrite, StoreFault
from interlock.ports import Blobs, Executor, Store
from interlock.run.stage import StageOutcome, StageRequest
from interlock.vocabulary import Kind, Phase, Stored, canonical

RUNNING = "running"
FINISHED = "finished"
SAVE_AGAIN_SECONDS = 1.0


class Attempt(Stored):
    """``owner`` is the control plane that claimed it: when that is gone, so is the attempt."""

    owner: str
    outcome: StageOutcome | None = None


class Attempts:
    """Starts attempts at most once each, and tells how they stand. ``owner`` names this control plane's life."""

    def __init__(self, store: Store, executor: Executor, blobs: Blobs, owner: str, ring: Callable[[], None]) -> None:
        self._store = store
        self._executor = executor
        self._blobs = blobs
        self._owner = owner
        self._ring = ring

    def outcome(self, attempt: str) -> StageOutcome | None:
        """How it ended; None while it runs or where nobody has claimed it."""
        row = self._store.load(Kind.ATTEMPT, attempt)
        return None if row is None else read_state(row, Attempt).outcome

    def is_lost(self, attempt: str) -> bool:
        """Whether it was claimed by a control plane that is gone, so that it will never finish."""
        row = self._store.load(Kind.ATTEMPT, attempt)
        if row is None or row.phase == FINISHED:
            return False
        return read_state(row, Attempt).owner != self._owner

    def start(self, request: StageRequest, succeeded: Callable[[StageOutcome], None]) -> None:
        """Claims and starts the attempt, unless it was claimed before. ``succeeded`` hears of a good end, once."""
        claim = write_state(
            Kind.ATTEMPT, request.attempt, Attempt(owner=self._owner), expected=0, phase=RUNNING, because="claimed"
        )
        try:
            self._store.save(claim)
        except AlreadyExists:
            return

        def finished(outcome: StageOutcome) -> None:
            kept = self._keep(request.attempt, outcome)
            try:
                if kept.phase is Phase.SUCCEEDED:
                    succeeded(kept)
            finally:
                self._ring()

        self._executor.start(request, finished)

    def stop(self, attempt: str, because: str) -> None:
        """Ends it, if this control plane runs it."""
        if attempt in self._executor.running():
            self._executor.stop(attempt, because)

    def _keep(self, attempt: str, outcome: StageOutcome) -> StageOutcome:
        """Saves the outcome, its report as an artifact: reports can be long, and rows hold only their address.

        Again and again until it is saved: one that is lost to a full disk would leave its stage running for ever.
        """
        while True:
            try:
                report = None if outcome.report is None else self._blobs.put_bytes(canonical(outcome.report))
                kept = outcome.model_copy(update={"report": report})
                ended = Attempt(owner=self._owner, outcome=kept)
                self._store.save(
                    write_state(Kind.ATTEMPT, attempt, ended, expected=1, phase=FINISHED, because=kept.because)
                )
            except StaleWrite:
                return outcome.model_copy(update={"phase": Phase.CANCELLED})
            except (StoreFault, ArtifactFault, OSError):
                time.sleep(SAVE_AGAIN_SECONDS)
            else:
                return kept
