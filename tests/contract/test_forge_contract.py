"""Forges: GitHub, GitLab and Gitea as they document their APIs, over real sockets, and the fake that stands for them.

Every request to GitHub and every answer of the server here is held against GitHub's own OpenAPI description.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import jsonschema
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from interlock.edges.forge import GiteaForge, GitHubApp, GitHubForge, GitLabForge, MemoryForge
from interlock.edges.forge.answers import check_answer
from interlock.edges.forge.wire import Wire, check_address
from interlock.errors import ForgeFault, Refused
from interlock.feedback.status import LONGEST_COMMENT, Comment, Proposal, Status
from interlock.ports import Forge
from interlock.source.repository import PullRequest

TESTS = Path(__file__).resolve().parents[1]
OPENAPI = "23.0.2"
SHA = "c" * 40
TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
US, EVE = 41, 66
PENDING = Status(context="interlock", state="pending", description="runs", url="https://ci.example/runs/12")
SUCCESS = Status(context="interlock", state="success", description="passed")
GATE = Status(context="interlock/gate: auc min 0.7", state="failure", description="failed: 0.6 is below min 0.7")
FIRST = Comment(pull_request=7, body="### Interlock: runs")
SECOND = Comment(pull_request=7, body="### Interlock: passed")
REVERT = Proposal(branch="interlock/revert-rollout-4-bbbbbbbbbb", base="main", title="Revert it", body="because")


# --- a server that answers as the forges document -------------------------------------------------------------------


class Call(NamedTuple):
    """One request with its answer."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    status: int
    answer: Any


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Mapping[str, str] = {}


class World:
    """What the forge holds; ``script`` are answers given instead, one for each request."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.statuses: dict[str, list[dict[str, Any]]] = {SHA: []}
        self.comments: dict[int, list[dict[str, Any]]] = {7: []}
        self.pulls: list[dict[str, Any]] = []
        self.script: list[Callable[[BaseHTTPRequestHandler], Answer | None]] = []
        self.tokens = {TOKEN: US}
        self.app_key: rsa.RSAPublicKey | None = None
        self.now = time.time()

    def proposed(self, number: int, source: str = "home", branch: str = "topic", is_open: bool = True) -> None:
        """One more pull request, which changed last."""
        made = {"number": number, "title": f"Topic {number}", "from": source, "branch": branch, "open": is_open}
        self.pulls.insert(0, {**made, "sha": f"{number:040x}"})

    def asked_for(self, branch: str, base: str, title: str, body: str) -> dict[str, Any] | None:
        """One more from a branch of the repository; None where the branch has one that is open."""
        assert base == "main"
        if any(one["branch"] == branch and one["open"] and one["from"] == "home" for one in self.pulls):
            return None
        self.proposed(len(self.pulls) + 1, branch=branch)
        self.pulls[0] |= {"title": title, "body": body}
        return self.pulls[0]

    def written(self, author: int, body: str, by_app: bool = False) -> dict[str, Any]:
        number = 100 + sum(len(comments) for comments in self.comments.values())
        made = {"id": number, "body": body, "author": author, "by_app": by_app}
        self.comments[7].append(made)
        return made


class Service(BaseHTTPRequestHandler):
    """One request: authenticate, find the route, answer."""

    world: World

    def handle_one(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        body = json.loads(content) if content else None
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        scripted = self.world.script.pop(0) if self.world.script else None
        answer = scripted(self) if scripted else route(self.world, self.command, parts.path, query, self.headers, body)
        if answer is None:
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.world.calls.append(
            Call(self.command, parts.path, query, headers, body, answer.status, answer.body if not scripted else None)
        )
        told = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = do_PUT = do_PATCH = handle_one  # noqa: N815  # the names that http.server looks for

    def log_message(self, *_: object) -> None:
        pass


Route = Callable[[World, "re.Match[str]", dict[str, str], Any, int], Answer]
ROUTES: list[tuple[str, str, Route]] = []


def at(method: str, path: str) -> Callable[[Route], Route]:
    def register(handler: Route) -> Route:
        ROUTES.append((method, path, handler))
        return handler

    return register


def route(world: World, method: str, path: str, query: dict[str, str], headers: Any, body: Any) -> Answer:
    if "/access_tokens" in path:
        return app_token(world, path, headers.get("Authorization", ""))
    sent = headers.get("Authorization", "").removeprefix("Bearer ").removeprefix("token ")
    user = world.tokens.get(headers.get("PRIVATE-TOKEN") or sent)
    if user is None:
        return Answer(401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"})
    for wanted, pattern, handler in ROUTES:
        matched = re.fullmatch(pattern, path)
        if wanted == method and matched:
            return handler(world, matched, query, body, user)
    return Answer(404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"})


def page_of(items: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    size, page = int(query.get("per_page", "30")), int(query.get("page", "1"))
    return items[(page - 1) * size : page * size]


WHEN = "2026-11-23T08:00:00Z"
APP = 0
"""The user that a token of an app's installation stands for: none that can be asked for."""


def github_user(number: int) -> dict[str, Any]:
    links = "avatar events followers following gists html organizations received_events repos starred subscriptions"
    return {
        **{f"{name}_url": "https://api.github.com/x" for name in links.split()},
        "url": "https://api.github.com/x",
        "id": number or 999,
        "node_id": "MDQ",
        "login": f"user-{number}",
        "gravatar_id": "",
        "type": "User" if number else "Bot",
        "site_admin": False,
    }


