"""GitLab: statuses of commits, merge requests and notes on them (REST API, version 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from interlock.edges.forge.comments import PAGE, Written, ensure_comment, field, objects
from interlock.edges.forge.pull_requests import ensure_pull_request, read_gitlab, read_pages
from interlock.edges.forge.wire import Wire
from interlock.errors import ForgeFault, Refused
from interlock.feedback.status import Comment, Proposal, Status
from interlock.source.repository import PullRequest
from interlock.vocabulary import Json

_STATES = {"pending": "pending", "success": "success", "failure": "failed", "error": "failed"}


def _headers(token: str) -> Mapping[str, str]:
    return {"PRIVATE-TOKEN": token}


class GitLabForge:
    """The port ``Forge``. ``api`` is ``https://HOST`` or ``https://HOST/api/v4``, ``project`` ``GROUP/NAME``."""

    def __init__(self, api: str, project: str, token: Callable[[], str]) -> None:
        if not project.strip("/"):
            raise Refused("no project is named", "forge.project", "write GROUP/NAME")
        self._wire = Wire(f"{api.rstrip('/').removesuffix('/api/v4')}/api/v4", token, _headers)
        self._project = f"/projects/{quote(project.strip('/'), safe='')}"

    def set_status(self, sha: str, status: Status) -> None:
        """One that is pending cannot be made pending once more: GitLab says so, and it is as it should be."""
        body: dict[str, Json] = {
            "state": _STATES[status.state],
            "name": status.context,
            "description": status.description,
            **({"target_url": status.url} if status.url else {}),
        }
        answer = self._wire.ask("POST", f"{self._project}/statuses/{sha}", body, also=(400,))
        if answer.status != 400:
            return
        is_transition = "Cannot transition status" in str(answer.document)
        if not is_transition:
            where = f"GitLab, {status.context}"
            raise Refused("it does not take this status", where, "the commit is perhaps not in this project")
        if status.state != "pending":
            raise ForgeFault(f"GitLab cannot set {status.context} to {status.state} as it stands now")

    def put_comment(self, comment: Comment) -> None:
        """A note on the merge request."""
        path = f"{self._project}/merge_requests/{comment.pull_request}/notes"
        user = field(self._wire.ask("GET", "/user").document, "id", int)

        def page(number: int) -> list[Written]:
            order = f"sort=asc&order_by=created_at&per_page={PAGE}&page={number}"
            return [
                Written(field(one, "id", int), (one.get("author") or {}).get("id") == user, one.get("body") or "")
                for one in objects(self._wire.ask("GET", f"{path}?{order}").document)
            ]

        def create(text: str) -> None:
            self._wire.ask("POST", path, {"body": text})

        def update(number: int, text: str) -> None:
            self._wire.ask("PUT", f"{path}/{number}", {"body": text})

        ensure_comment(comment, page, create, update)

    def put_pull_request(self, proposal: Proposal) -> int:
        """A merge request: one that was made a moment ago is among the first that are listed."""
        body: dict[str, Json] = {
            "source_branch": proposal.branch,
            "target_branch": proposal.base,
            "title": proposal.title,
            "description": proposal.body,
        }

        def create() -> Any:
            return self._wire.ask("POST", f"{self._project}/merge_requests", body).document

        return ensure_pull_request(proposal, self.pull_requests(), create, "iid")

    def pull_requests(self) -> Iterator[PullRequest]:
        """Those that changed last first."""
        path = f"{self._project}/merge_requests?state=all&order_by=updated_at&sort=desc&per_page={PAGE}"
        return read_pages(lambda number: self._wire.ask("GET", f"{path}&page={number}").document, read_gitlab)
