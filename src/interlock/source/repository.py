"""A repository as the server's settings describe it, and what a forge tells of a pull request."""

from __future__ import annotations

from typing import Literal, TypeAlias

from interlock.vocabulary import Stored

ForgeKind: TypeAlias = Literal["github", "gitlab", "gitea"]
ForkPolicy: TypeAlias = Literal["run", "approve", "refuse"]

REVERTS = "interlock/revert-"
"""How the branches begin that Interlock itself pushes."""


class Watched(Stored):
    """A configured repository.

    ``git_directory`` is where its objects are read; with a ``url`` it is a mirror that follows that remote. ``trusted``
    are patterns of branches (``main``, ``release/*``) and full refs (``refs/tags/v*``) whose runs may deliver and have
    secrets. ``project`` is its name at its forge. ``forks`` says what becomes of pull requests from outside: run at
    once, run when a maintainer approved the commit, or refuse. ``most_runs`` is how many runs of it may be under way at
    once; None is any number. ``propose_reverts``: what did harm is taken back in a branch of it, for people to merge.
    """

    name: str
    git_directory: str
    url: str | None = None
    default_branch: str = "main"
    trusted: tuple[str, ...] = ("main",)
    forge: ForgeKind | None = None
    project: str | None = None
    forks: ForkPolicy = "approve"
    most_runs: int | None = None
    propose_reverts: bool = False


class PullRequest(Stored):
    """A pull or merge request as its forge told of it. ``head`` is a hint: the ref is resolved by asking the remote.

    ``is_fork`` unless the forge said that the commits come from the repository itself. ``is_found``: no forge told of
    it, its ref was found, and what it goes into is taken to be the default branch.
    """

    number: int
    title: str = ""
    base: str
    head: str = ""
    head_branch: str = ""
    is_fork: bool = True
    author: str = ""
    is_open: bool = True
    is_found: bool = False
