"""Pull requests: their runs are judged by the branch they go into, and those from outside are kept apart."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.control.arriving.beginning import Beginning
from interlock.control.arriving.listing import Listing, ref_of
from interlock.control.arriving.planning import Planned
from interlock.control.arriving.seen import MOST_PULLS, UNREADABLE, Look
from interlock.control.rows import load_state, read_state, write_state
from interlock.errors import NotFound, Refused
from interlock.pipeline.gates.guards import tell_files
from interlock.pipeline.plan import Plan
from interlock.pipeline.pull_requests import AS_BASE, judged_by, trim
from interlock.ports import Git, Store
from interlock.run.advance import stop
from interlock.run.run import Run
from interlock.source.commit import Commit, Occasion, branch_of
from interlock.source.notice import Notice
from interlock.source.repository import PullRequest, Watched
from interlock.source.selection import is_wanted
from interlock.vocabulary import Kind, Phase, Write


class PullRequests:
    """Begins runs of pull requests: one for each commit and each branch that it goes into."""

    def __init__(self, store: Store, git: Git, beginning: Beginning, listing: Listing) -> None:
        self._store = store
        self._git = git
        self._beginning = beginning
        self._listing = listing

    def concerned(self, look: Look, notices: Sequence[Notice]) -> list[PullRequest]:
        """Those that notices tell of, as the last of each does, and open ones whose commits may have moved.

        A look that no notice caused finds those that a lost notice would have told of.
        """
        rows = self._store.rows(Kind.PULL_REQUEST, repository=look.watched.name, newest=MOST_PULLS)
        known = {pull.number: pull for pull in (read_state(row, PullRequest) for row in rows)}
        moved = {branch_of(ref) for ref in look.moved}
        asked = [pull for pull in known.values() if pull.is_open and not pull.is_fork and pull.head_branch in moved]
        asked += [] if notices else self._listing.news(look, known)
        asked += [notice.pull_request for notice in notices if notice.pull_request is not None]
        return list({pull.number: pull for pull in asked}.values())

    def look_at(self, look: Look, told_of: PullRequest) -> None:
        """Begins the runs of its commit, if that is another one than before. The row's ``head`` is what was asked."""
        watched = look.watched
        key, ref = f"{watched.name}/{told_of.number}", ref_of(watched, told_of.number)
        known, version = load_state(self._store, Kind.PULL_REQUEST, key, PullRequest)
        pull = told_of.model_copy(update={"head": known.head if known else ""})
        begun: list[Run] = []
        because = "closed"
        try:
            head = self._git.fetch(watched.url, watched.git_directory, ref) if pull.is_open else None
            if pull.is_open:
                because = f"the repository has no {ref}"
            if head is not None and known is not None and _is_the_same(known, pull, head):
                because = f"still at {head[:10]}"
            elif head is not None:
                at_head = pull.model_copy(update={"head": head})
                begun, because = self._begin(look, at_head, ref, version)
                pull = at_head
        except UNREADABLE as fault:
            because = f"cannot be read: {fault}"
        if pull == known:
            return
        look.begun += begun
        look.told.append(f"pull request {pull.number}: {because}")
        write = write_state(
            Kind.PULL_REQUEST,
            key,
            pull,
            expected=version,
            phase="open" if pull.is_open else "closed",
            because=because,
            repository=watched.name,
            ref=ref,
        )
        look.writes.append(write)
        if begun or not pull.is_open:
            look.writes += self._end_held(watched, ref, "the pull request moved on" if begun else "it was closed")

    def _begin(self, look: Look, pull: PullRequest, ref: str, version: int) -> tuple[list[Run], str]:
        watched, base_ref = look.watched, f"refs/heads/{pull.base}"
        if pull.is_fork and watched.forks == "refuse":
            return [], f"{pull.head[:10]} not run: the settings refuse pull requests from outside"
        if base_ref not in look.refs:
            raise NotFound(f"there is no branch {pull.base}", watched.name)
        base = self._git.commit(watched.name, watched.git_directory, base_ref, look.refs[base_ref])
        commit = self._git.commit(watched.name, watched.git_directory, ref, pull.head)
        occasion = Occasion(kind="pull_request", detail=f"{pull.number} {version}")
        judges = self._beginning.plans(look, base)
        paths = self._beginning.changed_paths(look, base.sha, commit.sha, since_fork=True)
        begun: list[Run] = []
        told: list[str] = []
        for project, planned in self._beginning.plans(look, commit).items():
            judge = judges.get(project)
            rules = judge if isinstance(judge, Planned) else planned
            if isinstance(rules, Refused):
                told.append(f"not run: {rules.problem}")
                continue
            triggers = rules.plan.triggers
            wanted = is_wanted(triggers, "pull_request", pull.base, paths, project=project, message=commit.message)
            if wanted:
                meant = _meant(planned, rules, pull, paths or ())
                begun.append(self._run(look, pull, commit, occasion, project, meant))
            told.append(f"run {begun[-1].number}" if wanted else f"not run: {wanted.because}")
        return begun, f"{pull.head[:10]}: {', '.join(told) or 'no pipeline file'}"

    def _run(
        self,
        look: Look,
        pull: PullRequest,
        commit: Commit,
        occasion: Occasion,
        project: str,
        planned: Planned | Refused,
    ) -> Run:
        if isinstance(planned, Refused):
            run = self._beginning.refuse(commit, occasion, project, planned, is_trusted=False)
        else:
            needs_approval = pull.is_fork and look.watched.forks == "approve"
            run = self._beginning.begin(commit, occasion, planned, needs_approval=needs_approval)
        scope = f"pull/{pull.number}@{look.watched.name}" if pull.is_fork else ""
        return run.model_copy(update={"pull_request": pull, "scope": scope})

    def _end_held(self, watched: Watched, ref: str, because: str) -> list[Write]:
        """The ends of runs that wait for an approval nobody will give any more."""
        writes: list[Write] = []
        for row in self._store.rows(Kind.RUN, phases=(Phase.HELD,), repository=watched.name, ref=ref):
            run = read_state(row, Run)
            if run.needs_approval:
                ended = stop(run, Phase.CANCELLED, because, because).state
                writes.append(
                    write_state(Kind.RUN, row.key, ended, expected=row.version, phase=ended.phase, because=because)
                )
        return writes


