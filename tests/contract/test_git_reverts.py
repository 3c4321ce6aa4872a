"""Commits that take something back, and the branches they are published as: real repositories, read by real git."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from tests.contract.test_git import Clone

from interlock.edges.git import CommandGit
from interlock.errors import GitFault, Refused
from interlock.source.commit import Takeback

NOBODY = "0" * 40


@pytest.fixture
def git(tmp_path: Path) -> CommandGit:
    return CommandGit(tmp_path / "state", protocols=["file"])


def wanted(head: str, bad: str, good: str, project: str = "") -> Takeback:
    return Takeback(head, bad, good, project, "Revert it\n\nbecause of `this`\n", 1_800_000_000.5)


class History:
    """good, then bad in two commits, then somebody's later work in another file; ``models/a`` and ``models/b``."""

    def __init__(self, clone: Clone) -> None:
        self.clone = clone
        lines = "".join(f"{number}\n" for number in range(20))
        for folder in ("models/a", "models/b"):
            clone.write(f"{folder}/train.py", lines)
        clone.write("models/a/gone.py", "was here")
        self.good = clone.push("good")
        clone.write("models/a/train.py", lines.replace("3\n", "three\n", 1))
        clone.write("models/b/train.py", lines.replace("5\n", "five\n", 1))
        clone.push("half of it")
        clone.write("models/a/new.py", "new")
        (clone.folder / "models/a/gone.py").unlink()
        self.bad = clone.push("bad")
        clone.write("README", "later")
        self.head = clone.push("later")

    def file(self, commit: str, path: str) -> str:
        return bare(self.clone, "show", f"{commit}:{path}")

    def files(self, commit: str) -> list[str]:
        return bare(self.clone, "ls-tree", "-r", "--name-only", commit).split()


def bare(clone: Clone, *words: str) -> str:
    ended = subprocess.run(
        ["git", "--git-dir", clone.bare, *words], env=clone.environment, check=True, capture_output=True
    )
    return ended.stdout.decode().strip()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(Clone(tmp_path_factory.mktemp("history")))


def test_one_commit_takes_back_all_that_came_between_and_keeps_what_came_later(
    git: CommandGit, history: History
) -> None:
    before = bare(history.clone, "for-each-ref")
    made = git.reverts.take_back(history.clone.bare, wanted(history.head, history.bad, history.good))
    assert bare(history.clone, "rev-parse", f"{made}^") == history.head
    assert bare(history.clone, "diff", "--name-only", history.good, made) == "README"
    shown = bare(history.clone, "log", "-1", "--format=%an <%ae>|%cn|%at|%B", made)
    assert shown == "Interlock <interlock@noreply.invalid>|Interlock|1800000000|Revert it\n\nbecause of `this`"
    assert bare(history.clone, "for-each-ref") == before


def test_of_several_projects_only_the_one_that_was_rolled_back_is_taken_back(git: CommandGit, history: History) -> None:
    made = git.reverts.take_back(history.clone.bare, wanted(history.head, history.bad, history.good, "models/a"))
    assert history.file(made, "models/a/train.py") == history.file(history.good, "models/a/train.py")
    assert history.file(made, "models/b/train.py") == history.file(history.bad, "models/b/train.py")
    assert history.files(made) == ["README", "models/a/gone.py", "models/a/train.py", "models/b/train.py"]


def test_the_same_is_the_same_commit_however_often_it_is_made(git: CommandGit, history: History) -> None:
    asked = wanted(history.head, history.bad, history.good)
    assert git.reverts.take_back(history.clone.bare, asked) == git.reverts.take_back(history.clone.bare, asked)
    assert git.reverts.take_back(history.clone.bare, asked._replace(head=history.bad)) != git.reverts.take_back(
        history.clone.bare, asked
    )


def test_later_work_on_the_same_lines_is_a_conflict_that_names_the_files(git: CommandGit, history: History) -> None:
    history.clone.write("models/a/train.py", "all new\n")
    head = history.clone.push("meanwhile")
    with pytest.raises(Refused, match=r"later commits changed the same lines: models/a/train\.py \(take it back"):
        git.reverts.take_back(history.clone.bare, wanted(head, history.bad, history.good))


