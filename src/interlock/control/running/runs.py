"""Moves runs: sees what there is, asks ``advance``, saves, then starts, stops or seals."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from interlock.control.rows import read_state, save_or_lose, write_state
from interlock.control.running.asking import facts_of_uses
from interlock.control.running.attempts import Attempts
from interlock.control.running.lookups import Lookups, artifacts_for
from interlock.control.running.sealing import Sealing
from interlock.control.running.seeing import SERVER, Seeing
from interlock.control.scheduling.costs import Costs
from interlock.control.scheduling.room import Room
from interlock.errors import Fault, NotFound, Refused, StoreFault
from interlock.later import Later
from interlock.pipeline.plan import StagePlan
from interlock.ports import Blobs, Store
from interlock.run.advance import advance, stop
from interlock.run.run import Run, RunSeen, desired
from interlock.run.scheduling.costs import Capacity
from interlock.run.stage import StageOutcome, StageRequest
from interlock.vocabulary import Decision, Fact, Json, Kind, Phase, Row, Stored, Write

if TYPE_CHECKING:
    from interlock.delivery import release as releases
    from interlock.registry.version import ModelVersion
else:  # a local run releases nothing
    releases = Later("interlock.delivery.release")

__all__ = ["FAULTS", "SERVER", "Runs"]

FAULTS = 10
"""Faults of one run in a row, over some minutes, after which it is given up."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries of a run that meets faults, at most; the first pause is one second, each the double."""


class Passed(Stored):
    """The state of a row that the same save writes again, so that nobody can read it."""


