"""Concurrency groups: runs that go one after the other, and newer ones that take the place of older ones."""

from __future__ import annotations

from collections.abc import Iterable

from interlock.run.run import Run


def ahead_of(run: Run, others: Iterable[Run]) -> int | None:
    """Of the active runs the one of its group that goes first: one that has begun, or else an earlier one."""
    rivals = [other for other in others if _are_rivals(run, other)]
    begun = [other.number for other in rivals if other.has_begun]
    return min(begun or [other.number for other in rivals if other.number < run.number], default=None)


def superseded_by(run: Run, others: Iterable[Run]) -> int | None:
    """The newest active run of its group for the same ref, where that is to take the place of older ones."""
    rivals = [other for other in others if _are_rivals(run, other) and other.commit.ref == run.commit.ref]
    return max((other.number for other in rivals if other.number > run.number and _cancels_older(other)), default=None)


def _cancels_older(run: Run) -> bool:
    return run.plan.concurrency is not None and run.plan.concurrency.cancel_superseded


def _are_rivals(run: Run, other: Run) -> bool:
    return _group(run) is not None and _group(other) == _group(run) and other.number != run.number


def _group(run: Run) -> tuple[str, str, str] | None:
    """What a run shares with those that never run beside it. Runs from outside share nothing with others."""
    concurrency = run.plan.concurrency
    return (run.commit.repository, run.scope, concurrency.group) if concurrency else None
