"""Takes away what is no longer needed: artifacts, logs and Python environments. Never what anything refers to.

A row refers to every digest that is written anywhere in it, so that no new field can be forgotten here. Versions are
never removed, so neither is what they are made of: whatever an environment may go back to can serve again. What the
results of earlier stages are looked up from are the products of the run that made them: they stay as long as it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator

from interlock.control.delivering.going_back import good_revisions
from interlock.control.rows import read_state
from interlock.delivery.environment import Environment
from interlock.delivery.release import ReleasePhase
from interlock.delivery.rollout import RolloutPhase
from interlock.errors import ArtifactFault, Refused
from interlock.pipeline.models.formats import serving_purpose
from interlock.pipeline.plan import PythonPlan
from interlock.ports import Blobs, Environments, Store
from interlock.run.run import Run
from interlock.vocabulary import Digest, Kind, Phase, Row, Stored, canonical

DIGEST = re.compile(r"blake3:[0-9a-f]{64}")
LIVING_RUNS = (Phase.QUEUED, Phase.RUNNING, Phase.HELD)
"""Runs that move, or may be let go on by a person."""
GRACE_SECONDS = 3600.0
"""What was stored or asked for within the last hour may be about to be referred to."""
PAGE = 200

CollectLogs = Callable[[Callable[[str], bool], float], tuple[int, int]]
"""Removes logs last written before a moment that are not to be kept, asked by attempt; how many, and their bytes."""
CollectEnvironments = Callable[[Collection[str], float], tuple[int, int]]
"""Removes environments last used before a moment but those of these identities; how many, and their bytes."""


class Retention(Stored):
    """How many seconds things are kept that nothing refers to; an hour at least."""

    logs: float
    artifacts: float
    environments: float


class Collected(Stored):
    """What one pass removed."""

    artifacts: int
    artifact_bytes: int
    logs: int
    log_bytes: int
    environments: int
    environment_bytes: int

    @property
    def because(self) -> str:
        """The whole of it in one line."""
        parts = [
            f"{self.artifacts} artifact files ({self.artifact_bytes} bytes)",
            f"{self.logs} logs ({self.log_bytes} bytes)",
            f"{self.environments} environments ({self.environment_bytes} bytes)",
        ]
        return f"removed {', '.join(parts)}: older than the retention, and nothing refers to them"


class Collecting:
    """Decides what may go, and has it removed. ``now`` is wall time."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        environments: Environments,
        retention: Retention,
        now: Callable[[], float],
        *,
        collect_logs: CollectLogs,
        collect_environments: CollectEnvironments,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._environments = environments
        self._retention = retention
        self._now = now
        self._collect_logs = collect_logs
        self._collect_environments = collect_environments

    def one_pass(self) -> Collected:
        """Removes what may go now. It may be ended at any moment: the next pass goes on."""
        now = self._now()
        logs, artifacts, environments = (
            now - max(seconds, GRACE_SECONDS)
            for seconds in (self._retention.logs, self._retention.artifacts, self._retention.environments)
        )
        removed_logs = self._collect_logs(lambda attempt: self._needs_log(attempt, logs), logs)
        removed_artifacts = self._blobs.collect(self._referenced(artifacts).__contains__, artifacts)
        removed_environments = self._collect_environments(self._identities_in_use(), environments)
        return Collected(
            artifacts=removed_artifacts[0],
            artifact_bytes=removed_artifacts[1],
            logs=removed_logs[0],
            log_bytes=removed_logs[1],
            environments=removed_environments[0],
            environment_bytes=removed_environments[1],
        )

    def _needs_log(self, attempt: str, since: float) -> bool:
        """Whether the run or rollout of an attempt is under way, or ended after ``since``."""
        owner = attempt.partition("/")[0]
        number = owner.removeprefix("rollout-")
        row = self._store.load(Kind.RUN if number == owner else Kind.ROLLOUT, number)
        return row is not None and (row.phase in {*LIVING_RUNS, RolloutPhase.PROGRESSING} or row.updated >= since)

    def _referenced(self, since: float) -> set[Digest]:
        """What models, environments and deliveries are made of, living runs, and runs that began after ``since``."""
        found = digests_in(self._store.rows(Kind.VERSION))
        found |= digests_in(self._store.rows(Kind.ENVIRONMENT))
        found |= digests_in(self._store.rows(Kind.RELEASE, phases=(ReleasePhase.OPEN, ReleasePhase.WAITING)))
        found |= digests_in(self._store.rows(Kind.ROLLOUT, phases=(RolloutPhase.PROGRESSING,)))
        for row in self._store.rows(Kind.RUN, phases=LIVING_RUNS):
            found |= digests_in([row, *self._store.rows(Kind.ATTEMPT, prefix=f"{row.key}/")])
            for seal in self._store.recall("seal", row.key):
                found |= _digests(canonical(seal))
        return found | digests_in(self._runs_since(since))

    def _runs_since(self, since: float) -> Iterator[Row]:
        page = self._store.rows(Kind.RUN, newest=PAGE)
        while page:
            young = [row for row in page if row.created >= since]
            yield from young
            if len(young) < len(page):
                return
            page = self._store.rows(Kind.RUN, newest=PAGE, before=page[-1].place)

    def _identities_in_use(self) -> set[str]:
        """The Python environments of what serves, may serve again, or is being run."""
        wanted: list[tuple[PythonPlan, Digest | None, str]] = []
        environments = [read_state(row, Environment) for row in self._store.rows(Kind.ENVIRONMENT)]
        good = good_revisions(self._store, [environment.key for environment in environments])
        for environment in environments:
            revisions = (environment.stable, environment.candidate, environment.previous, *good[environment.key])
            wanted += [
                (revision.python, revision.lock, serving_purpose(revision.format))
                for revision in revisions
                if revision is not None
            ]
        for row in self._store.rows(Kind.RUN, phases=(Phase.QUEUED, Phase.RUNNING)):
            run = read_state(row, Run)
            wanted += [(run.plan.python, run.lock, purpose) for purpose in run.plan.purposes]
            beside = run.baseline
            wanted += [(beside.python, beside.lock, serving_purpose(beside.format))] if beside is not None else []
        return {identity for one in wanted if (identity := self._identity(*one)) is not None}

    def _identity(self, python: PythonPlan, lock: Digest | None, purpose: str) -> str | None:
        """The identity of one environment; None for what could not be built any more."""
        if lock is None:
            return None
        try:
            files = {path: self._blobs.read(digest) for path, digest in self._blobs.files(lock).items()}
            return self._environments.identify(python, files, purpose)
        except (Refused, ArtifactFault):
            return None


def digests_in(rows: Iterable[Row]) -> set[Digest]:
    """Every digest that is written anywhere in the rows."""
    return {digest for row in rows for digest in _digests(canonical(row.state))}


def _digests(text: bytes) -> set[Digest]:
    return {Digest(found) for found in DIGEST.findall(text.decode())}
