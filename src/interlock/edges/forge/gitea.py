"""Gitea and Forgejo: statuses of commits, pull requests and comments of issues (API version 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from interlock.edges.forge.comments import PAGE, Written, ensure_comment, field, objects
from interlock.edges.forge.github import repository_path
from interlock.edges.forge.pull_requests import described, ensure_pull_request, read_gitea, read_pages
from interlock.edges.forge.wire import Wire
from interlock.feedback.status import Comment, Proposal, Status
from interlock.source.repository import PullRequest
from interlock.vocabulary import Json


def _headers(token: str) -> Mapping[str, str]:
    return {"Authorization": f"token {token}"}


class GiteaForge:
    """The port ``Forge``. ``api`` is ``https://HOST`` or ``https://HOST/api/v1``, ``project`` ``OWNER/NAME``."""

    def __init__(self, api: str, project: str, token: Callable[[], str]) -> None:
        self._wire = Wire(f"{api.rstrip('/').removesuffix('/api/v1')}/api/v1", token, _headers)
        self._repository = repository_path(project)

    def set_status(self, sha: str, status: Status) -> None:
        """The newest status of a context is what Gitea shows."""
        body: dict[str, Json] = {
            "state": status.state,
            "context": status.context,
            "description": status.description,
            "target_url": status.url,
        }
        self._wire.ask("POST", f"{self._repository}/statuses/{sha}", body)

    def put_comment(self, comment: Comment) -> None:
        """A pull request's comments are those of the issue of the same number; Gitea lists all of them at once."""
        path = f"{self._repository}/issues/{comment.pull_request}/comments"
        user = field(self._wire.ask("GET", "/user").document, "id", int)

        def page(number: int) -> list[Written]:
            if number > 1:
                return []
            return [
                Written(field(one, "id", int), (one.get("user") or {}).get("id") == user, one.get("body") or "")
                for one in objects(self._wire.ask("GET", path).document)
            ]

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
        path = f"{self._repository}/pulls?state=all&sort=recentupdate&limit={PAGE}"
        return read_pages(lambda number: self._wire.ask("GET", f"{path}&page={number}").document, read_gitea)
