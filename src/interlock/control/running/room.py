"""The room on this machine: who uses it, who waits for it, and which run of a group goes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from interlock.pipeline.plan import StagePlan
from interlock.run.queue import Ticket, ahead_of, choose, superseded_by
from interlock.run.run import Run, desired
from interlock.vocabulary import Phase


class Room:
    """What the active runs of one loop use together. It remembers only what their rows say: a restart loses nothing.

    ``capacity`` in cores; ``most_runs`` is how many runs of a repository may be under way, any number where it is not
    named; ``now`` in seconds.
    """

    def __init__(self, capacity: float, most_runs: Mapping[str, int], now: Callable[[], float]) -> None:
        self._capacity = capacity
        self._most_runs = most_runs
        self._now = now
        self._active: dict[int, Run] = {}
        self._waiting: dict[tuple[int, str], Ticket] = {}
        self._answers: dict[Ticket, str] | None = None

    def survey(self, runs: Iterable[Run]) -> None:
        """These runs are active, and no others."""
        active = {run.number: run for run in runs}
        if active != self._active:
            self._active = active
            self._waiting = {key: ticket for key, ticket in self._waiting.items() if key[0] in active}
            self._answers = None

    def note(self, run: Run) -> None:
        """The run is like this now; one that has ended leaves."""
        if self._active.get(run.number) is run:
            return
        self._active.pop(run.number, None)
        if not run.phase.is_final:
            self._active[run.number] = run
        for stage in run.plan.stages:
            if run.phase.is_final or run.stages[stage.name].phase is not Phase.QUEUED:
                self._waiting.pop((run.number, stage.name), None)
        self._answers = None

    def ask(self, run: Run, stages: Sequence[StagePlan]) -> dict[str, str]:
        """Those of the stages that have to wait, and for what; the others may start.

        A place in the queue is kept, and so is room that was given, until the stage starts or leaves.
        """
        for stage in stages:
            key = (run.number, stage.name)
            if key not in self._waiting:
                self._waiting[key] = _ticket(run, stage, self._now())
                self._answers = None
        answers = self._choose()
        told = {stage.name: answers[self._waiting[run.number, stage.name]] for stage in stages}
        return {name: because for name, because in told.items() if because}

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
            running = [_ticket(run, stage) for run in self._active.values() for stage in desired(run)]
            under_way = {
                (run.commit.repository, run.number)
                for run in self._active.values()
                if any(stage_run.attempt for stage_run in run.stages.values())
            }
            waiting = list(self._waiting.values())
            self._answers = choose(waiting, running, self._capacity, self._most_runs, under_way)
        return self._answers


def _ticket(run: Run, stage: StagePlan, since: float = 0.0) -> Ticket:
    return Ticket(run.number, run.commit.repository, stage.name, stage.kind, stage.resources.cpu, since)