def github_comment(made: dict[str, Any]) -> dict[str, Any]:
    app = {
        "id": 5,
        "node_id": "x",
        "owner": github_user(US),
        "name": "Interlock",
        "description": None,
        "external_url": "https://ci.example",
        "html_url": "https://github.com/apps/interlock",
        "created_at": WHEN,
        "updated_at": WHEN,
        "permissions": {"statuses": "write"},
        "events": [],
    }
    return {
        "id": made["id"],
        "node_id": "x",
        "url": "https://api.github.com/x",
        "html_url": "https://github.com/x",
        "issue_url": "https://api.github.com/x",
        "user": github_user(made["author"]),
        "body": made["body"],
        "created_at": WHEN,
        "updated_at": WHEN,
        "author_association": "NONE",
        "performed_via_github_app": app if made["by_app"] else None,
    }


@at("GET", "/user")
def read_github_user(_world: World, _path: re.Match[str], _query: dict[str, str], _body: Any, user: int) -> Answer:
    if user == APP:
        return Answer(403, {"message": "Resource not accessible by integration"})
    numbers = dict.fromkeys(("followers", "following", "public_gists", "public_repos"), 0)
    words = dict.fromkeys(("bio", "blog", "company", "email", "location", "name"), None)
    about = {**words, "blog": "", "hireable": None, "created_at": WHEN, "updated_at": WHEN}
    return Answer(200, {**github_user(user), **numbers, **about})


@at("POST", "/repos/octo/flights/statuses/([^/]+)")
def set_github_status(world: World, path: re.Match[str], _query: dict[str, str], body: Any, user: int) -> Answer:
    if path[1] not in world.statuses:
        return Answer(422, {"message": f"No commit found for SHA: {path[1]}", "documentation_url": "https://x"})
    world.statuses[path[1]].append({"state": body["state"], "context": body["context"], **body})
    shown = {name: body.get(name) for name in ("state", "description", "target_url", "context")}
    about = {"url": "https://x", "avatar_url": None, "id": 1, "node_id": "x", "created_at": WHEN, "updated_at": WHEN}
    return Answer(201, {**shown, **about, "creator": github_user(user)})


@at("GET", "/repos/octo/flights/issues/([0-9]+)/comments")
def list_github_comments(world: World, path: re.Match[str], query: dict[str, str], _body: Any, _user: int) -> Answer:
    if int(path[1]) not in world.comments:
        return Answer(404, {"message": "Not Found"})
    return Answer(200, [github_comment(made) for made in page_of(world.comments[int(path[1])], query)])


@at("POST", "/repos/octo/flights/issues/([0-9]+)/comments")
def add_github_comment(world: World, path: re.Match[str], _query: dict[str, str], body: Any, user: int) -> Answer:
    if len(body["body"]) > LONGEST_COMMENT:
        return Answer(422, {"message": "Validation Failed", "documentation_url": "https://x"})
    return Answer(201, github_comment(world.written(user, body["body"], by_app=user == APP)))


@at("PATCH", "/repos/octo/flights/issues/comments/([0-9]+)")
def edit_github_comment(world: World, path: re.Match[str], _query: dict[str, str], body: Any, _user: int) -> Answer:
    (made,) = [made for made in world.comments[7] if made["id"] == int(path[1])]
    made["body"] = body["body"]
    return Answer(200, github_comment(made))


# --- pull requests, as each forge lists them ---


def github_like(one: dict[str, Any], label: bool) -> dict[str, Any]:
    """An entry of a list of pull requests of GitHub's or Gitea's."""
    home = {"id": 5, "full_name": "octo/flights"}
    other = None if one["from"] == "nowhere" else {"id": 6, "full_name": "eve/flights"}
    head = {"ref": one["branch"], "sha": one["sha"], "repo": home if one["from"] == "home" else other}
    return {
        "number": one["number"],
        "title": one["title"],
        "state": "open" if one["open"] else "closed",
        "user": {"login": "ada"},
        "head": {**head, **({"label": one["branch"]} if label else {})},
        "base": {"ref": "main", "sha": "e" * 40, "repo": home},
    }


@at("GET", "/repos/octo/flights/pulls")
def list_github_pulls(world: World, _path: re.Match[str], query: dict[str, str], _body: Any, _user: int) -> Answer:
    assert (query["state"], query["sort"], query["direction"]) == ("all", "updated", "desc")
    return Answer(200, [github_like(one, label=False) for one in page_of(world.pulls, query)])


@at("POST", "(?:/api/v1)?/repos/octo/flights/pulls")
def add_github_pull(world: World, path: re.Match[str], _query: dict[str, str], body: Any, _user: int) -> Answer:
    made = world.asked_for(body["head"], body["base"], body["title"], body["body"])
    if made is None:
        return Answer(409 if path[0].startswith("/api") else 422, {"message": "A pull request already exists"})
    return Answer(201, github_like(made, label=path[0].startswith("/api")))


@at("POST", "/api/v4/projects/octo%2Fdeep%2Fflights/merge_requests")
def add_merge_request(world: World, _path: re.Match[str], _query: dict[str, str], body: Any, _user: int) -> Answer:
    made = world.asked_for(body["source_branch"], body["target_branch"], body["title"], body["description"])
    if made is None:
        return Answer(409, {"message": ["Another open merge request already exists for this source branch: !1"]})
    return Answer(201, gitlab_like(made))


@at("GET", "/api/v1/repos/octo/flights/pulls")
def list_gitea_pulls(world: World, _path: re.Match[str], query: dict[str, str], _body: Any, _user: int) -> Answer:
    assert (query["state"], query["sort"]) == ("all", "recentupdate")
    shown = page_of(world.pulls, {"per_page": query["limit"], "page": query["page"]})
    return Answer(200, [github_like(one, label=True) for one in shown])


