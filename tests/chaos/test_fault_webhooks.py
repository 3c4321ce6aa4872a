"""Hook calls as they should not be: forged, sent again and again, endless, of no sense. Rows W1 to W4 of the faults."""

import http.client
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.face import PUSH, SECRET, ServedFace, signed

from interlock.edges.store import SqlStore
from interlock.vocabulary import Kind
from interlock.web.entry import bodies, protocol

HOOK = "/hooks/github/small"
GENUINE = signed(PUSH)
SIGNATURE = GENUINE["X-Hub-Signature-256"]
MEGABYTE = 1 << 20


@pytest.fixture
def face(tmp_path: Path) -> Iterator[ServedFace]:
    served = ServedFace(tmp_path)
    yield served
    served.end()


def forged(value: str | None, name: str = "X-Hub-Signature-256") -> dict[str, str]:
    kept = {key: text for key, text in GENUINE.items() if key != "X-Hub-Signature-256"}
    return kept if value is None else {**kept, name: value}


FORGERIES: dict[str, tuple[str, dict[str, str], bytes]] = {
    "no signature": (HOOK, forged(None), PUSH),
    "empty": (HOOK, forged(""), PUSH),
    "only the prefix": (HOOK, forged("sha256="), PUSH),
    "without the prefix": (HOOK, forged(SIGNATURE.removeprefix("sha256=")), PUSH),
    "of another secret": (HOOK, signed(PUSH, b"guessed"), PUSH),
    "of no secret": (HOOK, signed(PUSH, b""), PUSH),
    "of another body": (HOOK, GENUINE, PUSH.replace(b"main", b"evil")),
    "one byte more": (HOOK, GENUINE, PUSH + b" "),
    "one byte less": (HOOK, GENUINE, PUSH[:-1]),
    "no body": (HOOK, GENUINE, b""),
    "upper case": (HOOK, forged("sha256=" + SIGNATURE.removeprefix("sha256=").upper()), PUSH),
    "one digit short": (HOOK, forged(SIGNATURE[:-1]), PUSH),
    "one digit long": (HOOK, forged(SIGNATURE + "0"), PUSH),
    "one digit wrong": (HOOK, forged(SIGNATURE[:-1] + ("0" if SIGNATURE[-1] != "0" else "1")), PUSH),
    "twice in one": (HOOK, forged(f"{SIGNATURE}, {SIGNATURE}"), PUSH),
    "of SHA-1": (HOOK, forged("sha1=" + "0" * 40), PUSH),
    "SHA-1 by its header": (HOOK, forged("sha1=" + "0" * 40, "X-Hub-Signature"), PUSH),
    "not ASCII": (HOOK, forged("sha256=" + "\xe4" * 64), PUSH),
    "of another forge": ("/hooks/gitlab/small", GENUINE, PUSH),
    "for a repository without secrets": ("/hooks/github/large", GENUINE, PUSH),
    "for a repository that is not there": ("/hooks/github/nothing", GENUINE, PUSH),
    "for a repository outside": ("/hooks/github/../small", GENUINE, PUSH),
    "with a token of the API": (HOOK, {**forged(None), "Authorization": "Bearer ilk_x"}, PUSH),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_call_is_refused_and_noted_and_begins_nothing(face: ServedFace, what: str) -> None:
    path, headers, body = FORGERIES[what]
    answer = face.ask("POST", path, body, headers=headers)
    assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")
    assert face.store.pending(10) == []
    (deed,) = [entry.deed for entry in face.store.audit() if entry.deed.action == "hook refused"]
    assert (deed.thing, deed.detail["address"]) == (path, "127.0.0.1")


def test_two_signature_headers_are_as_good_as_none(face: ServedFace) -> None:
    """A proxy and the server may each look at another one of them."""
    for values in ((SIGNATURE, SIGNATURE), (SIGNATURE, "sha256=0"), ("sha256=0", SIGNATURE)):
        connection = http.client.HTTPConnection("127.0.0.1", face.port, timeout=30)
        connection.putrequest("POST", HOOK)
        for value in values:
            connection.putheader("X-Hub-Signature-256", value)
        for name, value in {**forged(None), "Content-Length": str(len(PUSH))}.items():
            connection.putheader(name, value)
        connection.endheaders(PUSH)
        assert connection.getresponse().status == 401
        connection.close()


def test_who_is_refused_learns_nothing_of_which_repositories_there_are(face: ServedFace) -> None:
    bodies = {
        face.ask("POST", f"/hooks/github/{name}", PUSH, headers=signed(PUSH, b"guessed")).body
        for name in ("small", "large", "nothing")
    }
    assert len(bodies) == 1


def test_a_flood_of_forgeries_is_noted_in_a_few_lines(face: ServedFace) -> None:
    for _ in range(60):
        assert face.ask("POST", HOOK, PUSH, headers=forged("sha256=0")).status == 401
    noted = [entry.deed for entry in face.store.audit() if entry.deed.action == "hook refused"]
    assert 1 <= len(noted) <= 25


def test_both_secrets_hold_while_one_is_changed_for_the_other(face: ServedFace) -> None:
    for secret in (SECRET, b"an older one"):
        assert face.ask("POST", HOOK, PUSH, headers=signed(PUSH, secret)).status == 202
    assert len(face.store.pending(10)) == 2


def test_an_accepted_call_is_on_the_disk_before_its_answer(face: ServedFace) -> None:
    answer = face.ask("POST", HOOK, PUSH, headers=GENUINE)
    assert (answer.status, answer.json) == (202, {"notice": "accepted"})
    with closing(SqlStore(f"sqlite:///{face.folder / 'interlock.db'}")) as other:
        ((_, notice),) = other.pending(10)
    assert (notice.repository, notice.ref, notice.sha) == ("small", "refs/heads/main", "1" * 40)
    assert face.rung.wait(10)


def test_what_begins_nothing_is_taken_and_not_kept(face: ServedFace) -> None:
    body = b'{"zen": "Keep it logically awesome."}'
    answer = face.ask("POST", HOOK, body, headers=signed(body, event="ping"))
    assert (answer.status, answer.json) == (202, {"notice": "nothing to do"})
    assert face.store.pending(10) == []


def test_nothing_is_acknowledged_that_is_not_on_the_disk(face: ServedFace) -> None:
    with closing(sqlite3.connect(face.folder / "interlock.db")) as other:
        other.execute("ALTER TABLE notices RENAME TO away")
        other.commit()
        answer = face.ask("POST", HOOK, PUSH, headers=GENUINE)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        other.execute("ALTER TABLE away RENAME TO notices")
        other.commit()
    assert face.ask("POST", HOOK, PUSH, headers=GENUINE).status == 202


@pytest.mark.slow
def test_a_thousand_replays_are_one_run(face: ServedFace) -> None:
    face.make_repository()

    def send(first: int) -> Counter[int]:
        connection = http.client.HTTPConnection("127.0.0.1", face.port, timeout=120)
        statuses: Counter[int] = Counter()
        for number in range(first, first + 50):
            connection.request("POST", HOOK, PUSH, {**GENUINE, "X-GitHub-Delivery": str(number)})
            response = connection.getresponse()
            response.read()
            statuses[response.status] += 1
        connection.close()
        return statuses

    with ThreadPoolExecutor(20) as pool:
        statuses = sum(pool.map(send, range(0, 1000, 50)), Counter())
    assert statuses == {202: 1000}
    watched = face.repositories["small"]
    while waiting := face.store.pending(300):
        notices = [notice for _, notice in waiting]
        lookers = [threading.Thread(target=face.intake.look, args=(watched, notices)) for _ in range(4)]
        for looker in lookers:
            looker.start()
        for looker in lookers:
            looker.join()
        face.store.settle([number for number, _ in waiting])
    (run,) = face.store.rows(Kind.RUN)
    assert run.state["commit"]["ref"] == "refs/heads/main"


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
NONSENSE: dict[str, tuple[bytes, str, int]] = {
    "form": (b"payload=%7B%7D", "application/x-www-form-urlencoded", 415),
    "text": (PUSH, "text/plain", 415),
    "no type": (PUSH, "", 415),
    "cut JSON": (PUSH[:-1], "application/json", 400),
    "nothing": (b"", "application/json", 400),
    "100,000 deep": (DEEP, "application/json", 400),
    "a list": (b"[]", "application/json", 400),
    "a key twice": (PUSH.replace(b"{", b'{"ref": "refs/heads/x", ', 1), "application/json", 400),
    "NaN": (PUSH.replace(b"{", b'{"size": NaN, ', 1), "application/json", 400),
    "1e999": (PUSH.replace(b"{", b'{"size": 1e999, ', 1), "application/json", 400),
    "no UTF-8": (b"\xff\xfe" + PUSH, "application/json", 400),
    "no ref": (b"{}", "application/json", 400),
    "an odd ref": (PUSH.replace(b"refs/heads/main", b"refs/heads/../../x"), "application/json", 400),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_a_genuine_call_of_no_sense_is_refused_with_its_reason(face: ServedFace, what: str) -> None:
    body, content_type, status = NONSENSE[what]
    headers = {**signed(body), "Content-Type": content_type}
    answer = face.ask("POST", HOOK, body, headers=headers)
    assert answer.status == status, answer.body
    assert answer.json["remedy"]
    assert b"Traceback" not in answer.body
    assert face.store.pending(10) == []
    assert not any("defect" in line for line in face.heard)


def test_other_methods_and_forges_are_refused(face: ServedFace) -> None:
    assert face.ask("GET", HOOK).status == 405
    assert face.ask("PUT", HOOK, PUSH, headers=GENUINE).headers["allow"] == "POST"
    for path in ("/hooks/", "/hooks/bitbucket/small", "/hooks/git", "/hooks//small"):
        assert face.ask("POST", path, PUSH, headers=GENUINE).status == 404


SERVE = """
import sys
from pathlib import Path
from tests.face import ServedFace

face = ServedFace(Path(sys.argv[1]))
print(face.port, flush=True)
sys.stdin.read()
face.end()
"""


def peak_of(process: int) -> int:
    """Bytes."""
    text = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM:"))


def large_body(connection: socket.socket, head: str, pieces: Iterator[bytes]) -> bytes:
    """The status line that a caller hears who sends on until it is answered."""
    connection.sendall(f"POST {HOOK} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
    connection.settimeout(60)
    try:
        for piece in pieces:
            connection.sendall(piece)
    except OSError:
        pass
    try:
        return connection.recv(12)
    except OSError:
        return b""


def test_bodies_without_measure_are_refused_in_little_memory(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    server = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin
    assert server.stdout
    try:
        port = int(server.stdout.readline())

        def opened() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port), timeout=60)

        for _ in range(3):  # what any call costs is there already
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", HOOK, PUSH, GENUINE)
            assert connection.getresponse().status == 202
            connection.close()
        before = peak_of(server.pid)
        piece = b"x" * MEGABYTE
        with opened() as connection:
            told = large_body(connection, f"Content-Length: {26 * MEGABYTE}", (piece for _ in range(26)))
            assert told == b"HTTP/1.1 413"
        chunk = b"100000\r\n" + piece + b"\r\n"
        with opened() as connection:
            told = large_body(connection, "Transfer-Encoding: chunked", (chunk for _ in range(40)))
            assert told == b"HTTP/1.1 413"
        with opened() as connection:
            assert large_body(connection, f"Content-Length: {10**18}", iter(())) == b"HTTP/1.1 413"
        assert peak_of(server.pid) - before <= 32 * MEGABYTE
    finally:
        server.stdin.close()
        server.wait(60)
        server.stdout.close()


def test_who_sends_slowly_is_closed_and_keeps_nobody_waiting(face: ServedFace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(bodies, "BODY_SECONDS", 1.0)
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 1.0)
    slow = [socket.create_connection(("127.0.0.1", face.port), timeout=60) for _ in range(200)]
    for number, connection in enumerate(slow):
        head = f"POST {HOOK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        connection.sendall(head.encode() + (b"\r\n{" if number % 2 else b""))
    for _ in range(20):
        assert face.ask("POST", HOOK, PUSH, headers=GENUINE).status == 202
    for connection in slow:
        while connection.recv(1 << 16):
            pass
        connection.close()


def test_all_that_is_held_at_once_is_bounded(face: ServedFace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_HELD", 3 * MEGABYTE)
    head = f"POST {HOOK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2 * MEGABYTE}\r\n\r\n".encode()
    first = socket.create_connection(("127.0.0.1", face.port), timeout=60)
    first.sendall(head + b"x" * (MEGABYTE + MEGABYTE // 2))
    deadline = time.monotonic() + 60
    while True:  # until the first one's bytes have come
        body = b"x" * (2 * MEGABYTE - 1)
        answer = face.ask("POST", HOOK, body, headers=signed(body))
        if answer.status == 503:
            break
        assert time.monotonic() < deadline
    assert answer.headers["retry-after"] == "5"
    assert face.ask("POST", HOOK, PUSH, headers=GENUINE).status == 202
    first.close()
    assert json.loads(answer.body)["status"] == 503
