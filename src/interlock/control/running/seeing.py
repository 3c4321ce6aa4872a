"""What is seen of the world before a run is decided on: attempts, look-ups, the room, and production."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from interlock.control.rows import load_state, read_state
from interlock.control.running.asking import digest_of_holdout, see_asked
from interlock.control.running.attempts import Attempts
from interlock.control.running.lookups import Lookups
from interlock.control.running.sealing import Sealing
from interlock.control.scheduling.room import Places, Room
from interlock.errors import InterlockError
from interlock.gate.reuse.counting import Asked
from interlock.gate.serving.consistency import is_served_as_predicted
from interlock.later import Later
from interlock.pipeline.gates.served import compares_rows
from interlock.pipeline.plan import StagePlan
from interlock.pipeline.trace import Lookup
from interlock.ports import Blobs, Store
from interlock.run.advance import is_worth_judging_early
from interlock.run.run import Run, RunSeen, desired, ready_stages
from interlock.run.stage import Baseline, StageOutcome
from interlock.vocabulary import Json, Kind, Phase, Verdict

if TYPE_CHECKING:
    from interlock.delivery import environment as environments
    from interlock.registry import version as versions
else:  # needed where the plan has a model
    environments, versions = Later("interlock.delivery.environment"), Later("interlock.registry.version")

SERVER = "server"
"""The driver of runs that a server moves; others name one local process."""
PRODUCTION = "production"
REASON_SECONDS = 30.0
"""How long a stage that waits keeps the reason it told, so that a long queue does not write all the time."""


class Seeing:
    """Observes runs. Look-ups of stages that wait are kept: what those need is done, so that nothing of it changes."""

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
        self._kept: dict[str, tuple[Baseline | None, dict[str, Lookup]]] = {}
        self._told: dict[tuple[str, str], float] = {}

    def see(self, run: Run, begun: Collection[str]) -> RunSeen:
        """What ``advance`` asks for; no more than a wish, or its group, lets matter. ``begun`` are the attempts that
        somebody may have claimed: there is nothing to see yet of those that are only decided on.
        """
        ahead, superseded_by = self._room.ahead_of(run), self._room.superseded_by(run)
        if run.wish is not None or superseded_by is not None or (ahead is not None and not run.has_begun):
            self._room.leave(run)
            return RunSeen(ahead=ahead, superseded_by=superseded_by)
        running = [stage.name for stage in desired(run) if run.attempt_key(stage.name) in begun]
        outcomes = {
            name: outcome for name in running if (outcome := self._attempts.outcome(run.attempt_key(name))) is not None
        }
        reports = self._reports(run)
        twin = self.twin(run)
        ready = [stage for stage in ready_stages(run, self._now()) if stage.kind != "measure" or twin is None]
        baseline, production = self._production(run, any(stage.kind == "measure" for stage in ready))
        lookups, places = self._look_up(run, ready, baseline if run.production is None else run.baseline)
        return RunSeen(
            outcomes=outcomes,
            lost=tuple(name for name in running if name not in outcomes and self._is_lost(run.attempt_key(name))),
            lookups=lookups,
            waits=places.waits,
            gpus=places.gpus,
            estimate=self._room.foresee(run, lookups) if run.estimate is None else None,
            flaky=self._flaky(run, outcomes),
            reports=reports,
            accepted=self._accepted(baseline) if baseline and "data" in reports else None,
            asked=self._asked(run) if "measurements" in reports else None,
            baseline=baseline,
            production=production,
            twin=twin.title if twin else None,
            needs_seal=self.needs_seal(run),
            sealed=self._sealing.find(run) if run.is_judged_good else None,
        )

    def _is_lost(self, attempt: str) -> bool:
        """Whether the attempt will never finish: one that did at this very moment has an outcome the next time."""
        return self._attempts.is_lost(attempt) and self._attempts.refuse_end(attempt)

    def twin(self, run: Run) -> versions.ModelVersion | None:
        """The registered version that this run's model would serve just like, once the model is made.

        None that gates were overridden for: the word was of that run, and another one is judged for itself.
        """
        if run.driver != SERVER or any(
            run.stages[stage.name].phase is not Phase.SUCCEEDED for stage in run.plan.stages if stage.kind != "measure"
        ):
            return None
        serving = self._sealing.serving(run)
        for row in self._store.rows(Kind.VERSION, prefix=f"{run.plan.model.name if run.plan.model else ''}/"):
            version = read_state(row, versions.ModelVersion)
            is_gated = version.judgement.verdict is Verdict.PASS
            if version.serving == serving and version.run != run.key and is_gated:
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
        self, run: Run, ready: Sequence[StagePlan], baseline: Baseline | None
    ) -> tuple[dict[str, Lookup], Places]:
        """The look-ups of the stages that could start, and their places: some that must be executed have to wait.

        A stage that waited is looked up anew when its turn has come: its like may have been executed meanwhile.
        """
        before = self._kept.get(run.key, (None, {}))
        kept = before[1] if before[0] == baseline else {}
        lookups = {stage.name: kept.get(stage.name) or self._lookups.look_up(run, stage, baseline) for stage in ready}
        waits, gpus = self._room.ask(run, [stage for stage in ready if _is_executed(run, lookups[stage.name], stage)])
        for stage in ready:
            if stage.name in kept and stage.name not in waits:
                lookups[stage.name] = self._lookups.look_up(run, stage, baseline)
            if not _is_executed(run, lookups[stage.name], stage):
                self._room.leave(run, stage.name)
        self._kept[run.key] = (baseline, {name: lookups[name] for name in waits})
        return lookups, Places({name: self._reason(run, name, because) for name, because in waits.items()}, gpus)

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

    def _production(self, run: Run, is_to_measure: bool) -> tuple[Baseline | None, str]:
        if run.driver != SERVER or run.plan.model is None:
            return None, "unknown"
        name = f"{run.plan.model.name}/{PRODUCTION}"
        environment, _ = load_state(self._store, Kind.ENVIRONMENT, name, environments.Environment)
        if environment is None or environment.stable is None:
            return None, "none"
        key = f"{run.plan.model.name}/{environment.stable.version}"
        version, _ = load_state(self._store, Kind.VERSION, key, versions.ModelVersion)
        if version is None:
            return None, "unknown"
        baseline = Baseline(
            name=version.title,
            model=version.digest,
            lock=version.lock,
            python=version.python,
            format=version.format,
            made_by=version.run,
        )
        if is_to_measure and run.production is None and compares_rows((*run.plan.gates, *run.guards)):
            baseline = self._with_answers(run, version, baseline)
        return baseline, version.title

    def _with_answers(self, run: Run, version: versions.ModelVersion, baseline: Baseline) -> Baseline:
        """With what it predicted of the run's holdout, or else what it can be asked with; with neither where it was
        judged on other rows and nobody knows that it is served as it predicted them.
        """
        made_by, _ = load_state(self._store, Kind.RUN, version.run, Run)
        ours = digest_of_holdout(self._blobs, run)
        theirs = digest_of_holdout(self._blobs, made_by) if made_by is not None else ""
        if made_by is not None and ours != theirs and is_served_as_predicted(made_by.served, version.model):
            return baseline.model_copy(update={"golden": version.golden})
        is_of_others = bool(ours and theirs) and ours != theirs
        return baseline if is_of_others else baseline.model_copy(update={"predictions": version.predictions})

    def _accepted(self, baseline: Baseline) -> Json:
        """What the data probe found in the run that made the version in production; None where that is not kept."""
        made_by, _ = load_state(self._store, Kind.RUN, baseline.made_by, Run)
        report = made_by.stages["data"].report if made_by and "data" in made_by.stages else None
        if report is None or not self._blobs.has(report):
            return None
        found: Json = json.loads(self._blobs.read(report))
        return found

    def _asked(self, run: Run) -> Asked | None:
        """Who has asked the holdout; a run without a server asks on its own account."""
        return see_asked(self._store, self._blobs, run) if run.driver == SERVER else None

    def _reports(self, run: Run) -> dict[str, Json]:
        measured = run.stages.get("data")
        if run.data is None and measured and measured.phase is Phase.SUCCEEDED and measured.report is not None:
            return {"data": json.loads(self._blobs.read(measured.report))}
        is_done = run.judgement is None and all(s.phase is Phase.SUCCEEDED for s in run.stages.values())
        if not is_done and not is_worth_judging_early(run):
            return {}
        return {
            stage.builtin: json.loads(self._blobs.read(report))
            for stage in run.plan.stages
            if stage.kind == "measure" and stage.builtin and (report := run.stages[stage.name].report) is not None
        }


def _is_executed(run: Run, lookup: Lookup, stage: StagePlan) -> bool:
    return lookup.hit is None or (stage.name in run.fresh and not stage.frozen)
