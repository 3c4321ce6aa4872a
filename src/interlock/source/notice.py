"""A notice: what a hook or webhook said happened. It is a hint to look, never the truth."""

from __future__ import annotations

from typing import Literal, TypeAlias

from interlock.source.repository import PullRequest
from interlock.vocabulary import Stored

NoticeKind: TypeAlias = Literal["push", "tag", "pull_request", "delete", "ping", "other"]


class Notice(Stored):
    """One accepted hook call for a configured repository.

    ``delivery`` is the forge's own number of the call, for the log only. ``ref`` and ``sha`` are what it claims.
    """

    repository: str
    source: Literal["github", "gitlab", "gitea", "git"]
    kind: NoticeKind
    delivery: str = ""
    ref: str = ""
    sha: str = ""
    pull_request: PullRequest | None = None
