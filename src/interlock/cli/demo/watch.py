"""How the demo sees Interlock: only through what it stored, as ``interlock status`` and ``interlock explain`` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from interlock.app.reading import Reading
from interlock.cli.output import Line
from interlock.cli.show import PHASE_STYLES, format_seconds, gate_lines, stage_changes
from interlock.control.rows import read_state
from interlock.delivery.environment import Environment
from interlock.delivery.release import Release
from interlock.delivery.rollout import Rollout
from interlock.errors import Fault
from interlock.pipeline.plan import StageKind
from interlock.run.run import Run, StageRun
from interlock.vocabulary import Event, Kind, Phase

LOOK_EVERY_SECONDS = 0.1
LAST_ROWS = 10

Say = Callable[[Line], None]


class Journey(NamedTuple):
    """How far a commit has come. ``run_seconds`` is the run's own time, from its beginning to its last decision."""

    run: Run
    run_seconds: float
    release: Release | None = None
    rollouts: tuple[Rollout, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of the commit."""
        if not self.run.phase.is_final:
            return False
        return self.release is None or self.release.phase.is_final

    @property
    def production(self) -> Rollout | None:
        """The rollout in production, if there is one."""
        return next((rollout for rollout in self.rollouts if rollout.environment.endswith("/production")), None)

    @property
    def standing(self) -> str:
        """Where it is now, in one line."""
        if self.rollouts and not self.rollouts[-1].phase.is_final:
            rollout = self.rollouts[-1]
            return f"the rollout in {rollout.environment} is {rollout.phase}: {rollout.because}"
        if self.release is not None:
            return f"the release is {self.release.phase}: {self.release.because}"
        return f"the run is {self.run.phase}: {self.run.because}"

    @property
    def is_in_canary(self) -> bool:
        """Whether a part of production's traffic goes to the candidate just now."""
        rollout = self.production
        return rollout is not None and not rollout.phase.is_final and 0 < rollout.weight < 100

    def executed(self, kind: StageKind) -> list[str]:
        """The stages of this kind that really ran, reused ones not counted."""
        return [
            stage.name for stage in self.run.plan.stages if stage.kind == kind and self.run.stages[stage.name].attempt
        ]


class Watch:
    """Looks at one state folder."""

    def __init__(self, state: Path) -> None:
        self._reading = Reading.open(state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.close()

    def look(self, sha: str) -> Journey | None:
        """How far the commit has come; None while no run is known."""
        for row in self._reading.store.rows(Kind.RUN, newest=LAST_ROWS):
            run = read_state(row, Run)
            if run.commit.sha == sha:
                release = self._release_of(run)
                rollouts = self._rollouts_of(release) if release is not None else ()
                return Journey(run, row.updated - row.created, release, rollouts)
        return None

    def stable(self, environment: str) -> str | None:
        """The title of what is stable in ``model/environment``."""
        row = self._reading.store.load(Kind.ENVIRONMENT, environment)
        stable = read_state(row, Environment).stable if row is not None else None
        return stable.title if stable is not None else None

    def events(self, kind: Kind, key: str, after: int = 0) -> list[Event]:
        """The decisions about one row."""
        found: list[Event] = self._reading.store.events(kind, key, after=after)
        return found

    def follow(self, sha: str, say: Say, patience: float, until: Callable[[Journey], bool]) -> Journey:
        """Tells what becomes of a commit until ``until`` holds. Fault after ``patience`` seconds."""
        teller = Teller(self, say)
        deadline = time.monotonic() + patience
        journey = None
        while time.monotonic() < deadline:
            journey = self.look(sha)
            if journey is not None:
                teller.tell(journey)
                if until(journey):
                    return journey
            time.sleep(LOOK_EVERY_SECONDS)
        where = journey.standing if journey is not None else "no run began"
        raise Fault(f"commit {sha[:10]} came to no end within {patience:g} s; {where}")

    def _release_of(self, run: Run) -> Release | None:
        for row in self._reading.store.rows(Kind.RELEASE, newest=LAST_ROWS):
            release = read_state(row, Release)
            if release.run == run.key:
                return release
        return None

    def _rollouts_of(self, release: Release) -> tuple[Rollout, ...]:
        rows = [self._reading.store.load(Kind.ROLLOUT, str(number)) for number in release.rollouts.values()]
        return tuple(read_state(row, Rollout) for row in rows if row is not None)


class Teller:
    """Says what is new about one commit since the last look."""

    def __init__(self, watch: Watch, say: Say) -> None:
        self._watch = watch
        self._say = say
        self._stages: dict[str, StageRun] = {}
        self._is_run_told = False
        self._events: dict[str, int] = {}
        self._told: dict[str, str] = {}
        self._release = ""

    def tell(self, journey: Journey) -> None:
        """Stages, then gates, then each rollout's decisions, then how the release ended."""
        self._tell_stages(journey.run)
        self._tell_end(journey)
        for rollout in journey.rollouts:
            self._tell_rollout(rollout)
        release = journey.release
        if release is not None and release.phase.is_final and release.phase != self._release:
            self._release = release.phase
            self._say(
                Line(f"  release {release.number} {release.phase}: {release.because}", PHASE_STYLES[release.phase])
            )

    def _tell_stages(self, run: Run) -> None:
        changes = stage_changes(self._stages, _told(run))
        self._stages = dict(run.stages)
        self._say_all(changes)

    def _tell_end(self, journey: Journey) -> None:
        run = journey.run
        if self._is_run_told or not run.phase.is_final:
            return
        self._is_run_told = True
        self._say_all(gate_lines(run.judgement) if run.judgement is not None else [])
        self._say_all([Line(f"  {problem}", "bad") for problem in run.problems])
        told = f"  run {run.number} {run.phase} after {format_seconds(journey.run_seconds)}: {run.because}"
        self._say(Line(told, PHASE_STYLES.get(run.phase, "")))
        if run.version and run.phase is Phase.SUCCEEDED:
            self._say(Line(f"  model version {run.version}"))

    def _tell_rollout(self, rollout: Rollout) -> None:
        """A line for each decision that changed phase or weight, and for each check; waiting is not told."""
        name = f"{rollout.environment} {rollout.candidate.title}"
        for event in self._watch.events(Kind.ROLLOUT, rollout.key, after=self._events.get(rollout.key, 0)):
            self._events[rollout.key] = event.number
            place = f"{event.phase} {event.observed.get('weight', 0)}"
            if self._told.get(rollout.key) != place:
                self._told[rollout.key] = place
                self._say(Line(f"  {name}: {event.because}", PHASE_STYLES.get(event.phase, "")))
        for check, ran in rollout.check_runs.items():
            key, now = f"{rollout.key}/{check}", f"{ran.phase} {ran.attempt}"
            if ran.attempt and self._told.get(key) != now:
                self._told[key] = now
                self._say(Line(f"  {name}: check {check} {ran.phase} {ran.because}".rstrip()))

    def _say_all(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._say(line)


def _told(run: Run) -> dict[str, StageRun]:
    """The stages that did something; that the rest was skipped is clear from how the run ended."""
    return {name: stage for name, stage in run.stages.items() if stage.phase is not Phase.SKIPPED}
