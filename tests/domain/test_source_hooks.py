"""Hook calls of GitHub, GitLab, Gitea and Forgejo: what they say, and everything that is no such call.

The payloads are built after the forges' documentation, with the fields that are read and some that are not.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import Refused
from interlock.source.hooks import read_call
from interlock.source.notice import Notice
from interlock.source.repository import ForgeKind, PullRequest

SHA = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
OTHER = "95790bf891e76fee5e1747ab589903a6a1f80f22"
ZEROS = "0" * 40
JSON = {"content-type": "application/json"}
ELSEWHERE = "http://169.254.169.254/latest"


def call(forge: ForgeKind, headers: dict[str, str], payload: Any) -> Notice:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_call(forge, JSON | headers, body, "flights")


# -- GitHub and Gitea, whose payloads are alike


def repository(number: int = 186853002, name: str = "ada/flights") -> dict[str, Any]:
    return {"id": number, "full_name": name, "clone_url": ELSEWHERE, "ssh_url": ELSEWHERE, "private": True}


def push(ref: str = "refs/heads/main", after: str = SHA) -> dict[str, Any]:
    return {
        "ref": ref,
        "before": OTHER,
        "after": after,
        "deleted": after == ZEROS,
        "compare_url": ELSEWHERE,
        "commits": [{"id": after, "message": "A change", "added": ["a.py"]}],
        "repository": repository(),
        "pusher": {"login": "ada"},
    }


def named(ref: str = "feature/x", ref_type: str = "branch") -> dict[str, Any]:
    return {"ref": ref, "ref_type": ref_type, "pusher_type": "user", "repository": repository()}


def pull_request(action: str = "opened", **head: Any) -> dict[str, Any]:
    return {
        "action": action,
        "number": 7,
        "repository": repository(),
        "pull_request": {
            "number": 7,
            "state": "closed" if action == "closed" else "open",
            "title": "Better features",
            "user": {"login": "grace", "id": 3},
            "diff_url": ELSEWHERE,
            "head": {"label": "feature", "ref": "feature", "sha": SHA, "repo": repository()} | head,
            "base": {"label": "main", "ref": "main", "sha": OTHER, "repo": repository()},
        },
    }


FORGES: list[tuple[ForgeKind, str]] = [("github", "x-github-"), ("gitea", "x-gitea-"), ("gitea", "x-forgejo-")]


@pytest.mark.parametrize(("forge", "prefix"), FORGES)
@pytest.mark.parametrize(
    ("event", "payload", "kind", "ref", "sha"),
    [
        ("push", push(), "push", "refs/heads/main", SHA),
        ("push", push("refs/heads/feature/ä-1"), "push", "refs/heads/feature/ä-1", SHA),
        ("push", push(after="f" * 64), "push", "refs/heads/main", "f" * 64),
        ("push", push("refs/tags/v1.0"), "tag", "refs/tags/v1.0", SHA),
        ("push", push(after=ZEROS), "delete", "refs/heads/main", ""),
        ("push", push("refs/tags/v1.0", "0" * 64), "delete", "refs/tags/v1.0", ""),
        ("push", push("refs/notes/commits"), "other", "refs/notes/commits", SHA),
        ("create", named(), "push", "refs/heads/feature/x", ""),
        ("create", named("v1", "tag"), "tag", "refs/tags/v1", ""),
        ("create", named("x", "repository"), "other", "", ""),
        ("delete", named(), "delete", "refs/heads/feature/x", ""),
        ("delete", named("v1", "tag"), "delete", "refs/tags/v1", ""),
        ("issues", {"action": "opened"}, "other", "", ""),
        ("pull_request_review", {}, "other", "", ""),
    ],
)
def test_pushes_makings_and_deletions(
    forge: ForgeKind, prefix: str, event: str, payload: dict[str, Any], kind: str, ref: str, sha: str
) -> None:
    notice = call(forge, {f"{prefix}event": event, f"{prefix}delivery": "d-1"}, payload)
    assert (notice.kind, notice.ref, notice.sha) == (kind, ref, sha)
    assert (notice.repository, notice.source, notice.delivery) == ("flights", forge, "d-1")


@pytest.mark.parametrize(("forge", "prefix"), FORGES)
@pytest.mark.parametrize(
    "action", ["opened", "reopened", "synchronize", "synchronized", "edited", "closed", "ready_for_review", "labeled"]
)
def test_a_pull_request_is_told_as_it_stands(forge: ForgeKind, prefix: str, action: str) -> None:
    notice = call(forge, {f"{prefix}event": "pull_request"}, pull_request(action))
    assert (notice.kind, notice.ref, notice.sha) == ("pull_request", "refs/pull/7/head", SHA)
    assert notice.pull_request == PullRequest(
        number=7,
        title="Better features",
        base="main",
        head=SHA,
        head_branch="feature",
        is_fork=False,
        author="grace",
        is_open=action != "closed",
    )


# what the payload says of where the commits are
FORKS: list[dict[str, Any]] = [
    {"repo": None},  # the fork was deleted
    {"repo": repository(4711, "eve/flights")},
    {"repo": repository(4711)},
    {"repo": repository(name="eve/flights")},
    {"repo": repository(name="")},
]


@pytest.mark.parametrize(("forge", "prefix"), FORGES)
@pytest.mark.parametrize("head", FORKS)
def test_commits_from_elsewhere_are_a_fork(forge: ForgeKind, prefix: str, head: dict[str, Any]) -> None:
    notice = call(forge, {f"{prefix}event": "pull_request"}, pull_request(**head))
    assert notice.pull_request is not None
    assert notice.pull_request.is_fork


@pytest.mark.parametrize(("forge", "prefix"), FORGES)
@pytest.mark.parametrize("where", ["repository", "base", "nameless", "nowhere"])
def test_one_repository_is_said_in_every_way_or_it_is_a_fork(forge: ForgeKind, prefix: str, where: str) -> None:
    payload = pull_request()
    if where == "base":
        payload["pull_request"]["base"]["repo"] = repository(4711)
    elif where == "repository":
        payload["repository"] = repository(4711)
    elif where == "nameless":
        payload["repository"] = repository(name="")
        payload["pull_request"]["base"]["repo"] = payload["pull_request"]["head"]["repo"] = repository(name="")
    else:
        del payload["repository"], payload["pull_request"]["base"]["repo"], payload["pull_request"]["head"]["repo"]
    found = call(forge, {f"{prefix}event": "pull_request"}, payload).pull_request
    assert found is not None
    assert found.is_fork


@pytest.mark.parametrize("prefix", ["x-gitea-", "x-forgejo-"])
@pytest.mark.parametrize("head", [{"ref": "refs/pull/7/head"}, {"label": ""}, {"label": "", "ref": "refs/pull/7/head"}])
def test_who_may_only_read_a_gitea_repository_is_no_member(prefix: str, head: dict[str, Any]) -> None:
    """A pull request made by pushing to refs/for/main says that its commits are the repository's own."""
    found = call("gitea", {f"{prefix}event": "pull_request"}, pull_request(**head)).pull_request
    assert found is not None
    assert found.is_fork