@at("GET", "/api/v4/projects/octo%2Fdeep%2Fflights/merge_requests")
def list_merge_requests(world: World, _path: re.Match[str], query: dict[str, str], _body: Any, _user: int) -> Answer:
    assert (query["state"], query["order_by"], query["sort"]) == ("all", "updated_at", "desc")
    return Answer(200, [gitlab_like(one) for one in page_of(world.pulls, query)])


def gitlab_like(one: dict[str, Any]) -> dict[str, Any]:
    """A merge request of GitLab's."""
    return {
        "id": 900 + one["number"],
        "iid": one["number"],
        "title": one["title"],
        "state": "opened" if one["open"] else "merged",
        "author": {"id": 3, "username": "ada"},
        "source_branch": one["branch"],
        "target_branch": "main",
        "source_project_id": {"home": 5, "fork": 6, "nowhere": None}[one["from"]],
        "target_project_id": 5,
        "sha": one["sha"],
    }


def app_token(world: World, path: str, authorization: str) -> Answer:
    """As GitHub checks an app's JSON Web Token: its signature, its issuer, and its times by GitHub's clock."""
    assert world.app_key is not None
    signed, _, signature = authorization.removeprefix("Bearer ").rpartition(".")
    world.app_key.verify(unpad(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    header, claims = (json.loads(unpad(part)) for part in signed.split("."))
    assert header == {"alg": "RS256", "typ": "JWT"}
    assert claims["iss"] == "5"
    if claims["iat"] > world.now or not world.now < claims["exp"] <= world.now + 600:
        return Answer(401, {"message": "'Issued at' claim ('iat') must be an Integer representing the time"})
    if path != "/app/installations/8/access_tokens":
        return Answer(404, {"message": "Not Found"})
    token = f"ghs_{len(world.tokens)}"
    world.tokens[token] = APP
    expires = datetime.fromtimestamp(world.now, UTC) + timedelta(hours=1)
    return Answer(201, {"token": token, "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%SZ")})


def unpad(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@at("POST", "/api/v4/projects/octo%2Fdeep%2Fflights/statuses/([^/]+)")
def set_gitlab_status(world: World, path: re.Match[str], _query: dict[str, str], body: Any, _user: int) -> Answer:
    known = world.statuses.get(path[1])
    if known is None:
        return Answer(404, {"message": "404 Commit Not Found"})
    assert body["state"] in ("pending", "running", "success", "failed", "canceled", "skipped")
    unfinished = [one for one in known if one["context"] == body["name"] and one["gitlab"] == "pending"]
    if unfinished and body["state"] == "pending":
        reason = (
            'Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via "enqueue")'
        )
        return Answer(400, {"message": reason})
    names = {"failed": "failure"}
    state = names.get(body["state"], body["state"])
    made = {**body, "context": body["name"], "gitlab": body["state"], "state": state}
    if unfinished:
        unfinished[-1].update(made)
    else:
        known.append(made)
    return Answer(201, {"id": 1, "sha": path[1], "status": body["state"], "name": body["name"]})


def gitlab_note(made: dict[str, Any]) -> dict[str, Any]:
    author = {"id": made["author"], "username": "x", "name": "x", "state": "active"}
    return {"id": made["id"], "body": made["body"], "author": author, "system": False, "created_at": WHEN}


@at("GET", "/api/v[14]/user")
def read_user(_world: World, _path: re.Match[str], _query: dict[str, str], _body: Any, user: int) -> Answer:
    return Answer(200, {"id": user, "username": "interlock", "login": "interlock"})


@at("GET", "/api/v4/projects/octo%2Fdeep%2Fflights/merge_requests/([0-9]+)/notes")
def list_notes(world: World, path: re.Match[str], query: dict[str, str], _body: Any, _user: int) -> Answer:
    if int(path[1]) not in world.comments:
        return Answer(404, {"message": "404 Not found"})
    assert (query["sort"], query["order_by"]) == ("asc", "created_at")
    return Answer(200, [gitlab_note(made) for made in page_of(world.comments[int(path[1])], query)])


@at("POST", "/api/v4/projects/octo%2Fdeep%2Fflights/merge_requests/([0-9]+)/notes")
def add_note(world: World, _path: re.Match[str], _query: dict[str, str], body: Any, user: int) -> Answer:
    return Answer(201, gitlab_note(world.written(user, body["body"])))


@at("PUT", "/api/v4/projects/octo%2Fdeep%2Fflights/merge_requests/7/notes/([0-9]+)")
def edit_note(world: World, path: re.Match[str], query: dict[str, str], body: Any, user: int) -> Answer:
    edit_github_comment(world, path, query, body, user)
    return Answer(200, {"id": int(path[1])})


@at("POST", "/api/v1/repos/octo/flights/statuses/([^/]+)")
def set_gitea_status(world: World, path: re.Match[str], _query: dict[str, str], body: Any, _user: int) -> Answer:
    if path[1] not in world.statuses:
        return Answer(404, {"message": "object does not exist", "url": "https://x"})
    assert set(body) == {"state", "context", "description", "target_url"}
    world.statuses[path[1]].append(body)
    return Answer(201, {"id": 1, "status": body["state"], "context": body["context"]})


@at("GET", "/api/v1/repos/octo/flights/issues/([0-9]+)/comments")
def list_gitea_comments(world: World, path: re.Match[str], _query: dict[str, str], _body: Any, _user: int) -> Answer:
    """All at once: Gitea knows no pages of one issue's comments."""
    if int(path[1]) not in world.comments:
        return Answer(404, {"message": "not found"})
    found = [{"id": made["id"], "body": made["body"], "user": {"id": made["author"]}} for made in world.comments[7]]
    return Answer(200, found)


@at("POST", "/api/v1/repos/octo/flights/issues/([0-9]+)/comments")
def add_gitea_comment(world: World, _path: re.Match[str], _query: dict[str, str], body: Any, user: int) -> Answer:
    return Answer(201, {"id": world.written(user, body["body"])["id"]})


@at("PATCH", "/api/v1/repos/octo/flights/issues/comments/([0-9]+)")
def edit_gitea_comment(world: World, path: re.Match[str], query: dict[str, str], body: Any, user: int) -> Answer:
    return edit_github_comment(world, path, query, body, user)


def serve(world: World) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Serving", (Service,), {"world": world}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def address(world: World) -> Iterator[str]:
    server = serve(world)
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


# --- the contract ---------------------------------------------------------------------------------------------------


class Desk(Protocol):
    """A forge, and what somebody who looks at it sees."""

    forge: Forge

    def statuses(self) -> dict[str, tuple[str, str]]: ...
    def comments(self) -> list[str]: ...


class ServedDesk:
    def __init__(self, forge: Forge, world: World) -> None:
        self.forge = forge
        self._world = world

    def statuses(self) -> dict[str, tuple[str, str]]:
        return {one["context"]: (one["state"], one["description"]) for one in self._world.statuses[SHA]}

    def comments(self) -> list[str]:
        return [made["body"] for made in self._world.comments[7]]


class MemoryDesk:
    def __init__(self) -> None:
        self.forge = MemoryForge(commits={SHA})

    def statuses(self) -> dict[str, tuple[str, str]]:
        found = self.forge.statuses.get(SHA, {})
        return {name: (status.state, status.description) for name, status in found.items()}

    def comments(self) -> list[str]:
        return list(self.forge.comments.get(7, {}).values())


FORGES: dict[str, Callable[[str], Forge]] = {
    "github": lambda address: GitHubForge(address, "octo/flights", lambda: TOKEN),
    "gitlab": lambda address: GitLabForge(address, "octo/deep/flights", lambda: TOKEN),
    "gitea": lambda address: GiteaForge(f"{address}/api/v1/", "octo/flights", lambda: f" {TOKEN}\n"),
}


@pytest.fixture(params=[*FORGES, "memory"])
def desk(request: pytest.FixtureRequest, world: World, address: str) -> Desk:
    return MemoryDesk() if request.param == "memory" else ServedDesk(FORGES[request.param](address), world)


@pytest.fixture(params=list(FORGES))
def forge(request: pytest.FixtureRequest, address: str) -> Forge:
    return FORGES[request.param](address)


def test_the_newest_status_of_a_context_counts(desk: Desk) -> None:
    for status in (PENDING, GATE, SUCCESS):
        desk.forge.set_status(SHA, status)
    assert desk.statuses() == {
        "interlock": ("success", "passed"),
        "interlock/gate: auc min 0.7": ("failure", "failed: 0.6 is below min 0.7"),
    }


@pytest.mark.parametrize("state", ["pending", "success", "failure"])
def test_a_status_told_twice_is_the_same_as_told_once(desk: Desk, state: str) -> None:
    status = Status.model_validate({"context": "interlock", "state": state, "description": "d"})
    desk.forge.set_status(SHA, status)
    desk.forge.set_status(SHA, status)
    assert desk.statuses() == {"interlock": (state, "d")}


def test_an_error_is_never_shown_as_good(desk: Desk) -> None:
    desk.forge.set_status(SHA, SUCCESS.model_copy(update={"state": "error"}))
    assert desk.statuses()["interlock"][0] in ("error", "failure")


def test_a_commit_that_is_not_there_is_refused(desk: Desk) -> None:
    with pytest.raises(Refused) as refused:
        desk.forge.set_status("d" * 40, SUCCESS)
    assert refused.value.remedy


def test_one_comment_is_made_and_then_kept_as_it_should_be(desk: Desk) -> None:
    for comment in (FIRST, FIRST, SECOND, SECOND):
        desk.forge.put_comment(comment)
    assert desk.comments() == ["<!-- interlock -->\n### Interlock: passed"]


def test_each_mark_has_a_comment_of_its_own(desk: Desk) -> None:
    other = FIRST.model_copy(update={"mark": "<!-- interlock 0123 -->"})
    for comment in (FIRST, other, SECOND):
        desk.forge.put_comment(comment)
    assert sorted(desk.comments()) == [
        "<!-- interlock -->\n### Interlock: passed",
        "<!-- interlock 0123 -->\n### Interlock: runs",
    ]


# --- pull requests ---


def test_pull_requests_are_listed_with_whose_they_are(forge: Forge, world: World) -> None:
    world.proposed(1)
    world.proposed(2, "fork")
    world.proposed(3, "nowhere")
    world.proposed(4, is_open=False)
    listed = {pull.number: pull for pull in forge.pull_requests()}
    assert list(listed) == [4, 3, 2, 1]
    one = PullRequest(
        number=1, title="Topic 1", base="main", head=f"{1:040x}", head_branch="topic", is_fork=False, author="ada"
    )
    assert listed[1] == one
    assert [pull.number for pull in listed.values() if pull.is_fork] == [3, 2]
    assert [pull.number for pull in listed.values() if not pull.is_open] == [4]


def test_a_branch_that_no_webhook_could_name_hides_no_other(forge: Forge, world: World) -> None:
    world.proposed(1)
    world.proposed(2, "fork", branch="a\u202eb")
    assert [pull.number for pull in forge.pull_requests()] == [1]


def test_pages_are_asked_for_as_far_as_they_are_read_and_no_more_than_ten(forge: Forge, world: World) -> None:
    for number in range(1, 121):
        world.proposed(number)
    listed = forge.pull_requests()
    assert [next(listed).number for _ in range(50)] == list(range(120, 70, -1))
    assert len(world.calls) == 1
    assert [pull.number for pull in listed] == list(range(70, 0, -1))
    assert len(world.calls) == 3
    for number in range(121, 701):
        world.proposed(number)
    assert len(list(forge.pull_requests())) == 500


def test_a_list_that_is_none_is_a_fault(forge: Forge, world: World) -> None:
    world.script.append(lambda _: Answer(200, {"message": "hello"}))
    with pytest.raises(ForgeFault, match="without the list"):
        next(forge.pull_requests())


def test_gitea_lets_anybody_push_for_review_and_that_is_from_outside(world: World, address: str) -> None:
    world.proposed(1, branch="refs/pull/1/head")
    assert next(FORGES["gitea"](address).pull_requests()).is_fork


def test_a_branch_has_one_pull_request_however_often_it_is_proposed(desk: Desk) -> None:
    numbers = {desk.forge.put_pull_request(REVERT) for _ in range(3)}
    (made,) = desk.forge.pull_requests()
    assert numbers == {made.number}
    told = (made.head_branch, made.base, made.title, made.is_fork, made.is_open)
    assert told == (REVERT.branch, "main", "Revert it", False, True)


def test_a_pull_request_has_the_text_and_is_asked_for_once(forge: Forge, world: World) -> None:
    for _ in range(3):
        forge.put_pull_request(REVERT)
    assert [made["body"] for made in world.pulls] == ["because"]
    assert [call.method for call in world.calls].count("POST") == 1


def test_one_that_people_closed_is_not_opened_again(forge: Forge, world: World) -> None:
    world.proposed(1, branch=REVERT.branch, is_open=False)
    assert forge.put_pull_request(REVERT) == 1
    assert len(world.pulls) == 1


def test_one_of_a_fork_whose_branch_has_the_same_name_is_not_ours(forge: Forge, world: World) -> None:
    world.proposed(1, "fork", branch=REVERT.branch)
    assert forge.put_pull_request(REVERT) == 2


def test_a_proposal_whose_answer_was_lost_is_found(forge: Forge, world: World) -> None:
    def lose_answer(handler: BaseHTTPRequestHandler) -> Answer | None:
        world.asked_for(REVERT.branch, REVERT.base, REVERT.title, REVERT.body)
        return Answer(502, b"")

    world.script = [lambda _: Answer(200, []), lose_answer]
    with pytest.raises(ForgeFault):
        forge.put_pull_request(REVERT)
    assert forge.put_pull_request(REVERT) == 1
    assert len(world.pulls) == 1


# --- what only a real forge can do ----------------------------------------------------------------------------------


def test_comments_of_others_are_left_alone_though_they_carry_the_mark(forge: Forge, world: World) -> None:
    world.written(EVE, "<!-- interlock -->\n### Interlock: passed")
    world.written(US, "a word about <!-- interlock -->")
    forge.put_comment(FIRST)
    forge.put_comment(SECOND)
    assert [made["body"] for made in world.comments[7]] == [
        "<!-- interlock -->\n### Interlock: passed",
        "a word about <!-- interlock -->",
        "<!-- interlock -->\n### Interlock: passed",
    ]


def test_our_comment_is_found_on_a_later_page(forge: Forge, world: World) -> None:
    for number in range(120):
        world.written(EVE, f"me too {number}")
    forge.put_comment(FIRST)
    forge.put_comment(SECOND)
    assert len(world.comments[7]) == 121
    assert world.comments[7][-1]["body"].endswith("passed")


def test_nothing_is_written_where_the_comment_is_as_it_should_be(forge: Forge, world: World) -> None:
    forge.put_comment(FIRST)
    world.calls.clear()
    forge.put_comment(FIRST)
    assert {call.method for call in world.calls} == {"GET"}


def test_a_comment_is_cut_to_what_forges_take(forge: Forge, world: World) -> None:
    forge.put_comment(FIRST.model_copy(update={"body": "é" * 100_000}))
    assert len(world.comments[7][0]["body"]) == LONGEST_COMMENT


def test_a_pull_request_that_is_not_there_is_refused(forge: Forge) -> None:
    with pytest.raises(Refused):
        forge.put_comment(FIRST.model_copy(update={"pull_request": 8}))


def answering(status: int, body: Any = b"{}", **headers: str) -> Callable[[BaseHTTPRequestHandler], Answer]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _handler: Answer(status, body, named)


SECRET_BODY = {"message": f"internal: {TOKEN} at 10.0.0.1"}


@pytest.mark.parametrize("status", [401, 403, 404, 410, 418, 422])
def test_what_will_not_go_better_is_refused_with_a_remedy(forge: Forge, world: World, status: int) -> None:
    world.script = [answering(status, SECRET_BODY)]
    with pytest.raises(Refused) as refused:
        forge.set_status(SHA, SUCCESS)
    told = str(refused.value)
    assert str(status) in told
    assert refused.value.remedy
    assert TOKEN not in told
    assert "10.0.0.1" not in told


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504])
def test_what_may_go_better_is_a_fault(forge: Forge, world: World, status: int) -> None:
    world.script = [answering(status, SECRET_BODY)]
    with pytest.raises(ForgeFault) as fault:
        forge.set_status(SHA, SUCCESS)
    assert str(status) in str(fault.value)
    assert fault.value.retry_after is None
    assert TOKEN not in str(fault.value)
    assert "10.0.0.1" not in str(fault.value)
    forge.set_status(SHA, SUCCESS)


