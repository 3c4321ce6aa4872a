"""Attempts: the one thing that is not idempotent. Each is claimed by inserting its row before it is started."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from interlock.control.rows import read_state, save_or_lose, write_state
from interlock.errors import AlreadyExists, InterlockError, StaleWrite
from interlock.ports import Blobs, Executor, Store
from interlock.run.stage import StageOutcome, StageRequest
from interlock.vocabulary import Fact, Kind, Phase, Stored, Write, canonical

RUNNING = "running"
FINISHED = "finished"
LOST = "lost"
ENDS_KEPT = 256
"""Ends that are kept in memory until the loop asks for them; others are read from their rows."""


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
        self._guard = threading.Lock()
        self._unsaved: dict[str, Callable[[], None]] = {}
        self._ended: dict[str, StageOutcome] = {}
        self._is_ending = False

    def outcome(self, attempt: str) -> StageOutcome | None:
        """How it ended; None while it runs or where nobody has claimed it. A fault where its end cannot be saved."""
        self._save_end(attempt)
        is_running = attempt in self._executor.running()  # asked first: an attempt's end is saved before it stops
        ended = self._ended.pop(attempt, None)
        if ended is not None or is_running:
            return ended
        row = self._store.load(Kind.ATTEMPT, attempt)
        return None if row is None else read_state(row, Attempt).outcome

    def is_lost(self, attempt: str) -> bool:
        """Whether it was claimed and will never finish: by a control plane that is gone, or with no start after it."""
        if attempt in self._executor.running():  # asked first: an attempt's end is saved before it stops
            return False
        row = self._store.load(Kind.ATTEMPT, attempt)
        return row is not None and row.phase != FINISHED and attempt not in self._unsaved

    def refuse_end(self, attempt: str) -> bool:
        """From now on its end, should it come after all, is refused with all that it made; False where it has come.

        Who was only stopped for a while, and goes on, finds its row changed, and saves nothing.
        """
        row = self._store.load(Kind.ATTEMPT, attempt)
        if row is None or row.phase == LOST:
            return row is not None
        lost = read_state(row, Attempt)
        because = "lost with its executor: its end is refused"
        write = write_state(Kind.ATTEMPT, attempt, lost, expected=row.version, phase=LOST, because=because)
        return row.phase != FINISHED and save_or_lose(self._store, write)

    def claim(self, attempt: str) -> Write:
        """The insert that claims it, to be saved with the decision that it starts; whoever saved it starts it."""
        claimed = Attempt(owner=self._owner)
        return write_state(Kind.ATTEMPT, attempt, claimed, expected=0, phase=RUNNING, because="claimed")

    def start(
        self,
        request: StageRequest,
        facts_of: Callable[[StageOutcome], Sequence[Fact]],
        *,
        is_claimed: bool = False,
    ) -> None:
        """Starts the attempt, if its claim ``is_claimed`` by this call's own save or nobody has claimed it before.

        ``facts_of`` says what is to be remembered of an end that has the stage's own reasons: succeeded or failed.
        """
        if request.attempt in self._executor.running():
            return
        if not is_claimed:
            try:
                self._store.save(self.claim(request.attempt))
            except AlreadyExists:
                return

        def finished(outcome: StageOutcome) -> None:
            if self._is_ending and outcome.phase is Phase.ERRORED:
                return
            self._unsaved[request.attempt] = lambda: self._save(request.attempt, outcome, facts_of)
            with suppress(InterlockError):  # the loop, asking for the outcome, tries again and says what is wrong
                self._save_end(request.attempt)
            self._ring()

        self._executor.start(request, finished)

    def running(self) -> frozenset[str]:
        """The attempts that this control plane runs now."""
        return self._executor.running()

    def stop(self, attempt: str, because: str) -> None:
        """Ends it, if this control plane runs it."""
        if attempt in self._executor.running():
            self._executor.stop(attempt, because)

    def let_go(self) -> None:
        """From now on what errors is lost, not errored: this control plane is ending, and ends its attempts itself."""
        self._is_ending = True

    def _save_end(self, attempt: str) -> None:
        with self._guard:
            save = self._unsaved.get(attempt)
            if save is not None:
                save()
                del self._unsaved[attempt]

    def _save(self, attempt: str, outcome: StageOutcome, facts_of: Callable[[StageOutcome], Sequence[Fact]]) -> None:
        kept = self._keep_report(outcome)
        ended = Attempt(owner=self._owner, outcome=kept)
        write = write_state(Kind.ATTEMPT, attempt, ended, expected=1, phase=FINISHED, because=kept.because)
        facts: Sequence[Fact] = ()
        if kept.phase in (Phase.SUCCEEDED, Phase.FAILED):
            with suppress(InterlockError):  # what is not remembered costs another run of the stage, no more
                facts = facts_of(kept)
        # a save that told of a fault may have reached the disk all the same; or the attempt was given up as lost
        with suppress(StaleWrite):
            self._store.save(write, facts=facts)
            self._ended[attempt] = kept
            if len(self._ended) > ENDS_KEPT:  # nobody asks how the attempts of a cancelled run ended
                self._ended.pop(next(iter(self._ended)), None)

    def _keep_report(self, outcome: StageOutcome) -> StageOutcome:
        """The outcome with its report as an artifact: reports can be long, and rows hold only their address."""
        if outcome.report is None:
            return outcome
        try:
            content = canonical(outcome.report)
        except ValueError as odd:
            because = f"what it reported cannot be stored: {odd}"
            return outcome.model_copy(update={"phase": Phase.ERRORED, "because": because, "report": None})
        return outcome.model_copy(update={"report": self._blobs.put_bytes(content)})