def test_a_github_ping_is_one() -> None:
    notice = call("github", {"x-github-event": "ping"}, {"zen": "Keep it logically awesome.", "hook_id": 1, "hook": {}})
    assert (notice.kind, notice.ref, notice.pull_request) == ("ping", "", None)


def test_a_pull_request_without_its_author_is_read() -> None:
    payload = pull_request()
    payload["pull_request"]["user"] = None  # the account was deleted
    found = call("github", {"x-github-event": "pull_request"}, payload).pull_request
    assert found is not None
    assert found.author == ""


@pytest.mark.parametrize("forge", ["github", "gitea"])
def test_a_call_that_names_no_event_is_refused(forge: ForgeKind) -> None:
    with pytest.raises(Refused, match="the call names no event") as caught:
        call(forge, {}, push())
    assert caught.value.where == f"x-{forge}-event"


# -- GitLab


def gitlab_push(kind: str = "push", ref: str = "refs/heads/main", after: str = SHA) -> dict[str, Any]:
    return {
        "object_kind": kind,
        "event_name": kind,
        "before": OTHER,
        "after": after,
        "ref": ref,
        "checkout_sha": None if after == ZEROS else after,
        "user_username": "ada",
        "project_id": 15,
        "project": {
            "id": 15,
            "path_with_namespace": "ada/flights",
            "git_http_url": ELSEWHERE,
            "default_branch": "main",
        },
        "commits": [],
        "total_commits_count": 0,
    }


