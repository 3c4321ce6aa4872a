"""What is seen of the world before a run is decided on: attempts, look-ups, the room, and production."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress

from interlock.control.rows import load_state, read_state
from interlock.control.running.attempts import Attempts
from interlock.control.running.lookups import Lookups
from interlock.control.running.room import Room
from interlock.control.running.sealing import Sealing
from interlock.delivery.environment import Environment
from interlock.errors import InterlockError
from interlock.pipeline.plan import StagePlan
from interlock.pipeline.trace import Lookup
from interlock.ports import Blobs, Store
from interlock.registry.version import ModelVersion
from interlock.run.run import Run, RunSeen, desired, ready_stages
from interlock.run.stage import Baseline, StageOutcome
from interlock.vocabulary import Json, Kind, Phase

SERVER = "server"
"""The driver of runs that a server moves; others name one local process."""
PRODUCTION = "production"
REASON_SECONDS = 30.0
"""How long a stage that waits keeps the reason it told, so that a long queue does not write all the time."""


class Seeing:
    """Observes runs. Look-ups of stages that wait are kept as long as their run's row stays as it is."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        attempts: Attempts,
        lookups: Lookups,
        sealing: Sealing,
        room: Room,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._attempts = attempts
        self._lookups = lookups
        self._sealing = sealing
        self._room = room
        self._now = now
        self._kept: dict[str, tuple[int, Baseline | None, dict[str, Lookup]]] = {}
        self._told: dict[tuple[str, str], float] = {}

    def see(self, run: Run, version: int) -> RunSeen:
        """What ``advance`` asks for; no more than a wish, or its group, lets matter."""
        ahead, superseded_by = self._room.ahead_of(run), self._room.superseded_by(run)
        if run.wish is not None or superseded_by is not None or (ahead is not None and not run.has_begun):
            self._room.leave(run)
            return RunSeen(ahead=ahead, superseded_by=superseded_by)
        running = [stage.name for stage in desired(run)]
        outcomes = {
            name: outcome for name in running if (outcome := self._attempts.outcome(run.attempt_key(name))) is not None
        }
        baseline, production = self._production(run)
        twin = self.twin(run)
        ready = [stage for stage in ready_stages(run) if not (stage.kind == "measure" and twin is not None)]
        lookups, waits = self._look_up(run, version, ready, baseline if run.production is None else run.baseline)
        return RunSeen(
            outcomes=outcomes,
            lost=tuple(name for name in running if self._attempts.is_lost(run.attempt_key(name))),
            lookups=lookups,
            waits=waits,
            flaky=self._flaky(run, outcomes),
            reports=self._reports(run),
            baseline=baseline,
            production=production,
            twin=twin.title if twin else None,
            needs_seal=self.needs_seal(run),
            sealed=self._sealing.find(run) if run.is_judged_good else None,
        )

    def twin(self, run: Run) -> ModelVersion | None:
        """The registered version that this run's model would serve just like, once the model is made."""
        if run.driver != SERVER or any(
            run.stages[stage.name].phase is not Phase.SUCCEEDED for stage in run.plan.stages if stage.kind != "measure"
        ):
            return None
        serving = self._sealing.serving(run)
        for row in self._store.rows(Kind.VERSION, prefix=f"{run.plan.model.name if run.plan.model else ''}/"):
            version = read_state(row, ModelVersion)
            if version.serving == serving and version.run != run.key:
                return version
        return None

    def needs_seal(self, run: Run) -> bool:
        """Whether a good model of this run is to be registered."""
        return run.driver == SERVER and run.plan.model is not None and run.may_deliver

    def forget(self, key: str) -> None:
        """The run has ended, or is somebody else's."""
        self._kept.pop(key, None)
        for told in [told for told in self._told if told[0] == key]:
            del self._told[told]

    def _look_up(
        self, run: Run, version: int, ready: Sequence[StagePlan], baseline: Baseline | None
    ) -> tuple[dict[str, Lookup], dict[str, str]]:
        """The look-ups of the stages that could start, and why some of those that must be executed have to wait.

        A stage that waited is looked up anew when its turn has come: its like may have been executed meanwhile.
        """
        before = self._kept.get(run.key, (0, None, {}))
        kept = before[2] if before[:2] == (version, baseline) else {}
        lookups = {stage.name: kept.get(stage.name) or self._lookups.look_up(run, stage, baseline) for stage in ready}
        waits = self._room.ask(run, [stage for stage in ready if _is_executed(run, lookups[stage.name], stage)])
        for stage in ready:
            if stage.name in kept and stage.name not in waits:
                lookups[stage.name] = self._lookups.look_up(run, stage, baseline)
            if not _is_executed(run, lookups[stage.name], stage):
                self._room.leave(run, stage.name)
        self._kept[run.key] = (version, baseline, {name: lookups[name] for name in waits})
        return lookups, {name: self._reason(run, name, because) for name, because in waits.items()}

    def _reason(self, run: Run, stage: str, because: str) -> str:
        now, told = self._now(), self._told.get((run.key, stage))
        if told is not None and 0 <= now - told < REASON_SECONDS:
            return run.stages[stage].because
        self._told[run.key, stage] = now
        return because

    def _flaky(self, run: Run, outcomes: dict[str, StageOutcome]) -> dict[str, str]:
        """What is odd about outcomes. It is worth telling, and nothing that holds a run up."""
        found: dict[str, str] = {}
        for name, outcome in outcomes.items():
            if outcome.phase in (Phase.SUCCEEDED, Phase.FAILED):
                with suppress(InterlockError):
                    told = self._lookups.contradiction(run, run.plan.stage(name), outcome.phase)
                    found |= {name: told} if told else {}
        return found

    def _production(self, run: Run) -> tuple[Baseline | None, str]:
        if run.driver != SERVER or run.plan.model is None:
            return None, "unknown"
        environment, _ = load_state(self._store, Kind.ENVIRONMENT, f"{run.plan.model.name}/{PRODUCTION}", Environment)
        if environment is None or environment.stable is None:
            return None, "none"
        key = f"{run.plan.model.name}/{environment.stable.version}"
        version, _ = load_state(self._store, Kind.VERSION, key, ModelVersion)
        if version is None:
            return None, "unknown"
        baseline = Baseline(
            name=version.title,
            model=version.digest,
            lock=version.lock,
            python=version.python,
            format=version.format,
            predictions=version.predictions,
        )
        return baseline, version.title

    def _reports(self, run: Run) -> dict[str, Json]:
        if run.judgement is not None or any(s.phase is not Phase.SUCCEEDED for s in run.stages.values()):
            return {}
        return {
            stage.builtin: json.loads(self._blobs.read(report))
            for stage in run.plan.stages
            if stage.kind == "measure" and stage.builtin and (report := run.stages[stage.name].report) is not None
        }


def _is_executed(run: Run, lookup: Lookup, stage: StagePlan) -> bool:
    return lookup.hit is None or (stage.name in run.fresh and not stage.frozen)
