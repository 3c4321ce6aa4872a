"""The client against a real HTTP server that answers as it is told to: over TCP, TLS and a Unix socket."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from interlock.client import connection
from interlock.client.api import Client
from interlock.client.errors import ApiError, ClientError, Problem, Unreachable
from interlock.client.stream import ServerSentEvent, parse_events, whole_lines
from interlock.system.sockets import listen


class Request(NamedTuple):
    """What the server was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Told(NamedTuple):
    """What it answers; ``cut`` closes the connection behind the body, or without any answer where status is 0."""

    status: int = 200
    body: object = None
    headers: dict[str, str] = {}
    is_cut: bool = False


class Scripted:
    """Answers request after request from a list; the last answer is given again."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.answers: list[Told] = []

    def next(self, request: Request) -> Told:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def handler(script: Scripted) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            told = script.next(Request(self.command, self.path, headers, body))
            self.close_connection = told.is_cut
            if told.status == 0:
                return
            content = told.body if isinstance(told.body, bytes) else json.dumps(told.body).encode()
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            if not told.is_cut:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """The server is quiet."""

        def address_string(self) -> str:
            return ""

    for method in ("GET", "POST", "PUT", "DELETE"):
        setattr(Answering, f"do_{method}", Answering._answer)
    return Answering


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def script() -> Scripted:
    return Scripted()


@pytest.fixture
def url(script: Scripted) -> Iterator[str]:
    with Server(("127.0.0.1", 0), handler(script)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, "ilk_secret", timeout=20) as opened:
        yield opened


@pytest.fixture(autouse=True)
def is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_WAIT", 0.01)


CALLER = {"name": "ada", "role": "viewer"}


def a_run(number: int, **state: object) -> dict[str, object]:
    commit = {"repository": "shop", "ref": "refs/heads/main", "sha": "ab" * 20, "newer": True}
    stages = {"train": {"phase": "running", "attempt": 1}}
    return {
        "kind": "run",
        "key": str(number),
        "version": 3,
        "phase": "running",
        "repository": "shop",
        "ref": "refs/heads/main",
        "created": 1.0,
        "updated": 2.0,
        "state": {"number": number, "commit": commit, "phase": "running", "stages": stages, **state},
    }


def a_summary(number: int) -> dict[str, object]:
    named = {"repository": "shop", "ref": "refs/heads/main", "sha": "ab" * 20, "phase": "failed"}
    return {"number": number, **named, "created": 1.0, "updated": 2.0}


def test_a_run_has_fields_by_name_and_keeps_those_of_a_newer_server(client: Client, script: Scripted) -> None:
    script.answers = [Told(body=a_run(12, later="yes"))]
    run = client.runs.get(12)
    assert (run.key, run.state.number, run.state.stages["train"].attempt) == ("12", 12, 1)
    assert (run.state.is_final, run.state.commit.sha) == (False, "ab" * 20)
    assert run.state.model_dump()["later"] == "yes"
    (asked,) = script.asked
    assert (asked.method, asked.path) == ("GET", "/api/v1/runs/12")
    assert asked.headers["authorization"] == "Bearer ilk_secret"


def test_a_list_is_read_page_by_page_and_no_further_than_it_is_taken(client: Client, script: Scripted) -> None:
    script.answers = [
        Told(body={"items": [a_summary(3), a_summary(2)], "next": "c1"}),
        Told(body={"items": [a_summary(1)], "next": None}),
    ]
    listed = client.runs.newest(repository="shop", phases=["failed", "errored"], page=2)
    assert next(listed).number == 3
    assert len(script.asked) == 1
    assert [run.number for run in listed] == [2, 1]
    assert [asked.path for asked in script.asked] == [
        "/api/v1/runs?repository=shop&phase=failed&phase=errored&limit=2",
        "/api/v1/runs?repository=shop&phase=failed&phase=errored&limit=2&cursor=c1",
    ]


REQUESTS: list[tuple[Callable[[Client], object], str, str, object]] = [
    (lambda c: c.runs.trigger("shop"), "POST", "/runs", {"repository": "shop", "ref": ""}),
    (lambda c: c.runs.trigger("shop", "v1"), "POST", "/runs", {"repository": "shop", "ref": "v1"}),
    (lambda c: c.runs.rerun(7), "POST", "/runs/7/rerun", {"from_stage": None}),
    (lambda c: c.runs.rerun(7, "train"), "POST", "/runs/7/rerun", {"from_stage": "train"}),
    (lambda c: c.runs.cancel(7, "slow"), "POST", "/runs/7/cancel", {"reason": "slow"}),
    (lambda c: c.runs.approve(7, "ab"), "POST", "/runs/7/approve", {"sha": "ab"}),
    (
        lambda c: c.runs.override(7, ["auc"], "old labels"),
        "POST",
        "/runs/7/override",
        {"gates": ["auc"], "reason": "old labels"},
    ),
]


@pytest.mark.parametrize(("ask", "method", "path", "body"), REQUESTS)
def test_requests_for_runs(
    client: Client, script: Scripted, ask: Callable[[Client], object], method: str, path: str, body: object
) -> None:
    script.answers = [Told(201, a_run(8))]
    assert ask(client).key == "8"  # type: ignore[attr-defined]
    (asked,) = script.asked
    assert (asked.method, asked.path, asked.body) == (method, f"/api/v1{path}", body)


SECRET = {"repository": "shop", "environment": None, "name": "KEY", "value": "v"}
OTHERS: list[tuple[Callable[[Client], object], Told, object, str, object]] = [
    (
        lambda c: c.deliveries.approve(3, "looked at"),
        Told(body={"because": "approved"}),
        "approved",
        "POST /releases/3/approve",
        {"reason": "looked at"},
    ),
    (
        lambda c: c.deliveries.steer(3, "pause", "lunch"),
        Told(body={"because": "paused"}),
        "paused",
        "POST /rollouts/3/pause",
        {"reason": "lunch"},
    ),
    (
        lambda c: c.environments.roll_back("m/p", "slow"),
        Told(body={"because": "back"}),
        "back",
        "POST /environments/m/p/rollback",
        {"reason": "slow"},
    ),
    (
        lambda c: c.environments.freeze("m/p", "holidays", 2e9),
        Told(body={"because": "frozen"}),
        "frozen",
        "POST /environments/m/p/freeze",
        {"reason": "holidays", "until": 2e9},
    ),
    (
        lambda c: c.environments.unfreeze("m/p", "over"),
        Told(body={"because": "on"}),
        "on",
        "POST /environments/m/p/unfreeze",
        {"reason": "over"},
    ),
    (
        lambda c: c.deliveries.lift_quarantine("m/1", "us"),
        Told(body={"because": "ok"}),
        "ok",
        "POST /versions/m/1/lift-quarantine",
        {"reason": "us"},
    ),
    (
        lambda c: c.repositories.sync("a b"),
        Told(body={"lines": ["run 1"]}),
        ["run 1"],
        "POST /repositories/a%20b/sync",
        None,
    ),
    (lambda c: c.tokens.revoke("3/x"), Told(204, b""), None, "DELETE /tokens/3%2Fx", None),
    (lambda c: c.secrets.put("shop", None, "KEY", "v"), Told(204, b""), None, "PUT /secrets", SECRET),
    (
        lambda c: c.secrets.put("shop", "m/p", "KEY", "v"),
        Told(200, {"warning": "short"}),
        "short",
        "PUT /secrets",
        {**SECRET, "environment": "m/p"},
    ),
    (
        lambda c: c.secrets.remove("shop", "m/p", "KEY"),
        Told(204, b""),
        None,
        "DELETE /secrets?repository=shop&environment=m%2Fp&name=KEY",
        None,
    ),
    (
        lambda c: c.secrets.remove("shop", None, "KEY"),
        Told(204, b""),
        None,
        "DELETE /secrets?repository=shop&name=KEY",
        None,
    ),
    (lambda c: c.audit.entries(4, 5), Told(body=[]), [], "GET /audit?after=4&limit=5", None),
    (lambda c: c.whoami().name, Told(body=CALLER), "ada", "GET /whoami", None),
]


@pytest.mark.parametrize(("ask", "told", "answer", "request_line", "body"), OTHERS)
def test_other_requests(
    client: Client,
    script: Scripted,
    ask: Callable[[Client], object],
    told: Told,
    answer: object,
    request_line: str,
    body: object,
) -> None:
    script.answers = [told]
    assert ask(client) == answer
    (asked,) = script.asked
    assert f"{asked.method} {asked.path.removeprefix('/api/v1')}" == request_line
    assert asked.body == body


def test_a_new_token_is_answered_with_its_text(client: Client, script: Scripted) -> None:
    script.answers = [
        Told(201, {"token": {"key": "3", "name": "ci", "role": "developer", "created": 1.0}, "text": "ilk_x"})
    ]
    token, text = client.tokens.create("ci", "developer", repositories=("shop",), expires=9.5)
    assert (token.key, text) == ("3", "ilk_x")
    assert script.asked[0].body == {
        "name": "ci",
        "role": "developer",
        "repositories": ["shop"],
        "environments": [],
        "expires": 9.5,
    }


def problem(status: int, **fields: object) -> Told:
    title = "Unprocessable Content" if status == 422 else "Trouble"
    body = {"type": f"urn:interlock:problem:{title.lower().replace(' ', '-')}", "title": title, "status": status}
    return Told(status, {**body, **fields}, {"Content-Type": "application/problem+json"})


@pytest.mark.parametrize(
    ("told", "kind", "problems", "is_refusal"),
    [
        (
            problem(422, detail="no such stage", where="run/7", remedy="it has train"),
            "unprocessable-content",
            (Problem("no such stage", "run/7", "it has train"),),
            True,
        ),
        (
            problem(
                422, detail="2 problems", problems=[{"problem": "a", "where": "b"}, {"problem": "c", "remedy": "d"}]
            ),
            "unprocessable-content",
            (Problem("a", "b"), Problem("c", "", "d")),
            True,
        ),
        (Told(404, b"<html>", {"Content-Type": "text/html"}), "status_404", (Problem("Not Found"),), True),
        (Told(502, ["odd"]), "status_502", (Problem("Bad Gateway"),), False),
        (problem(500, detail="unexpected"), "trouble", (Problem("unexpected"),), False),
    ],
)
def test_what_the_server_refuses_is_an_error_with_every_problem(
    client: Client, script: Scripted, told: Told, kind: str, problems: tuple[Problem, ...], is_refusal: bool
) -> None:
    script.answers = [told]
    with pytest.raises(ApiError) as raised:
        client.runs.get(7)
    error = raised.value
    assert (error.status, error.kind, error.problems, error.is_refusal) == (told.status, kind, problems, is_refusal)
    assert problems[0].problem in str(error)
    assert len(script.asked) == 1


def test_a_request_that_is_lost_is_sent_again_with_the_same_key(client: Client, script: Scripted) -> None:
    script.answers = [
        Told(0, is_cut=True),
        Told(503, {"detail": "later"}, {"Retry-After": "0"}),
        Told(201, a_run(8)),
    ]
    assert client.runs.trigger("shop").key == "8"
    keys = {asked.headers["idempotency-key"] for asked in script.asked}
    assert len(script.asked) == 3
    assert len(keys) == 1
    client.runs.trigger("shop")
    client.runs.trigger("shop", key="mine")
    assert script.asked[-1].headers["idempotency-key"] == "mine"
    assert script.asked[-2].headers["idempotency-key"] not in keys


def test_a_roll_back_is_sent_again_under_the_same_key(client: Client, script: Scripted) -> None:
    script.answers = [Told(0, is_cut=True), Told(body={"because": "back"})]
    assert client.environments.roll_back("m/p", "slow") == "back"
    first, second = (asked.headers["idempotency-key"] for asked in script.asked)
    assert first == second


def test_what_would_be_done_twice_is_not_sent_twice(client: Client, script: Scripted) -> None:
    script.answers = [Told(0, is_cut=True)]
    with pytest.raises(Unreachable, match="whether it was done is not known") as lost:
        client.deliveries.lift_quarantine("m/1", "slow")
    assert len(script.asked) == 1
    assert not lost.value.is_certain
    script.answers = [problem(503, detail="the disk is full")]
    with pytest.raises(ApiError, match="the disk is full"):
        client.tokens.create("ci", "viewer")
    assert len(script.asked) == 2
    script.answers = [Told(0, is_cut=True)]
    with pytest.raises(Unreachable, match="whether it was done is not known"):
        client.deliveries.steer(3, "pause", "lunch")
    assert len(script.asked) == 3


def test_a_server_that_stays_away_is_given_up(client: Client, script: Scripted) -> None:
    script.answers = [Told(0, is_cut=True)]
    with pytest.raises(Unreachable) as lost:
        client.whoami()
    assert len(script.asked) == connection.TRIES
    assert lost.value.is_certain
    script.answers = [problem(503, detail="down")]
    with pytest.raises(ApiError, match="down"):
        client.whoami()
    assert len(script.asked) == 2 * connection.TRIES


# httpcore leaves it to Python to close a socket at which nobody listens.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_at_the_address_is_unreachable(tmp_path: Path) -> None:
    with Server(("127.0.0.1", 0), handler(Scripted())) as closed:
        port = closed.server_address[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(Unreachable, match=str(port)):
        client.runs.trigger("shop")
    with Client.on_socket(tmp_path / "control.sock") as client, pytest.raises(ClientError, match=r"control\.sock"):
        client.whoami()
    with pytest.raises(FileNotFoundError):
        Client.on_socket(tmp_path / "nowhere" / "control.sock")


@pytest.mark.parametrize(
    ("url", "token", "told"),
    [
        ("ftp://here", None, "https://HOST"),
        ("interlock.example.org", None, "https://HOST"),
        ("https://", None, "https://HOST"),
        ("https://ada:secret@here", None, "https://HOST"),
        ("https://here/?token=x", None, "https://HOST"),
        ("http://interlock.example.org", "ilk_x", "never sent in the clear: use https://interlock.example.org"),
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_sent(url: str, token: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Client(url, token)


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://[::1]:1", "http://127.0.0.1:1", "https://here/interlock"]
)
def test_a_token_goes_to_this_machine_or_through_tls(url: str) -> None:
    Client(url, "ilk_x").close()


def test_a_server_may_stand_below_a_path(url: str, script: Scripted) -> None:
    script.answers = [Told(body=CALLER)]
    with Client(f"{url}/interlock/") as client:
        client.whoami()
    assert script.asked[0].path == "/interlock/api/v1/whoami"
    assert "authorization" not in script.asked[0].headers


def test_the_socket_of_a_deep_folder_is_reached(tmp_path: Path, script: Scripted) -> None:
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20)
    folder.mkdir(parents=True)
    bound = listen(folder, "control.sock")
    with Server(("127.0.0.1", 0), handler(script), bind_and_activate=False) as server:
        server.socket.close()
        server.socket = bound
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        script.answers = [Told(body=CALLER)]
        try:
            with Client.on_socket(folder / "control.sock") as client:
                assert client.whoami().name == "ada"
                assert client.whoami().name == "ada"
            client.close()
        finally:
            server.shutdown()
            thread.join()
    assert script.asked[0].headers["host"] == "localhost"


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    path = folder / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


def test_a_server_with_a_certificate_of_its_own(
    tmp_path: Path, script: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(("127.0.0.1", 0), handler(script)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        script.answers = [Told(body=CALLER)]
        url = f"https://127.0.0.1:{server.server_address[1]}"
        try:
            with Client(url, "ilk_x", ca_file=certificate) as client:
                assert client.whoami().name == "ada"
            server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client hangs up on it
            with Client(url, "ilk_x") as client, pytest.raises(Unreachable, match=r"(?i)certificate"):
                client.whoami()
        finally:
            server.shutdown()
            thread.join()
    assert len(script.asked) == 1


def stream(*events: str, is_cut: bool = True) -> Told:
    return Told(
        200, "".join(f"{event}\n\n" for event in events).encode(), {"Content-Type": "text/event-stream"}, is_cut
    )


def line(number: int) -> str:
    return f'id: {number}\ndata: "line {number}"'


END = "event: end\ndata: {}"


def test_a_log_is_followed_over_lost_connections_without_gap_or_duplicate(client: Client, script: Scripted) -> None:
    script.answers = [
        stream("retry: 1000", line(0), line(1)),
        Told(0, is_cut=True),
        problem(503, detail="starting"),
        stream(line(1), line(2), "id: 3\ndata: cut of"),
        stream(": still here", line(3), END),
        stream(line(99)),
    ]
    assert isinstance(script.answers[3].body, bytes)
    script.answers[3] = script.answers[3]._replace(body=script.answers[3].body[:-1])
    followed = list(client.runs.follow_log(12, "train", 1))
    assert followed == [f"line {number}" for number in range(4)]
    assert [asked.headers.get("last-event-id") for asked in script.asked] == [None, "1", "1", "1", "2"]
    assert {asked.path for asked in script.asked} == {"/api/v1/runs/12/stages/train/attempts/1/log/stream?first=0"}
    assert {asked.headers["accept"] for asked in script.asked} == {"text/event-stream"}


def test_events_are_followed_from_where_they_were_known(client: Client, script: Scripted) -> None:
    def event(number: int) -> str:
        told = {
            "number": number,
            "kind": "run",
            "key": "3",
            "version": 1,
            "phase": "running",
            "at": 1.0,
            "because": "x",
        }
        return f"id: {number}\ndata: {json.dumps(told)}"

    script.answers = [stream("id: 40"), stream(event(41), event(57), END)]
    assert [found.number for found in client.follow_events("run")] == [41, 57]
    assert [asked.headers.get("last-event-id") for asked in script.asked] == [None, "40"]
    script.answers = [stream(event(58), END)]
    assert [found.number for found in client.follow_events("run", "3", after=57)] == [58]
    assert script.asked[-1].path == "/api/v1/events/stream?kind=run&key=3&after=57"


def test_a_stream_that_is_refused_or_never_comes_back_is_an_error(
    client: Client, script: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STREAM_TRIES", 3)
    script.answers = [problem(404, detail="there is no run 12")]
    with pytest.raises(ApiError, match="there is no run 12"):
        list(client.runs.follow_log(12, "train", 1))
    script.answers = [stream(line(0)), stream()]
    followed = client.runs.follow_log(12, "train", 1)
    assert next(followed) == "line 0"
    with pytest.raises(Unreachable, match="before its end"):
        next(followed)
    assert len(script.asked) == 1 + 3


def test_events_are_listed_page_by_page(client: Client, script: Scripted) -> None:
    told = {
        "kind": "run",
        "key": "3",
        "version": 1,
        "phase": "running",
        "at": 1.0,
        "because": "x",
        "observed": {"a": 1},
    }
    script.answers = [
        Told(body={"items": [{"number": 1, **told}], "next": "1"}),
        Told(body={"items": [{"number": 4, **told}], "next": None}),
    ]
    assert [event.number for event in client.events("run", "3")] == [1, 4]
    assert [asked.path.partition("after=")[2] for asked in script.asked] == ["0&limit=200", "1&limit=200"]


@given(st.lists(st.tuples(st.text(st.characters(exclude_characters="\r\n\0")), st.integers(0, 9))), st.data())
def test_a_stream_is_read_the_same_however_it_comes_in_pieces(
    events: list[tuple[str, int]], data: st.DataObject
) -> None:
    text = "".join(f"id: {number}\ndata: {content}\n\n" for content, number in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    expected = [ServerSentEvent(content, "message", str(number)) for content, number in events]
    assert list(parse_events(whole_lines(pieces))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: a\ndata: b\n\n", [ServerSentEvent("a\nb")]),
        ("data:a\r\nid:7\r\n\r\n", [ServerSentEvent("a", id="7")]),
        ("event: end\ndata: {}\n\n", [ServerSentEvent("{}", "end")]),
        (": nothing\n\nretry: 9\n\n", []),
        ("id: 5\n\ndata: a\n\n", [ServerSentEvent("", id="5"), ServerSentEvent("a", id="5")]),
        ("data: never ended\n", []),
        ("data\n\n", [ServerSentEvent("")]),
        ("id: a\0b\ndata: x\n\n", [ServerSentEvent("x")]),
    ],
)
def test_events_are_read_as_the_format_says(text: str, expected: list[ServerSentEvent]) -> None:
    assert list(parse_events(whole_lines([text]))) == expected
