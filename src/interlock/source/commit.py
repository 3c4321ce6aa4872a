"""A commit, the tree of files it holds, and why a run exists for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from interlock.vocabulary import Stored


class FileEntry(NamedTuple):
    """One file of a tree: git's mode, git's object id of its content, and its size in bytes."""

    mode: str
    blob: str
    size: int


Tree: TypeAlias = Mapping[str, FileEntry]
"""Files by path relative to the repository's root, ``/`` between parts."""


class Commit(Stored):
    """One commit of one repository, as git resolved it.

    ``repository`` is the configured name, ``git_directory`` where its objects are, ``sha`` the commit (or, for
    the working tree of ``interlock run``, the tree object that holds it), ``tree`` the id of its tree. ``message`` is
    the beginning of its message, the subject included; ``author`` who wrote it by its own account, as ``Ada <a@b>``.
    For a working tree ``working_tree`` is its folder, and ``beside`` names what lies there, is asked for as data, and
    is no part of the tree.
    """

    repository: str
    git_directory: str
    ref: str
    sha: str
    tree: str
    subject: str = ""
    message: str = ""
    author: str = ""
    working_tree: str = ""
    beside: tuple[str, ...] = ()


class Takeback(NamedTuple):
    """What a commit on ``head`` is to take back: what came from ``good`` to ``bad`` below the folder ``project``, empty
    for the whole repository. ``moment`` is its date (wall seconds).
    """

    head: str
    bad: str
    good: str
    project: str
    message: str
    moment: float


def is_author(name: str, author: str) -> bool:
    """Whether a commit's author has this name, or this e-mail address, with or without its host. Case does not count.

    What a commit says of its author is its own account: this keeps honest people from approving their own work.
    """
    full, _, address = author.rstrip(">").partition("<")
    known = {full.strip().casefold(), address.casefold(), address.partition("@")[0].casefold()}
    return name.casefold() in known - {""}


OccasionKind: TypeAlias = Literal[
    "push", "tag", "pull_request", "schedule", "data", "rerun", "local", "person", "reproduce", "breach"
]


class Occasion(Stored):
    """Why a run exists. ``detail`` tells two occasions of one kind apart: the look at the repository, the slot of a
    schedule, the digest of the new data, the run that is run again, what is reproduced, the alert. ``by`` names the
    person, where one asked.
    """

    kind: OccasionKind
    detail: str = ""
    by: str | None = None

    def why_anew(self, first: str) -> str:
        """Why stages are executed whatever is remembered; ``first`` is the first of them."""
        if self.kind == "reproduce":
            return f"executed anew, to reproduce {self.detail}"
        return f"asked for by {self.by} in a rerun from {first}"


def branch_of(ref: str) -> str | None:
    """The branch a full ref names; None for tags and everything else."""
    prefix = "refs/heads/"
    return ref.removeprefix(prefix) if ref.startswith(prefix) else None
