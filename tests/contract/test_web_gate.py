"""What stands before every route: hosts, origins, tokens that are guessed, headers, the access log and the numbers."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.face import ServedFace

from interlock.access.caller import Role
from interlock.app.services import Health
from interlock.system.sockets import http_over
from interlock.vocabulary import Phase
from interlock.web.entry import gate, patience
from interlock.web.entry.patience import Patience
from interlock.web.serving import SOCKET_NAME, Listener


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFace]:
    served = ServedFace(tmp_path_factory.mktemp("face"), listener={"hosts": ("Interlock.Example.Org",)})
    yield served
    served.end()


@pytest.fixture(scope="module")
def token(face: ServedFace) -> str:
    return face.token(Role.ADMIN)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("INTERLOCK.example.org", 200),
        ("evil.example", 421),
        ("evil.example:80@localhost", 200),  # its host is localhost, however it is written
        ("localhost@evil.example", 421),
        ("localhost.evil.example", 421),
        ("[::1", 421),
        ("", 421),
        ("0.0.0.0", 421),
    ],
)
def test_only_its_own_names_are_answered(face: ServedFace, token: str, host: str, status: int) -> None:
    for path in ("/api/v1/whoami", "/healthz"):
        assert face.ask("GET", path, token=token, headers={"Host": host}).status == status
    hook = face.ask("POST", "/hooks/github/small", {}, headers={"Host": host})
    assert hook.status == (401 if status == 200 else 421)


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, False),
        ({"Origin": "https://interlock.example.org"}, False),
        ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "https://localhost.evil.example"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": "http://[", "Sec-Fetch-Site": "same-origin"}, True),
    ],
)
def test_pages_of_other_sites_write_nothing(
    face: ServedFace, token: str, headers: dict[str, str], is_refused: bool
) -> None:
    for method, path in (
        ("POST", "/api/v1/runs/1/cancel"),
        ("DELETE", "/api/v1/tokens/99"),
        ("PUT", "/api/v1/secrets"),
    ):
        answer = face.ask(method, path, {}, token=token, headers=headers)
        assert (answer.status == 403) == is_refused
    sent = headers | {"Authorization": f"Bearer {token}"}
    over_the_socket = http_over(face.folder, SOCKET_NAME, "DELETE", "/api/v1/tokens/99", headers=sent)
    if "interlock.example.org" not in headers.get("Origin", ""):
        assert (over_the_socket.status == 403) == is_refused


def test_every_answer_tells_browsers_to_take_it_for_nothing_else(face: ServedFace, token: str) -> None:
    for path in ("/healthz", "/api/v1/whoami", "/api/v1/openapi.json", "/nothing", "/hooks/github/small", "/metrics"):
        for given_token in (None, token):
            headers = face.ask("GET", path, token=given_token).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["cache-control"] == "no-store"
            assert "server" not in headers
            assert "date" in headers


def test_a_user_of_this_machine_is_admin_over_the_socket_alone(face: ServedFace) -> None:
    answer = http_over(face.folder, SOCKET_NAME, "GET", "/api/v1/whoami", headers={"Host": "anything"})
    told = json.loads(answer.body)
    assert told["role"] == "admin"
    assert told["name"].startswith("local:")
    claimed = http_over(face.folder, SOCKET_NAME, "GET", "/api/v1/whoami", headers={"Authorization": "Bearer ilk_x"})
    assert claimed.status == 401  # who shows a token is who it says
    assert (face.folder / SOCKET_NAME).stat().st_mode & 0o777 == 0o600


def test_the_access_log_holds_no_token_and_no_query(face: ServedFace, token: str) -> None:
    face.heard.clear()
    face.ask("GET", f"/api/v1/runs?limit=3&token={token}", token=token)
    face.ask("GET", f"/api/v1/whoami?access_token={token}")
    first, second = face.heard
    assert (first["method"], first["path"], first["status"]) == ("GET", "/api/v1/runs", 200)
    assert (first["caller"], first["address"]) == ("a admin", "127.0.0.1")
    assert (second["status"], second["caller"]) == (401, None)
    assert token not in json.dumps(face.heard)


def test_a_defect_is_told_to_the_log_and_not_to_the_caller(face: ServedFace) -> None:
    face.heard.clear()
    well = face.health
    face.health = None  # type: ignore[assignment]  # a defect
    try:
        answer = face.ask("GET", "/healthz")
    finally:
        face.health = well
    assert (answer.status, answer.json["detail"]) == (500, "something unexpected went wrong")
    assert b"AttributeError" not in answer.body
    assert b"Traceback" not in answer.body
    told = [str(line["defect"]) for line in face.heard if "defect" in line]
    assert len(told) == 1
    assert "AttributeError" in told[0]


@pytest.mark.parametrize(
    ("health", "alive", "ready"),
    [
        (Health(loop_age=1.0), 200, 200),
        (Health(loop_age=None), 200, 503),
        (Health(loop_age=1e6), 200, 503),
        (Health(loop_age=1.0, rounds={"repository small": 1e6}, slowest=899.0), 200, 200),
        (Health(loop_age=1.0, slowest=901.0), 200, 503),
        (Health(loop_age=1.0, store_problem="disk full at /secret/place"), 503, 503),
    ],
)
def test_health_is_told_to_anybody_and_reasons_to_nobody(
    face: ServedFace, health: Health, alive: int, ready: int
) -> None:
    face.health = health
    try:
        answers = [face.ask("GET", path) for path in ("/healthz", "/readyz")]
    finally:
        face.health = Health(loop_age=0.0)
    assert [answer.status for answer in answers] == [alive, ready]
    assert all(b"secret" not in answer.body for answer in answers)
    assert all(("retry-after" in answer.headers) == (answer.status == 503) for answer in answers)


def numbers(face: ServedFace, token: str) -> dict[str, float]:
    text = face.ask("GET", "/metrics", token=token).body.decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_the_numbers_follow_what_happened(face: ServedFace, token: str) -> None:
    before = numbers(face, token)
    run = face.add_run(70, phase=Phase.QUEUED)
    for version, phase in enumerate((Phase.RUNNING, Phase.RUNNING, Phase.SUCCEEDED), 1):
        face.save_run(run.model_copy(update={"phase": phase}), version)
    face.add_run(71, phase=Phase.QUEUED)
    for _ in range(4):
        face.ask("GET", "/api/v1/runs/70", token=token)
    after = numbers(face, token)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown['interlock_runs_total{phase="queued"}'] == 2
    assert grown['interlock_runs_total{phase="running"}'] == 1
    assert grown['interlock_runs_total{phase="succeeded"}'] == 1
    assert after["interlock_runs_queued"] == 1
    assert grown['interlock_requests_total{method="GET",route="/runs/{number}",status="200"}'] == 4
    assert grown['interlock_request_seconds_count{route="/runs/{number}"}'] == 4
    assert grown['interlock_request_seconds_bucket{route="/runs/{number}",le="+Inf"}'] == 4
    assert (
        numbers(face, token)['interlock_runs_total{phase="succeeded"}']
        == after['interlock_runs_total{phase="succeeded"}']
    )


def test_the_age_of_each_round_is_a_number(face: ServedFace, token: str) -> None:
    face.health = Health(loop_age=0.0, rounds={"repository small": 12.5, "books": 0.0})
    shown = numbers(face, token)
    face.health = Health(loop_age=0.0)
    assert shown['interlock_round_seconds{round="repository small"}'] == 12.5
    assert shown['interlock_round_seconds{round="books"}'] == 0


def test_a_path_that_somebody_made_up_is_no_series_of_its_own(face: ServedFace, token: str) -> None:
    before = len(numbers(face, token))
    for number in range(20):
        face.ask("GET", f"/made/up/{number}", token=token)
        face.ask("POST", f"/hooks/github/{number}", {})
        face.ask("GET", f"/api/v1/runs/{number + 1000}", token=token)
    assert len(numbers(face, token)) < before + 60


def test_who_guesses_tokens_waits_and_who_has_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "GUESSES", 3)
    monkeypatch.setattr(gate, "PENALTY_SECONDS", 0.5)
    face = ServedFace(tmp_path)
    seconds: dict[int, list[float]] = {200: [], 401: []}
    try:
        token = face.token(Role.VIEWER)
        for given_token in ("ilk_wrong", token) * 5:
            began = time.monotonic()
            status = face.ask("GET", "/api/v1/whoami", token=given_token).status
            seconds[status].append(time.monotonic() - began)
    finally:
        face.end()
    assert [second > 0.5 for second in seconds[401]][-1]
    assert sum(second > 0.5 for second in seconds[401]) < 3
    assert len(seconds[200]) == 5
    assert min(seconds[200]) < 0.5


@pytest.mark.parametrize("most", [1, 3])
def test_patience_wears_out_and_comes_back(most: int) -> None:
    begun = Patience(most, 10.0)
    assert [begun.spend("a", 0.0) for _ in range(most + 2)] == [True] * most + [False] * 2
    assert begun.spend("b", 0.0)
    assert not begun.spend("a", 9.0)
    assert begun.spend("a", 10.0)
    assert not begun.spend("a", 10.0)
    assert [begun.spend("a", 1e6) for _ in range(most + 1)] == [True] * most + [False]


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 5))
def test_nobody_gets_more_than_the_first_few_and_one_each_while(pauses: list[float], most: int) -> None:
    begun = Patience(most, 7.0)
    now, granted = 0.0, 0
    for pause in pauses:
        now += pause
        granted += begun.spend("a", now)
    assert granted <= most + now / 7.0 + 1e-6


def test_patience_remembers_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MOST_KEYS", 10)
    begun = Patience(1, 1e9)
    for number in range(1000):
        assert begun.spend(str(number), 0.0)
    assert not begun.spend("999", 0.0)
    assert begun.spend("0", 0.0)


def test_a_listener_answers_to_its_own_names() -> None:
    assert Listener(address="127.0.0.1", port=1).names == {"localhost", "127.0.0.1", "::1"}
    assert Listener(address="::1", port=1).names == {"localhost", "127.0.0.1", "::1"}
    assert Listener(address="0.0.0.0", port=1, hosts=("CI.example",)).names == {"0.0.0.0", "ci.example"}