def merge_request(action: str = "open", **told: Any) -> dict[str, Any]:
    states = {"close": "closed", "merge": "merged", "lock": "locked"}
    return {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": {"id": 51, "name": "Grace", "username": "grace"},
        "project": {"id": 15, "path_with_namespace": "ada/flights", "git_http_url": ELSEWHERE},
        "object_attributes": {
            "id": 990,
            "iid": 7,
            "action": action,
            "state": states.get(action, "opened"),
            "title": "Better features",
            "author_id": 51,
            "source_branch": "feature",
            "source_project_id": 15,
            "target_branch": "main",
            "target_project_id": 15,
            "last_commit": {"id": SHA, "message": "A change", "url": ELSEWHERE},
            "url": ELSEWHERE,
        }
        | told,
        "changes": {},
    }


@pytest.mark.parametrize(
    ("payload", "kind", "ref", "sha"),
    [
        (gitlab_push(), "push", "refs/heads/main", SHA),
        (gitlab_push("tag_push", "refs/tags/v1"), "tag", "refs/tags/v1", SHA),
        (gitlab_push(after=ZEROS), "delete", "refs/heads/main", ""),
        (gitlab_push("tag_push", "refs/tags/v1", ZEROS), "delete", "refs/tags/v1", ""),
        ({"object_kind": "pipeline", "object_attributes": {"status": "success"}}, "other", "", ""),
        ({"object_kind": "note"}, "other", "", ""),
        ({"event_name": "project_create", "path": "flights"}, "other", "", ""),
    ],
)
def test_pushes_of_gitlab(payload: dict[str, Any], kind: str, ref: str, sha: str) -> None:
    headers = {"x-gitlab-event": "Push Hook", "x-gitlab-event-uuid": "u-1"}
    notice = call("gitlab", headers, payload)
    assert (notice.kind, notice.ref, notice.sha) == (kind, ref, sha)
    assert (notice.source, notice.delivery) == ("gitlab", "u-1")


@pytest.mark.parametrize(
    ("action", "is_open"),
    [("open", True), ("update", True), ("reopen", True), ("approved", True), ("close", False), ("merge", False)],
)
def test_a_merge_request_is_told_as_it_stands(action: str, is_open: bool) -> None:
    notice = call("gitlab", {"webhook-id": "w-1"}, merge_request(action))
    assert (notice.kind, notice.ref, notice.sha) == ("pull_request", "refs/merge-requests/7/head", SHA)
    assert notice.delivery == "w-1"
    assert notice.pull_request == PullRequest(
        number=7,
        title="Better features",
        base="main",
        head=SHA,
        head_branch="feature",
        is_fork=False,
        author="grace",
        is_open=is_open,
    )


@pytest.mark.parametrize(
    "told",
    [
        {"source_project_id": None},
        {"source_project_id": 16},
        {"target_project_id": 16},
        {"target_project_id": 16, "source_project_id": 16},
    ],
)
def test_commits_of_another_project_are_a_fork(told: dict[str, Any]) -> None:
    found = call("gitlab", {}, merge_request(**told)).pull_request
    assert found is not None
    assert found.is_fork


@pytest.mark.parametrize("user", [None, {"username": "eve"}, {"id": 52, "username": "eve"}])
def test_who_acts_on_a_merge_request_is_not_its_author(user: dict[str, Any] | None) -> None:
    payload = merge_request("update")
    payload["user"] = user
    found = call("gitlab", {}, payload).pull_request
    assert found is not None
    assert found.author == ""


