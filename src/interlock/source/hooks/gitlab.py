"""GitLab's calls (https://docs.gitlab.com/user/project/integrations/webhook_events/). It has no ping: a test of a hook
sends a real event.
"""

from __future__ import annotations

from collections.abc import Mapping

from interlock.source.hooks.body import Fields, shown
from interlock.source.hooks.github import with_push
from interlock.source.notice import Notice
from interlock.source.repository import PullRequest


def read_event(headers: Mapping[str, str], payload: Fields, repository: str) -> Notice:
    """The notice of one call. Refused where the event is not named in the body, or is not of its shape."""
    event = payload.text("object_kind" if "object_kind" in payload.values else "event_name")
    delivery = headers.get("x-gitlab-event-uuid") or headers.get("webhook-id") or ""
    notice = Notice(repository=repository, source="gitlab", kind="other", delivery=shown(delivery))
    if event in ("push", "tag_push"):
        return with_push(notice, payload)
    return _with_merge_request(notice, read_merge_request(payload)) if event == "merge_request" else notice


def _with_merge_request(notice: Notice, pull_request: PullRequest) -> Notice:
    ref = f"refs/merge-requests/{pull_request.number}/head"
    return notice.model_copy(
        update={"kind": "pull_request", "ref": ref, "sha": pull_request.head, "pull_request": pull_request}
    )


def read_merge_request(payload: Fields) -> PullRequest:
    """A merge request as it stands: ``object_attributes`` of a ``project``."""
    told = payload.mapping("object_attributes")
    return PullRequest(
        number=told.number("iid"),
        title=told.shown("title"),
        base=told.branch("target_branch"),
        head=told.mapping("last_commit").sha("id"),
        head_branch=told.branch("source_branch"),
        is_fork=not _is_of_one_project(payload, told),
        author=_author(payload, told),
        is_open=told.text("state") == "opened",
    )


def _is_of_one_project(payload: Fields, told: Fields) -> bool:
    """Whether source and target are this very project; the source is null where its project was deleted."""
    if told.values.get("source_project_id") is None:
        return False
    named = {
        told.number("source_project_id"),
        told.number("target_project_id"),
        payload.mapping("project").number("id"),
    }
    return len(named) == 1


def _author(payload: Fields, told: Fields) -> str:
    """Who opened it; the call names who acted now, and the author by number only."""
    actor = payload.optional("user")
    if actor is None or actor.values.get("id") is None or actor.values["id"] != told.values.get("author_id"):
        return ""
    return actor.shown("username")
