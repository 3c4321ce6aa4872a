"""`interlock plan`, `run` and `reproduce`: a working tree, a commit or what was made of one, without a server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from interlock.access.dotenv import read_secrets
from interlock.app.folder import StateFolder
from interlock.app.parts import Parts, owner_of
from interlock.app.settings import database_of
from interlock.app.standing.leaving import leave_note
from interlock.control.bell import BUSY_SECONDS, Bell
from interlock.control.reusing.production import Against, compare_with_production
from interlock.control.rows import read_state, save_or_lose, write_state
from interlock.control.running.runs import SERVER
from interlock.errors import InterlockError, Refused, SigningFault
from interlock.later import Later
from interlock.pipeline.outside.sources import named_as_data
from interlock.pipeline.plan import Plan, PythonPlan, StagePlan
from interlock.pipeline.resolve import parse_overrides, python_of, read_pipeline
from interlock.pipeline.rules.reading import PipelineFile
from interlock.pipeline.trace import Lookup, Trace
from interlock.run.run import Run, ready_stages
from interlock.run.scheduling.estimate import Estimate
from interlock.run.stage import StageRequest
from interlock.source.commit import Commit
from interlock.system.processes import is_alive
from interlock.system.signatures import Moment
from interlock.vocabulary import Json, Kind, Phase

if TYPE_CHECKING:
    from interlock.control import reproducing
    from interlock.run.reproduction.comparison import Reproduction
else:
    reproducing = Later("interlock.control.reproducing")

LOCAL = "local:"


@dataclass(frozen=True)
class PlannedRun:
    """What would happen, and what it would take. A stage without a look-up depends on one that has to run first.

    ``against`` is what is in production, where that is known on this state folder.
    """

    plan: Plan
    commit: Commit
    stages: tuple[tuple[StagePlan, Lookup | None], ...]
    estimate: Estimate | None
    against: Against | None


class Unsigned:
    """Local runs register nothing, so nothing of theirs is signed."""

    def sign(self, folder: str) -> bytes:
        """Never: SigningFault."""
        raise SigningFault(f"a local run signs nothing: {folder}")

    def verify(self, folder: str, bundle: bytes) -> None:
        """Never: SigningFault."""
        raise SigningFault(f"a local run verifies nothing: {folder}, {len(bundle)} bytes")

    def attest(self, statement: dict[str, Json]) -> bytes:
        """Never: SigningFault."""
        raise SigningFault(f"a local run attests nothing: {statement.get('predicateType')}")

    def read(self, envelope: bytes) -> dict[str, Json]:
        """Never: SigningFault."""
        raise SigningFault(f"a local run reads no attestation: {len(envelope)} bytes")


class Local:
    """Plans and runs working trees on one state folder."""

    def __init__(self, state: Path, sandbox_kind: str = "namespace") -> None:
        self._bell = Bell()
        self._driver = f"{LOCAL}{owner_of(os.getpid())}"
        self._secrets: Mapping[str, str] = {}
        self._beside = ThreadPoolExecutor(2)  # for what other programs find out meanwhile
        self._parts = Parts.open(
            state,
            self._bell.ring,
            Unsigned(),
            database_of(StateFolder(state)),
            places=None,
            secrets_of=self._values,
            sandbox_kind=sandbox_kind,
            is_durable=False,
        )
        self._end_orphans()

    def plan(self, folder: Path, revision: str | None, overrides: Sequence[str]) -> PlannedRun:
        """What a run of the folder's working tree (or of a revision of its repository) would do, stage by stage."""
        commit = self._commit(folder, revision)
        planned = self._parts.intake.plan(commit, "", parse_overrides(overrides))
        run = self._parts.intake.run_of(commit, planned)
        stages: dict[str, Lookup | None] = {stage.name: None for stage in planned.plan.stages}
        while True:
            found = {stage.name: self._look_up(run, stage) for stage in ready_stages(run) if stages[stage.name] is None}
            if not found:
                break
            stages |= found
            reused = {
                name: run.stages[name].model_copy(
                    update={"phase": Phase.SUCCEEDED, "products": lookup.hit.products, "report": lookup.hit.report}
                )
                for name, lookup in found.items()
                if lookup.hit is not None
            }
            run = run.model_copy(update={"stages": {**run.stages, **reused}})
        in_order = tuple((stage, stages[stage.name]) for stage in planned.plan.stages)
        against = compare_with_production(self._parts.store, self._parts.lookups, run)
        known = {name: lookup for name, lookup in stages.items() if lookup is not None}
        estimate = self._parts.room.foresee(run, known)
        return PlannedRun(plan=planned.plan, commit=commit, stages=in_order, estimate=estimate, against=against)

    def run(
        self, folder: Path, overrides: Sequence[str], watch: Callable[[Run], None], secrets_from: Path | None = None
    ) -> Run:
        """Runs the working tree from checks to gates; ``watch`` hears of it whenever it moved. As it ended.

        ``secrets_from`` is a file with the values of the secrets that stages name; it is no part of what they see.
        """
        began = Moment.now()
        file = _pipeline_of(folder)
        self._beside.submit(self._find_python, folder, file)
        commit = self._snapshot(folder, file, secrets_from)
        changes = parse_overrides(overrides)
        has_secrets = secrets_from is not None
        if secrets_from is not None:
            plan = self._parts.intake.plan(commit, "", changes).plan
            names = [name for stage in plan.stages for name in stage.secrets]
            self._secrets = read_secrets(_text_of(secrets_from), names, str(secrets_from))
        begun = self._parts.intake.begin_local(commit, "", changes, self._driver, time.time(), has_secrets=has_secrets)
        include = sorted(file.declared_paths())
        conditions = self._beside.submit(self._parts.git.conditions, str(folder), include, commit)
        ended = self._drive(begun, watch)
        if self._parts.sandbox.is_namespace and not has_secrets:  # else what stages read elsewhere was not seen
            leave_note(self._parts, folder, conditions.result, {"overrides": overrides}, ended, began)
        return ended

    def lock(self, folder: Path) -> str:
        """Writes the lock that the folder's pipeline file names, or that it would use; answers what was written."""
        return self._parts.environments.lock(_python_of(folder, _pipeline_of(folder)), folder)

    def reproduce(self, name: str, watch: Callable[[Run], None], say: Callable[[str], None]) -> Reproduction:
        """Executes what made a model version (``flights/3``) or a run (``run/12``) again, and compares the products.

        ``watch`` hears of the run that does it whenever it moved, ``say`` of what is done to find out a cause.
        """
        parts = self._parts
        again = reproducing.Reproducing(parts.store, parts.blobs, parts.executor, parts.lookups, self._driver)
        title, original = again.find(name)
        begun = again.begin(title, original)
        return again.conclude(title, original, self._drive(begun, watch), say)

    def _drive(self, begun: Run, watch: Callable[[Run], None]) -> Run:
        watch(begun)
        while True:
            moved = self._parts.runs.step(begun.key)  # as far as decisions alone bring it
            run = self._parts.runs.find(begun.key)
            if moved:
                watch(run)
            if run.phase.is_final:
                return run
            self._bell.wait(BUSY_SECONDS)

    def close(self) -> None:
        """Ends what runs and closes all parts."""
        self._beside.shutdown()
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look_up(self, run: Run, stage: StagePlan) -> Lookup:
        """As for a run; what lives outside git is looked at too, and counts as reused where nothing is to be read."""
        found = self._parts.lookups.look_up(run, stage, None)
        if not stage.sources:
            return found
        request = StageRequest(
            attempt=f"0/{stage.name}/0",
            stage=stage,
            commit=run.commit,
            project=run.plan.project,
            python=run.plan.python,
            data_of=run.commit.repository,
        )
        products, because = self._parts.datasets.recall(request)
        if products.keys() != stage.sources.keys():
            return found.model_copy(update={"because": because})
        known = Trace(
            inputs=self._parts.lookups.inputs_of(run, stage, None),
            reads={},
            listings={},
            products=products,
            run=run.key,
            attempt=request.attempt,
            seconds=0.0,
            made=0.0,
        )
        return found.model_copy(update={"hit": known, "because": because, "differences": ()})

    def _values(self, _secrets_of: str, names: Sequence[str]) -> Mapping[str, str]:
        return {name: self._secrets[name] for name in names}

    def _commit(self, folder: Path, revision: str | None) -> Commit:
        place = str(folder.resolve())
        if revision is not None:
            found = self._parts.git.commit(folder.resolve().name, place, revision, revision)
            return found.model_copy(update={"working_tree": place})
        return self._snapshot(folder, _pipeline_of(folder), None)

    def _snapshot(self, folder: Path, file: PipelineFile, secrets_from: Path | None) -> Commit:
        place = str(folder.resolve())
        secret = [os.path.relpath(secrets_from.resolve(), place)] if secrets_from is not None else []
        # what .gitignore names is an input all the same: small files as part of the tree, data beside it
        data = named_as_data(file.spec)
        return self._parts.git.snapshot(place, sorted(file.declared_paths()), data=data, without=secret)

    def _find_python(self, folder: Path, file: PipelineFile) -> None:
        """Uv looks for it while git takes the snapshot; the plan asks again, and then hears of what is wrong."""
        with suppress(InterlockError, OSError):
            self._parts.environments.version(_python_of(folder, file))

    def _end_orphans(self) -> None:
        """Runs whose command was killed end here, with the reason: nobody else would move them."""
        for row in self._parts.store.rows(Kind.RUN, phases=(Phase.QUEUED, Phase.RUNNING)):
            run = read_state(row, Run)
            if run.driver == SERVER or is_alive(run.driver.removeprefix(LOCAL)):
                continue
            because = "its command was ended before it was done"
            ended = run.model_copy(update={"phase": Phase.CANCELLED, "because": because})
            write = write_state(Kind.RUN, row.key, ended, expected=row.version, phase=Phase.CANCELLED, because=because)
            save_or_lose(self._parts.store, write)  # another command may end it at the same moment


def _pipeline_of(folder: Path) -> PipelineFile:
    path = folder / "interlock.yaml"
    if not path.exists():
        raise Refused("there is no pipeline file", str(path), "interlock init writes one")
    return read_pipeline(path.read_bytes(), "interlock.yaml")


def _python_of(folder: Path, file: PipelineFile) -> PythonPlan:
    return python_of(file.spec, {path.name for path in folder.iterdir() if path.is_file()})


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise Refused(f"it cannot be read: {problem}", str(file), "name a file of NAME=value lines") from problem