# -- everything that is no call


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
        "\x1b[31m" * 99,
    ],
)
@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"])
def test_only_json_is_read(forge: ForgeKind, content_type: str) -> None:
    with pytest.raises(Refused) as caught:
        call(forge, {"content-type": content_type, "x-github-event": "push"}, push())
    assert caught.value.where == "content-type"
    assert "application/json" in caught.value.remedy
    assert caught.value.problem.isprintable()


def test_a_body_without_a_content_type_is_refused() -> None:
    with pytest.raises(Refused, match="of no kind at all"):
        read_call("github", {"x-github-event": "push"}, b"{}", "flights")


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "application/json ;x"])
def test_json_is_read_however_it_is_spelled(content_type: str) -> None:
    assert call("github", {"content-type": content_type, "x-github-event": "push"}, push()).kind == "push"


BODIES = {
    "empty": b"",
    "no json": b"payload=%7B%7D",
    "half": b'{"ref": "refs/heads/main"',
    "two": b"{}{}",
    "a list": b"[]",
    "a text": b'"push"',
    "null": b"null",
    "a number": b"7",
    "deep lists": b'{"ref": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "never closed": b"[" * 100_000,
    "a key twice": b'{"ref": "refs/heads/main", "ref": "refs/heads/evil"}',
    "a key twice inside": b'{"a": {"b": 1, "\\u0062": 2}}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "an endless number": b'{"a": 1e999}',
    "a long number": b'{"a": ' + b"9" * 5000 + b"}",
    "UTF-16": '{"ref": "refs/heads/main"}'.encode("utf-16"),
    "no UTF-8": b'{"ref": "\xff"}',
    "a mark before": b"\xef\xbb\xbf{}",
    "a raw line break": b'{"ref": "a\nb"}',
    "a null byte": b"{}\0",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"])
def test_a_body_that_is_no_json_object_is_refused(forge: ForgeKind, body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        call(forge, {"x-github-event": "push", "x-gitea-event": "push"}, body)
    assert caught.value.where == "body"
    assert caught.value.problem.isprintable()
    assert len(caught.value.problem) < 300
    assert caught.value.remedy


def test_numbers_that_are_not_read_may_be_broken_ones() -> None:
    assert call("github", {"x-github-event": "issues"}, b'{"a": 1.5, "b": 1e3}').kind == "other"


WRONG_REFS: list[Any] = [
    *(None, 7, True, ["refs/heads/main"], {"a": 1}, "", "main", "heads/main", "refs/heads/../x", "refs/heads/a b"),
    *("refs/heads/a\nb", "refs/heads/a\0", "refs/heads/" + "x" * 2000, "refs/heads/x.lock", "refs/heads/\ud800"),
    *("refs/heads/a:b", "refs/heads/x~1", "refs/heads//x", "refs/heads/.x", "refs/heads/x/", "refs/heads/@{u}"),
    *("--upload-pack=/bin/sh", "https://example.org/x.git", "refs/heads/\u202emain"),
]


@pytest.mark.parametrize("ref", WRONG_REFS, ids=repr)
@pytest.mark.parametrize(("forge", "prefix"), [*FORGES, ("gitlab", "x-gitlab-")])
def test_a_ref_that_git_would_not_have_is_refused(forge: ForgeKind, prefix: str, ref: Any) -> None:
    payload = gitlab_push() if forge == "gitlab" else push()
    with pytest.raises(Refused) as caught:
        call(forge, {f"{prefix}event": "push"}, payload | {"ref": ref})
    assert caught.value.where == "body.ref"


@pytest.mark.parametrize("sha", [None, 7, "", "abc", SHA.upper(), SHA + "\n", "HEAD", "-" * 40, "g" * 40])
def test_what_is_no_id_of_a_commit_is_refused(sha: Any) -> None:
    with pytest.raises(Refused, match=r"no id of a commit|no text"):
        call("github", {"x-github-event": "push"}, push() | {"after": sha})


@pytest.mark.parametrize("number", [None, 0, -1, 1.0, "7", True, 2**60, [7]])
def test_what_is_no_number_of_a_pull_request_is_refused(number: Any) -> None:
    payload = pull_request()
    payload["pull_request"]["number"] = number
    with pytest.raises(Refused) as caught:
        call("github", {"x-github-event": "pull_request"}, payload)
    assert caught.value.where == "body.pull_request.number"


@pytest.mark.parametrize(
    "title", [None, 7, "\x1b[31mred\x07", "x" * 100_000, "a\0b", "\ud800", "\u202eevil", "Löse #1"]
)
def test_a_title_is_made_fit_to_be_stored_and_shown(title: Any) -> None:
    payload = pull_request()
    payload["pull_request"]["title"] = title
    found = call("github", {"x-github-event": "pull_request"}, payload).pull_request
    assert found is not None
    assert found.title.isprintable()
    assert len(found.title) <= 200
    found.title.encode()
    assert (found.title == title) == (title == "Löse #1")


def test_a_delivery_is_made_fit_to_be_logged() -> None:
    notice = call("github", {"x-github-event": "push", "x-github-delivery": "a\x1b\n" * 500}, push())
    assert notice.delivery.isprintable()
    assert len(notice.delivery) == 200


@pytest.mark.parametrize("payload", [push(), named(), pull_request()])
@pytest.mark.parametrize("event", ["push", "create", "delete", "pull_request", "ping"])
def test_nothing_of_a_payload_is_a_place_to_go_to(event: str, payload: dict[str, Any]) -> None:
    try:
        notice = call("github", {"x-github-event": event}, payload)
    except Refused:
        return
    assert ELSEWHERE not in notice.model_dump_json()


# -- mutations

CALLS: list[tuple[ForgeKind, dict[str, str], Callable[[], dict[str, Any]]]] = [
    ("github", {"x-github-event": "push"}, push),
    ("github", {"x-github-event": "delete"}, named),
    ("github", {"x-github-event": "pull_request"}, pull_request),
    ("gitea", {"x-gitea-event": "push"}, push),
    ("gitea", {"x-forgejo-event": "create"}, named),
    ("gitea", {"x-gitea-event": "pull_request"}, pull_request),
    ("gitlab", {}, gitlab_push),
    ("gitlab", {}, merge_request),
]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    LEAVES | st.text(max_size=20) | st.sampled_from(["refs/heads/main", SHA, ZEROS, "open", "branch", "x" * 3000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in inside for place in ((*path, key), *places(inner, (*path, key)))]


@settings(max_examples=400)
@given(st.sampled_from(CALLS), st.data())
def test_a_changed_payload_is_a_notice_or_refused(
    known: tuple[ForgeKind, dict[str, str], Callable[[], dict[str, Any]]], data: st.DataObject
) -> None:
    forge, headers, build = known
    payload = copy.deepcopy(build())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(payload)))
        around: Any = payload
        for key in path[:-1]:
            around = around[key]
        if data.draw(st.booleans()):
            del around[path[-1]]
        else:
            around[path[-1]] = data.draw(VALUES)
        if not payload:
            break
    try:
        notice = call(forge, headers, payload)
    except Refused as refused:
        told = refused
    else:
        assert Notice.model_validate_json(notice.model_dump_json()) == notice
        assert len(notice.model_dump_json()) < 10_000
        return
    assert (told.problem, told.remedy) > ("", "")
    assert told.where.startswith("body")


@settings(max_examples=200)
@given(
    st.sampled_from(["github", "gitlab", "gitea"]),
    st.binary(max_size=60) | VALUES.map(lambda v: json.dumps(v).encode()),
)
def test_no_bytes_crash_it(forge: ForgeKind, body: bytes) -> None:
    headers = {"x-github-event": "pull_request", "x-gitea-event": "push"}
    try:
        call(forge, headers, body)
    except Refused as refused:
        told = refused.problem
        assert told.isprintable()
