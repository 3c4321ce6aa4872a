"""What hostile clients send to the front, with real model servers behind it: no way round, and right answers after."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock.edges.blobs import LocalBlobs
from interlock.edges.proxy import EnvoyProxy
from interlock.edges.proxy.configuration import MOST_BODY_BYTES, socket_of
from interlock.edges.serving import stop_supervise
from interlock.edges.serving.supervising import ensure_supervise
from interlock.inference.protocol.bodies import LONGEST_BODY
from interlock.system.sockets import free_port, http_over

MODEL = """
class Model:
    def predict(self, inputs):
        return inputs["x"] + {more}
"""
MODELS = {"flights": 1, "delays": 1000}
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}]}).encode()


class Front:
    """Envoy before one replica of each model. ``send`` answers all that comes back for some bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        for place in ("processes", "models"):
            (folder / place).mkdir(parents=True)
        ensure_supervise(folder)
        self.proxy = EnvoyProxy(folder, {"production": f"127.0.0.1:{self.port}"}, labels=None)
        self.proxy.start()
        for model, more in MODELS.items():
            self.serve(model, more)

    def serve(self, model: str, more: int) -> None:
        revision = f"{model}.production.r1"
        name = f"{revision}.0"
        file = self.folder / "models" / f"{model}.py"
        file.write_text(MODEL.format(more=more))
        (self.folder / "s" / name).mkdir(parents=True)
        digest = LocalBlobs(self.folder / "blobs").put(str(file))
        argv = [sys.executable, "-m", "interlock.inference", "--name", model, "--model", str(file)]
        argv += ["--digest", str(digest), "--format", "python", "--socket", socket_of(name)]
        process = {"name": name, "argv": argv, "env": {}, "generation": 1, "grace": 5, "unlink": [socket_of(name)]}
        part = self.folder / f"{name}.part"
        part.write_text(json.dumps(process))
        part.rename(self.folder / "processes" / f"{name}.json")
        self.proxy.ensure_endpoints(revision, [name], (), 1)
        self.proxy.ensure_weights(f"{model}/production", {revision: 100}, 1)
        until = time.monotonic() + 30
        while not self.proxy.observe(f"{model}/production").endpoints[revision][name].is_healthy:
            assert time.monotonic() < until
            time.sleep(0.05)

    def send(self, *parts: bytes, pause: float = 0.0, seconds: float = 15.0) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as client:
            received = b""
            try:
                for part in parts:
                    client.sendall(part)
                    time.sleep(pause)
                while chunk := client.recv(65536):
                    received += chunk
            except (ConnectionError, TimeoutError):
                pass  # it was cut off; what it was told before counts
            return received

    def infer(self, model: str) -> Any:
        answer = self.send(post(f"/v2/models/{model}/infer", BODY))
        return json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"][0]["data"]

    def stats(self, model: str) -> dict[str, Any]:
        answer = http_over(self.folder / "s" / f"{model}.production.r1.0", "http", "GET", "/interlock/stats", timeout=5)
        found: dict[str, Any] = json.loads(answer.body)
        return found


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "connection: close", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    try:
        yield Front(folder)
    finally:
        stop_supervise(folder)


@pytest.fixture(autouse=True)
def right_answers_afterwards(front: Front) -> Iterator[None]:
    """Nobody's request reached the other model, nothing was a server's fault, and both answer as before."""
    before = front.stats("delays")["requests"]
    yield
    assert front.stats("delays")["requests"] == before
    assert (front.infer("flights"), front.infer("delays")) == ([2.0], [1001.0])
    assert [front.stats(model)["errors"] for model in MODELS] == [0, 0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/flights%2f..%2fdelays/infer", 400),
        ("/v2/models/flights/%2e%2e%2fdelays/infer", 400),
        ("/v2/models/flights%5c..%5cdelays/infer", 400),
        ("/v2/models/flights%252f..%252fdelays/infer", 404),
        ("/v2/models/flights-and-more/infer", 404),
        ("/v2/models/flights/../../../interlock/stats", 404),
        ("/interlock/stats", 404),
        ("/v2/repository/index", 404),
        ("/v2/models/flights/versions/2/infer", 404),
        ("http://other/v2/models/nothing/infer", 404),
    ],
)
def test_no_path_leads_round_the_routes(front: Front, path: str, status: int) -> None:
    assert status_of(front.send(post(path, BODY))) == status


