"""A report: what a forge is to be told of one run, and what of it the forge has acknowledged.

``advance`` in one table; all rows that fit count:

=====================================  ==============================================================================
seen                                   then
=====================================  ==============================================================================
an item was acknowledged               it is not told again until it changes
an item was refused                    held: told again when it changes, or after an hour
the forge could not be told            all that is left waits: 1 s, doubling to 10 min, at least what the forge asks
something was told since               the next fault waits 1 s again
=====================================  ==============================================================================

Only the newest state of an item is kept, so an older one can never be told after it. What is known of an item is
forgotten when it changes: the forge may have taken the change without our hearing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeAlias

from interlock.feedback.status import Comment, Status
from interlock.vocabulary import Decision, Stored

SHORTEST_WAIT = 1.0
LONGEST_WAIT = 600.0
REFUSAL_SECONDS = 3600.0
"""After so long even what was refused is tried again: rights may have been given. No forge can ask for more."""

Item: TypeAlias = Status | Comment


class ReportPhase(StrEnum):
    """Whether something is still to be told."""

    TELLING = "telling"
    HELD = "held"
    TOLD = "told"


class Refusal(Stored):
    """The forge did not take an item; it is not tried again before ``until`` (wall time)."""

    until: float
    because: str


class Report(Stored):
    """Items are named by their context, the comment by ``comment``. ``told`` are names of those acknowledged as they
    are now, ``refused`` those that the forge did not take.

    ``tries`` counts faults since something was last told; nothing is tried before ``next_try`` (wall time).
    ``rollouts`` are the numbers of those that delivered the run's model, or took it back.
    """

    run: int
    repository: str
    sha: str
    statuses: tuple[Status, ...] = ()
    comment: Comment | None = None
    rollouts: tuple[int, ...] = ()
    told: tuple[str, ...] = ()
    refused: dict[str, Refusal] = {}
    tries: int = 0
    next_try: float = 0.0

    @property
    def key(self) -> str:
        """Its key in the store: that of its run."""
        return str(self.run)

    @property
    def phase(self) -> ReportPhase:
        """Told, held where the forge refused all that is left, else telling."""
        left = differences(self)
        if not left:
            return ReportPhase.TOLD
        is_held = all(name_of(item) in self.refused for item in left)
        return ReportPhase.HELD if is_held else ReportPhase.TELLING


class Outcome(Stored):
    """What came of telling: items acknowledged, items refused (each with the remedy), and the fault that ended it.

    ``retry_after`` is what the forge asked for, in seconds.
    """

    told: tuple[Item, ...] = ()
    refused: tuple[tuple[Item, str], ...] = ()
    fault: str | None = None
    retry_after: float | None = None


def desired(report: Report) -> dict[str, Item]:
    """Everything the forge should show, by name, in the order of telling."""
    items: dict[str, Item] = {status.context: status for status in report.statuses}
    return items if report.comment is None else {**items, name_of(report.comment): report.comment}


def differences(report: Report) -> tuple[Item, ...]:
    """What the forge has not acknowledged as it is now."""
    return tuple(item for name, item in desired(report).items() if name not in report.told)


def due(report: Report, now: float) -> tuple[Item, ...]:
    """The differences that may be told now."""
    if now < report.next_try:
        return ()
    return tuple(item for item in differences(report) if now >= _held_until(report, item))


def next_due(report: Report) -> float:
    """When something of it may be told next (wall time); infinite where all is told."""
    moments = [_held_until(report, item) for item in differences(report)]
    return max(min(moments), report.next_try) if moments else float("inf")


def advance(report: Report, outcome: Outcome, now: float, jitter: float) -> Decision[Report]:
    """The report after telling, and why (the table above). ``jitter`` is at random from 0 to 1."""
    wanted = desired(report)
    told = [name for item in outcome.told if wanted.get(name := name_of(item)) == item]
    refused = {
        name: Refusal(until=now + REFUSAL_SECONDS, because=because)
        for item, because in outcome.refused
        if wanted.get(name := name_of(item)) == item
    }
    kept = {name: refusal for name, refusal in report.refused.items() if name not in told}
    tries, next_try = (0, 0.0) if outcome.told or outcome.refused else (report.tries, report.next_try)
    reasons = [f"told {', '.join(told)}"] if told else []
    reasons += [f"{name} is refused: {refusal.because}" for name, refusal in refused.items()]
    if outcome.fault is not None:
        tries += 1
        wait = back_off(tries, jitter, outcome.retry_after)
        next_try = now + wait
        reasons.append(f"tried again in {wait:.0f} s: {outcome.fault}")
    changes = {
        "told": tuple(sorted({*report.told, *told})),
        "refused": {**kept, **refused},
        "tries": tries,
        "next_try": next_try,
    }
    return Decision(state=report.model_copy(update=changes), because="; ".join(reasons) or "nothing is to be told")


def back_off(tries: int, jitter: float, retry_after: float | None = None) -> float:
    """Seconds to wait after so many faults in a row, from half to all of 1 s doubling to 10 min; longer where asked."""
    whole = min(LONGEST_WAIT, SHORTEST_WAIT * 2.0 ** min(tries - 1, 20))
    return max(whole * (1.0 + jitter) / 2.0, min(retry_after or 0.0, REFUSAL_SECONDS))


def want(report: Report, statuses: Sequence[Status], comment: Comment | None) -> Report:
    """The report when this is what the forge should show."""
    wanted = report.model_copy(update={"statuses": tuple(statuses), "comment": comment})
    before, after = desired(report), desired(wanted)
    same = {name for name, item in after.items() if before.get(name) == item}
    return wanted.model_copy(
        update={
            "told": tuple(name for name in report.told if name in same),
            "refused": {name: refusal for name, refusal in report.refused.items() if name in same},
        }
    )


def name_of(item: Item) -> str:
    """The item's name in a report."""
    return item.context if isinstance(item, Status) else "comment"


def _held_until(report: Report, item: Item) -> float:
    refusal = report.refused.get(name_of(item))
    return 0.0 if refusal is None else refusal.until
