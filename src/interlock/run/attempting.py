"""What becomes of one stage: it starts or is reused, its attempt ends, and after a fault it is tried again, later."""

from __future__ import annotations

from blake3 import blake3

from interlock.pipeline.trace import Lookup
from interlock.run.run import LONGEST_PAUSE, StageRun
from interlock.run.stage import KEPT, StageOutcome
from interlock.vocabulary import Phase

LOSSES = 10
"""The attempt after whose loss a stage is not tried again: perhaps it is what ends its executor."""
FIRST_PAUSE = 1.0
"""Seconds before the second attempt of a stage that erred; each further pause is the double."""


def after_attempt(
    stage_run: StageRun, outcome: StageOutcome, flaky: str | None, *, attempt: str, retries: int, now: float
) -> StageRun:
    """The stage with the outcome of its ``attempt`` (its key); after a fault it is queued again, ``retries`` times."""
    phase = outcome.phase
    because = f"{outcome.because}; {flaky}" if flaky else outcome.because
    faults = stage_run.faults + (phase is Phase.ERRORED)
    not_before = None
    if phase is Phase.ERRORED and faults <= retries:
        pause = pause_after(faults, attempt)
        phase, not_before = Phase.QUEUED, now + pause
        because = f"attempt {stage_run.attempt} errored and is tried again in {pause:.3g} s: {because}"
    return stage_run.model_copy(
        update={
            "phase": phase,
            "because": because,
            "faults": faults,
            "not_before": not_before,
            **{name: getattr(outcome, name) for name in KEPT},
        }
    )


def pause_after(faults: int, attempt: str) -> float:
    """Seconds between an attempt that erred and the next: 1, 2, 4 ... and up to a quarter more, at most a minute.

    What is added is drawn from the attempt's key, so that stages that err together are not tried again together, and
    the same decision is made again from the same row.
    """
    share = int.from_bytes(blake3(attempt.encode()).digest(4), "big") / 2**32
    doubled: float = FIRST_PAUSE * 2 ** min(faults - 1, 10)
    return min(LONGEST_PAUSE, doubled * (1 + share / 4))


def after_loss(stage_run: StageRun) -> StageRun:
    """The stage whose executor is gone: queued again at once, unless that has happened too often."""
    phase = Phase.QUEUED if stage_run.attempt < LOSSES else Phase.ERRORED
    because = f"attempt {stage_run.attempt} was lost with its executor"
    return stage_run.model_copy(update={"phase": phase, "because": because})


def after_break(stage_run: StageRun, told: str) -> StageRun:
    """The stage of a run that has ended before it."""
    if stage_run.phase is Phase.QUEUED:
        return stage_run.model_copy(update={"phase": Phase.SKIPPED, "because": told})
    if stage_run.phase is Phase.RUNNING:
        return stage_run.model_copy(update={"phase": Phase.CANCELLED, "because": told})
    return stage_run


def started(stage_run: StageRun, lookup: Lookup, waits: str | None, gpus: tuple[str, ...]) -> StageRun:
    """The stage as its next attempt, or with what it waits for."""
    if waits is not None:
        return stage_run.model_copy(update={"because": waits})
    return stage_run.model_copy(
        update={
            "phase": Phase.RUNNING,
            "because": lookup.because,
            "attempt": stage_run.attempt + 1,
            "not_before": None,
            "gpus": gpus,
            "key": lookup.key,
            "differences": lookup.differences,
        }
    )


def reused(stage_run: StageRun, lookup: Lookup) -> StageRun | None:
    """The stage with the products of an earlier execution; None where there is none."""
    if lookup.hit is None:
        return None
    return stage_run.model_copy(
        update={
            "phase": Phase.SUCCEEDED,
            "because": lookup.because,
            "key": lookup.key,
            "reused": lookup.hit.attempt,
            "products": lookup.hit.products,
            "report": lookup.hit.report,
        }
    )
