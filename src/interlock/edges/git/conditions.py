"""What has to stay as it is for the next snapshot of a working folder to be the same as the last one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from interlock.edges.git.program import run_git
from interlock.edges.git.snapshots import has_repository_above, is_tracked, repositories_above, words_for

TOLD_BY_GIT = ("index", "config", "info/exclude", "HEAD")
"""Files of a repository that say which files of its working tree count."""
LEADING_ELSEWHERE = (b"include.", b"includeif.", b"core.excludesfile", b"core.worktree", b"extensions.worktreeconfig")
"""Settings by which still other files say so."""


class Conditions(NamedTuple):
    """Paths of files and folders that are there or are not: ``within`` relative to the folder, ``elsewhere`` whole."""

    within: frozenset[str]
    elsewhere: frozenset[str]


def find_conditions(
    folder: Path, private: Path, include: Sequence[str], files: Iterable[str], state: Path
) -> Conditions | None:
    """The conditions of a snapshot of ``folder`` that holds ``files``, some of them because ``include`` names them.

    None where they cannot be told: there are repositories within it, or a repository's settings lead to other files.
    ``state``, where private repositories are, is never part of a snapshot.
    """
    is_own = is_tracked(folder)
    elsewhere = _rules_above(folder)
    way = [] if is_own else words_for(private, folder)
    folders = None if elsewhere is None else _folders_that_count(folder, way, state)
    if elsewhere is None or folders is None:
        return None
    within = set(files)
    for path in (*files, *include):
        folders.update(str(parent) for parent in PurePosixPath(path).parents)
    for path in include:
        within.add(os.path.normpath(path))
        if os.path.realpath(folder / path) == os.path.normpath(
            folder / path
        ):  # else a link is taken, not what it leads to
            folders.update(os.path.relpath(parent, folder) for parent, _, _ in os.walk(folder / path))
    within |= {f"{parent}/.gitignore" if parent != "." else ".gitignore" for parent in folders}
    return Conditions(frozenset(within | folders), frozenset(elsewhere))


def _rules_above(folder: Path) -> set[str] | None:
    """Files beside and above the folder that say what is ignored in it; None where others do so too."""
    repositories = repositories_above(folder)
    if not has_repository_above(folder):
        return repositories
    top = run_git(["rev-parse", "--show-toplevel"], folder=folder, accepted=(0, 128)).stdout.decode().rstrip("\n")
    if not top:
        return None
    wanted = [word for name in TOLD_BY_GIT for word in ("--git-path", name)]
    told = run_git(["rev-parse", *wanted], folder=folder).stdout.decode().splitlines()
    settings = run_git(["config", "--list", "--name-only", "-z"], folder=folder).stdout.lower()
    if len(told) != len(TOLD_BY_GIT) or any(name.startswith(LEADING_ELSEWHERE) for name in settings.split(b"\0")):
        return None
    below = [place for place in (folder, *folder.parents) if place.is_relative_to(top)]
    rules = {str(place / ".gitignore") for place in below}
    return rules | {str(place / ".git") for place in below[:-1]} | {str(folder / path) for path in told}


def _folders_that_count(folder: Path, way: Sequence[str], state: Path) -> set[str] | None:
    """The folder (``.``) and all within it that are not ignored as a whole; None where one is a repository."""
    found, level = {"."}, [""]
    while level:
        inner: list[str] = []
        for parent in level:
            for entry in os.scandir(folder / parent):
                if entry.name == ".git":
                    if parent:
                        return None
                elif entry.is_dir(follow_symlinks=False) and Path(entry.path) != state:
                    inner.append(f"{parent}/{entry.name}".lstrip("/"))
        questions = b"".join(os.fsencode(path) + b"\0" for path in inner)
        answer = run_git([*way, "check-ignore", "-z", "--stdin"], folder=folder, content=questions, accepted=(0, 1))
        ignored = {os.fsdecode(path) for path in answer.stdout.split(b"\0")}
        level = [path for path in inner if path not in ignored]
        found.update(level)
    return found
