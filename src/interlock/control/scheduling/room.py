"""The room on this machine: who uses it, who waits for it, what a run will take, and which of a group goes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from interlock.errors import Refused
from interlock.pipeline.plan import StagePlan
from interlock.pipeline.rules.work import lack_of_gpus
from interlock.pipeline.trace import Lookup
from interlock.run.run import Run, desired, executed_stages
from interlock.run.scheduling.costs import Capacity, Cost, claim_of, longest_ways
from interlock.run.scheduling.estimate import Estimate, estimate
from interlock.run.scheduling.groups import ahead_of, superseded_by
from interlock.run.scheduling.queue import Ticket, choose
from interlock.vocabulary import Phase


class Places(NamedTuple):
    """By stage why it has to wait, and for those that need not the graphics processors they are given."""

    waits: dict[str, str]
    gpus: dict[str, tuple[str, ...]]


class _Foreseen(NamedTuple):
    """What was measured of a run's stages, and how long the run takes from the start of each of them."""

    costs: Mapping[str, Cost]
    ways: Mapping[str, float]


def no_costs(_run: Run) -> Mapping[str, Cost]:
    """Where nothing is remembered, every stage counts alike."""
    return {}


class Room:
    """What the active runs of one loop use together. It remembers only what their rows say: a restart loses nothing.

    ``most_runs`` is how many runs of a repository may be under way, any number where it is not named; ``now`` in
    seconds; ``costs`` answers what is known of the stages of a run's plan, by name.
    """

    def __init__(
        self,
        capacity: Capacity,
        most_runs: Mapping[str, int],
        now: Callable[[], float],
        costs: Callable[[Run], Mapping[str, Cost]] = no_costs,
    ) -> None:
        self._capacity = capacity
        self._most_runs = most_runs
        self._now = now
        self._costs = costs
        self._foreseen: dict[int, _Foreseen] = {}
        self._active: dict[int, Run] = {}
        self._waiting: dict[tuple[int, str], Ticket] = {}
        self._answers: dict[Ticket, str] | None = None
        self._gpus: dict[Ticket, tuple[str, ...]] = {}

    def survey(self, runs: Iterable[Run]) -> None:
        """These runs are active, and no others."""
        active = {run.number: run for run in runs}
        if active != self._active:
            self._active = active
            self._waiting = {key: ticket for key, ticket in self._waiting.items() if key[0] in active}
            self._foreseen = {number: known for number, known in self._foreseen.items() if number in active}
            self._answers = None

    def note(self, run: Run) -> None:
        """The run is like this now; one that has ended leaves."""
        if self._active.get(run.number) is run:
            return
        self._active.pop(run.number, None)
        if run.phase.is_final:
            self._foreseen.pop(run.number, None)
        else:
            self._active[run.number] = run
        for stage in run.plan.stages:
            if run.phase.is_final or run.stages[stage.name].phase is not Phase.QUEUED:
                self._waiting.pop((run.number, stage.name), None)
        self._answers = None

    def ask(self, run: Run, stages: Sequence[StagePlan]) -> Places:
        """Those of the stages that have to wait, and for what; the others may start.

        A place in the queue is kept, and so is room that was given, until the stage starts or leaves. Refused where
        there are fewer graphics processors than a stage needs, for then it would wait for ever.
        """
        for stage in stages:
            key = (run.number, stage.name)
            if key not in self._waiting:
                problem = lack_of_gpus(stage.name, stage.resources.gpu, len(self._capacity.gpus))
                if problem:
                    raise Refused(*problem)
                self._waiting[key] = self._ticket(run, stage, self._now())
                self._answers = None
        answers = self._choose()
        tickets = {stage.name: self._waiting[run.number, stage.name] for stage in stages}
        return Places(
            {name: answers[ticket] for name, ticket in tickets.items() if answers[ticket]},
            {name: self._gpus[ticket] for name, ticket in tickets.items() if ticket in self._gpus},
        )

    def foresee(self, run: Run, lookups: Mapping[str, Lookup]) -> Estimate | None:
        """What the run will take; None while it is not known what of it is executed."""
        executed = executed_stages(run, lookups)
        if executed is None:
            return None
        return estimate(run.plan.stages, executed, self._foresee(run).costs, self._capacity)

    def leave(self, run: Run, stage: str | None = None) -> None:
        """The stage, or every stage of the run, does not ask for room any more."""
        for key in [key for key in self._waiting if key[0] == run.number and stage in (None, key[1])]:
            del self._waiting[key]
            self._answers = None

    def ahead_of(self, run: Run) -> int | None:
        """The run of its group that goes first."""
        return ahead_of(run, self._active.values()) if run.plan.concurrency else None

    def superseded_by(self, run: Run) -> int | None:
        """The newer run of its group that takes its place."""
        return superseded_by(run, self._active.values()) if run.plan.concurrency else None

    def _choose(self) -> dict[Ticket, str]:
        if self._answers is None:
            running = [self._ticket(run, stage) for run in self._active.values() for stage in desired(run)]
            under_way = {
                (run.commit.repository, run.number)
                for run in self._active.values()
                if any(stage_run.attempt for stage_run in run.stages.values())
            }
            waiting = list(self._waiting.values())
            self._answers = choose(waiting, running, self._capacity, self._most_runs, under_way)
            self._gpus = self._hand_out(self._answers)
        return self._answers

    def _hand_out(self, answers: Mapping[Ticket, str]) -> dict[Ticket, tuple[str, ...]]:
        """Graphics processors that nobody uses, to the stages that start now, each its own."""
        used = {gpu for run in self._active.values() for stage in desired(run) for gpu in run.stages[stage.name].gpus}
        free = [gpu for gpu in self._capacity.gpus if gpu not in used]
        given: dict[Ticket, tuple[str, ...]] = {}
        for ticket, told in answers.items():
            wanted = ticket.claim.gpu
            if wanted and not told:
                given[ticket], free = tuple(free[:wanted]), free[wanted:]
        return given

    def _ticket(self, run: Run, stage: StagePlan, since: float = 0.0) -> Ticket:
        foreseen = self._foresee(run)
        claim = claim_of(stage.resources, foreseen.costs.get(stage.name))
        return Ticket(
            run.number, run.commit.repository, stage.name, stage.kind, claim, since, foreseen.ways[stage.name]
        )

    def _foresee(self, run: Run) -> _Foreseen:
        known = self._foreseen.get(run.number)
        if known is None:
            costs = self._costs(run)
            known = _Foreseen(costs, longest_ways(run.plan.stages, costs))
            if run.number in self._active:
                self._foreseen[run.number] = known
        return known
