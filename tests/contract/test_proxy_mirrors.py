"""Copies of requests, by a real Envoy: nobody who asks is failed or slowed by whom the copies go to."""

from __future__ import annotations

import http.client
import http.server
import socketserver
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock.edges.proxy import EnvoyProxy
from interlock.edges.proxy.configuration import MIRRORED, REVISION, socket_of
from interlock.edges.proxy.mirrors import LONGEST_BYTES
from interlock.edges.serving import stop_supervise
from interlock.system.sockets import free_port

STABLE, CANDIDATE = "flights.production.r1", "flights.production.r2"
ENVIRONMENT = "flights/production"
INFER = "/v2/models/flights/infer"


def eventually(holds: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


class Replica(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers after ``seconds`` with ``status``; ``asked`` are the headers of what reached it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str) -> None:
        self.name, self.seconds, self.status = name, 0.0, 200
        self.asked: list[Any] = []
        Path(socket_of(name)).parent.mkdir(parents=True)
        super().__init__(socket_of(name), Conversation)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        Path(socket_of(self.name)).unlink()


class Conversation(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Replica

    def do_GET(self) -> None:
        self.answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(self.headers)
        time.sleep(self.server.seconds)
        self.answer(self.server.status)

    def answer(self, status: int) -> None:
        content = self.server.name.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


class Front:
    """Envoy with one replica of stable, which has all traffic, and one of the candidate."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        subprocess.run([sys.executable, "-m", "interlock.supervise", "--detach", folder], check=True)
        self.proxy = self.make_proxy()
        self.proxy.start()
        self.stable, self.candidate = Replica(f"{STABLE}.0"), Replica(f"{CANDIDATE}.0")
        for revision in (STABLE, CANDIDATE):
            self.proxy.ensure_endpoints(revision, [f"{revision}.0"], (), 1)
        eventually(
            lambda: all(one.is_healthy for of in self.seen().endpoints.values() for one in of.values()), "all healthy"
        )
        self.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)

    def make_proxy(self, lease_seconds: float = 300.0) -> EnvoyProxy:
        return EnvoyProxy(self.folder, {"production": f"127.0.0.1:{self.port}"}, None, lease_seconds)

    def seen(self) -> Any:
        return self.proxy.observe(ENVIRONMENT)

    def ask(self, count: int = 1, body: bytes = b"{}", path: str = INFER, **headers: str) -> list[float]:
        """How long the answers took in seconds, all of them 200 and stable's."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        taken = []
        for _ in range(count):
            began = time.monotonic()
            connection.request(
                "POST", path, body, headers={name.replace("_", "-"): text for name, text in headers.items()}
            )
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, f"{STABLE}.0".encode())
            taken.append(time.monotonic() - began)
        connection.close()
        return taken


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    monkeypatch.chdir(tmp_path)
    front = Front(tmp_path)
    yield front
    stop_supervise(tmp_path)
    front.stable.end()
    front.candidate.end()


def test_each_request_is_copied_once_with_its_id_and_a_mark_and_is_not_counted_as_served(front: Front) -> None:
    for named in ({}, {REVISION: STABLE}):
        front.ask(x_interlock_mirrored=CANDIDATE, **named)
        assert front.stable.asked.pop()[MIRRORED] is None  # what a caller says of it is nobody's word
    front.proxy.ensure_mirrors(ENVIRONMENT, {CANDIDATE: 100}, 2)
    front.ask(50, x_interlock_mirrored="me")
    eventually(lambda: len(front.candidate.asked) == 50, "all copies have come")
    ids = [[headers["x-request-id"] for headers in replica.asked] for replica in (front.stable, front.candidate)]
    assert sorted(ids[0]) == sorted(ids[1])
    assert len(set(ids[0])) == 50
    assert {headers[MIRRORED] for replica in (front.stable, front.candidate) for headers in replica.asked} == {
        CANDIDATE
    }
    asked = [*front.stable.asked, *front.candidate.asked]
    assert {headers["x-envoy-attempt-count"] for headers in asked} == {"1"}
    counters = front.seen().counters
    assert (counters[STABLE].requests, counters[CANDIDATE].requests) == (51, 0)  # one named its revision
    # What is no inference, or long, is not copied.
    front.ask(path="/v2/models/flights/infer", body=b" " * (LONGEST_BYTES + 1))
    time.sleep(0.2)
    assert len(front.candidate.asked) == 50
    front.ask(body=b" " * LONGEST_BYTES)
    eventually(lambda: len(front.candidate.asked) == 51, "the longest one that is copied")
    front.proxy.ensure_mirrors(ENVIRONMENT, {}, 3)
    front.ask(10)
    time.sleep(0.2)
    assert len(front.candidate.asked) == 51
    assert front.stable.asked[-1][MIRRORED] is None


def test_a_share_of_the_requests_is_copied_and_those_alone_are_marked(front: Front) -> None:
    front.proxy.ensure_mirrors(ENVIRONMENT, {CANDIDATE: 30}, 2)
    front.ask(400)
    marked = [headers["x-request-id"] for headers in front.stable.asked if headers[MIRRORED] == CANDIDATE]
    assert 75 <= len(marked) <= 170  # 120 expected, standard deviation 9
    eventually(lambda: len(front.candidate.asked) == len(marked), "all copies have come")
    assert sorted(headers["x-request-id"] for headers in front.candidate.asked) == sorted(marked)


@pytest.mark.parametrize("ill", ["failing", "unavailable", "hanging", "dead"])
def test_whatever_becomes_of_copies_callers_are_answered_as_before_and_no_copy_is_tried_again(
    front: Front, ill: str
) -> None:
    before = front.ask(150)
    front.candidate.status = {"failing": 500, "unavailable": 503}.get(ill, 200)
    front.candidate.seconds = 30.0 if ill == "hanging" else 0.0
    if ill == "dead":
        front.candidate.end()
    front.proxy.ensure_mirrors(ENVIRONMENT, {CANDIDATE: 100}, 2)
    during = front.ask(150)
    # 150 a side on a busy machine: medians tell, and a caller that waited for a copy would wait for seconds.
    assert statistics.median(during) < 3.0 * statistics.median(before) + 0.01
    assert max(during) < 2.0
    assert len(front.stable.asked) == 300
    if ill != "dead":
        eventually(lambda: len(front.candidate.asked) == 150, "each copy came")
        time.sleep(0.3)  # a second try would have come by then
        assert len(front.candidate.asked) == 150
    else:
        front.candidate = Replica("another")
    counters = front.seen().counters
    assert (counters[STABLE].requests, counters[STABLE].errors, counters[CANDIDATE].requests) == (300, 0, 0)


def test_a_mirror_that_nobody_renews_ends(front: Front) -> None:
    front.proxy.ensure_mirrors(ENVIRONMENT, {CANDIDATE: 100}, 2)
    front.make_proxy(lease_seconds=0.3).renew_lease(ENVIRONMENT, CANDIDATE, STABLE)
    eventually(lambda: front.seen().mirrors == {}, "nothing is copied any more")
    eventually(lambda: front.seen().problem is None, "Envoy has taken it")
    assert front.seen().weights == {STABLE: 100}
    count = len(front.candidate.asked)
    front.ask(20)
    time.sleep(0.2)
    assert len(front.candidate.asked) == count
    # Who comes back finds it as it is, and may copy again.
    front.proxy.ensure_mirrors(ENVIRONMENT, {CANDIDATE: 100}, 3)
    front.ask(5)
    eventually(lambda: len(front.candidate.asked) == count + 5, "copies come again")
