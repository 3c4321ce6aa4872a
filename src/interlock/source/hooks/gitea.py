"""Calls of Gitea and Forgejo (https://docs.gitea.com/usage/webhooks). Their payloads are those of GitHub.

One thing differs: anybody who may read a repository can open a pull request by pushing to ``refs/for/main`` (AGit
flow). Its commits are told to be the repository's own, with a ref of the pull request in place of a branch, and no
label.
"""

from __future__ import annotations

from collections.abc import Mapping

from interlock.errors import Refused
from interlock.source.hooks import github
from interlock.source.hooks.body import Fields, shown
from interlock.source.hooks.github import with_pull_request, with_push, with_ref
from interlock.source.notice import Notice
from interlock.source.repository import PullRequest


def read_event(headers: Mapping[str, str], payload: Fields, repository: str) -> Notice:
    """The notice of one call. Refused where the event is not named, or is not of its shape."""
    event = _header(headers, "event")
    if not event:
        raise Refused("the call names no event", "x-gitea-event", "make the hook one of the type Gitea or Forgejo")
    notice = Notice(repository=repository, source="gitea", kind="other", delivery=shown(_header(headers, "delivery")))
    if event == "push":
        return with_push(notice, payload)
    if event in ("create", "delete"):
        return with_ref(notice, payload, event)
    if event == "pull_request":
        return with_pull_request(notice, read_pull_request(payload))
    return notice


def read_pull_request(payload: Fields) -> PullRequest:
    """A pull request as it stands. Only a branch of the repository can have been pushed by a member alone."""
    head = payload.mapping("pull_request").mapping("head")
    found = github.read_pull_request(payload)
    if found.head_branch.startswith("refs/") or not head.shown("label"):
        return found.model_copy(update={"is_fork": True})
    return found


def _header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(f"x-forgejo-{name}") or headers.get(f"x-gitea-{name}") or ""
