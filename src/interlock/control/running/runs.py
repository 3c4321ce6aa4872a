"""Moves runs: observes attempts, cache and production, asks ``advance``, saves, then starts, stops or seals."""

from __future__ import annotations

import json
from collections.abc import Callable

from interlock.control.rows import load_state, read_state, save_or_lose, write_state
from interlock.control.running.attempts import Attempts
from interlock.control.running.lookups import Lookups, artifacts_for
from interlock.control.running.sealing import Sealing
from interlock.delivery.environment import Environment
from interlock.delivery.release import Release
from interlock.delivery.release import begin as begin_release
from interlock.errors import Refused
from interlock.pipeline.plan import StagePlan
from interlock.ports import Blobs, Store
from interlock.registry.version import ModelVersion
from interlock.run.run import Run, RunSeen, advance, desired, ready_stages, stop
from interlock.run.stage import Baseline, StageRequest
from interlock.vocabulary import Json, Kind, Phase, Write

SERVER = "server"
"""The driver of runs that a server moves; others name one local process."""
PRODUCTION = "production"


class Runs:
    """One step of one run at a time. ``now`` is wall time."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        attempts: Attempts,
        lookups: Lookups,
        sealing: Sealing,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._attempts = attempts
        self._lookups = lookups
        self._sealing = sealing
        self._now = now

    def step(self, key: str) -> bool:
        """Moves the run by one decision; whether anything moved."""
        run, version = load_state(self._store, Kind.RUN, key, Run)
        if run is None or run.phase.is_final:
            return False
        try:
            seen = self._observe(run)
            decision = advance(run, seen)
        except Refused as refused:
            # found out only now, for example that no interpreter fits: the user's to mend, so the run ends with it
            seen, decision = RunSeen(), stop(run, Phase.FAILED, str(refused), "the run was refused")
        after = decision.state
        moved = after != run and self._save(after, version, decision.because, seen)
        self._act(after if moved or after == run else run, seen)
        return moved

    def _observe(self, run: Run) -> RunSeen:
        running = [stage.name for stage in desired(run)]
        outcomes = {
            name: outcome for name in running if (outcome := self._attempts.outcome(run.attempt_key(name))) is not None
        }
        baseline, production = self._production(run)
        twin = self._twin(run)
        ready = [stage for stage in ready_stages(run) if not (stage.kind == "measure" and twin is not None)]
        measured_against = baseline if run.production is None else run.baseline
        return RunSeen(
            outcomes=outcomes,
            lost=tuple(name for name in running if self._attempts.is_lost(run.attempt_key(name))),
            lookups={stage.name: self._lookups.look_up(run, stage, measured_against) for stage in ready},
            reports=self._reports(run),
            baseline=baseline,
            production=production,
            twin=twin.title if twin else None,
            needs_seal=self._needs_seal(run),
            sealed=self._sealing.find(run) if run.is_judged_good else None,
        )

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

    def _twin(self, run: Run) -> ModelVersion | None:
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

    def _reports(self, run: Run) -> dict[str, Json]:
        if run.judgement is not None or any(s.phase is not Phase.SUCCEEDED for s in run.stages.values()):
            return {}
        return {
            stage.builtin: json.loads(self._blobs.read(report))
            for stage in run.plan.stages
            if stage.kind == "measure" and stage.builtin and (report := run.stages[stage.name].report) is not None
        }

    def _needs_seal(self, run: Run) -> bool:
        return run.driver == SERVER and run.plan.model is not None and run.is_trusted

    def _save(self, run: Run, expected: int, because: str, seen: RunSeen) -> bool:
        writes: list[Write] = []
        if run.phase is Phase.SUCCEEDED and run.driver == SERVER and run.is_trusted:
            run, writes = self._deliver(run, seen)
        observed: dict[str, Json] = {
            "outcomes": {name: outcome.because for name, outcome in seen.outcomes.items()},
            "lookups": {name: lookup.because for name, lookup in seen.lookups.items()},
            "production": seen.production,
        }
        if run.judgement is not None:
            observed["judgement"] = run.judgement.model_dump(mode="json")
        row = write_state(
            Kind.RUN, run.key, run, expected=expected, phase=run.phase, because=because, observed=observed
        )
        return save_or_lose(self._store, row, *writes)

    def _deliver(self, run: Run, seen: RunSeen) -> tuple[Run, list[Write]]:
        """The rows that begin with a run's success: the version if it is new, and its release."""
        writes: list[Write] = []
        version: ModelVersion | None = None
        if seen.twin is not None:
            version = self._twin(run)
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
                )
            )
        if version is not None and version.deploy and self._should_release(run, version):
            release = begin_release(self._store.number(Kind.RELEASE), version, run.key)
            writes.append(
                write_state(
                    Kind.RELEASE,
                    release.key,
                    release,
                    expected=0,
                    phase=release.phase,
                    because=release.because,
                    observed={"run": run.key},
                )
            )
        return run, writes

    def _should_release(self, run: Run, version: ModelVersion) -> bool:
        """Not what the newest release already brings, and never over the release of a newer run."""
        for row in self._store.rows(Kind.RELEASE, newest=50):
            release = read_state(row, Release)
            if release.model == version.model:
                return release.version != version.key and int(release.run) < run.number
        return True

    def _act(self, run: Run, seen: RunSeen) -> None:
        for stage in desired(run):
            self._start(run, stage)
        for name, stage_run in run.stages.items():
            if stage_run.phase is Phase.CANCELLED and stage_run.attempt:
                self._attempts.stop(run.attempt_key(name), stage_run.because)
        if run.is_judged_good and not run.phase.is_final and seen.sealed is None and self._needs_seal(run):
            self._sealing.seal(run, self._now())

    def _start(self, run: Run, stage: StagePlan) -> None:
        request = StageRequest(
            attempt=run.attempt_key(stage.name),
            stage=stage,
            commit=run.commit,
            project=run.plan.project,
            python=run.plan.python,
            inputs=artifacts_for(run, stage),
            data=run.plan.data,
            model=run.plan.model,
            baseline=run.baseline,
        )
        self._attempts.start(request, lambda outcome: self._lookups.remember(run, stage, outcome, self._now()))
