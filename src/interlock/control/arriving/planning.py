"""From a commit to plans: its pipeline files, each resolved with the files of its environment."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from interlock.control.running.lookups import Lookups
from interlock.errors import Refused, SeveralRefused
from interlock.pipeline.params import read_params
from interlock.pipeline.plan import Plan
from interlock.pipeline.resolve import plan_digest, read_pipeline, resolve
from interlock.ports import Blobs, Environments
from interlock.run.stage import Problem
from interlock.source.commit import Commit
from interlock.vocabulary import Digest, Json, Stored

PIPELINE_FILE = "interlock.yaml"


class Planned(Stored):
    """A plan with the files its environment is made of, kept as an artifact."""

    plan: Plan
    plan_digest: Digest
    lock: Digest

    def changed_to(self, plan: Plan) -> Planned:
        """The same with another plan, say one that ends earlier."""
        return self.model_copy(update={"plan": plan, "plan_digest": plan_digest(plan)})


class Planning:
    """Plans the pipeline files of commits, for a machine with so many graphics processors."""

    def __init__(self, blobs: Blobs, environments: Environments, lookups: Lookups, gpus: int) -> None:
        self._gpus = gpus
        self._blobs = blobs
        self._environments = environments
        self._lookups = lookups

    def projects(self, commit: Commit) -> list[str]:
        """The folders of the commit that hold a pipeline file. Refused where its files cannot be listed."""
        paths = self._lookups.project_paths(commit, "")
        return [posixpath.dirname(path) for path in paths if posixpath.basename(path) == PIPELINE_FILE]

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
            gpus=self._gpus,
            beside=commit.beside,
        )
        files = self._environments.lock_files(
            plan.python, lambda paths: self._lookups.read_project(commit, project, paths)
        )
        return Planned(plan=plan, plan_digest=plan_digest(plan), lock=self._blobs.put_files(files))

    def plans(self, commit: Commit) -> dict[str, Planned | Refused]:
        """By project its plan, or why it has none; a commit that cannot be listed counts as one refused file."""
        plans: dict[str, Planned | Refused] = {}
        try:
            projects = self.projects(commit)
        except Refused as refused:
            return {"": refused}
        for project in projects:
            try:
                plans[project] = self.plan(commit, project, {})
            except Refused as refused:
                plans[project] = refused
        return plans


def problems_of(refused: Refused) -> tuple[Problem, ...]:
    """What was refused as problems, each with its place."""
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
