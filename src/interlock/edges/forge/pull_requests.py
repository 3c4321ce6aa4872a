"""Pull requests as the forges' APIs list them: objects of the same shape as those in their webhooks, read alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from interlock.edges.forge.comments import PAGE, field, objects
from interlock.errors import Refused
from interlock.feedback.status import Proposal
from interlock.source.hooks import gitea, github, gitlab
from interlock.source.hooks.body import Fields
from interlock.source.repository import PullRequest
from interlock.vocabulary import Json

MOST_LISTED = 10
"""Pages that are asked for at most: what nobody touched for longer is not listed."""


def read_pages(page: Callable[[int], Any], read: Callable[[Mapping[str, Any]], PullRequest]) -> Iterator[PullRequest]:
    """All that is listed, asked for page by page as far as it is read.

    One of another shape than a webhook may have is left out: its webhook is refused as well, and tells why.
    """
    for number in range(1, MOST_LISTED + 1):
        listed = objects(page(number))
        for one in listed:
            try:
                yield read(one)
            except Refused:
                continue
        if len(listed) < PAGE:
            return


def ensure_pull_request(
    proposal: Proposal, listed: Iterable[PullRequest], create: Callable[[], Any], number: str
) -> int:
    """The number of the pull request from this branch of the repository itself, made unless it is ``listed``.

    ``create`` answers the forge's description of it, in which its number is called ``number``.
    """
    for one in listed:
        if one.head_branch == proposal.branch and not one.is_fork:
            return one.number
    made: int = field(create(), number, int)
    return made


def described(proposal: Proposal) -> dict[str, Json]:
    """The pull request as GitHub, and Gitea after it, are asked to make it."""
    return {"head": proposal.branch, "base": proposal.base, "title": proposal.title, "body": proposal.body}


def read_github(one: Mapping[str, Any]) -> PullRequest:
    """One of GitHub's."""
    return github.read_pull_request(_within_repository(one))


def read_gitea(one: Mapping[str, Any]) -> PullRequest:
    """One of Gitea's or Forgejo's."""
    return gitea.read_pull_request(_within_repository(one))


def read_gitlab(one: Mapping[str, Any]) -> PullRequest:
    """One of GitLab's, whose webhooks name a few things otherwise."""
    author = one.get("author") or {}
    attributes = {**one, "last_commit": {"id": one.get("sha")}, "author_id": author.get("id")}
    project = {"id": one.get("target_project_id")}
    return gitlab.read_merge_request(Fields({"object_attributes": attributes, "project": project, "user": author}))


def _within_repository(one: Mapping[str, Any]) -> Fields:
    return Fields({"pull_request": one, "repository": (one.get("base") or {}).get("repo")})
