"""`interlock plan`, `run` and `reproduce`: a working tree, a commit or what was made of one, without a server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from interlock.app.folder import StateFolder
from interlock.app.parts import Parts, owner_of
from interlock.app.reading import database_of
from interlock.app.standing.leaving import leave_note
from interlock.control.comparing.production import Against, compare_with_production
from interlock.control.comparing.reproducing import Reproducing
from interlock.control.loop import BUSY_SECONDS, Bell
from interlock.control.rows import read_state, save_or_lose, write_state
from interlock.control.running.runs import SERVER
from interlock.errors import Refused, SigningFault
from interlock.pipeline.plan import Plan, StagePlan
from interlock.pipeline.resolve import parse_overrides, python_of, read_pipeline
from interlock.pipeline.rules.reading import PipelineFile
from interlock.pipeline.trace import Lookup
from interlock.run.reproduction.comparison import Reproduction
from interlock.run.run import Run, ready_stages
from interlock.run.scheduling.estimate import Estimate
from interlock.source.commit import Commit
from interlock.system.processes import is_alive
from interlock.system.signatures import Moment
from interlock.vocabulary import Json, Kind, Phase

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


class Local:
    """Plans and runs working trees on one state folder."""

    def __init__(self, state: Path, sandbox_kind: str = "namespace") -> None:
        self._bell = Bell()
        self._driver = f"{LOCAL}{owner_of(os.getpid())}"
        database = database_of(StateFolder(state))
        self._parts = Parts.open(
            state, self._bell.ring, Unsigned(), database, sandbox_kind=sandbox_kind, is_durable=False
        )
        self._end_orphans()

    def plan(self, folder: Path, revision: str | None, overrides: Sequence[str]) -> PlannedRun:
        """What a run of the folder's working tree (or of a revision of its repository) would do, stage by stage."""
        commit = self._commit(folder, revision)
        planned = self._parts.intake.plan(commit, "", parse_overrides(overrides))
        run = self._parts.intake.run_of(commit, planned)
        stages: dict[str, Lookup | None] = {stage.name: None for stage in planned.plan.stages}
        while True:
            found = {
                stage.name: self._parts.lookups.look_up(run, stage, None)
                for stage in ready_stages(run)
                if stages[stage.name] is None
            }
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

    def run(self, folder: Path, overrides: Sequence[str], watch: Callable[[Run], None]) -> Run:
        """Runs the working tree from checks to gates; ``watch`` hears of it whenever it moved. As it ended."""
        began = Moment.now()
        include = _data_of(folder)
        commit = self._parts.git.snapshot(str(folder.resolve()), include)
        begun = self._parts.intake.begin_local(commit, "", parse_overrides(overrides), self._driver, time.time())
        ended = self._drive(begun, watch)
        if self._parts.sandbox.is_namespace:  # else what stages read elsewhere was not seen
            leave_note(self._parts, folder, include, {"overrides": overrides}, ended, began)
        return ended

    def lock(self, folder: Path) -> str:
        """Writes the lock that the folder's pipeline file names, or that it would use; answers what was written."""
        spec = _pipeline_of(folder).spec
        there = {path.name for path in folder.iterdir() if path.is_file()}
        return self._parts.environments.lock(python_of(spec, there), folder)

    def reproduce(self, name: str, watch: Callable[[Run], None], say: Callable[[str], None]) -> Reproduction:
        """Executes what made a model version (``flights/3``) or a run (``run/12``) again, and compares the products.

        ``watch`` hears of the run that does it whenever it moved, ``say`` of what is done to find out a cause.
        """
        parts = self._parts
        reproducing = Reproducing(parts.store, parts.blobs, parts.executor, parts.lookups, self._driver)
        title, original = reproducing.find(name)
        begun = reproducing.begin(title, original)
        return reproducing.conclude(title, original, self._drive(begun, watch), say)

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
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _commit(self, folder: Path, revision: str | None) -> Commit:
        if revision is not None:
            return self._parts.git.commit(folder.resolve().name, str(folder.resolve()), revision, revision)
        return self._parts.git.snapshot(str(folder.resolve()), _data_of(folder))

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


def _data_of(folder: Path) -> list[str]:
    """The paths that the pipeline file declares: data that .gitignore names is an input all the same."""
    return sorted(_pipeline_of(folder).declared_paths())
