"""GitHub, and GitHub Enterprise: commit statuses, pull requests and their comments (REST API, version 2022-11-28)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from interlock.edges.forge.comments import PAGE, Written, ensure_comment, field, objects
from interlock.edges.forge.pull_requests import described, ensure_pull_request, read_github, read_pages
from interlock.edges.forge.wire import Wire
from interlock.errors import Refused
from interlock.feedback.status import Comment, Proposal, Status
from interlock.source.repository import PullRequest
from interlock.vocabulary import Json

_OWNER_AND_NAME = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


def github_headers(token: str) -> Mapping[str, str]:
    """Those of every request to GitHub."""
    return {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }


def repository_path(project: str) -> str:
    """``/repos/OWNER/NAME``. Refused for anything else."""
    if not _OWNER_AND_NAME.fullmatch(project) or ".." in project:
        raise Refused(f"{project!r} is no project", "forge.project", "write OWNER/NAME")
    return f"/repos/{project}"


class GitHubForge:
    """The port ``Forge``. ``api`` is ``https://api.github.com`` or ``https://HOST/api/v3``, ``project`` ``OWNER/NAME``.

    ``token`` answers a personal access token, or is a GitHubApp.
    """

    def __init__(self, api: str, project: str, token: Callable[[], str]) -> None:
        self._wire = Wire(api, token, github_headers)
        self._repository = repository_path(project)

    def set_status(self, sha: str, status: Status) -> None:
        """The newest status of a context is what GitHub shows."""
        body: dict[str, Json] = {
            "state": status.state,
            "context": status.context,
            "description": status.description,
            **({"target_url": status.url} if status.url else {}),
        }
        self._wire.ask("POST", f"{self._repository}/statuses/{sha}", body)

    def put_comment(self, comment: Comment) -> None:
        """A pull request's comments are those of the issue of the same number."""
        path = f"{self._repository}/issues/{comment.pull_request}/comments"
        user = self._find_user()

        def page(number: int) -> list[Written]:
            listed = self._wire.ask("GET", f"{path}?per_page={PAGE}&page={number}").document
            return [_written(one, user) for one in objects(listed)]

        def create(text: str) -> None:
            self._wire.ask("POST", path, {"body": text})

        def update(number: int, text: str) -> None:
            self._wire.ask("PATCH", f"{self._repository}/issues/comments/{number}", {"body": text})

        ensure_comment(comment, page, create, update)

    def put_pull_request(self, proposal: Proposal) -> int:
        """One that was made a moment ago is among the first that are listed."""

        def create() -> Any:
            return self._wire.ask("POST", f"{self._repository}/pulls", described(proposal)).document

        return ensure_pull_request(proposal, self.pull_requests(), create, "number")

    def pull_requests(self) -> Iterator[PullRequest]:
        """Those that changed last first."""
        path = f"{self._repository}/pulls?state=all&sort=updated&direction=desc&per_page={PAGE}"
        return read_pages(lambda number: self._wire.ask("GET", f"{path}&page={number}").document, read_github)

    def _find_user(self) -> int | None:
        """Whose token it is; None for an app's, to which GitHub does not say it."""
        answer = self._wire.ask("GET", "/user", also=(403,))
        return None if answer.status == 403 else field(answer.document, "id", int)


def _written(one: Any, user: int | None) -> Written:
    author = one.get("user") or {}
    by_app = bool(one.get("performed_via_github_app")) and author.get("type") == "Bot"
    is_ours = by_app if user is None else author.get("id") == user
    return Written(field(one, "id", int), is_ours, one.get("body") or "")
