"""GitHub's calls (https://docs.github.com/en/webhooks/webhook-events-and-payloads).

Every call about a pull request is a notice of it, whatever was done to it: its payload says how it stands now, so the
next call makes up for one that was lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from interlock.errors import Refused
from interlock.source.hooks.body import Fields, shown
from interlock.source.notice import Notice, NoticeKind
from interlock.source.repository import PullRequest


def read_event(headers: Mapping[str, str], payload: Fields, repository: str) -> Notice:
    """The notice of one call. Refused where the event is not named, or is not of its shape."""
    event = headers.get("x-github-event", "")
    if not event:
        raise Refused("the call names no event", "x-github-event", "let GitHub call, not a browser or a proxy's check")
    notice = Notice(
        repository=repository, source="github", kind="other", delivery=shown(headers.get("x-github-delivery", ""))
    )
    if event == "ping":
        return notice.model_copy(update={"kind": "ping"})
    if event == "push":
        return with_push(notice, payload)
    if event in ("create", "delete"):
        return with_ref(notice, payload, event)
    if event == "pull_request":
        return with_pull_request(notice, read_pull_request(payload))
    return notice


def with_push(notice: Notice, payload: Fields) -> Notice:
    """A push of a branch or tag; one that leaves nothing is its deletion. Other refs begin nothing."""
    ref, sha = payload.branch("ref", "refs/"), payload.sha("after")
    kind: NoticeKind = "other"
    if not sha.strip("0"):
        kind, sha = "delete", ""
    elif ref.startswith(("refs/heads/", "refs/tags/")):
        kind = "push" if ref.startswith("refs/heads/") else "tag"
    return notice.model_copy(update={"kind": kind, "ref": ref, "sha": sha})


def with_ref(notice: Notice, payload: Fields, event: str) -> Notice:
    """A branch or tag that was made or deleted, named without its folder. A making is sent as a push too."""
    name, of = payload.branch("ref"), payload.text("ref_type")
    if of not in ("branch", "tag"):
        return notice
    ref = f"refs/heads/{name}" if of == "branch" else f"refs/tags/{name}"
    made = "push" if of == "branch" else "tag"
    return notice.model_copy(update={"kind": made if event == "create" else "delete", "ref": ref})


def with_pull_request(notice: Notice, pull_request: PullRequest) -> Notice:
    """The notice of it."""
    ref = f"refs/pull/{pull_request.number}/head"
    return notice.model_copy(
        update={"kind": "pull_request", "ref": ref, "sha": pull_request.head, "pull_request": pull_request}
    )


def read_pull_request(payload: Fields) -> PullRequest:
    """A pull request as it stands: ``pull_request`` of a ``repository``."""
    told = payload.mapping("pull_request")
    head, base = told.mapping("head"), told.mapping("base")
    author = told.optional("user")
    return PullRequest(
        number=told.number("number"),
        title=told.shown("title"),
        base=base.branch("ref"),
        head=head.sha("sha"),
        head_branch=head.branch("ref"),
        is_fork=not _is_of_one_repository(payload, head, base),
        author=author.shown("login") if author else "",
        is_open=told.text("state") == "open",
    )


def _is_of_one_repository(payload: Fields, head: Fields, base: Fields) -> bool:
    """Whether the forge says in every way that it has that the commits are the repository's own."""
    named = [payload.optional("repository"), head.optional("repo"), base.optional("repo")]
    repositories = [(found.number("id"), found.text("full_name")) for found in named if found is not None]
    return len(repositories) == len(named) and len(set(repositories)) == 1 and bool(repositories[0][1])
