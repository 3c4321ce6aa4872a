"""From a moved ref to a run. Pushes, polls and webhooks end here; what a ref is now is asked of the repository."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from interlock.control.arriving.beginning import Beginning
from interlock.control.arriving.branches import Branches
from interlock.control.arriving.listing import Listing
from interlock.control.arriving.planning import Planned, Planning
from interlock.control.arriving.pull_requests import PullRequests
from interlock.control.arriving.seen import MOST_REFS, Look, Repository, most_important, short
from interlock.control.rows import load_state, write_run, write_state
from interlock.control.running.lookups import Lookups
from interlock.errors import AlreadyExists, Refused, StaleWrite
from interlock.ports import Blobs, Environments, Forge, Git, Store
from interlock.run.run import Run
from interlock.source.commit import Commit, Occasion, branch_of
from interlock.source.notice import Notice
from interlock.source.repository import Watched
from interlock.source.trust import is_trusted
from interlock.vocabulary import Json, Kind

NO_FORGES: Mapping[str, Forge] = MappingProxyType({})
SWAPS = 5
"""Tries when somebody else moves the same row."""


class Intake:
    """Begins runs. Every look at a repository may be repeated, and done by many at once."""

    def __init__(
        self,
        store: Store,
        git: Git,
        blobs: Blobs,
        environments: Environments,
        lookups: Lookups,
        forges: Mapping[str, Forge] = NO_FORGES,
        gpus: int = 0,
    ) -> None:
        """``forges`` are those that can be asked for their pull requests, by repository."""
        self._store = store
        self._git = git
        self._planning = Planning(blobs, environments, lookups, gpus)
        self._beginning = Beginning(store, git, self._planning)
        self._branches = Branches(git, self._beginning)
        self._pull_requests = PullRequests(store, git, self._beginning, Listing(git, forges))
        self._guard = threading.Lock()
        self._turns: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def look(self, repository: Watched, notices: Sequence[Notice] = ()) -> list[Run]:
        """Begins the runs of all that moved since the last look; they and what the refs were are saved together.

        A notice only says what to ask for; without one pull requests are listed too. GitFault where the repository
        cannot be asked.
        """
        with self._guard:
            turn = self._turns[repository.name]
        with turn:  # threads of this process queue here: who comes second finds that nothing moved
            for _ in range(SWAPS):
                look = self._look_once(repository, notices)
                try:
                    if look.writes:
                        self._store.save(*look.writes)
                except (StaleWrite, AlreadyExists):
                    continue
                return look.begun
        raise StaleWrite(f"repository {repository.name} is moved by others all the time")

    def refs(self, repository: Watched) -> dict[str, str]:
        """Branches and tags to commit ids, as the repository has them now."""
        if repository.url is None:
            return self._git.refs(repository.git_directory)
        return self._git.follow(repository.url, repository.git_directory)

    def begin(
        self, repository: Watched, ref: str, sha: str, occasion: Occasion, project: str | None = None
    ) -> list[Run]:
        """Runs of a commit that somebody or something asked for, not saved yet: of one project, or of all it has.

        Refused where there is no pipeline file, or one that cannot be planned.
        """
        commit = self._git.commit(repository.name, repository.git_directory, ref, sha)
        projects = [name for name in self._planning.projects(commit) if project in (None, name)]
        if not projects:
            raise Refused(
                "there is no pipeline file", f"{short(ref)} of {repository.name}", "interlock init writes one"
            )
        plans = [self._planning.plan(commit, name, {}) for name in projects]
        trusted = is_trusted(ref, repository)
        return [self._beginning.begin(commit, occasion, plan, is_trusted=trusted) for plan in plans]

    def begin_local(
        self,
        commit: Commit,
        project: str,
        overrides: Mapping[str, Json],
        driver: str,
        now: float,
        *,
        has_secrets: bool = False,
    ) -> Run:
        """A run of a working tree; with secrets it is as one of a trusted ref. Refused, all problems at once, where its
        file cannot be planned.
        """
        planned = self.plan(commit, project, overrides)
        occasion = Occasion(kind="local", detail=f"{driver} {now}")
        run = self._beginning.begin(commit, occasion, planned, driver=driver, is_trusted=has_secrets)
        self._store.save(write_run(run))
        return run

    def plan(self, commit: Commit, project: str, overrides: Mapping[str, Json]) -> Planned:
        """The plan of one pipeline file of a commit. Refused, all problems at once."""
        return self._planning.plan(commit, project, overrides)

    def run_of(self, commit: Commit, planned: Planned) -> Run:
        """A run that is not stored, to ask what would happen."""
        return self._beginning.begin(commit, Occasion(kind="person"), planned, driver="nobody", number=0)

    def _look_once(self, watched: Watched, notices: Sequence[Notice]) -> Look:
        known, version = load_state(self._store, Kind.REPOSITORY, watched.name, Repository)
        refs = self.refs(watched)
        before = known or Repository(name=watched.name, git_directory=watched.git_directory)
        look = Look(
            watched=watched,
            before=before,
            version=version,
            refs=most_important(refs, watched),
            pulls=before.pulls,
            unlisted=before.unlisted,
        )
        named = {notice.ref for notice in notices}
        for ref in look.moved:
            is_news = known is not None or ref in named or (branch_of(ref) is not None and is_trusted(ref, watched))
            if is_news:  # at the first look other refs are only remembered
                self._branches.look_at(look, ref)
        for pull in self._pull_requests.concerned(look, notices):
            self._pull_requests.look_at(look, pull)
        look.told += [f"{short(ref)} was deleted" for ref in before.refs if ref not in refs]
        if len(refs) > len(look.refs):
            look.told.append(f"{len(refs) - len(look.refs)} refs are not watched: a repository has {MOST_REFS} at most")
        self._conclude(look)
        return look

    def _conclude(self, look: Look) -> None:
        """Adds to the writes what the repository is from now on, where that is something else, and the runs."""
        before = look.before
        kept = {ref: before.refs.get(ref) if ref in look.unread else sha for ref, sha in look.refs.items()}
        refs = {ref: sha for ref, sha in kept.items() if sha is not None}
        update = {"refs": refs, "unread": look.unread, "clocks": self._branches.clocks(look)}
        listed = {"pulls": look.pulls, "unlisted": look.unlisted}
        after = before.model_copy(update={**update, **listed, "git_directory": look.watched.git_directory})
        if look.version == 0 or after != before:
            look.writes.append(
                write_state(
                    Kind.REPOSITORY,
                    after.name,
                    after,
                    expected=look.version,
                    phase="watched",
                    because=look.because,
                    repository=after.name,
                )
            )
        look.writes += [write_run(run) for run in look.begun]