@pytest.mark.parametrize("dots", ["..", "..;", "..;x=y", "%2e%2e"])
def test_dots_are_resolved_before_the_route_is_chosen(front: Front, dots: str) -> None:
    """What the front took for one model's own reaches that model; the other, named first, sees nothing."""
    answer = front.send(post(f"/v2/models/delays/{dots}/flights/infer", BODY))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"][0]["data"] == [2.0]


SMUGGLED = post("/v2/models/delays/infer", BODY)


@pytest.mark.parametrize(
    "headers",
    [
        ("transfer-encoding: chunked", f"content-length: {5 + len(SMUGGLED)}"),
        (f"content-length: {5 + len(SMUGGLED)}", "transfer-encoding: chunked"),
        ("content-length: 5", "content-length: 6"),
        ("transfer-encoding: chunked, identity",),
        ("transfer-encoding: xchunked",),
        ("transfer-encoding : chunked",),
        ("transfer_encoding: chunked", "content-length: 0"),
        ("content-length: +5",),
    ],
)
def test_a_body_of_two_lengths_is_refused_and_hides_no_second_request(front: Front, headers: tuple[str, ...]) -> None:
    head = "\r\n".join(["POST /v2/models/flights/infer HTTP/1.1", "host: x", *headers, "", ""]).encode()
    answer = front.send(head + b"0\r\n\r\n" + SMUGGLED)
    assert status_of(answer) in {400, 501}
    assert answer.count(b"HTTP/1.1 ") == 1


def test_requests_one_behind_the_other_are_answered_each(front: Front) -> None:
    kept = post("/v2/models/flights/infer", BODY).replace(b"connection: close\r\n", b"")
    answer = front.send(kept * 3 + post("/v2/models/flights/infer", BODY))
    assert answer.count(b"HTTP/1.1 200") == 4


def test_single_bytes_and_an_end_in_the_middle(front: Front) -> None:
    request = post("/v2/models/flights/infer", BODY)
    assert status_of(front.send(*(request[place : place + 1] for place in range(len(request))), pause=0.001)) == 200
    with socket.create_connection(("127.0.0.1", front.port), timeout=10) as half:
        half.sendall(request[:-5])
        half.shutdown(socket.SHUT_WR)
        assert status_of(half.recv(1000)) in {0, 400}


def test_a_client_that_is_slow_keeps_no_replica(front: Front) -> None:
    head = post("/v2/models/flights/infer", BODY)[: -len(BODY)]
    before = front.stats("flights")["requests"]
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as slow:
        slow.sendall(head + BODY[:10])
        time.sleep(0.3)
        assert front.infer("flights") == [2.0]
        assert front.stats("flights")["requests"] == before + 1
        slow.sendall(BODY[10:])
        assert slow.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_a_head_that_does_not_end_is_given_up(front: Front) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as slow:
        slow.sendall(b"POST /v2/models/flights/infer HTTP/1.1\r\nhost: x\r\n")
        assert status_of(slow.recv(1000)) in {0, 408}
    assert 5 < time.monotonic() - began < 20


def test_the_longest_body_is_the_model_servers_and_a_longer_one_is_refused_at_the_front(front: Front) -> None:
    assert MOST_BODY_BYTES == LONGEST_BODY
    before = front.stats("flights")["requests"]
    padded = BODY + b" " * (MOST_BODY_BYTES - len(BODY))
    assert status_of(front.send(post("/v2/models/flights/infer", padded))) == 200
    answer = front.send(post("/v2/models/flights/infer", padded + b" "))
    assert status_of(answer) in {0, 413}
    chunked = b"POST /v2/models/flights/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = [b"10000\r\n" + b" " * 65536 + b"\r\n"] * (MOST_BODY_BYTES // 65536 + 2)
    assert status_of(front.send(chunked, *chunks, b"0\r\n\r\n")) in {0, 413}
    assert front.stats("flights")["requests"] == before + 1


def test_the_refusal_of_a_long_body_says_why(front: Front) -> None:
    """It is told when the length is known to be too much, to a client that waits for the answer."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as client:
        client.sendall(b"POST /v2/models/flights/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        sent, answer = 0, b""
        while sent <= MOST_BODY_BYTES:
            client.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
            sent += 65536
        answer = client.recv(65536)
    assert status_of(answer) == 413
    assert b'{"error"' in answer