SOON = "in five minutes"
"""Stands for that moment, which is taken when the test runs."""
LIMITS: list[tuple[int, dict[str, str], float, float]] = [
    (429, {"Retry_After": "77"}, 77, 77),
    (503, {"Retry_After": "5"}, 5, 5),
    (403, {"Retry_After": "30"}, 30, 30),
    (429, {}, 60, 60),
    (429, {"Retry_After": "soon"}, 60, 60),
    (429, {"Retry_After": SOON}, 290, 300),
    (429, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1"}, 1, 1),
    (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": SOON}, 290, 300),
    (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "never"}, 60, 60),
    (403, {"x_ratelimit_remaining": "0"}, 60, 60),
    (429, {"RateLimit_Remaining": "0", "RateLimit_Reset": SOON}, 290, 300),
]


@pytest.mark.parametrize(("status", "headers", "least", "most"), LIMITS)
def test_a_limit_says_when_to_come_again(
    forge: Forge, world: World, status: int, headers: dict[str, str], least: float, most: float
) -> None:
    then = int(time.time()) + 300
    soon = {"Retry_After": format_datetime(datetime.fromtimestamp(then, UTC), usegmt=True)}
    said = {name: soon.get(name, str(then)) if text == SOON else text for name, text in headers.items()}
    world.script = [answering(status, **said)]
    with pytest.raises(ForgeFault) as fault:
        forge.set_status(SHA, SUCCESS)
    assert fault.value.retry_after is not None
    assert least <= fault.value.retry_after <= most


def test_a_limit_is_told_by_the_clock_of_the_forge(world: World, address: str) -> None:
    dated = {"Date": "Mon, 23 Nov 2026 08:00:00 GMT"}
    reset = int(datetime(2026, 11, 23, 8, 2, tzinfo=UTC).timestamp())
    response = httpx.Response(403, headers={**dated, "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)})
    with pytest.raises(ForgeFault) as fault:
        check_answer("https://forge", "POST /x", response, ())
    assert fault.value.retry_after == 120


def test_a_limit_met_while_asking_who_we_are_is_no_answer_to_it(world: World, address: str) -> None:
    world.script = [answering(403, Retry_After="30")]
    with pytest.raises(ForgeFault):
        FORGES["github"](address).put_comment(FIRST)
    assert world.comments[7] == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_its_target_hears_nothing(forge: Forge, world: World, status: int) -> None:
    elsewhere = World()
    server = serve(elsewhere)
    target = f"http://127.0.0.1:{server.server_address[1]}/repos/octo/flights/statuses/{SHA}"
    try:
        world.script = [answering(status, b"", Location=target)]
        with pytest.raises(Refused) as refused:
            forge.set_status(SHA, SUCCESS)
        assert "never sent on" in refused.value.remedy
        assert elsewhere.calls == []
    finally:
        server.shutdown()
        server.server_close()


def test_proxies_of_the_environment_are_not_used(forge: Forge, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    forge.set_status(SHA, SUCCESS)
    assert len(world.statuses[SHA]) == 1


@pytest.mark.parametrize("body", [b"<html>", b"\xff\xfe", b'"text"', b"[]", b"{}", b"", b'{"id": "41"}'])
def test_an_answer_of_another_shape_is_a_fault(forge: Forge, world: World, body: bytes) -> None:
    world.script = [answering(200, body)]
    with pytest.raises(ForgeFault):
        forge.put_comment(FIRST)
    world.script = [answering(200, {"id": US}), answering(200, body if body != b"[]" else b"[{}]")]
    with pytest.raises(ForgeFault):
        forge.put_comment(FIRST)


def test_an_answer_without_end_is_a_fault(world: World, address: str) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(201)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        for _ in range(100):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return
            time.sleep(0.05)

    world.script = [drip]
    wire = Wire(address, lambda: TOKEN, lambda token: {"Authorization": token}, seconds=0.5)
    with pytest.raises(ForgeFault, match=r"no answer in 0\.5 s"):
        wire.ask("POST", "/x", {})


def test_a_forge_that_never_answers_is_a_fault(world: World, address: str) -> None:
    world.script = [lambda _handler: time.sleep(1.5)]
    wire = Wire(address, lambda: TOKEN, lambda token: {"Authorization": token}, seconds=0.3)
    with pytest.raises(ForgeFault, match=r"no answer in 0\.3 s"):
        wire.ask("GET", "/user")


@pytest.mark.parametrize(
    "answer", [f"{TOKEN} at 10.0.0.1\r\n\r\n".encode(), b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{", b""]
)
def test_an_answer_that_is_no_http_is_a_fault_and_not_shown(forge: Forge, world: World, answer: bytes) -> None:
    world.script = [lambda handler: handler.wfile.write(answer) and None]
    with pytest.raises(ForgeFault, match="the connection broke") as fault:
        forge.set_status(SHA, SUCCESS)
    assert TOKEN not in str(fault.value)
    assert "10.0.0.1" not in str(fault.value)


def test_an_answer_that_is_too_big_is_a_fault(world: World, address: str) -> None:
    world.script = [answering(200, b'"' + b"x" * 17 * 1024 * 1024 + b'"')]
    with pytest.raises(ForgeFault, match="more than"):
        FORGES["gitea"](address).put_comment(FIRST)


def test_a_forge_that_is_not_there_is_a_fault_without_the_token(world: World) -> None:
    server = serve(world)
    server.shutdown()
    server.server_close()
    with pytest.raises(ForgeFault) as fault:
        FORGES["github"](f"http://127.0.0.1:{server.server_address[1]}").set_status(SHA, SUCCESS)
    assert "cannot be reached" in str(fault.value)
    assert TOKEN not in str(fault.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with the key and the certificate of ``localhost``, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "both.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + made.public_bytes(encoding))
    return pem


@pytest.fixture
def safe_address(world: World, certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Serving", (Service,), {"world": world}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client may hang up, as it should
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"https://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_certificate_that_nobody_vouches_for_ends_it(world: World, safe_address: str) -> None:
    with pytest.raises(ForgeFault, match="CERTIFICATE_VERIFY_FAILED"):
        FORGES["github"](safe_address).set_status(SHA, SUCCESS)
    assert world.calls == []


def test_an_authority_of_ones_own_is_named_by_the_environment(
    world: World, safe_address: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    forge = FORGES["github"](safe_address)
    forge.set_status(SHA, SUCCESS)
    with pytest.raises(ForgeFault, match="CERTIFICATE_VERIFY_FAILED"):
        FORGES["github"](safe_address.replace("localhost", "127.0.0.1")).set_status(SHA, SUCCESS)
    assert len(world.statuses[SHA]) == 1


@pytest.mark.parametrize(
    ("api", "is_good"),
    [
        ("https://api.github.com", True),
        ("https://git.example/api/v3/", True),
        ("http://localhost:3000", True),
        ("http://127.0.0.9:3000", True),
        ("http://[::1]:3000", True),
        ("http://git.example", False),
        ("http://10.0.0.1", False),
        ("http://127.0.0.1.evil.example", False),
        ("ftp://git.example", False),
        ("git.example", False),
        ("https://me:secret@git.example", False),
        ("https://git.example/?a=b", False),
        ("https://git.example/#a", False),
        ("", False),
    ],
)
def test_tokens_go_to_plain_https_addresses_only(api: str, is_good: bool) -> None:
    if is_good:
        assert check_address(api) == api.rstrip("/")
    else:
        with pytest.raises(Refused) as refused:
            check_address(api)
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "project", ["flights", "octo/flights/x", "../octo", "octo/..", "octo/a b", "octo/a?b", "/", ""]
)
def test_a_project_of_another_form_is_refused(project: str) -> None:
    for kind in (GitHubForge, GiteaForge):
        with pytest.raises(Refused):
            kind("https://forge.example", project, lambda: TOKEN)


def test_gitlab_wants_a_project() -> None:
    with pytest.raises(Refused):
        GitLabForge("https://gitlab.example", "/", lambda: TOKEN)


@pytest.mark.parametrize("token", ["", " ", "two\nlines", "ü", "a\x00b"])
def test_a_token_that_is_none_is_refused_and_not_shown(address: str, world: World, token: str) -> None:
    with pytest.raises(Refused) as refused:
        GitHubForge(address, "octo/flights", lambda: token).set_status(SHA, SUCCESS)
    assert "lines" not in str(refused.value)
    assert world.calls == []


def test_gitlab_refuses_a_status_for_another_reason_than_that_it_is_so(world: World, address: str) -> None:
    world.script = [answering(400, {"message": "state does not have a valid value"})]
    with pytest.raises(Refused):
        FORGES["gitlab"](address).set_status(SHA, PENDING)
    world.script = [answering(400, {"message": "Cannot transition status via :drop from :failed"})]
    with pytest.raises(ForgeFault):
        FORGES["gitlab"](address).set_status(SHA, GATE)


# --- a GitHub App ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem_of(key: Any) -> str:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return str(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode())


def asked_for_tokens(world: World) -> int:
    return sum("access_tokens" in call.path for call in world.calls)


def test_an_app_tells_with_tokens_of_its_installation(world: World, address: str, app_key: rsa.RSAPrivateKey) -> None:
    world.app_key = app_key.public_key()
    app = GitHubApp(address, 5, 8, pem_of(app_key), lambda: world.now)
    forge = GitHubForge(address, "octo/flights", app)
    world.written(US, "<!-- interlock -->\nby a person", by_app=True)  # through some app, but in a person's name
    for comment in (FIRST, SECOND):
        forge.set_status(SHA, SUCCESS)
        forge.put_comment(comment)
    assert [made["body"] for made in world.comments[7]] == [
        "<!-- interlock -->\nby a person",
        "<!-- interlock -->\n### Interlock: passed",
    ]
    assert asked_for_tokens(world) == 1


def test_a_new_token_is_asked_for_shortly_before_the_last_expires(
    world: World, address: str, app_key: rsa.RSAPrivateKey
) -> None:
    world.app_key = app_key.public_key()
    app = GitHubApp(address, "5", "8", pem_of(app_key).encode(), lambda: world.now)
    first = app()
    world.now += 3400
    assert app() == first
    world.now += 100
    assert app() != first
    assert asked_for_tokens(world) == 2


@pytest.mark.parametrize(
    ("skew", "is_good"), [(0, True), (55, True), (-55, True), (-400, True), (90, False), (-700, False)]
)
def test_a_clock_that_is_a_minute_ahead_is_borne(
    world: World, address: str, app_key: rsa.RSAPrivateKey, skew: float, is_good: bool
) -> None:
    world.app_key = app_key.public_key()
    app = GitHubApp(address, 5, 8, pem_of(app_key), lambda: world.now + skew)
    if is_good:
        assert app().startswith("ghs_")
    else:
        with pytest.raises(Refused, match="clock"):
            app()


def test_an_installation_that_is_not_there_is_refused(world: World, address: str, app_key: rsa.RSAPrivateKey) -> None:
    world.app_key = app_key.public_key()
    with pytest.raises(Refused):
        GitHubApp(address, 5, 9, pem_of(app_key), lambda: world.now)()


def test_an_expiry_that_is_no_time_is_a_fault(world: World, address: str, app_key: rsa.RSAPrivateKey) -> None:
    world.script = [answering(201, {"token": "ghs_x", "expires_at": "soon"})]
    with pytest.raises(ForgeFault):
        GitHubApp(address, 5, 8, pem_of(app_key), lambda: world.now)()


def test_a_key_that_is_none_is_refused_and_not_shown() -> None:
    elliptic = pem_of(ec.generate_private_key(ec.SECP256R1()))
    for key in ("", "-----BEGIN RSA PRIVATE KEY-----\nsecret\n-----END RSA PRIVATE KEY-----", elliptic):
        with pytest.raises(Refused) as refused:
            GitHubApp("https://api.github.com", 5, 8, key, lambda: 0.0)
        assert "secret" not in str(refused.value)
        assert "download one" in refused.value.remedy


# --- GitHub's own description ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    file = "generated/api.github.com.json"
    fetch = [sys.executable, str(TESTS / "npm_packages.py"), "@octokit/openapi", OPENAPI, file]
    fetched = subprocess.run(fetch, capture_output=True, text=True, check=False)
    assert fetched.returncode == 0, fetched.stderr
    read: dict[str, Any] = json.loads((Path(fetched.stdout.strip()) / file).read_bytes())
    return read


def resolved(description: dict[str, Any], schema: Any) -> Any:
    """A schema of OpenAPI 3.0 as JSON Schema: references followed, ``nullable`` said by JSON Schema's own means."""
    if isinstance(schema, list):
        return [resolved(description, one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target: Any = description
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return resolved(description, target)
    inner = {
        name: resolved(description, value) for name, value in schema.items() if name not in ("example", "examples")
    }
    return {"anyOf": [inner, {"type": "null"}]} if inner.pop("nullable", None) is True else inner


def assert_described(description: dict[str, Any], call: Call) -> str:
    """The request and its answer are as GitHub describes them; which path it is."""
    for template, operations in description["paths"].items():
        pattern = re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, call.path) and call.method.lower() in operations:
            break
    else:
        raise AssertionError(f"GitHub has no {call.method} {call.path}")
    operation = operations[call.method.lower()]
    parameters = [resolved(description, one) for one in operation.get("parameters", [])]
    assert set(call.query) <= {one["name"] for one in parameters if one["in"] == "query"}
    if call.body is not None:
        validate(resolved(description, operation["requestBody"]["content"]["application/json"]["schema"]), call.body)
    response = resolved(description, operation["responses"][str(call.status)])
    if call.answer is not None and "content" in response:
        validate(response["content"]["application/json"]["schema"], call.answer)
    assert call.headers["x-github-api-version"] == "2022-11-28"
    assert call.headers["accept"] == "application/vnd.github+json"
    assert call.headers["user-agent"]
    return f"{call.method} {template}"


def validate(schema: Any, value: Any) -> None:
    jsonschema.Draft7Validator(schema).validate(value)


def test_every_exchange_with_github_is_as_github_describes_it(
    world: World, address: str, app_key: rsa.RSAPrivateKey, description: dict[str, Any]
) -> None:
    world.app_key = app_key.public_key()
    forges = [
        GitHubForge(address, "octo/flights", lambda: TOKEN),
        GitHubForge(address, "octo/flights", GitHubApp(address, 5, 8, pem_of(app_key), lambda: world.now)),
    ]
    for forge in forges:
        for status in (PENDING, SUCCESS, GATE, SUCCESS.model_copy(update={"state": "error"})):
            forge.set_status(SHA, status)
        for comment in (FIRST, SECOND, SECOND):
            forge.put_comment(comment)
        with pytest.raises(Refused):
            forge.put_comment(FIRST.model_copy(update={"pull_request": 8}))
    asked = {assert_described(description, call) for call in world.calls}
    assert asked == {
        "POST /repos/{owner}/{repo}/statuses/{sha}",
        "GET /repos/{owner}/{repo}/issues/{issue_number}/comments",
        "POST /repos/{owner}/{repo}/issues/{issue_number}/comments",
        "PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}",
        "GET /user",
        "POST /app/installations/{installation_id}/access_tokens",
    }
    assert len(world.calls) == 29


def test_a_proposal_is_asked_for_as_github_describes_it(
    world: World, address: str, description: dict[str, Any]
) -> None:
    FORGES["github"](address).put_pull_request(REVERT)
    asked = [assert_described(description, call._replace(answer=None)) for call in world.calls]
    assert asked == ["GET /repos/{owner}/{repo}/pulls", "POST /repos/{owner}/{repo}/pulls"]


def test_the_description_finds_a_request_that_github_does_not_know(description: dict[str, Any]) -> None:
    headers = {"x-github-api-version": "2022-11-28", "accept": "application/vnd.github+json", "user-agent": "x"}
    path = f"/repos/octo/flights/statuses/{SHA}"
    with pytest.raises(jsonschema.ValidationError):
        assert_described(description, Call("POST", path, {}, headers, {"state": "failed"}, 201, None))
    with pytest.raises(AssertionError):
        assert_described(description, Call("PUT", path, {}, headers, {"state": "success"}, 201, None))


def test_names_of_projects_reach_gitlab_whole(world: World, address: str) -> None:
    FORGES["gitlab"](address).set_status(SHA, SUCCESS)
    assert unquote(world.calls[0].path).startswith("/api/v4/projects/octo/deep/flights/statuses/")
