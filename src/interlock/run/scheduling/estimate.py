"""What a run will take, told before it does: the queue played with the times of earlier executions."""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Collection, Mapping, Sequence

from interlock.pipeline.plan import StagePlan
from interlock.run.scheduling.costs import Capacity, Cost, claim_of, longest_ways
from interlock.run.scheduling.queue import Ticket, is_express, lack
from interlock.vocabulary import Stored

NAMED = 3
"""How many stages that were never measured are named."""


class Estimate(Stored):
    """What the stages that are executed are expected to take together.

    ``seconds`` of wall time on this machine with nobody else on it, ``cpu_seconds`` of its processors: both are at
    least so much where stages are ``unknown``, and None where all are. ``stages`` holds the seconds of each that is
    executed, None where it was never measured; ``runs`` is the least number of earlier executions that one stands on.
    """

    seconds: float | None
    cpu_seconds: float | None
    stages: dict[str, float | None] = {}
    runs: int = 0

    @property
    def unknown(self) -> tuple[str, ...]:
        """The stages that were never measured."""
        return tuple(name for name, seconds in self.stages.items() if seconds is None)

    @property
    def duration(self) -> str:
        """The wall time in a few words; empty where it is unknown."""
        if self.seconds is None:
            return ""
        return f"{'at least' if self.unknown else 'about'} {roughly(self.seconds)}"

    def __str__(self) -> str:
        if not self.stages:
            return "nothing is executed"
        unknown, few = self.unknown, self.unknown[:NAMED]
        more = f" and {len(unknown) - len(few)} more" if len(unknown) > len(few) else ""
        missing = f"never measured: {', '.join(few)}{more}"
        if self.seconds is None:
            return f"unknown ({missing})"
        cpu = "" if self.cpu_seconds is None else f", {_cpu(self.cpu_seconds)}"
        basis = f"from {self.runs} earlier run{'s' if self.runs > 1 else ''}"
        return f"{self.duration}{cpu} ({'; '.join([basis, missing] if unknown else [basis])})"


def estimate(
    stages: Sequence[StagePlan], executed: Collection[str], costs: Mapping[str, Cost], capacity: Capacity
) -> Estimate:
    """What the ``executed`` ones among the stages of a plan will take."""
    known = [costs[name] for name in executed if name in costs]
    cpu = [cost.cpu_seconds for cost in known if cost.cpu_seconds is not None]
    return Estimate(
        seconds=play(stages, executed, costs, capacity) if known else None,
        cpu_seconds=sum(cpu) if cpu else None,
        stages={
            stage.name: costs[stage.name].seconds if stage.name in costs else None
            for stage in stages
            if stage.name in executed
        },
        runs=min((cost.runs for cost in known), default=0),
    )


def play(
    stages: Sequence[StagePlan], executed: Collection[str], costs: Mapping[str, Cost], capacity: Capacity
) -> float:
    """Seconds from the first start to the last end, by the rules of the queue for a run that has the machine alone.

    A stage that was never measured takes no time in it and no place, and is told apart in the estimate.
    """
    ways = longest_ways(stages, costs, executed)
    left = {stage.name: len(set(stage.needs)) for stage in stages}
    behind: dict[str, list[StagePlan]] = {stage.name: [] for stage in stages}
    for stage in stages:
        for need in set(stage.needs):
            behind[need].append(stage)
    now, machine = 0.0, _Machine(capacity)
    ready = [stage for stage in stages if not left[stage.name]]
    while ready or machine.is_busy:
        for stage in ready:
            known = costs.get(stage.name)
            claim = claim_of(stage.resources, known)
            seconds = known.seconds if known and stage.name in executed else 0.0
            machine.take(Ticket(0, "", stage.name, stage.kind, claim, now, ways[stage.name]), seconds)
        now, ended = machine.go_on(now)
        ready = []
        for name in ended:
            for stage in behind[name]:
                left[stage.name] -= 1
                ready += [] if left[stage.name] else [stage]
    return now


class _Machine:
    """Tickets that wait in the order of their turns, and those that run, by when they end."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._waiting: list[tuple[tuple[float, float, str], Ticket, float]] = []
        self._cheap = 0
        self._timeless: list[str] = []
        self._running: list[tuple[float, str, Ticket]] = []

    @property
    def is_busy(self) -> bool:
        """Whether anything runs or waits."""
        return bool(self._running or self._waiting or self._timeless)

    def take(self, ticket: Ticket, seconds: float) -> None:
        """One that is ready now, and how long it takes; nothing waits for a place to take no time in."""
        if seconds == 0.0:
            self._timeless.append(ticket.stage)
        else:
            insort(self._waiting, (ticket.turn, ticket, seconds))
            self._cheap += ticket.is_cheap

    def go_on(self, now: float) -> tuple[float, list[str]]:
        """Starts what may start, and goes on to the next end: its moment, and the stages that have ended then."""
        if self._timeless:
            ended, self._timeless = self._timeless, []
            return now, ended
        self._let_in(now)
        then = max(now, self._running[0][0])
        ended = []
        while self._running and self._running[0][0] <= then:
            ended.append(heapq.heappop(self._running)[1])
        return then, ended

    def _let_in(self, now: float) -> None:
        occupied = [ticket for *_, ticket in self._running]
        is_held_up = False
        for entry in list(self._waiting):
            _, ticket, seconds = entry
            if not is_express(ticket, occupied):
                is_held_up = is_held_up or bool(lack(ticket, occupied, self._capacity))
                if is_held_up and not self._cheap:
                    return
                if is_held_up:
                    continue
            self._waiting.remove(entry)
            self._cheap -= ticket.is_cheap
            occupied.append(ticket)
            heapq.heappush(self._running, (now + seconds, ticket.stage, ticket))


def roughly(seconds: float) -> str:
    """A time for people, no more exact than such a guess is: ``3 s``, ``4 min``, ``2.5 h``."""
    if seconds < 1:
        return "1 s"
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.2g} h"


def _cpu(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} CPU-s" if seconds < 10 else f"{seconds:.0f} CPU-s"
    return f"{seconds / 60:.0f} CPU-min" if seconds < 5400 else f"{seconds / 3600:.2g} CPU-h"