class Runs:
    """One step of one run at a time. ``now`` is wall time. Without a ``room`` there is room for everything."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        attempts: Attempts,
        lookups: Lookups,
        sealing: Sealing,
        now: Callable[[], float],
        room: Room | None = None,
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._lookups = lookups
        self._sealing = sealing
        self._now = now
        self._room = room or Room(Capacity(math.inf), {}, now)
        self._costs = Costs(store)
        self._seeing = Seeing(store, blobs, attempts, lookups, sealing, self._room, now)
        self._read: dict[str, tuple[int, Run]] = {}
        self._faults: dict[str, tuple[int, float]] = {}

    def survey(self, rows: Sequence[Row], driver: str) -> list[str]:
        """Takes in all active runs, so that each is stepped with the others in view; the keys of this driver's.

        Attempts of runs that were ended elsewhere are stopped.
        """
        for key in self._read.keys() - {row.key for row in rows}:
            self._forget(key)
        own = [run for row in rows if (run := self._run_of(row)).driver == driver]
        self._room.survey(own)
        self._stop_abandoned({row.key for row in rows})
        return [run.key for run in own]

    def step(self, key: str) -> bool:
        """Moves the run as far as decisions alone bring it, saves them together, then acts; whether anything moved.

        A run that meets fault after fault is given up.
        """
        version, run = self._load(key)
        if run is None:
            return False
        if run.phase.is_final:
            self._forget(key)
            return False
        count, again = self._faults.get(key, (0, 0.0))
        if 0 < again - self._now() <= LONGEST_PAUSE and run.wish is None:
            return False
        try:
            moved = self._step(run, version)
        except StoreFault:
            raise
        except Fault as fault:
            self._room.leave(run)
            self._faults[key] = (count + 1, self._now() + min(2.0**count, LONGEST_PAUSE))
            if count + 1 < FAULTS:
                raise
            because = f"given up after {FAULTS} faults in a row: {type(fault).__name__}: {fault}"
            return self._conclude(run, version, [(stop(run, Phase.ERRORED, because, because), RunSeen())])
        self._faults.pop(key, None)
        return moved

    def find(self, key: str) -> Run:
        """The run as it was last seen or saved here. NotFound where there is none."""
        if key in self._read:
            return self._read[key][1]
        row = self._store.load(Kind.RUN, key)
        if row is None:
            raise NotFound("there is no such run", where=key)
        return self._run_of(row)

    def _step(self, run: Run, version: int) -> bool:
        made: list[tuple[Decision[Run], RunSeen]] = []
        now, is_still = run, False
        begun = frozenset(run.attempt_key(stage.name) for stage in desired(run))
        while not is_still:
            try:
                made.append(self._decide(now, begun))
            except Fault:
                if not made:
                    raise
                break  # what was decided is saved; the next step meets the fault again
            before, now = now, made[-1][0].state
            is_still = now == before
        return self._conclude(run, version, made)

    def _decide(self, run: Run, begun: Collection[str]) -> tuple[Decision[Run], RunSeen]:
        self._room.note(run)
        if run.phase.is_final:
            return Decision(state=run, because=run.because), RunSeen()
        try:
            seen = self._seeing.see(run, begun)
            return advance(run, seen, self._now()), seen
        except Refused as refused:
            # found out only now, for example that no interpreter fits: the user's to mend, so the run ends with it
            return stop(run, Phase.FAILED, str(refused), "the run was refused"), RunSeen()

    def _conclude(self, run: Run, version: int, made: Sequence[tuple[Decision[Run], RunSeen]]) -> bool:
        """Saves the decisions in one transaction, each as its own version and event, and acts on the last state."""
        writes: list[Write] = []
        after = decided = run
        last = made[-1][0].state
        for place, (decision, seen) in enumerate(made):
            if decision.state != decided:  # what is saved knows its version too, which the next decision does not
                decided = decision.state
                after, more = self._writes(decision, version + place, seen, is_last=decided == last)
                writes += more
        claimed = self._claim(run, after)
        facts = facts_of_uses(run, after, [seen for _, seen in made])
        moved = bool(writes) and save_or_lose(self._store, *writes, *claimed.values(), facts=facts)
        if moved:
            self._read[run.key] = (version + sum(write.kind is Kind.RUN for write in writes), after)
        elif writes:
            self._seeing.forget(run.key)
            self._room.note(run)
        self._act(after if moved or not writes else run, made[-1][1], claimed if moved else ())
        return moved

    def _claim(self, before: Run, after: Run) -> dict[str, Write]:
        """The claims, by attempt, of what only these decisions start: nobody can have claimed it."""
        begun = {before.attempt_key(stage.name) for stage in desired(before)}
        keys = [after.attempt_key(stage.name) for stage in desired(after)]
        return {key: self._attempts.claim(key) for key in keys if key not in begun}

    def _load(self, key: str) -> tuple[int, Run | None]:
        """The run and its version. What was read or saved here is not read again while the row stays the same."""
        version, run = self._read.get(key, (0, None))
        if run is not None and version == self._store.version(Kind.RUN, key):
            return version, run
        row = self._store.load(Kind.RUN, key)
        return (0, None) if row is None else (row.version, self._run_of(row))

    def _run_of(self, row: Row) -> Run:
        """The run of a row; what was read once is not read again while the row stays the same."""
        version, run = self._read.get(row.key, (0, None))
        if run is None or version != row.version:
            run = read_state(row, Run)
            self._read[row.key] = (row.version, run)
        return run

    def _forget(self, key: str) -> None:
        self._read.pop(key, None)
        self._faults.pop(key, None)
        self._seeing.forget(key)

    def _stop_abandoned(self, active: set[str]) -> None:
        for attempt in self._attempts.running():
            key = attempt.partition("/")[0]
            if not key.isdigit() or key in active:
                continue
            row = self._store.load(Kind.RUN, key)
            if row is not None and Phase(row.phase).is_final:
                self._attempts.stop(attempt, read_state(row, Run).because)

    def _writes(
        self, decision: Decision[Run], expected: int, seen: RunSeen, *, is_last: bool
    ) -> tuple[Run, list[Write]]:
        """The run as it is saved, and all rows of the decision; only the last one's state is ever read."""
        run, writes = decision.state, list[Write]()
        if run.phase is Phase.SUCCEEDED and run.driver == SERVER and run.may_deliver:
            run, writes = self._deliver(run, seen)
        observed: dict[str, Json] = {
            "outcomes": {name: outcome.because for name, outcome in seen.outcomes.items()},
            "lookups": {name: lookup.because for name, lookup in seen.lookups.items()},
            "production": seen.production,
        }
        if run.judgement is not None:
            observed["judgement"] = run.judgement.model_dump(mode="json")
        row = write_state(
            Kind.RUN,
            run.key,
            run if is_last else Passed(),
            expected=expected,
            phase=run.phase,
            because=decision.because,
            observed=observed,
        )
        return run, [row, *writes]

    def _deliver(self, run: Run, seen: RunSeen) -> tuple[Run, list[Write]]:
        """The rows that begin with a run's success: the version if it is new, and its release."""
        writes: list[Write] = []
        version: ModelVersion | None = None
        if seen.twin is not None and (seen.sealed is None or not run.overrides):
            version = self._seeing.twin(run)
        elif seen.sealed is not None:
            version = self._sealing.version(run, seen.sealed, self._now())
            run = run.model_copy(update={"version": version.key})
            because = f"registered by run {run.key}: {run.judgement.because if run.judgement else ''}"
            writes.append(
                write_state(
                    Kind.VERSION,
                    version.key,
                    version,
                    expected=0,
                    phase="registered",
                    because=because,
                    identity=version.key,
                    repository=version.repository,
                    ref=version.ref,
                )
            )
        if version is not None and version.deploy and self._should_release(run, version):
            release = releases.begin(self._store.number(Kind.RELEASE), version, run.key)
            writes.append(
                write_state(
                    Kind.RELEASE,
                    release.key,
                    release,
                    expected=0,
                    phase=release.phase,
                    because=release.because,
                    observed={"run": run.key},
                    repository=version.repository,
                    ref=version.ref,
                )
            )
        return run, writes

    def _should_release(self, run: Run, version: ModelVersion) -> bool:
        """Not what the newest release already brings, and never over the release of a newer commit's run.

        A commit that is run again is as old as its first run. What a person let past its gates is released in any case.
        """
        if run.overrides:
            return True
        for row in self._store.rows(Kind.RELEASE, newest=50):
            release = read_state(row, releases.Release)
            if release.model == version.model:
                begun_by = self._store.load(Kind.RUN, release.run)
                age = read_state(begun_by, Run).age if begun_by else int(release.run)
                return release.version != version.key and age <= run.age
        return True

    def _act(self, run: Run, seen: RunSeen, claimed: Collection[str]) -> None:
        for stage in desired(run):
            self._start(run, stage, is_claimed=run.attempt_key(stage.name) in claimed)
        for name, stage_run in run.stages.items():
            if stage_run.phase is Phase.CANCELLED and stage_run.attempt:
                self._attempts.stop(run.attempt_key(name), stage_run.because)
        if run.is_judged_good and not run.phase.is_final and seen.sealed is None and self._seeing.needs_seal(run):
            self._sealing.seal(run, self._now())

    def _start(self, run: Run, stage: StagePlan, *, is_claimed: bool) -> None:
        request = request_for(run, stage)
        self._attempts.start(request, lambda outcome: self._facts_of(run, stage, outcome), is_claimed=is_claimed)

    def _facts_of(self, run: Run, stage: StagePlan, outcome: StageOutcome) -> list[Fact]:
        """What is remembered of an attempt: what it made of what, and what it cost."""
        found = self._lookups.facts_of(run, stage, outcome, self._now())
        return [*found, *self._costs.facts_of(run, stage.name, outcome)]


def request_for(run: Run, stage: StagePlan) -> StageRequest:
    """What an executor is asked for the stage's present attempt."""
    return StageRequest(
        attempt=run.attempt_key(stage.name),
        stage=stage,
        commit=run.commit,
        project=run.plan.project,
        python=run.plan.python,
        inputs=artifacts_for(run, stage),
        data=run.plan.data,
        columns=run.plan.columns,
        measuring=run.measuring,
        model=run.plan.model,
        baseline=run.baseline,
        secrets_of=run.commit.repository if run.is_trusted and stage.secrets else None,
        gpus=run.stages[stage.name].gpus,
        data_of=run.commit.repository if stage.sources and not run.scope else None,
    )
