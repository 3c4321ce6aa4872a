"""Branches and tags that moved, and what the default branch says of schedules and data."""

from __future__ import annotations

from interlock.control.arriving.beginning import Beginning
from interlock.control.arriving.planning import Planned
from interlock.control.arriving.seen import UNREADABLE, Clock, Look, short
from interlock.errors import NotFound, Refused
from interlock.pipeline.plan import Plan
from interlock.ports import Git
from interlock.run.run import Run
from interlock.source.commit import Occasion, branch_of
from interlock.source.selection import is_wanted
from interlock.source.trust import is_trusted


class Branches:
    """Begins runs of branches and tags. One that cannot be read holds up no other: it is tried again."""

    def __init__(self, git: Git, beginning: Beginning) -> None:
        self._git = git
        self._beginning = beginning

    def look_at(self, look: Look, ref: str) -> None:
        """Begins the runs of a ref that moved, and tells of those that are not."""
        sha = look.refs[ref]
        try:
            begun, told = self._begin(look, ref, sha)
        except NotFound:
            return  # gone since the refs were read: the next look sees that
        except UNREADABLE as fault:
            look.unread[ref] = sha
            if look.before.unread.get(ref) != sha:
                look.told.append(f"{short(ref)} cannot be read: {fault}")
            return
        look.begun += begun
        look.told.append(f"{short(ref)} {sha[:10]}: {told or 'no pipeline file'}")

    def _begin(self, look: Look, ref: str, sha: str) -> tuple[list[Run], str]:
        watched, old = look.watched, look.before.refs.get(ref)
        commit = self._git.commit(watched.name, watched.git_directory, ref, sha)
        occasion = Occasion(kind="push" if branch_of(ref) else "tag", detail=str(look.version))
        trusted = is_trusted(ref, watched)
        begun: list[Run] = []
        told: list[str] = []
        for project, planned in self._beginning.plans(look, commit).items():
            if isinstance(planned, Refused):
                if trusted:
                    begun.append(self._beginning.refuse(commit, occasion, project, planned, is_trusted=True))
                told.append(f"run {begun[-1].number} is refused" if trusted else f"not run: {planned.problem}")
                continue
            triggers = planned.plan.triggers
            paths = None
            if old is not None and triggers.paths:
                paths = self._beginning.changed_paths(look, old, sha)
            wanted = is_wanted(triggers, occasion.kind, ref, paths, project=project, message=commit.message)
            if wanted:
                begun.append(self._beginning.begin(commit, occasion, planned, is_trusted=trusted))
            told.append(f"run {begun[-1].number}" if wanted else f"not run: {wanted.because}")
        return begun, ", ".join(told)

    def clocks(self, look: Look) -> dict[str, Clock] | None:
        """The clocks of the trusted default branch as it is now; those that were there before go on."""
        ref, before = f"refs/heads/{look.watched.default_branch}", look.before.clocks
        if ref not in look.refs or not is_trusted(ref, look.watched):
            return {}
        if ref in look.unread or (before is not None and ref not in look.moved):
            return before
        try:
            commit = self._git.commit(look.watched.name, look.watched.git_directory, ref, look.refs[ref])
            plans = self._beginning.plans(look, commit)
        except UNREADABLE:
            return before
        return {
            project: _wound(planned.plan, (before or {}).get(project, Clock()))
            for project, planned in plans.items()
            if isinstance(planned, Planned) and (planned.plan.triggers.schedule or planned.plan.triggers.data)
        }


def _wound(plan: Plan, before: Clock) -> Clock:
    """The clock of a plan: what it has of the one before goes on, what is new is not known yet."""
    triggers = plan.triggers
    is_same = (triggers.schedule, triggers.time_zone) == (before.schedule, before.time_zone)
    return Clock(
        schedule=triggers.schedule,
        time_zone=triggers.time_zone,
        since=before.since if is_same else None,
        data=triggers.data,
        seen={place: seen for place, seen in before.seen.items() if place in triggers.data},
    )
