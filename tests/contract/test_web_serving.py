"""The face as a process's own server: its listeners, TLS, clients who are slow or too many, and its end."""

import asyncio
import datetime
import http.client
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.types import Receive, Scope, Send
from tests.face import ServedFace
from uvicorn.config import Config
from uvicorn.server import ServerState

from interlock.access.caller import Role
from interlock.errors import Refused
from interlock.system.sockets import connect, http_over
from interlock.web.entry import bodies, protocol
from interlock.web.entry.protocol import PatientProtocol
from interlock.web.serving import END_SECONDS, SOCKET_NAME, Face, Listener

ASK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def face(tmp_path: Path) -> Iterator[ServedFace]:
    served = ServedFace(tmp_path)
    yield served
    served.end()


def opened(face: ServedFace) -> socket.socket:
    return socket.create_connection(("127.0.0.1", face.port), timeout=30)


def all_of(connection: socket.socket) -> bytes:
    """Until the server closes."""
    received = b""
    try:
        while piece := connection.recv(1 << 16):
            received += piece
    except ConnectionResetError:
        pass
    return received


def until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        piece = connection.recv(1 << 16)
        assert piece, received
        received += piece
    return received


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET", b"GET /healthz HTTP/1.1\r\nHost: local", b"\r\n", b"POST /hooks/github/small HTTP/1.1\r\n"],
)
def test_who_does_not_finish_their_headers_is_closed(
    face: ServedFace, begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    with opened(face) as connection:
        connection.sendall(begin)
        assert all_of(connection) == b""


def test_who_sends_headers_byte_by_byte_is_closed(face: ServedFace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with opened(face) as connection:
        began = time.monotonic()
        with suppress(OSError):  # reset or broken, as the moment has it
            for byte in (ASK[:-2] + b"X: y\r\n" * 1000) * 10:
                connection.sendall(bytes([byte]))
                time.sleep(0.01)
        assert time.monotonic() - began < 20


def test_a_second_request_has_to_come_whole_too(face: ServedFace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    for rest in (b"GET", b"\r\n"):
        with opened(face) as connection:
            connection.sendall(ASK)
            until(connection, b'"ok"}')
            connection.sendall(rest)
            assert all_of(connection) == b""


def test_headers_without_end_are_cut_off(face: ServedFace) -> None:
    for filler in (b"X-One: " + b"a" * (1 << 20), b"X-Some: a\r\n" * 100_000):
        with opened(face) as connection:
            try:
                connection.sendall(ASK[:-2] + filler)
                answer = all_of(connection)
            except OSError:
                answer = b"431"  # it was cut off while it still sent
            assert b"431" in answer


def test_a_connection_serves_many_requests(face: ServedFace) -> None:
    with opened(face) as connection:
        for _ in range(5):
            connection.sendall(ASK)
            until(connection, b'"ok"}')
        connection.sendall(ASK + ASK)
        received = b""
        while received.count(b'"ok"}') < 2:
            received += connection.recv(1 << 16)


def test_head_and_body_of_an_answer_arrive_together(face: ServedFace) -> None:
    """Its reader would wake twice, and a flood of calls take a quarter longer."""
    with opened(face) as connection:
        for _ in range(20):
            connection.sendall(ASK)
            assert connection.recv(1 << 16).endswith(b'"ok"}')


def test_an_answer_without_its_body_is_told_at_once(face: ServedFace) -> None:
    with opened(face) as connection:
        connection.sendall(ASK.replace(b"GET", b"HEAD", 1))
        assert b"content-length" in until(connection, b"\r\n\r\n")


def test_one_connection_too_many_is_told_to_come_again(face: ServedFace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MOST_CONNECTIONS", 3)
    kept = [opened(face) for _ in range(3)]
    for connection in kept:
        connection.sendall(ASK)
        until(connection, b'"ok"}')
    with opened(face) as connection:
        assert b"503" in all_of(connection)
    assert http_over(face.folder, SOCKET_NAME, "GET", "/healthz").status == 200  # the socket counts by itself
    kept.pop().close()
    deadline = time.monotonic() + 30
    while face.ask("GET", "/healthz").status != 200:
        assert time.monotonic() < deadline
    for connection in kept:
        connection.close()


def test_a_body_that_does_not_end_is_given_up(face: ServedFace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.2)
    token = face.token(Role.ADMIN)
    for path in ("/hooks/github/small", "/api/v1/tokens"):
        with opened(face) as connection:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\n"
            )
            connection.sendall(head.encode() + b"{")
            answer = all_of(connection)
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"application/problem+json" in answer


def test_what_is_under_way_is_answered_before_the_end(face: ServedFace) -> None:
    go_on, is_looking = threading.Event(), threading.Event()

    def look(name: str, _pushed: Mapping[str, str]) -> list[str]:
        is_looking.set()
        go_on.wait(30)
        return [f"looked at {name}"]

    object.__setattr__(face.services, "look", look)
    token = face.token(Role.ADMIN)
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(face.ask("POST", "/api/v1/repositories/small/sync", token=token))
    )
    idle = opened(face)
    idle.sendall(ASK)
    until(idle, b'"ok"}')
    asking.start()
    assert is_looking.wait(30)
    stopping = threading.Thread(target=face.face.stop)
    stopping.start()
    assert all_of(idle) == b""  # nothing was under way on it
    with pytest.raises(ConnectionRefusedError):
        opened(face)
    go_on.set()
    asking.join(30)
    stopping.join(30)
    assert [answer.json for answer in answers] == [{"lines": ["looked at small"]}]
    assert not (face.folder / SOCKET_NAME).exists()
    idle.close()


@pytest.mark.parametrize("is_first", [True, False])
def test_who_connects_in_the_last_moment_does_not_hold_up_the_end(face: ServedFace, is_first: bool) -> None:
    loop = face.face._loop
    assert loop is not None
    loop.call_soon_threadsafe(time.sleep, 0.5)  # so that it hears of the end and of the connections at once
    time.sleep(0.1)
    stopping = threading.Thread(target=face.face.stop)
    begun = time.monotonic()
    if not is_first:
        stopping.start()
        time.sleep(0.1)
    connections = [connect(face.folder, SOCKET_NAME, 10.0) for _ in range(3)]
    if is_first:
        stopping.start()
    stopping.join(30)
    assert time.monotonic() - begun < END_SECONDS / 2
    for connection in connections:
        with connection:
            assert all_of(connection) == b""


def test_a_port_that_is_taken_is_refused_before_anything_listens(face: ServedFace, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    free = Listener(address="127.0.0.1", port=0)
    taken = Listener(address="127.0.0.1", port=face.port)
    other = Face(face.services, [free, taken], folder)
    with pytest.raises(Refused, match="cannot listen"):
        other.start()
    assert list(folder.iterdir()) == []
    wrong = Listener(address="127.0.0.1", port=0, certificate=tmp_path / "none.pem", key=tmp_path / "none.key")
    with pytest.raises(Refused, match="certificate"):
        Face(face.services, [wrong], folder).start()


def write_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def test_tls_is_spoken_where_there_is_a_certificate_and_never_on_the_socket(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    face = ServedFace(tmp_path, listener={"certificate": certificate, "key": key})
    try:
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", face.port, timeout=30, context=context)
        connection.request("GET", "/api/v1/whoami", headers={"Authorization": f"Bearer {face.token(Role.VIEWER)}"})
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["role"]) == (200, "viewer")
        connection.close()
        with opened(face) as plain:
            plain.sendall(ASK)
            assert b"200 OK" not in all_of(plain)
        assert http_over(face.folder, SOCKET_NAME, "GET", "/healthz").status == 200
    finally:
        face.end()


def test_the_socket_is_reached_however_long_its_path_is(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a folder with a rather long name"] * 6)
    folder.mkdir(parents=True)
    face = ServedFace(folder)
    try:
        with connect(folder, SOCKET_NAME, 30) as connection:
            connection.sendall(ASK)
            assert b"200 OK" in until(connection, b'"ok"}')
    finally:
        face.end()


def test_what_comes_while_the_loop_closes_is_dropped() -> None:
    """It was an error inside the loop, which then left the connection open and its caller waiting."""

    async def nobody(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("it was asked")

    async def send_to_one_whose_loop_is_closed() -> int:
        ours, theirs = socket.socketpair()
        closed, state = asyncio.new_event_loop(), ServerState()
        protocol = PatientProtocol(Config(nobody, lifespan="off", log_config=None), state, {"hosts": None}, closed)
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, ours)
        closed.close()
        with theirs:
            protocol.data_received(ASK)
            transport.close()
            await asyncio.sleep(0.01)
            return len(state.tasks)

    assert asyncio.run(send_to_one_whose_loop_is_closed()) == 0


def test_a_push_is_told_over_the_socket_alone_and_answered_with_lines(face: ServedFace) -> None:
    push = json.dumps({"git_directory": str(face.folder / "small.git"), "pushed": {"refs/heads/a": "1" * 40}}).encode()
    told = http_over(face.folder, SOCKET_NAME, "POST", "/hooks/git", body=push)
    assert (told.status, json.loads(told.body)) == (200, {"lines": ["interlock: looked at small", "refs/heads/a"]})
    other = json.dumps({"git_directory": "/elsewhere.git"}).encode()
    told = http_over(face.folder, SOCKET_NAME, "POST", "/hooks/git", body=other)
    assert json.loads(told.body) == {"lines": ["interlock: this repository is not configured"]}
    for odd in (b"", b"[]", b'{"pushed": {}}', b"[" * 100_000):
        assert http_over(face.folder, SOCKET_NAME, "POST", "/hooks/git", body=odd).status == 422
    assert face.ask("POST", "/hooks/git", push).status == 404


def test_a_pusher_waits_for_a_slow_look_only_so_long(face: ServedFace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.web.hooks.LOOK_SECONDS", 0.1)
    go_on = threading.Event()

    def look(_name: str, _pushed: Mapping[str, str]) -> list[str]:
        go_on.wait(30)
        return []

    object.__setattr__(face.services, "look", look)
    push = json.dumps({"git_directory": str(face.folder / "small.git")}).encode()
    told = http_over(face.folder, SOCKET_NAME, "POST", "/hooks/git", body=push)
    go_on.set()
    assert "still looking" in json.loads(told.body)["lines"][0]
