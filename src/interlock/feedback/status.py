"""What a forge can be told."""

from __future__ import annotations

from typing import Literal

from interlock.vocabulary import Stored

LONGEST_DESCRIPTION = 140
"""GitHub refuses longer ones."""
LONGEST_COMMENT = 65_536
"""Characters; GitHub refuses longer ones."""


class Status(Stored):
    """One status of a commit. ``context`` names it (``interlock/gate: auc min 0.7``); the newest of a name counts."""

    context: str
    state: Literal["pending", "success", "failure", "error"]
    description: str
    url: str = ""


class Proposal(Stored):
    """A pull request of ours, from a branch of the repository itself; ``body`` is Markdown. A branch has one."""

    branch: str
    base: str
    title: str
    body: str


class Comment(Stored):
    """The one comment on a pull request, in Markdown.

    ``mark`` is put before the body: Markdown does not show it, and the comment is found again by it.
    """

    pull_request: int
    mark: str = "<!-- interlock -->"
    body: str
