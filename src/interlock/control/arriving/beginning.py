"""Runs as they begin, not saved yet."""

from __future__ import annotations

from interlock.control.arriving.planning import Planned, Planning, problems_of
from interlock.control.arriving.seen import Look
from interlock.control.reusing.production import find_production
from interlock.control.running.seeing import SERVER
from interlock.errors import Refused
from interlock.pipeline.gates.guards import (
    AS_IN_PRODUCTION,
    data_guards_of,
    guards_of,
    model_guards_of,
    tell_files,
    tell_guards,
)
from interlock.pipeline.plan import Plan
from interlock.ports import Git, Store
from interlock.run import run as runs
from interlock.run.requests import refuse
from interlock.run.run import Run
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Kind


class Beginning:
    """Makes runs of commits."""

    def __init__(self, store: Store, git: Git, planning: Planning) -> None:
        self._store = store
        self._git = git
        self._planning = planning

    def plans(self, look: Look, commit: Commit) -> dict[str, Planned | Refused]:
        """By project the plan of the commit, or why there is none; each commit is planned once in a look."""
        if commit.sha not in look.plans:
            look.plans[commit.sha] = self._planning.plans(commit)
        return look.plans[commit.sha]

    def changed_paths(self, look: Look, old: str, new: str, *, since_fork: bool = False) -> tuple[str, ...] | None:
        """The paths that differ, as git answers them; None, which stands for all, where they are too many to list."""
        try:
            return self._git.changed_paths(look.watched.git_directory, old, new, since_fork=since_fork)
        except Refused:
            return None

    def begin(
        self,
        commit: Commit,
        occasion: Occasion,
        planned: Planned,
        *,
        driver: str = SERVER,
        is_trusted: bool = False,
        needs_approval: bool = False,
        number: int | None = None,
    ) -> Run:
        """A run of a plan, with the next number unless one is given."""
        begun = runs.begin(
            self._store.number(Kind.RUN) if number is None else number,
            commit,
            occasion,
            planned.plan,
            planned.plan_digest,
            driver=driver,
            is_trusted=is_trusted,
            needs_approval=needs_approval,
        )
        begun = begun.model_copy(update={"lock": planned.lock})
        return self._guarded(begun) if is_trusted and driver == SERVER else begun

    def _guarded(self, run: Run) -> Run:
        """The run, judged by the gates and checks of production's run too, with a warning for each that changed."""
        there = find_production(self._store, run.plan.model.name) if run.plan.model else None
        if there is None or there[0].repository != run.commit.repository:
            return run
        before, commit = there[1].plan, there[1].commit
        files = tell_files(run.plan, self._changed_since(run.commit, commit), AS_IN_PRODUCTION)
        messages = (*tell_guards(run.plan, before), *files)
        told = tuple(Problem(message=message, is_warning=True) for message in messages)
        guards = {
            "guards": guards_of(run.plan, before),
            "data_guards": data_guards_of(run.plan, before),
            "model_guards": model_guards_of(run.plan, before),
        }
        return run.model_copy(update={**guards, "problems": told})

    def _changed_since(self, commit: Commit, before: Commit) -> tuple[str, ...]:
        """The paths that differ; none where they are too many to list."""
        try:
            return self._git.changed_paths(commit.git_directory, before.sha, commit.sha)
        except Refused:
            return ()

    def refuse(self, commit: Commit, occasion: Occasion, project: str, refused: Refused, *, is_trusted: bool) -> Run:
        """The run of a pipeline file that cannot be planned."""
        number, problems = self._store.number(Kind.RUN), problems_of(refused)
        run = refuse(number, commit, occasion, problems, driver=SERVER, is_trusted=is_trusted)
        return run.model_copy(update={"plan": Plan(project=project)})
