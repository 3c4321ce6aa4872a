"""Moves releases, rollouts and environments, and keeps the data plane as the environments desire it."""

from __future__ import annotations

from collections.abc import Callable

from interlock.access.audit import Deed
from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.going_back import go_back
from interlock.control.delivering.measuring import live_request, measure_nothing
from interlock.control.delivering.quarantine import blocked_because, quarantine
from interlock.control.front.retiring import why_retired
from interlock.control.rows import load_state, read_state, save_or_lose, write_environment, write_state
from interlock.control.running.attempts import Attempts
from interlock.control.running.sealing import Sealing
from interlock.delivery import advance as rules
from interlock.delivery import release as releases
from interlock.delivery import rollout as rollouts
from interlock.delivery.environment import Environment, enter, follow, needs_previous, scaled
from interlock.delivery.external.measured import Measured
from interlock.delivery.holding import Freeze, held_because
from interlock.delivery.looks.replaying import observation, of_interest
from interlock.delivery.release import Release, ReleasePhase, ReleaseSeen
from interlock.delivery.replacing import lack_of_room
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import CheckOutcome, Rollout, RolloutPhase, RolloutSeen
from interlock.errors import NotFound, Refused, StaleWrite
from interlock.pipeline.canaries.plan import ACCURACY
from interlock.pipeline.plan import EnvironmentPlan, StagePlan
from interlock.ports import Store
from interlock.registry.admission import Admission, Evidence, admit
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Json, Kind, Phase, Write

SERVICE_TIMES = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
"""The measurements that tell what a request takes of a replica, the best first."""
ACTIVE_RELEASES = (ReleasePhase.OPEN, ReleasePhase.WAITING)


