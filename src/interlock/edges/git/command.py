"""The port ``Git`` by the git program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interlock.edges.git.export import write_files
from interlock.edges.git.objects import read_branches, read_commit, read_contents, read_tree
from interlock.edges.git.snapshots import Snapshots
from interlock.errors import GitFault, NotFound
from interlock.source.commit import Commit, Tree


class CommandGit:
    """Repositories as git's objects hold them; the repositories themselves are never written to."""

    def __init__(self, state: str | Path) -> None:
        """``state`` is the folder in which the trees of snapshots are kept."""
        self._snapshots = Snapshots(Path(state))

    def refs(self, git_directory: str) -> dict[str, str]:
        """Full branch names to commit ids, as the repository has them now."""
        return read_branches(git_directory)

    def commit(self, repository: str, git_directory: str, ref: str, revision: str = "") -> Commit:
        """Resolves ``revision`` (or the ref itself). NotFound where there is none."""
        name = revision or ref
        found = read_commit(git_directory, name)
        if found is None:
            raise NotFound(f"there is no commit {name!r}", where=repository, remedy="push it first")
        sha, tree, subject = found
        return Commit(repository=repository, git_directory=git_directory, ref=ref, sha=sha, tree=tree, subject=subject)

    def tree(self, commit: Commit) -> Tree:
        """Every file of the commit; a symbolic link is an entry of mode 120000, a submodule none."""
        return read_tree(commit.git_directory, commit.tree)

    def read(self, commit: Commit, paths: Sequence[str]) -> dict[str, bytes]:
        """Contents by path; a path that is not there is left out. A symbolic link's content is where it points."""
        tree = self.tree(commit)
        return read_contents(commit.git_directory, {path: tree[path].blob for path in paths if path in tree})

    def snapshot(self, folder: str, include: Sequence[str] = ()) -> Commit:
        """The working tree at ``folder`` as it is now, uncommitted changes included, as a commit-like value."""
        path = Path(folder).resolve()
        private, tree = self._snapshots.take(path, include)
        return Commit(repository=path.name, git_directory=str(private), ref="worktree", sha=tree, tree=tree)

    def export(self, commit: Commit, target: str, project: str = "") -> None:
        """Writes the files below ``project`` into ``target`` as private copies.

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
            write_files(commit.git_directory, chosen, Path(target))
        except OSError as problem:
            raise GitFault(f"the commit could not be written to {target}: {problem}") from problem
