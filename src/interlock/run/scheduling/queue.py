"""The queue: which of the waiting stages start now, and what each of the others waits for.

Fair in this order: the repository with the fewest stages running, then the run that has waited longest, and within a
run the stage with the longest way to the run's end. Whoever is next and does not fit holds up all behind it, so that a
large stage is not passed by small ones for ever. Only cheap stages pass: up to two of them run beside all others,
beyond the capacity, so that the checks of a new commit need not wait for a long training to end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from interlock.pipeline.plan import StageKind
from interlock.run.scheduling.costs import GIB, Capacity, Claim, said_memory

EXPRESS = 2
"""Cheap stages that may run beyond the capacity."""
NOTHING = Claim(0.0)
_ROUNDING = 1e-9
_NAMED = 3


class Ticket(NamedTuple):
    """A stage that runs or wants to, and what it takes.

    ``since`` is when it began to wait, ``way`` how long the run takes from its start to the end, both in seconds.
    """

    run: int
    repository: str
    stage: str
    kind: StageKind
    claim: Claim
    since: float = 0.0
    way: float = 0.0

    @property
    def is_cheap(self) -> bool:
        """Whether it may use the express lane: a check or a validation of data, of one core and 1 GiB at most."""
        cpu, memory, gpu = self.claim
        return self.kind in ("check", "data") and cpu <= 1 and memory <= GIB and gpu == 0

    @property
    def turn(self) -> tuple[float, float, str]:
        """Of two stages of one run that wait, the one with the smaller turn goes first."""
        return -self.way, self.since, self.stage

    def __str__(self) -> str:
        return f"run {self.run}/{self.stage}"


def choose(
    waiting: Sequence[Ticket],
    running: Sequence[Ticket],
    capacity: Capacity,
    most_runs: Mapping[str, int],
    under_way: Collection[tuple[str, int]],
) -> dict[Ticket, str]:
    """For each waiting stage what it waits for; empty for those that start now.

    ``most_runs`` by repository (any number where it is not named); ``under_way`` are the runs that have executed
    something, as (repository, number). A stage that wants more cores or memory than there are runs alone.
    """
    occupied = list(running)
    begun = {*under_way, *((ticket.repository, ticket.run) for ticket in running)}
    answers: dict[Ticket, str] = {}
    first: Ticket | None = None
    for ticket in _in_turn(waiting, occupied):
        told = _limit(ticket, begun, most_runs)
        if not told and not is_express(ticket, occupied):
            told = f"waits for its turn, after {first}" if first else lack(ticket, occupied, capacity)
            first = first or (ticket if told else None)
        if not told:
            occupied.append(ticket)
            begun.add((ticket.repository, ticket.run))
        answers[ticket] = told
    return answers


def is_express(ticket: Ticket, occupied: Sequence[Ticket]) -> bool:
    """Whether it starts whatever the others use: it is cheap, and the express lane has a place."""
    return ticket.is_cheap and sum(1 for other in occupied if other.is_cheap) < EXPRESS


def lack(ticket: Ticket, occupied: Sequence[Ticket], capacity: Capacity) -> str:
    """What there is too little of for it beside the others, and who uses it; empty where it fits, or would be alone."""
    used = _used(occupied)
    if used == NOTHING:
        return ""
    together = _used([*occupied, ticket])
    for part, (wanted, whole) in enumerate(zip(ticket.claim, capacity.whole, strict=True)):
        if together[part] > whole + _ROUNDING:
            users = sorted((other for other in occupied if other.claim[part]), key=lambda other: -other.claim[part])
            named = ", ".join(f"{other} uses {_said(part, other.claim[part])}" for other in users[:_NAMED])
            more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
            free = f"{_said(part, max(0.0, whole - used[part]))} free"
            told = free if wanted <= whole else f"more than all {_said(part, whole)}"
            return f"waits for {_counted(part, wanted)}, {told}: {named}{more}"
    return ""


def _in_turn(waiting: Sequence[Ticket], occupied: Sequence[Ticket]) -> Iterator[Ticket]:
    """The waiting stages in order; ``occupied`` grows while they are asked for."""
    ages: dict[tuple[str, int], float] = {}
    for ticket in waiting:
        ages[ticket.repository, ticket.run] = min(ticket.since, ages.get((ticket.repository, ticket.run), ticket.since))

    def place(ticket: Ticket) -> tuple[float, int, tuple[float, float, str]]:
        return ages[ticket.repository, ticket.run], ticket.run, ticket.turn

    lines: dict[str, list[Ticket]] = {}
    for ticket in sorted(waiting, key=place, reverse=True):
        lines.setdefault(ticket.repository, []).append(ticket)
    while lines:
        counts = Counter(ticket.repository for ticket in occupied)
        name = min(lines, key=lambda name: (counts[name], place(lines[name][-1])))
        yield lines[name].pop()
        if not lines[name]:
            del lines[name]


def _used(occupied: Iterable[Ticket]) -> Claim:
    """What is in use, that of the express lane left out."""
    tickets = list(occupied)
    cheap = sorted(ticket.claim for ticket in tickets if ticket.is_cheap)
    used = NOTHING
    for claim in [*(ticket.claim for ticket in tickets if not ticket.is_cheap), *cheap[:-EXPRESS]]:
        used = used.plus(claim)
    return used


def _limit(ticket: Ticket, begun: Collection[tuple[str, int]], most_runs: Mapping[str, int]) -> str:
    most = most_runs.get(ticket.repository)
    if most is None:
        return ""
    runs = [run for repository, run in begun if repository == ticket.repository]
    if ticket.run in runs or len(runs) < most:
        return ""
    return f"waits: {_plural(len(runs), 'run')} of {ticket.repository} under way, at most {most}"


def _said(part: int, number: float) -> str:
    return said_memory(number) if part == 1 else f"{number:g}"


def _counted(part: int, number: float) -> str:
    if part == 1:
        return said_memory(number) if number else "memory"
    return _plural(number, "GPU" if part == 2 else "core")


def _plural(number: float, what: str) -> str:
    return f"{number:g} {what}" if number == 1 else f"{number:g} {what}s"
