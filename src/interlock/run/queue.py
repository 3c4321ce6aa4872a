"""The queue: which of the waiting stages start now, and what each of the others waits for.

Fair in this order: the repository with the fewest stages running, then the stage that has waited longest. Whoever is
next and does not fit holds up all behind it, so that a large stage is not passed by small ones for ever. Only cheap
stages pass: up to two of them run beside all others, beyond the capacity, so that the checks of a new commit need not
wait for a long training to end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from interlock.pipeline.plan import StageKind
from interlock.run.run import Run

EXPRESS = 2
"""Cheap stages that may run beyond the capacity."""
_ROUNDING = 1e-9
_NAMED = 3


class Ticket(NamedTuple):
    """A stage that runs or wants to. ``cpu`` in cores; ``since`` is when it began to wait, in seconds."""

    run: int
    repository: str
    stage: str
    kind: StageKind
    cpu: float
    since: float = 0.0

    @property
    def is_cheap(self) -> bool:
        """Whether it may use the express lane: a check or a validation of data, of one core at most."""
        return self.kind in ("check", "data") and self.cpu <= 1

    def __str__(self) -> str:
        return f"run {self.run}/{self.stage}"


def choose(
    waiting: Sequence[Ticket],
    running: Sequence[Ticket],
    capacity: float,
    most_runs: Mapping[str, int],
    under_way: Collection[tuple[str, int]],
) -> dict[Ticket, str]:
    """For each waiting stage what it waits for; empty for those that start now.

    ``capacity`` in cores; ``most_runs`` by repository (any number where it is not named); ``under_way`` are the runs
    that have executed something, as (repository, number). A stage that wants more than the capacity runs alone.
    """
    occupied = list(running)
    begun = {*under_way, *((ticket.repository, ticket.run) for ticket in running)}
    answers: dict[Ticket, str] = {}
    first: Ticket | None = None
    for ticket in _in_turn(waiting, occupied):
        told = _limit(ticket, begun, most_runs)
        if not told and not _is_express(ticket, occupied):
            told = f"waits for its turn, after {first}" if first else _lack(ticket, occupied, capacity)
            first = first or (ticket if told else None)
        if not told:
            occupied.append(ticket)
            begun.add((ticket.repository, ticket.run))
        answers[ticket] = told
    return answers


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


def _in_turn(waiting: Sequence[Ticket], occupied: Sequence[Ticket]) -> Iterator[Ticket]:
    """The waiting stages in order; ``occupied`` grows while they are asked for."""
    lines: dict[str, list[Ticket]] = {}
    for ticket in sorted(waiting, key=_age, reverse=True):
        lines.setdefault(ticket.repository, []).append(ticket)
    while lines:
        counts = Counter(ticket.repository for ticket in occupied)
        name = min(lines, key=lambda name: (counts[name], _age(lines[name][-1])))
        yield lines[name].pop()
        if not lines[name]:
            del lines[name]


def _age(ticket: Ticket) -> tuple[float, int, str]:
    return ticket.since, ticket.run, ticket.stage


def _used(occupied: Iterable[Ticket]) -> float:
    """The cores in use, those of the express lane left out."""
    tickets = list(occupied)
    cheap = sorted(ticket.cpu for ticket in tickets if ticket.is_cheap)
    return sum(ticket.cpu for ticket in tickets if not ticket.is_cheap) + sum(cheap[:-EXPRESS])


def _is_express(ticket: Ticket, occupied: Sequence[Ticket]) -> bool:
    return ticket.is_cheap and sum(1 for other in occupied if other.is_cheap) < EXPRESS


def _limit(ticket: Ticket, begun: Collection[tuple[str, int]], most_runs: Mapping[str, int]) -> str:
    most = most_runs.get(ticket.repository)
    runs = [run for repository, run in begun if repository == ticket.repository]
    if most is None or ticket.run in runs or len(runs) < most:
        return ""
    return f"waits: {_counted(len(runs), 'run')} of {ticket.repository} under way, at most {most}"


def _lack(ticket: Ticket, occupied: Sequence[Ticket], capacity: float) -> str:
    used = _used(occupied)
    if used == 0 or _used([*occupied, ticket]) <= capacity + _ROUNDING:
        return ""
    users = sorted(occupied, key=lambda other: -other.cpu)
    named = ", ".join(f"{other} uses {other.cpu:g}" for other in users[:_NAMED])
    more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
    free = f"{max(0.0, capacity - used):g} free" if ticket.cpu <= capacity else f"more than all {capacity:g}"
    return f"waits for {_counted(ticket.cpu, 'core')}, {free}: {named}{more}"


def _counted(number: float, what: str) -> str:
    return f"{number:g} {what}" if number == 1 else f"{number:g} {what}s"