def test_what_cannot_be_taken_back_says_why(git: CommandGit, history: History) -> None:
    bare_path, good, bad, head = history.clone.bare, history.good, history.bad, history.head
    with pytest.raises(Refused, match="has no commit 0000000000 any more"):
        git.reverts.take_back(bare_path, wanted(head, bad, NOBODY))
    with pytest.raises(Refused, match=f"{bad[:10]} does not come before {good[:10]}"):
        git.reverts.take_back(bare_path, wanted(head, good, bad))
    with pytest.raises(Refused, match=f"{bad[:10]} is not in the branch any more"):
        git.reverts.take_back(bare_path, wanted(good, bad, good))
    done = git.reverts.take_back(bare_path, wanted(head, bad, good))
    with pytest.raises(Refused, match="holds nothing of it any more"):
        git.reverts.take_back(bare_path, wanted(done, bad, good))


@pytest.mark.parametrize("is_remote", [True, False])
def test_a_branch_is_published_once_and_never_moved(
    git: CommandGit, history: History, tmp_path: Path, is_remote: bool
) -> None:
    clone, ref = history.clone, f"refs/heads/interlock/revert-rollout-{int(is_remote)}"
    mirror = str(tmp_path / "mirror.git") if is_remote else clone.bare
    url = f"file://{clone.bare}" if is_remote else None
    assert git.fetch(url, mirror, "refs/heads/main") is not None
    made = git.reverts.take_back(mirror, wanted(history.head, history.bad, history.good))
    before = bare(clone, "rev-parse", "main")
    git.reverts.publish(url, mirror, made, ref)
    assert git.listing(url, mirror, ref) == {ref: made}
    onward = git.reverts.take_back(mirror, wanted(made, history.head, history.bad))
    for other in (onward, history.head):  # the first would only move it forward
        with pytest.raises(GitFault):
            git.reverts.publish(url, mirror, other, ref)
    assert git.listing(url, mirror, ref) == {ref: made}
    assert bare(clone, "rev-parse", "main") == before


def test_a_group_that_shares_the_repository_can_write_beside_it(git: CommandGit, history: History) -> None:
    objects = Path(history.clone.bare, "objects")
    before, made = set(objects.iterdir()), set[Path]()
    bare(history.clone, "config", "core.sharedRepository", "group")
    try:
        for moment in range(1, 100):  # the first one's folder may be there already
            asked = wanted(history.head, history.bad, history.good)._replace(moment=moment)
            git.reverts.take_back(history.clone.bare, asked)
            made = set(objects.iterdir()) - before
            if made:
                break
    finally:
        bare(history.clone, "config", "--unset", "core.sharedRepository")
    assert made
    assert all(folder.stat().st_mode & stat.S_IWGRP for folder in made)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_nothing_is_written_into_the_repository_of_another_user(git: CommandGit, history: History) -> None:
    objects = Path(history.clone.bare, "objects")
    os.chown(objects, 65534, -1)
    try:
        with pytest.raises(Refused, match="belongs to another user"):
            git.reverts.take_back(history.clone.bare, wanted(history.head, history.bad, history.good))
    finally:
        os.chown(objects, 0, -1)


def test_no_program_that_a_repository_names_is_run(git: CommandGit, history: History, tmp_path: Path) -> None:
    """A merge driver and hooks of the repository's own would run as the server."""
    clone, witness = history.clone, tmp_path / "witness"
    clone.write("models/a/train.py", history.file(history.head, "models/a/train.py") + "\nmore at the end\n")
    head = clone.push("a change that has to be merged")
    bare(clone, "config", "merge.evil.driver", f"touch {witness}")
    Path(clone.bare, "info").mkdir(exist_ok=True)
    Path(clone.bare, "info", "attributes").write_text("* merge=evil\n")
    for name in ("reference-transaction", "post-receive", "pre-receive", "update"):
        hook = Path(clone.bare, "hooks", name)
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {witness}\n")
        hook.chmod(0o755)
    made = git.reverts.take_back(clone.bare, wanted(head, history.bad, history.good))
    git.reverts.publish(None, clone.bare, made, "refs/heads/interlock/revert-rollout-3")
    assert history.file(made, "models/a/train.py").splitlines()[3] == "3"
    assert not witness.exists()
