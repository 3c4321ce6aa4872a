"""The endpoint for labels as a real process: durable before it answers, first label wins."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SOURCE = Path(__file__).resolve().parents[2] / "src"
PATH = "/labels/flights/production"


class LabelServer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "interlock.inference.labels", "--socket", "s", "--folder", "labels"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def log(self) -> Path:
        return self.folder / "labels" / "flights" / "production.jsonl"

    def connect(self) -> http.client.HTTPConnection:
        reached = socket.socket(socket.AF_UNIX)
        reached.settimeout(30)
        try:
            reached.connect(str(self.folder / "s"))
        except OSError:
            reached.close()
            raise
        connection = http.client.HTTPConnection("labels")
        connection.sock = reached
        return connection

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        connection = self.connect()
        content = body if body is None or isinstance(body, bytes) else json.dumps(body)
        try:
            connection.request(method, path, content, {"content-type": kind})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def post(self, body: Any) -> tuple[int, Any]:
        return self.ask("POST", PATH, body)

    def wait(self) -> None:
        for _ in range(1000):
            try:
                if self.ask("GET", "/ready")[0] == 200:
                    return
            except OSError:
                time.sleep(0.02)
        pytest.fail("never became ready")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.process.communicate()
        return code


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[], LabelServer]]:
    running: list[LabelServer] = []

    def start() -> LabelServer:
        server = LabelServer(tmp_path)
        running.append(server)
        server.wait()
        return server

    yield start
    for server in running:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServer]:
    server = LabelServer(tmp_path_factory.mktemp("standing"))
    server.wait()
    yield server
    assert server.end() == 0


def outcome(accepted: int = 0, duplicate: int = 0, contradictory: int = 0) -> dict[str, int]:
    return {"accepted": accepted, "duplicate": duplicate, "contradictory": contradictory}


def test_the_first_label_wins_and_survives(begin: Callable[[], LabelServer]) -> None:
    server = begin()
    assert server.ask("GET", PATH) == (200, {"count": 0})
    assert server.post({"id": "a", "label": 1, "time": 17.5}) == (200, outcome(accepted=1))
    batch = {"labels": [{"id": "a", "label": 1}, {"id": "a", "label": 0}, {"id": "b", "label": "late"}]}
    assert server.post(batch) == (200, outcome(1, 1, 1))
    assert server.ask("PUT", PATH + "/", {"id": "c", "label": 0.5}) == (200, outcome(accepted=1))
    assert server.end() == 0

    again = begin()
    assert again.ask("GET", PATH) == (200, {"count": 3})
    assert again.post({"id": "a", "label": 0}) == (200, outcome(contradictory=1))
    assert again.post({"labels": [{"id": "c", "label": 0.5}, {"id": "d", "label": True}]}) == (200, outcome(1, 1))
    records = [json.loads(line) for line in again.log.read_text().splitlines()]
    assert [(record["id"], record["label"], record["is_contradictory"]) for record in records] == [
        ("a", 1, False),
        ("a", 0, True),
        ("b", "late", False),
        ("c", 0.5, False),
        ("a", 0, True),
        ("d", True, False),
    ]
    assert records[0]["time"] == 17.5
    assert abs(records[2]["time"] - time.time()) < 60


def test_the_same_id_twice_in_one_batch(begin: Callable[[], LabelServer]) -> None:
    server = begin()
    twice = {"labels": [{"id": "x", "label": 1}, {"id": "x", "label": 1}, {"id": "x", "label": 2}]}
    assert server.post(twice) == (200, outcome(1, 1, 1))


CSV, LINES = "text/csv; charset=utf-8", "application/x-ndjson"


def test_a_file_is_a_batch(begin: Callable[[], LabelServer]) -> None:
    server = begin()
    rows = b'\xef\xbb\xbfid,label,time\r\na,1,12.5\r\nb,,\r\n"c,1",true,\r\n'
    assert server.ask("POST", PATH, rows, CSV)[0] == 400  # b has no label: all or none
    rows = rows.replace(b"b,,", b"b,late,")
    assert server.ask("POST", PATH, rows, CSV) == (200, {"accepted": 3, "duplicate": 0, "contradictory": 0})
    again = b'{"id": "b", "label": "late"}\n\n{"id": "d", "label": 0, "time": 3}\n{"id": "a", "label": 2}'
    assert server.ask("POST", PATH, again, LINES) == (200, {"accepted": 1, "duplicate": 1, "contradictory": 1})
    stored = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [(one["id"], one["label"]) for one in stored] == [
        ("a", 1), ("b", "late"), ("c,1", True), ("d", 0), ("a", 2)
    ]  # fmt: skip
    assert (stored[0]["time"], stored[3]["time"]) == (12.5, 3.0)
    many = "id,label\n" + "".join(f"r{number},{number % 2}\n" for number in range(50_000))
    assert server.ask("POST", PATH, many.encode(), CSV)[1]["accepted"] == 50_000


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        (CSV, b"", "no CSV text"),
        (CSV, b"id,label\n", "1 to 200000 labels, found 0"),
        (CSV, b"\xff", "no CSV text"),
        (CSV, b'id,label\n"a,1\n', "no CSV text"),
        (CSV, b"id,label\na,1,2\n", "label 0 has 3 values, the first line 2 names"),
        (CSV, b"name,label\na,1\n", "unknown key 'name'"),
        (CSV, b"id,label,time\na,1,soon\n", 'label 0: "time" must be'),
        (LINES, b'{"id": "a", "label": 1}\n{"id": "b"', "unexpected end"),
        (LINES, b'{"id": "a", "label": 1}\n[]', "label 1 is not an object"),
    ],
)
def test_wrong_files_are_refused_in_words(standing: LabelServer, kind: str, body: bytes, reason: str) -> None:
    status, answer = standing.ask("POST", PATH, body, kind)
    assert status == 400
    assert reason in answer["error"]


def test_what_was_answered_outlives_a_kill(begin: Callable[[], LabelServer]) -> None:
    server = begin()
    answered: list[str] = []

    def send(name: str) -> None:
        connection = server.connect()
        try:
            for number in range(100_000):
                identity = f"{name}-{number}"
                connection.request("POST", PATH, json.dumps({"id": identity, "label": number % 2}))
                answer = connection.getresponse()
                if answer.status == 200 and json.loads(answer.read())["accepted"] == 1:
                    answered.append(identity)
        except (OSError, http.client.HTTPException):
            connection.close()

    clients = [threading.Thread(target=send, args=(f"c{n}",)) for n in range(4)]
    for client in clients:
        client.start()
    while len(answered) < 100:
        time.sleep(0.005)
    server.end(signal.SIGKILL)
    for client in clients:
        client.join()
    with server.log.open("ab") as log:
        log.write(b'{"id": "torn", "lab')

    again = begin()
    kept = {json.loads(line)["id"] for line in again.log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")}
    assert set(answered) <= kept
    assert again.ask("GET", PATH) == (200, {"count": len(kept)})
    assert again.post({"id": "torn", "label": 1}) == (200, outcome(accepted=1))
    assert json.loads(again.log.read_text().splitlines()[-1])["id"] == "torn"


def test_environments_are_apart(begin: Callable[[], LabelServer]) -> None:
    server = begin()
    server.post({"id": "a", "label": 1})
    assert server.ask("POST", "/labels/flights/staging", {"id": "a", "label": 0}) == (200, outcome(accepted=1))
    assert server.ask("GET", "/labels/flights/staging") == (200, {"count": 1})


def test_only_one_process_keeps_a_folder(begin: Callable[[], LabelServer]) -> None:
    server = begin()
    second = LabelServer(server.folder)
    _, said = second.process.communicate(timeout=20)
    assert second.process.returncode == 1
    assert "another process" in said
    assert server.post({"id": "a", "label": 1})[0] == 200


WRONG: dict[str, Any] = {
    "no JSON": b"{",
    "NaN": b'{"id": "a", "label": NaN}',
    "too deep": b'{"labels":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a list": [],
    "no label": {"id": "a"},
    "null label": {"id": "a", "label": None},
    "label of another kind": {"id": "a", "label": [1]},
    "long label": {"id": "a", "label": "x" * 300},
    "no id": {"label": 1},
    "empty id": {"id": "", "label": 1},
    "long id": {"id": "x" * 300, "label": 1},
    "number as id": {"id": 7, "label": 1},
    "time of another kind": {"id": "a", "label": 1, "time": "now"},
    "unknown key": {"id": "a", "label": 1, "lable": 1},
    "no labels": {"labels": []},
    "too many": {"labels": [{"id": "a", "label": 1}] * 10_001},
    "one wrong among right ones": {"labels": [{"id": "kept out", "label": 1}, {"id": "b"}]},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_labels_are_refused_in_words(standing: LabelServer, name: str) -> None:
    status, answer = standing.post(WRONG[name])
    assert status == 400
    assert isinstance(answer["error"], str)
    assert standing.ask("GET", PATH) == (200, {"count": 0})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/labels/flights", 404),
        ("POST", "/labels/../etc/passwd", 404),
        ("POST", "/labels/Flights/production", 404),
        ("POST", "/labels/flights/production/more", 404),
        ("GET", "/", 404),
        ("DELETE", PATH, 405),
    ],
)
def test_wrong_paths(standing: LabelServer, method: str, path: str, status: int) -> None:
    found, answer = standing.ask(method, path)
    assert found == status
    assert "error" in answer


def test_a_body_that_is_too_large(standing: LabelServer) -> None:
    assert standing.post(b" " * 20_000_000)[0] == 413


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["id", "label", "time", "labels", "x"]),
        st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.none(), max_size=2),
    )
)
def test_whatever_comes_is_stored_or_refused(standing: LabelServer, document: dict[str, Any]) -> None:
    status, answer = standing.ask("POST", "/labels/flights/fuzz", json.dumps(document).encode())
    assert status in {200, 400}
    assert ("error" in answer) == (status == 400)