def _is_the_same(known: PullRequest, pull: PullRequest, head: str) -> bool:
    """Whether what ran runs no better now; one that was only found may turn out to be a member's."""
    is_better_known = known.is_found and not pull.is_fork
    return (known.head, known.base) == (head, pull.base) and not is_better_known


def _meant(planned: Planned | Refused, rules: Planned, pull: PullRequest, changed: Sequence[str]) -> Planned | Refused:
    """The plan as it is run for a pull request: judged by ``rules`` and no longer than those say. ``changed`` are the
    paths that it touches.
    """
    if isinstance(planned, Refused):
        return planned
    plan = planned.plan if planned is rules else judged_by(planned.plan, rules.plan)
    told = tell_files(plan, changed, AS_BASE)
    plan = plan.model_copy(update={"warnings": (*plan.warnings, *told)})
    wanted = plan.triggers.pull_request
    plan = trim(plan, wanted.until) if wanted and wanted.until else plan
    reach = _reach_of(plan) if pull.is_fork else ""
    if reach:
        return Refused(
            f"{reach}, and a pull request from outside may not",
            f"{plan.project}/interlock.yaml".lstrip("/"),
            "a member can push the commit to a branch of the repository",
        )
    return planned.changed_to(plan)


def _reach_of(plan: Plan) -> str:
    """What a plan uses beside its commit; ``""`` where it needs no more."""
    reaching_out = [stage.name for stage in plan.stages if stage.network]
    if reaching_out:
        return f"{', '.join(reaching_out)} may use the network"
    places = [place for stage in plan.stages for place in stage.sources.values()]
    return f"it uses data that no commit holds ({', '.join(places[:3])})" if places else ""
