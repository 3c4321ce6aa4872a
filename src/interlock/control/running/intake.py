"""From a moved ref to a run. A push, a poll and a hook all end here: the ref is resolved by asking the repository."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from interlock.control.rows import load_state, write_state
from interlock.control.running.lookups import Lookups
from interlock.errors import AlreadyExists, NotFound, Refused, SeveralRefused, StaleWrite
from interlock.pipeline.params import read_params
from interlock.pipeline.plan import Plan
from interlock.pipeline.resolve import plan_digest, read_pipeline, resolve
from interlock.ports import Blobs, Environments, Git, Store
from interlock.run import run as runs
from interlock.run.run import Run
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion, branch_of
from interlock.vocabulary import Digest, Json, Kind, Stored, Write

PIPELINE_FILE = "interlock.yaml"
SWAPS = 5
"""Tries when somebody else moves the same repository's row."""


class Repository(Stored):
    """A configured repository: its refs as they were when runs were last begun for them."""

    name: str
    git_directory: str
    refs: dict[str, str] = {}


class Planned(Stored):
    """A plan with the files its environment is made of, kept as an artifact."""

    plan: Plan
    plan_digest: Digest
    lock: Digest


class Intake:
    """Begins runs. ``trusted`` maps a repository's name to the branches that may deliver."""

    def __init__(
        self,
        store: Store,
        git: Git,
        blobs: Blobs,
        environments: Environments,
        lookups: Lookups,
    ) -> None:
        self._store = store
        self._git = git
        self._blobs = blobs
        self._environments = environments
        self._lookups = lookups

    def sync(self, name: str, git_directory: str, trusted: Sequence[str], driver: str) -> list[Run]:
        """Begins a run for each branch that moved since the last look; the refs and the runs are saved together."""
        for _ in range(SWAPS):
            known, version = load_state(self._store, Kind.REPOSITORY, name, Repository)
            refs = self._git.refs(git_directory)
            before = known.refs if known else {}
            if known is not None and refs == before:
                return []
            moved = {ref: sha for ref, sha in refs.items() if before.get(ref) != sha}
            occasion = Occasion(kind="push", detail=str(version))
            begun = [
                run
                for ref, sha in moved.items()
                for run in self._begin_all(name, git_directory, ref, sha, trusted, driver, occasion)
            ]
            after = Repository(name=name, git_directory=git_directory, refs=refs)
            because = f"{len(moved)} refs moved" if moved else "refs were deleted"
            writes = [
                write_state(Kind.REPOSITORY, name, after, expected=version, phase="watched", because=because),
                *(_run_write(run) for run in begun),
            ]
            try:
                self._store.save(*writes)
            except (StaleWrite, AlreadyExists):
                continue
            return begun
        raise StaleWrite(f"repository {name} is moved by others all the time")

    def begin_local(self, commit: Commit, project: str, overrides: Mapping[str, Json], driver: str, now: float) -> Run:
        """A run of a working tree. Refused (all problems at once) where its file cannot be planned."""
        planned = self.plan(commit, project, overrides)
        run = self._begin(commit, Occasion(kind="local", detail=f"{driver} {now}"), planned, driver, is_trusted=False)
        self._store.save(_run_write(run))
        return run

    def plan(self, commit: Commit, project: str, overrides: Mapping[str, Json]) -> Planned:
        """The plan of one pipeline file of a commit. Refused, all problems at once."""
        tree = self._lookups.project_paths(commit, project)
        contents = self._lookups.read_project(commit, project, [PIPELINE_FILE, "params.yaml"])
        where = posixpath.join(project, PIPELINE_FILE)
        if PIPELINE_FILE not in contents:
            raise Refused("there is no pipeline file", where, "interlock init writes one")
        file = read_pipeline(contents[PIPELINE_FILE], where)
        uses_params = overrides or any(stage.params for stage in file.spec.stages.values())
        params_file = contents.get("params.yaml", b"") if uses_params else b""
        params = read_params(params_file, posixpath.join(project, "params.yaml"))
        plan = resolve(
            file,
            project=project,
            paths=tree.keys(),
            params=params,
            overrides=overrides,
            repository=posixpath.basename(project) or commit.repository,
        )
        files = self._environments.lock_files(
            plan.python, lambda paths: self._lookups.read_project(commit, project, paths)
        )
        return Planned(plan=plan, plan_digest=plan_digest(plan), lock=self._blobs.put_files(files))

    def run_of(self, commit: Commit, planned: Planned) -> Run:
        """A run that is not stored, to ask what would happen."""
        return self._begin(commit, Occasion(kind="person"), planned, "nobody", is_trusted=False, number=0)

    def _begin_all(
        self, name: str, git_directory: str, ref: str, sha: str, trusted: Sequence[str], driver: str, occasion: Occasion
    ) -> list[Run]:
        branch = branch_of(ref)
        if branch is None:
            return []
        is_trusted = branch in trusted
        try:
            commit = self._git.commit(name, git_directory, ref, sha)
        except NotFound:
            return []  # gone since the refs were read: the next look sees that
        try:
            paths = [path for path in self._lookups.project_paths(commit, "") if _is_pipeline_file(path)]
        except Refused as refused:
            return [self._refuse(commit, occasion, "", refused, driver)] if is_trusted else []
        begun: list[Run] = []
        for project in map(posixpath.dirname, paths):
            try:
                planned = self.plan(commit, project, {})
            except Refused as refused:
                begun += [self._refuse(commit, occasion, project, refused, driver)] if is_trusted else []
                continue
            if branch in planned.plan.branches:
                begun.append(self._begin(commit, occasion, planned, driver, is_trusted=is_trusted))
        return begun

    def _refuse(self, commit: Commit, occasion: Occasion, project: str, refused: Refused, driver: str) -> Run:
        number, problems = self._store.number(Kind.RUN), _problems(refused)
        run = runs.refuse(number, commit, occasion, problems, driver=driver, is_trusted=True)
        return run.model_copy(update={"plan": Plan(project=project)})

    def _begin(
        self,
        commit: Commit,
        occasion: Occasion,
        planned: Planned,
        driver: str,
        *,
        is_trusted: bool,
        number: int | None = None,
    ) -> Run:
        begun = runs.begin(
            self._store.number(Kind.RUN) if number is None else number,
            commit,
            occasion,
            planned.plan,
            planned.plan_digest,
            driver=driver,
            is_trusted=is_trusted,
        )
        return begun.model_copy(update={"lock": planned.lock})


def _is_pipeline_file(path: str) -> bool:
    return posixpath.basename(path) == PIPELINE_FILE


def _run_write(run: Run) -> Write:
    occasion = f"{run.occasion.kind}:{run.occasion.detail}"
    identity = "|".join(
        (run.commit.repository, run.commit.ref, run.commit.sha, run.plan.project, run.plan_digest, occasion)
    )
    return write_state(Kind.RUN, run.key, run, expected=0, phase=run.phase, because=run.because, identity=identity)


def _problems(refused: Refused) -> tuple[Problem, ...]:
    refusals = refused.refusals if isinstance(refused, SeveralRefused) else (refused,)
    problems = []
    for refusal in refusals:
        path, _, rest = refusal.where.partition(":")
        line = rest.partition(":")[0]
        remedy = f" ({refusal.remedy})" if refusal.remedy else ""
        problems.append(
            Problem(message=f"{refusal.problem}{remedy}", path=path or None, line=int(line) if line.isdigit() else None)
        )
    return tuple(problems)
