"""What the API answers: pages, versions of rows, refusals in full, and what people ask for done once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.face import ServedFace

from interlock.access.caller import Role
from interlock.errors import Refused, SeveralRefused, StoreFault
from interlock.vocabulary import Kind, Phase
from interlock.web.problems import problem_of


@pytest.fixture
def face(tmp_path: Path) -> Iterator[ServedFace]:
    served = ServedFace(tmp_path)
    yield served
    served.end()


@pytest.fixture
def admin(face: ServedFace) -> str:
    return face.token(Role.ADMIN)


def pages(face: ServedFace, path: str, token: str) -> list[list[dict[str, Any]]]:
    found = []
    cursor = ""
    while True:
        page = face.ask("GET", f"{path}{cursor}", token=token).json
        found.append(page["items"])
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


def test_runs_are_listed_newest_first_page_by_page_while_others_begin(face: ServedFace, admin: str) -> None:
    for number in range(1, 8):
        face.add_run(number)
    first = face.ask("GET", "/api/v1/runs?limit=3", token=admin).json
    face.add_run(8)
    second = face.ask("GET", f"/api/v1/runs?limit=3&cursor={first['next']}", token=admin).json
    third = face.ask("GET", f"/api/v1/runs?limit=3&cursor={second['next']}", token=admin).json
    assert [[run["number"] for run in page["items"]] for page in (first, second, third)] == [[7, 6, 5], [4, 3, 2], [1]]
    assert third["next"] is None


def test_a_list_that_ends_with_its_page_has_no_next(face: ServedFace, admin: str) -> None:
    for number in range(1, 5):
        face.add_run(number)
    assert [len(page) for page in pages(face, "/api/v1/runs?limit=2", admin)] == [2, 2]
    assert [len(page) for page in pages(face, "/api/v1/runs?limit=200", admin)] == [4]


def test_a_run_in_a_list_is_short(face: ServedFace, admin: str) -> None:
    run = face.add_run(3, phase=Phase.HELD)
    (told,) = face.ask("GET", "/api/v1/runs", token=admin).json["items"]
    assert told.pop("created") == told.pop("updated") > 0
    assert told == {
        "number": 3,
        "repository": "small",
        "ref": "refs/heads/main",
        "sha": run.commit.sha,
        "subject": "Change 3",
        "phase": "held",
        "because": "",
        "occasion": {"kind": "push", "detail": "", "by": "ada"},
        "by": "ada",
        "is_trusted": True,
        "pull_request": None,
        "version": 1,
    }


def test_lists_are_filtered(face: ServedFace, admin: str) -> None:
    face.add_run(1, "small", Phase.FAILED)
    face.add_run(2, "large", Phase.FAILED)
    face.add_run(3, "small", Phase.SUCCEEDED, ref="topic")
    face.add_run(4, "small", Phase.RUNNING)

    def numbers(query: str) -> list[int]:
        return [run["number"] for run in face.ask("GET", f"/api/v1/runs?{query}", token=admin).json["items"]]

    assert numbers("repository=small") == [4, 3, 1]
    assert numbers("repository=small&ref=refs/heads/topic") == [3]
    assert numbers("phase=failed") == [2, 1]
    assert numbers("phase=failed&phase=running&repository=small") == [4, 1]
    assert numbers("repository=nothing") == []


def test_a_token_sees_only_its_repositories_on_every_page(face: ServedFace) -> None:
    for number in range(1, 13):
        face.add_run(number, "small" if number % 3 else "large")
    token = face.token(Role.VIEWER, "of large", ["large"])
    both = face.token(Role.VIEWER, "of both", ["large", "small"])
    assert [[run["number"] for run in page] for page in pages(face, "/api/v1/runs?limit=2", token)] == [[12, 9], [6, 3]]
    assert [run["number"] for page in pages(face, "/api/v1/runs?limit=5", both) for run in page] == [*range(12, 0, -1)]
    assert face.ask("GET", "/api/v1/runs?repository=small", token=token).status == 403
    assert face.ask("GET", "/api/v1/runs/1", token=token).status == 403
    assert face.ask("GET", "/api/v1/runs/3", token=token).status == 200
    assert [one["name"] for one in face.ask("GET", "/api/v1/repositories", token=token).json] == ["large"]


def test_versions_are_those_of_the_tokens_repositories(face: ServedFace, admin: str) -> None:
    for number in range(1, 7):
        face.add_version(number=number, repository="small" if number % 2 else "large")
    token = face.token(Role.VIEWER, "of large", ["large"])
    listed = pages(face, "/api/v1/versions?limit=2", token)
    assert [[row["key"] for row in page] for page in listed] == [["small/6", "small/4"], ["small/2"]]
    assert len(face.ask("GET", "/api/v1/versions?model=small", token=admin).json["items"]) == 6
    assert face.ask("GET", "/api/v1/versions?model=smal", token=admin).json["items"] == []


@pytest.mark.parametrize("cursor", ["x", "%FF", "AAAA", "MTIz!", "-1", "LTE", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
def test_a_cursor_of_somebody_elses_is_refused(face: ServedFace, admin: str, cursor: str) -> None:
    answer = face.ask("GET", f"/api/v1/runs?cursor={cursor}", token=admin)
    assert (answer.status, answer.json["where"]) == (422, "cursor")


def test_a_row_has_an_etag_and_is_not_sent_twice(face: ServedFace, admin: str) -> None:
    run = face.add_run(1)
    first = face.ask("GET", "/api/v1/runs/1", token=admin)
    assert first.json["state"]["commit"]["subject"] == "Change 1"
    assert (first.json["kind"], first.json["key"], first.json["version"]) == ("run", "1", 1)
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"7", {etag}', "*"):
        again = face.ask("GET", "/api/v1/runs/1", token=admin, headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    face.save_run(run.model_copy(update={"because": "it moved"}), 1)
    moved = face.ask("GET", "/api/v1/runs/1", token=admin, headers={"If-None-Match": etag})
    assert (moved.status, moved.json["state"]["because"]) == (200, "it moved")
    assert moved.headers["etag"] != etag


def test_what_was_decided_on_an_older_version_is_not_done(face: ServedFace, admin: str) -> None:
    run = face.add_run(1)
    etag = face.ask("GET", "/api/v1/runs/1", token=admin).headers["etag"]
    face.save_run(run.model_copy(update={"because": "it moved"}), 1)
    cancel = ("POST", "/api/v1/runs/1/cancel", {"reason": "wrong branch"})
    refused = face.ask(*cancel, token=admin, headers={"If-Match": etag})
    assert (refused.status, refused.json["title"]) == (412, "Precondition Failed")
    assert face.store.load(Kind.RUN, "1").version == 2
    done = face.ask(*cancel, token=admin, headers={"If-Match": '"2"'})
    assert done.status == 200
    assert "wrong branch" in done.json["state"]["wish"]


def test_a_run_is_begun_once_for_one_key(face: ServedFace) -> None:
    face.make_repository()
    token = face.token(Role.DEVELOPER, "ada")
    asked = {"repository": "small"}
    answers = [
        face.ask("POST", "/api/v1/runs", asked, token=token, headers={"Idempotency-Key": "one"}) for _ in range(3)
    ]
    assert [answer.status for answer in answers] == [201] * 3, answers[0].body
    assert len({answer.body for answer in answers}) == 1
    number = answers[0].json["state"]["number"]
    assert answers[0].headers["location"] == f"/api/v1/runs/{number}"
    assert answers[0].json["state"]["occasion"]["by"] == "ada"
    other = face.ask("POST", "/api/v1/runs", asked, token=token, headers={"Idempotency-Key": "two"})
    assert other.json["state"]["number"] != number
    assert face.ask("POST", "/api/v1/runs", {"repository": "small", "ref": "nothing"}, token=token).status == 404
    assert len(face.store.rows(Kind.RUN)) == 2


def test_a_release_is_begun_once_for_one_key(face: ServedFace) -> None:
    face.add_version()
    token = face.token(Role.OPERATOR)
    asked = {"version": "small/1", "because": "it is good"}
    answers = [
        face.ask("POST", "/api/v1/releases", asked, token=token, headers={"Idempotency-Key": "one"}) for _ in range(3)
    ]
    assert [answer.status for answer in answers] == [201] * 3, answers[0].body
    assert len(face.store.rows(Kind.RELEASE)) == 1
    assert answers[0].headers["location"] == "/api/v1/releases/1"


def test_a_token_is_shown_once_and_ends_at_once(face: ServedFace, admin: str) -> None:
    made = face.ask("POST", "/api/v1/tokens", {"name": "robot", "role": "viewer"}, token=admin)
    text, key = made.json["text"], made.json["token"]["key"]
    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    assert face.ask("GET", "/api/v1/whoami", token=text).json["name"] == "robot"
    assert text not in face.ask("GET", "/api/v1/tokens", token=admin).body.decode()
    assert face.ask("DELETE", f"/api/v1/tokens/{key}", token=admin).status == 204
    assert face.ask("GET", "/api/v1/whoami", token=text).status == 401
    assert face.ask("DELETE", "/api/v1/tokens/999", token=admin).status == 404


def test_a_secret_goes_in_and_never_comes_out(face: ServedFace, admin: str) -> None:
    value = "correct horse battery staple"
    asked = {"repository": "small", "name": "API_KEY", "value": value}
    assert face.ask("PUT", "/api/v1/secrets", asked, token=admin).json == {"warning": None}
    named = face.ask("GET", "/api/v1/secrets?repository=small", token=admin)
    assert [secret["name"] for secret in named.json] == ["API_KEY"]
    everything = named.body + face.ask("GET", "/api/v1/events?kind=secret", token=admin).body
    everything += face.ask("GET", "/api/v1/audit", token=admin).body + json.dumps(face.heard).encode()
    assert value.encode() not in everything
    short = face.ask("PUT", "/api/v1/secrets", {**asked, "value": "short"}, token=admin)
    assert short.status == 422
    assert b"short" not in short.body.replace(b"shorter", b"")
    assert face.ask("DELETE", "/api/v1/secrets?repository=small&name=API_KEY", token=admin).status == 204
    assert face.ask("GET", "/api/v1/secrets?repository=small", token=admin).json == []


def test_the_audit_log_is_listed_and_checked(face: ServedFace, admin: str) -> None:
    for number in range(5):
        face.token(Role.VIEWER, f"robot {number}")
    entries = face.ask("GET", "/api/v1/audit?limit=2", token=admin).json
    assert [entry["deed"]["detail"]["name"] for entry in entries] == ["robot 3", "robot 4"]
    verdict = face.ask("GET", "/api/v1/audit/verify", token=admin).json
    assert verdict["problem"] is None
    assert face.ask("GET", f"/api/v1/audit/verify?head={verdict['head']}", token=admin).json == verdict
    assert face.ask("GET", "/api/v1/audit/verify?head=99:abc", token=admin).json["problem"]


def test_a_log_is_read_in_parts(face: ServedFace, admin: str) -> None:
    face.add_run(1)
    face.log_path(1).write_text("".join(f"line {number}\n" for number in range(100)))
    log = "/api/v1/runs/1/stages/train/attempts/1/log"
    part = face.ask("GET", f"{log}?first=10&most=3", token=admin).json
    assert part == {"first": 10, "lines": ["line 10", "line 11", "line 12"], "following": 13, "is_end": False}
    assert face.ask("GET", f"{log}?first=-2", token=admin).json["lines"] == ["line 98", "line 99"]
    assert face.ask("GET", log.replace("attempts/1", "attempts/2"), token=admin).json["lines"] == []
    for stage in ("..", "%2e%2e", "other", "train%2f.."):
        assert face.ask("GET", log.replace("train", stage), token=admin).status == 404
    assert face.ask("GET", log.replace("train", "train%00"), token=admin).status == 400
    assert face.ask("GET", f"{log}?x=%00", token=admin).status == 400
    assert face.ask("GET", log.replace("attempts/1", "attempts/0"), token=admin).status == 422


def test_a_repository_is_looked_at_and_shown_without_its_credentials(face: ServedFace, admin: str) -> None:
    assert face.ask("POST", "/api/v1/repositories/small/sync", token=admin).json == {
        "lines": ["interlock: looked at small"]
    }
    shown = face.ask("GET", "/api/v1/repositories/small", token=admin)
    assert shown.json["name"] == "small"
    assert str(face.folder) not in shown.body.decode()
    assert face.ask("GET", "/api/v1/repositories/other", token=admin).status == 404


def test_every_wrong_field_is_told_at_once(face: ServedFace, admin: str) -> None:
    answer = face.ask("POST", "/api/v1/tokens", {"name": "", "role": "king", "expires": -1, "more": 1}, token=admin)
    assert answer.status == 422
    assert {trouble["where"] for trouble in answer.json["problems"]} == {
        "body.name",
        "body.role",
        "body.expires",
        "body.more",
    }
    assert answer.json["type"] == "urn:interlock:problem:unprocessable-entity"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 422),
        (b"[]", 422),
        (b"null", 422),
        (b'{"reason": NaN}', 422),
        (b'{"reason": "a\\u0000b"}', 422),
        (b"[" * 100_000, 400),
        (b'{"reason": "' + b"x" * 5000 + b'"}', 422),
        (b'{"reason": "' + b"x" * (1 << 20) + b'"}', 413),
        (b"\xff\xfe", 400),
    ],
    ids=["cut", "empty", "list", "null", "nan", "nul", "deep", "long", "longest", "no text"],
)
def test_a_body_that_is_not_what_was_agreed(face: ServedFace, admin: str, body: bytes, status: int) -> None:
    face.add_run(1)
    answer = face.ask("POST", "/api/v1/runs/1/cancel", body, token=admin)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"Traceback" not in answer.body


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_type_is_not_read(face: ServedFace, admin: str, content_type: str) -> None:
    face.add_run(1)
    sent = {"Content-Type": content_type}
    answer = face.ask("POST", "/api/v1/runs/1/cancel", b'{"reason": "x"}', token=admin, headers=sent)
    assert answer.status == 422
    assert face.store.load(Kind.RUN, "1").version == 1


def test_what_is_not_there_is_told_with_a_way_on(face: ServedFace, admin: str) -> None:
    for path in ("/api/v1/runs/7", "/api/v1/versions/x/1", "/api/v1/nothing", "/", "/docs"):
        answer = face.ask("GET", path, token=admin)
        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    wrong = face.ask("PATCH", "/api/v1/runs", {}, token=admin)
    assert (wrong.status, wrong.json["title"]) == (405, "Method Not Allowed")
    assert "GET" in wrong.headers["allow"]


def test_a_conflict_and_a_fault_have_their_numbers(face: ServedFace, admin: str) -> None:
    face.add_run(1, phase=Phase.SUCCEEDED)
    ended = face.ask("POST", "/api/v1/runs/1/cancel", {"reason": "late"}, token=admin)
    assert ended.status == 409
    face.store.close()
    (face.folder / "interlock.db").rename(face.folder / "away.db")
    (face.folder / "interlock.db").mkdir()
    answer = face.ask("GET", "/api/v1/whoami", token=admin)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert any("fault" in line for line in face.heard)


def test_several_refusals_are_told_one_by_one() -> None:
    told = problem_of(SeveralRefused([Refused("one"), Refused("two")]))
    assert (told.status, [trouble.problem for trouble in told.problems]) == (422, ["one", "two"])
    assert problem_of(StoreFault("away")).status == 503
