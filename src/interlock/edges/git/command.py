"""The port ``Git`` by the git program."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from pathlib import Path

from interlock.edges.git.conditions import Conditions, find_conditions
from interlock.edges.git.export import write_files
from interlock.edges.git.mirrors import Mirrors, is_name_of_ref
from interlock.edges.git.objects import (
    SmallContents,
    find_commits,
    read_changes,
    read_commit,
    read_contents,
    read_listing,
    read_refs,
    read_tree,
)
from interlock.edges.git.remotes import PATIENCE_SECONDS, PROTOCOLS, Credentials, Remotes
from interlock.edges.git.reverts import GitReverts
from interlock.edges.git.snapshots import Snapshots
from interlock.errors import GitFault, NotFound, Refused
from interlock.source.commit import Commit, Tree

FILE_BYTES = 256 << 20
"""The largest file whose content is read as a whole."""

FEW_FILES, LITTLE_BYTES = 1000, 1 << 20
"""A tree of at most so much is read as a whole when something of it is: what plans it and what runs it ask in turn."""
TREES_KEPT = 4
"""Trees that were asked for last are kept: an attempt asks for that of its commit several times."""


class CommandGit:
    """Repositories as git's objects hold them. Only mirrors are ever written to, but by ``reverts``.

    ``protocols`` are those by which remotes may be followed, of https, http, ssh, git and file; ``credentials`` answers
    the value of the HTTP header ``Authorization`` for a URL; a remote that says nothing for ``patience`` seconds is
    given up.
    """

    def __init__(
        self,
        state: str | Path,
        *,
        protocols: Collection[str] = PROTOCOLS,
        credentials: Credentials = lambda _url: None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """``state`` is the folder in which the trees of snapshots are kept."""
        self._snapshots = Snapshots(Path(state))
        self._small = SmallContents()
        self._mirrors = Mirrors(Remotes(protocols, credentials, patience))
        self.reverts = GitReverts(self._mirrors)
        self._guard = threading.Lock()
        self._trees: dict[tuple[str, str], Tree] = {}

    def refs(self, git_directory: str) -> dict[str, str]:
        """Full names of branches and tags to commit ids, as the repository has them now.

        A tag of something else than a commit is left out, and so is a name that is not UTF-8.
        """
        return read_refs(git_directory)

    def follow(self, url: str, git_directory: str) -> dict[str, str]:
        """Brings the mirror to the remote's branches and tags, made if need be, and answers them.

        GitFault with git's words where the remote does not answer, Refused for an address that is not allowed.
        """
        try:
            self._mirrors.follow(url, git_directory)
        except OSError as problem:
            raise GitFault(f"the mirror {git_directory} could not be written: {problem}") from problem
        return read_refs(git_directory)

    def fetch(self, url: str | None, git_directory: str, ref: str) -> str | None:
        """The commit that the remote's ``ref`` means now, its objects in the mirror; None where there is no such ref.

        Without a URL the ref is the directory's own.
        """
        if not is_name_of_ref(ref):
            return None
        if url is None:
            return find_commits(git_directory, [ref])[0]
        try:
            return self._mirrors.fetch(url, git_directory, ref)
        except OSError as problem:
            raise GitFault(f"the mirror {git_directory} could not be written: {problem}") from problem

    def listing(self, url: str | None, git_directory: str, pattern: str) -> dict[str, str]:
        """The remote's refs of a pattern to the ids that they have now; nothing is fetched.

        Without a URL they are the directory's own.
        """
        if url is None:
            return read_listing(git_directory, pattern)
        try:
            return self._mirrors.listing(url, git_directory, pattern)
        except OSError as problem:
            raise GitFault(f"the mirror {git_directory} could not be written: {problem}") from problem

    def changed_paths(self, git_directory: str, old: str, new: str, *, since_fork: bool = False) -> tuple[str, ...]:
        """The paths that differ between two commits; ``since_fork``: between their merge base and ``new``.

        An ``old`` that is not there, or shares no history where that is asked: every path of ``new``.
        """
        return read_changes(git_directory, old, new, since_fork)

    def commit(self, repository: str, git_directory: str, ref: str, revision: str = "") -> Commit:
        """Resolves ``revision`` (or the ref itself). NotFound where there is none."""
        name = revision or ref
        found = read_commit(git_directory, name)
        if found is None:
            raise NotFound(f"there is no commit {name!r}", where=repository, remedy="push it first")
        return Commit(
            repository=repository,
            git_directory=git_directory,
            ref=ref,
            sha=found.sha,
            tree=found.tree,
            subject=found.subject,
            message=found.message,
            author=found.author,
        )

    def tree(self, commit: Commit) -> Tree:
        """Every file of the commit; a symbolic link is an entry of mode 120000, a submodule none."""
        place = (commit.git_directory, commit.tree)
        tree = self._trees.get(place)
        if tree is None:
            tree = read_tree(*place)
            with self._guard:
                if len(self._trees) >= TREES_KEPT:
                    self._trees.pop(next(iter(self._trees)))
                self._trees[place] = tree
        return tree

    def read(self, commit: Commit, paths: Sequence[str]) -> dict[str, bytes]:
        """Contents by path; a path that is not there is left out. A symbolic link's content is where it points.

        Refused for a file of more than 256 MiB.
        """
        tree = self.tree(commit)
        wanted = [path for path in paths if path in tree]
        for path in wanted:
            if tree[path].size > FILE_BYTES:
                problem = f"the file has {tree[path].size >> 20} MiB; at most {FILE_BYTES >> 20} are read as a whole"
                raise Refused(problem, path, "keep large data outside of the repository")
        is_little = sum(entry.size for entry in tree.values()) <= LITTLE_BYTES and len(tree) <= FEW_FILES
        beside = [entry.blob for entry in tree.values()] if is_little else []
        return read_contents(commit.git_directory, {path: tree[path].blob for path in wanted}, self._small, beside)

    def snapshot(
        self, folder: str, include: Sequence[str] = (), *, data: Sequence[str] = (), without: Sequence[str] = ()
    ) -> Commit:
        """The working tree at ``folder`` as it is now, uncommitted changes included, as a commit-like value."""
        path = Path(folder).resolve()
        taken = self._snapshots.take(path, include, data, without)
        return Commit(
            repository=path.name,
            git_directory=str(taken.repository),
            ref="worktree",
            sha=taken.tree,
            tree=taken.tree,
            working_tree=str(path),
            beside=taken.beside,
        )

    def conditions(self, folder: str, include: Sequence[str], commit: Commit) -> Conditions | None:
        """What has to stay as it is for a snapshot of ``folder`` to give this commit again; None where nobody can tell.

        ``include`` is what the snapshot was asked for. OSError where a folder cannot be listed.
        """
        private, files = Path(commit.git_directory), self.tree(commit)
        return find_conditions(Path(folder).resolve(), private, include, files, private.parent)

    def export(self, commit: Commit, target: str, project: str = "", only: Collection[str] | None = None) -> None:
        """Writes the files below ``project`` into ``target`` as private copies, or ``only`` these of them.

        NotFound where nothing is below ``project``; Refused for a symbolic link that leaves it; GitFault where
        ``target`` cannot be written or holds one of the files already.
        """
        inside = f"{project.strip('/')}/" if project.strip("/") else ""
        tree = self.tree(commit)
        chosen = {path.removeprefix(inside): entry for path, entry in tree.items() if path.startswith(inside)}
        if inside and not chosen:
            raise NotFound("the commit has no such folder", where=project)
        try:
            Path(target).mkdir(parents=True, exist_ok=True)
            wanted = chosen if only is None else {path: entry for path, entry in chosen.items() if path in only}
            write_files(commit.git_directory, wanted, Path(target), self._small)
        except OSError as problem:
            raise GitFault(f"the commit could not be written to {target}: {problem}") from problem