class Deliveries:
    """One step of one release or rollout at a time. ``now`` is wall time.

    ``measure`` answers what other sources than the data plane told of a rollout's metrics, by metric.
    """

    def __init__(
        self,
        store: Store,
        attempts: Attempts,
        sealing: Sealing,
        plane: Plane,
        now: Callable[[], float],
        measure: Callable[[Rollout], dict[str, Measured]] = measure_nothing,
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._sealing = sealing
        self._plane = plane
        self._now = now
        self._measure = measure

    def step_release(self, key: str) -> bool:
        """Moves the release by one decision; whether anything moved."""
        release, expected = load_state(self._store, Kind.RELEASE, key, Release)
        if release is None or release.phase.is_final:
            return False
        seen = self._observe_release(release)
        decision = releases.advance(release, seen)
        after = decision.state
        if after == release:
            return False
        writes = [
            write_state(
                Kind.RELEASE,
                key,
                after,
                expected=expected,
                phase=after.phase,
                because=decision.because,
                observed=seen.model_dump(mode="json"),
            )
        ]
        if after.rollouts != release.rollouts and release.here is not None:
            writes += self._begin_rollout(after, release.here)
        admission = seen.admission
        is_refused = admission is not None and not admission.is_admitted and after.phase is ReleasePhase.STOPPED
        return save_or_lose(self._store, *writes, audit=[_refusal(release, decision.because)] if is_refused else [])

    def step_rollout(self, key: str) -> bool:
        """Moves the rollout by one decision, its environment with it; whether anything moved."""
        rollout, expected = load_state(self._store, Kind.ROLLOUT, key, Rollout)
        if rollout is None or rollout.phase.is_final:
            return False
        environment, environment_expected = load_state(self._store, Kind.ENVIRONMENT, rollout.environment, Environment)
        if environment is None:
            raise NotFound(f"environment {rollout.environment} is gone", f"rollout {rollout.number}")
        looked = self._observe_rollout(rollout, environment)
        seen = of_interest(rollout, looked)
        now = self._now()
        decision = rules.advance(rollout, seen, now)
        after = decision.state
        if after != rollout:
            observed = observation(seen, now) | {"weight": after.weight, **rollouts.summary(after)}
            writes = [
                write_state(
                    Kind.ROLLOUT,
                    key,
                    after,
                    expected=expected,
                    phase=after.phase,
                    because=decision.because,
                    observed=observed,
                )
            ]
            followed = follow(environment, after)
            if followed != environment:
                writes.append(write_environment(followed, environment_expected, decision.because))
            if after.phase is RolloutPhase.ROLLED_BACK and seen.quarantine is None:
                writes += [quarantine(self._store, after.candidate, decision.because)]
            if not save_or_lose(self._store, *writes):
                return False
            if after.phase is RolloutPhase.ROLLED_BACK and followed != environment:
                self._plane.give_traffic_back(followed, environment_expected + 1, looked.plane)
        self._run_checks(after)
        return after != rollout

    def step_environment(self, key: str) -> bool:
        """Goes back to the previous revision where the stable one cannot live; whether anything moved."""
        environment, expected = load_state(self._store, Kind.ENVIRONMENT, key, Environment)
        if environment is None or not needs_previous(environment):
            return False
        try:
            freeze = Freeze(by="interlock", reason=f"rolled back: {environment.trouble}")
            is_known = environment.stable and blocked_because(self._store, environment.stable.model_digest)
            before = environment if is_known else environment.model_copy(update={"freeze": freeze})
            _, writes = go_back(self._store, before, expected, environment.trouble, "itself", self._now())
        except Refused:  # nothing to go back to that may serve: the trouble is told, and it is tried again and again
            return False
        return save_or_lose(self._store, *writes)

    def _observe_release(self, release: Release) -> ReleaseSeen:
        newer = [
            other.number
            for row in self._store.rows(Kind.RELEASE, newest=50)
            if (other := read_state(row, Release)).model == release.model and other.number > release.number
        ]
        last = list(release.rollouts.values())[-1:]
        rollout, _ = load_state(self._store, Kind.ROLLOUT, str(last[0]), Rollout) if last else (None, 0)
        if newer or (rollout is not None and rollout.phase is not RolloutPhase.PROMOTED) or release.here is None:
            return ReleaseSeen(
                newer=max(newer, default=None),
                rollout=rollout.phase if rollout else None,
                rollout_because=rollout.because if rollout else "",
            )
        if release.unapproved is not None:
            return ReleaseSeen(rollout=rollout.phase if rollout else None)
        environment, _ = load_state(
            self._store, Kind.ENVIRONMENT, release.environment_key(release.here.name), Environment
        )
        busy_with = environment.rollout if environment else None
        if busy_with is not None:
            return ReleaseSeen(rollout=rollout.phase if rollout else None, busy_with=busy_with)
        held = held_because(environment.freeze if environment else None, release.here.windows, self._now())
        held = held or self._lack_of_room(release, environment)
        if held is not None:
            return ReleaseSeen(rollout=rollout.phase if rollout else None, held=held)
        return ReleaseSeen(
            rollout=rollout.phase if rollout else None,
            admission=self._admit(release),
            next_rollout=self._store.number(Kind.ROLLOUT),
        )

    def _lack_of_room(self, release: Release, environment: Environment | None) -> str | None:
        """Why the machine does not hold what the next rollout needs."""
        version, _ = load_state(self._store, Kind.VERSION, release.version, ModelVersion)
        if version is None or release.here is None or environment is None or environment.stable is None:
            return None
        candidate = _candidate(version, release.here, environment)
        replicas = scaled(environment, candidate).replicas
        return lack_of_room(environment.stable, candidate, replicas, self._plane.memory_left(environment.key))

    def _admit(self, release: Release) -> Admission | None:
        version, _ = load_state(self._store, Kind.VERSION, release.version, ModelVersion)
        if version is None or release.here is None:
            return None
        first, _ = load_state(self._store, Kind.VERSION, f"{version.model}/1", ModelVersion)
        evidence = Evidence(
            owner=first.repository if first else None,
            signature_problem=self._sealing.problem_with(version),
            provenance_problem=self._sealing.provenance_problem(version),
            summary_problem=self._sealing.summary_problem(
                version, self._now(), is_first=self._is_new(release, version)
            ),
            copy_of=self._original(version),
            quarantine=blocked_because(self._store, version.digest),
            retired=why_retired(self._store, version.model),
            served_in=tuple(name for name in release.rollouts if self._was_digest(release, name) == version.digest),
        )
        return admit(release.here.name, release.here.requires, version, evidence)

    def _is_new(self, release: Release, version: ModelVersion) -> bool:
        """Whether the digest is none that the environment serves, or served before."""
        assert release.here is not None
        key = release.environment_key(release.here.name)
        environment, _ = load_state(self._store, Kind.ENVIRONMENT, key, Environment)
        known = (environment.stable, environment.previous) if environment else ()
        return version.digest not in {revision.model_digest for revision in known if revision}

    def _original(self, version: ModelVersion) -> str | None:
        """The older version that the same run registered: a run registers one."""
        rows = self._store.rows(Kind.VERSION, prefix=f"{version.model}/")
        older = next((row for row in rows if row.state["run"] == version.run), None)
        found = read_state(older, ModelVersion) if older is not None else version
        return found.title if found.number < version.number else None

    def _was_digest(self, release: Release, environment: str) -> str | None:
        """The digest that the release brought to an environment."""
        rollout, _ = load_state(self._store, Kind.ROLLOUT, str(release.rollouts[environment]), Rollout)
        return rollout.candidate.model_digest if rollout is not None else None

    def _begin_rollout(self, release: Release, plan: EnvironmentPlan) -> list[Write]:
        version, _ = load_state(self._store, Kind.VERSION, release.version, ModelVersion)
        key = release.environment_key(plan.name)
        environment, expected = load_state(self._store, Kind.ENVIRONMENT, key, Environment)
        if version is None:
            raise NotFound(f"model version {release.version} is gone", f"release {release.number}")
        environment = environment or Environment(name=plan.name, model=release.model)
        if environment.retirement is not None:
            raise StaleWrite(f"{release.model} was retired just now")  # after it was admitted
        candidate = _candidate(version, plan, environment)
        rollout = rollouts.begin(
            release.rollouts[plan.name],
            candidate,
            environment.stable,
            plan,
            release=release.number,
            now=self._now(),
            replicas=scaled(environment, candidate).replicas,
            baseline=self._plane.baseline(key),
        )
        return [
            write_state(Kind.ROLLOUT, rollout.key, rollout, expected=0, phase=rollout.phase, because=rollout.because),
            write_environment(enter(environment, rollout), expected, rollout.because),
        ]

    def _observe_rollout(self, rollout: Rollout, environment: Environment) -> RolloutSeen:
        running = [name for name, check in rollout.check_runs.items() if check.phase is Phase.RUNNING]
        outcomes = {
            name: CheckOutcome(phase=outcome.phase, because=outcome.because)
            for name in running
            if (outcome := self._attempts.outcome(rollout.check_key(name))) is not None
        }
        release, _ = (
            load_state(self._store, Kind.RELEASE, str(rollout.release), Release) if rollout.release else (None, 0)
        )
        is_superseded = release is not None and release.phase is ReleasePhase.STOPPED
        newer = self._waiting_release(rollout) if rollout.is_on_probation else None
        if is_superseded and not rollout.is_on_probation:
            newer = self._newest_release(rollout.candidate.model)
        plane = self._plane.observe(rollout.environment)
        if rollouts.judges(rollout, ACCURACY):
            labelled = self._plane.labelled(rollout.environment, rollouts.late_labels(rollout))
            plane = plane.model_copy(update={"labelled": labelled})
        if rollout.is_mirrored:
            paired = self._plane.paired(rollout.environment, rollout.tolerance)
            plane = plane.model_copy(update={"paired": paired})
        return RolloutSeen(
            plane=plane,
            checks=outcomes,
            lost=tuple(name for name in running if self._attempts.is_lost(rollout.check_key(name))),
            superseded_by=newer,
            # The way back, which no release brings, is never closed.
            quarantine=blocked_because(self._store, rollout.candidate.model_digest) if rollout.release else None,
            held=held_because(environment.freeze, rollout.windows, self._now()) if rollout.release else None,
            measured=self._measure(rollout),
        )

    def _waiting_release(self, rollout: Rollout) -> int | None:
        """The release that waits for the rollout's environment; others may come that far, or not."""
        waiting = [read_state(row, Release) for row in self._store.rows(Kind.RELEASE, phases=(ReleasePhase.WAITING,))]
        return next(
            (one.number for one in waiting if one.here and one.environment_key(one.here.name) == rollout.environment),
            None,
        )

    def _newest_release(self, model: str) -> int | None:
        numbers = [
            release.number
            for row in self._store.rows(Kind.RELEASE, newest=50)
            if (release := read_state(row, Release)).model == model
        ]
        return max(numbers, default=None)

    def _run_checks(self, rollout: Rollout) -> None:
        for check in rollout.checks:
            if rollout.check_runs[check.name].phase is not Phase.RUNNING or rollout.phase.is_final:
                continue
            stage = StagePlan(
                name=check.name,
                kind="check",
                command=check.command,
                timeout=check.timeout,
                secrets=check.secrets,
                env={"INTERLOCK_REVISION": rollout.candidate.key},
            )
            endpoint = self._plane.endpoint(rollout.environment)
            request = live_request(self._store, rollout, rollout.check_key(check.name), stage, endpoint)
            self._attempts.start(request, lambda _outcome: ())


def _candidate(version: ModelVersion, plan: EnvironmentPlan, environment: Environment) -> Revision:
    """The version as the next revision of the environment."""
    return Revision(
        environment=environment.key,
        number=environment.revisions + 1,
        version=version.number,
        model=version.model,
        model_digest=version.digest,
        lock=version.lock,
        python=version.python,
        format=version.format,
        golden=version.golden,
        reference=version.reference,
        provenance=version.provenance,
        replicas=plan.replicas,
        scaling=plan.scaling,
        service_ms=next((version.metrics[name] for name in SERVICE_TIMES if name in version.metrics), None),
        memory_mb=version.metrics.get("memory_peak_mb"),
        memory=plan.memory,
        cpu=plan.cpu,
        surge=plan.surge,
        slices=plan.strategy.analysis.slices,
    )


def _refusal(release: Release, because: str) -> Deed:
    """That a version was not let in, for the audit log: somebody may have tampered with it."""
    detail: dict[str, Json] = {"release": release.key, "because": because}
    return Deed(who="interlock", action="refuse admission", thing=f"version/{release.version}", detail=detail)
