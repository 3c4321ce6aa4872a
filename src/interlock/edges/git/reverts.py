"""Commits that take something back, made of git's objects alone: nothing is checked out, and no ref is moved.

On top of the bad commit one is made that has the good one's files; that is merged onto the branch as it is now, so that
what came since stays. All are among the repository's objects, but settings are our own: a repository's could name
programs that merge.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from interlock.edges.git import program
from interlock.edges.git.mirrors import Mirrors
from interlock.edges.git.objects import at, find_commits
from interlock.edges.git.program import readable, run_git
from interlock.errors import GitFault, Refused
from interlock.source.commit import Takeback

SIGNED = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Interlock"), ("EMAIL", "interlock@noreply.invalid"))
}
"""Who its commits are of; no forge takes the address for anybody's."""
BY_HAND = "take it back by hand"
MOST_TOLD = 5
"""Files in conflict that are named."""

Ask = Callable[..., bytes]


class GitReverts:
    """The port ``Reverts`` by the git program."""

    def __init__(self, mirrors: Mirrors) -> None:
        self._mirrors = mirrors

    def take_back(self, git_directory: str, wanted: Takeback) -> str:
        """The id of a new commit that takes something back; see the port."""
        try:
            return _make(git_directory, wanted)
        except OSError as problem:
            raise GitFault(f"nothing could be taken back in {git_directory}: {problem}") from problem

    def publish(self, url: str | None, git_directory: str, sha: str, ref: str) -> None:
        """The remote, or the directory itself, has the commit under a new ref; see the port."""
        if url is None:
            run_git([*at(git_directory), "update-ref", ref, sha, "0" * len(sha)])
            return
        try:
            self._mirrors.push(url, git_directory, sha, ref)
        except OSError as problem:
            raise GitFault(f"the mirror {git_directory} could not be written: {problem}") from problem


def _make(git_directory: str, wanted: Takeback) -> str:
    found = find_commits(git_directory, [wanted.head, wanted.bad, wanted.good])
    missing = next((name for name, sha in zip(wanted[:3], found, strict=True) if sha is None), None)
    if missing is not None:
        raise Refused(f"the repository has no commit {missing[:10]} any more", remedy=BY_HAND)
    with _workshop(git_directory, wanted) as ask:
        if not _is_ancestor(ask, wanted.bad, wanted.head):
            raise Refused(f"{wanted.bad[:10]} is not in the branch any more", remedy=BY_HAND)
        if not _is_ancestor(ask, wanted.good, wanted.bad):
            raise Refused(f"{wanted.good[:10]} does not come before {wanted.bad[:10]}", remedy=BY_HAND)
        restored = ask("commit-tree", _restored_tree(ask, wanted), "-p", wanted.bad, content=b"restored")
        tree = _merged(ask, wanted, restored.decode().strip())
        if tree == ask("rev-parse", f"{wanted.head}^{{tree}}").decode().strip():
            raise Refused("the branch holds nothing of it any more")
        return ask("commit-tree", tree, "-p", wanted.head, content=wanted.message.encode()).decode().strip()


@contextmanager
def _workshop(git_directory: str, wanted: Takeback) -> Iterator[Ask]:
    """Asks git about the repository's objects, in a repository of our own."""
    objects = run_git([*at(git_directory), "rev-parse", "--git-path", "objects"]).stdout.decode().strip()
    if Path(objects).stat().st_uid != os.geteuid():
        problem = f"{git_directory} belongs to another user, who could not write beside files of ours"
        raise Refused(problem, remedy="follow it at a url, or run the server as its owner")
    words = [*at(git_directory), "config", "--get", "core.sharedRepository"]
    shared = run_git(words, accepted=(0, 1)).stdout.decode().strip() or "umask"
    with tempfile.TemporaryDirectory(prefix="interlock-revert-") as folder:
        own, moment = f"{folder}/own.git", f"@{int(wanted.moment)} +0000"
        kind = "sha256" if len(wanted.head) == 64 else "sha1"
        made_as = [f"--object-format={kind}", f"--shared={shared}"]
        run_git(["init", "--bare", "--quiet", "--template=", *made_as, "--", own])
        more = {
            **SIGNED,
            "GIT_AUTHOR_DATE": moment,
            "GIT_COMMITTER_DATE": moment,
            "GIT_OBJECT_DIRECTORY": str(Path(objects).resolve()),
            "GIT_INDEX_FILE": f"{folder}/index",
        }

        def ask(*words: str, content: bytes = b"", accepted: Sequence[int] = (0,)) -> bytes:
            silence = program.READING_SECONDS
            arguments = ["--git-dir", own, *words]
            return run_git(arguments, content=content, more=more, accepted=accepted, silence=silence).stdout

        yield ask


def _is_ancestor(ask: Ask, earlier: str, later: str) -> bool:
    base = ask("merge-base", earlier, later, accepted=(0, 1)).decode().strip()
    return base == earlier


def _restored_tree(ask: Ask, wanted: Takeback) -> str:
    """The bad commit's files, those below the project as the good one has them."""
    if not wanted.project:
        return ask("rev-parse", f"{wanted.good}^{{tree}}").decode().strip()
    inside = f"{wanted.project}/".encode()
    files = [
        entry
        for commit, is_of_project in ((wanted.bad, False), (wanted.good, True))
        for entry in ask("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0")[:-1]
        if entry.partition(b"\t")[2].startswith(inside) == is_of_project
    ]
    ask("update-index", "-z", "--index-info", content=b"".join(entry + b"\0" for entry in files))
    return ask("write-tree").decode().strip()


def _merged(ask: Ask, wanted: Takeback, restored: str) -> str:
    """The tree of the branch with it taken back. Refused where later changes meet those that are taken back."""
    words = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", wanted.head, restored]
    tree, *conflicts = ask(*words, accepted=(0, 1)).split(b"\0")[:-1]
    if conflicts:
        named = ", ".join(readable(name) for name in conflicts[:MOST_TOLD])
        more = f" and {len(conflicts) - MOST_TOLD} more" if len(conflicts) > MOST_TOLD else ""
        raise Refused(f"later commits changed the same lines: {named}{more}", remedy=BY_HAND)
    return tree.decode()
