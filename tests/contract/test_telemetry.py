"""Numbers of Prometheus: the real one asked over HTTP, servers that hang, redirect or lie, and the fake beside it."""

from __future__ import annotations

import json
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.prometheus import eventually, programs, running

from interlock.edges.telemetry import MemoryTelemetry, PrometheusServer, PrometheusServers
from interlock.errors import TelemetryFault
from interlock.ports import Telemetry

pytestmark = pytest.mark.xdist_group("prometheus")

EXPOSED = """
queue{revision="a"} 3
orders_total{revision="a"} 400
orders_total{revision="b"} 4000
bad_total{revision="a"} 1
odd NaN
"""


class Exporter(BaseHTTPRequestHandler):
    """Answers the metrics above."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(EXPOSED.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def end(server: socketserver.BaseServer) -> None:
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def exporters() -> Iterator[list[ThreadingHTTPServer]]:
    """Two, of which a test may end the second."""
    begun = [ThreadingHTTPServer(("127.0.0.1", 0), Exporter) for _ in range(2)]
    for one in begun:
        threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True).start()
    yield begun
    for one in begun:
        end(one)


@pytest.fixture(scope="module")
def prometheus(exporters: list[ThreadingHTTPServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real one that has looked at both."""
    targets = [f"127.0.0.1:{one.server_port}" for one in exporters]
    scrape = {"job_name": "small", "scrape_interval": "1s", "static_configs": [{"targets": targets}]}
    with running(programs(), tmp_path_factory.mktemp("prometheus"), {"scrape_configs": [scrape]}) as port:
        assert eventually(port, "count(queue) == 2", '"2"')
        yield port


def servers(port: int, **more: Any) -> PrometheusServers:
    return PrometheusServers({"main": PrometheusServer(f"http://127.0.0.1:{port}", **more)})


@pytest.fixture(params=["real", "fake"])
def telemetry(request: pytest.FixtureRequest) -> Telemetry:
    if request.param == "real":
        return servers(request.getfixturevalue("prometheus"))
    fake = MemoryTelemetry()
    fake.put("max(queue)", 3.0)
    fake.put('max(orders_total{revision="b"})', 4000.0)
    return fake


def test_each_query_gives_one_number(telemetry: Telemetry) -> None:
    queries = ["max(queue)", 'max(orders_total{revision="b"})']
    assert telemetry.ask(None, queries, time.time()) == [3.0, 4000.0]
    assert telemetry.ask(None, [], time.time()) == []


@pytest.mark.parametrize(("server", "query"), [(None, 'queue{revision="c"}'), ("other", "max(queue)")])
def test_what_is_not_there_is_a_fault_and_never_a_number(telemetry: Telemetry, server: str | None, query: str) -> None:
    with pytest.raises(TelemetryFault):
        telemetry.ask(server, [query], time.time())


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("scalar(max(queue))", None),
        ("orders_total", "4 series: aggregate them"),
        ('queue{revision="c"}', "no series, or none that is fresh"),
        ("max(odd)", "gives nan"),
        ("max(queue) / 0", "gives inf"),
        ("queue[1m]", "gives a matrix"),
        ('"text"', "gives a string"),
        ("queue{", "refuses the query: .*parse error"),
    ],
)
def test_what_is_no_one_number_is_told(prometheus: int, query: str, told: str | None) -> None:
    if told is None:
        assert servers(prometheus).ask("main", [query], time.time()) == [3.0]
        return
    with pytest.raises(TelemetryFault, match=told):
        servers(prometheus).ask("main", [query], time.time())


def test_what_an_exporter_told_before_it_died_is_no_evidence(
    exporters: list[ThreadingHTTPServer], prometheus: int
) -> None:
    mortal = f'queue{{instance="127.0.0.1:{exporters[1].server_port}"}}'
    assert servers(prometheus).ask(None, [mortal], time.time()) == [3.0]
    end(exporters[1])
    assert eventually(prometheus, f"count({mortal}) or vector(0)", '"0"')
    with pytest.raises(TelemetryFault, match="none that is fresh"):
        servers(prometheus).ask(None, [mortal], time.time())


def test_only_servers_of_the_settings_are_asked(prometheus: int) -> None:
    with pytest.raises(TelemetryFault, match="name no Prometheus server"):
        PrometheusServers({}).ask(None, ["up"], time.time())
    two = PrometheusServers(dict.fromkeys(("a", "b"), PrometheusServer(f"http://127.0.0.1:{prometheus}")))
    with pytest.raises(TelemetryFault, match="several Prometheus servers: write server: one of a, b"):
        two.ask(None, ["up"], time.time())
    assert two.ask("b", ["max(queue)"], time.time()) == [3.0]
    with pytest.raises(TelemetryFault, match="no Prometheus server c is among the settings: there is a, b"):
        two.ask("c", ["up"], time.time())


class Odd(socketserver.StreamRequestHandler):
    """A server that answers what a test wants, and keeps what it was sent."""

    answer = b""
    drips = False
    heard: list[bytes]

    def handle(self) -> None:
        heard = b""
        while not heard.endswith(b"time=1.000"):
            heard += self.request.recv(65536)
        self.heard.append(heard)
        if self.drips:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            for _ in range(100):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return
                time.sleep(0.05)
        self.wfile.write(self.answer)


def odd_server(answer: bytes = b"", *, drips: bool = False) -> tuple[socketserver.TCPServer, list[bytes]]:
    heard: list[bytes] = []
    kind = type("OddOne", (Odd,), {"answer": answer, "drips": drips, "heard": heard})
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server, heard


def told_by(answer: bytes, **more: Any) -> tuple[str, list[bytes]]:
    server, heard = odd_server(answer, **more)
    try:
        with pytest.raises(TelemetryFault) as fault:
            servers(server.server_address[1], token="t0ken").ask(None, ["up"], 1.0)
    finally:
        end(server)
    return str(fault.value), heard


def plain(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (plain(b"<html>"), "answered 200, no result"),
        (plain(b"{}", "502 Bad Gateway"), "answered 502, no result"),
        (plain(b'{"status": "success", "data": []}'), "answered 200, no result"),
        (plain(b"[" * 100_000), "no result"),
        (plain(b" " * (1 << 20) + b"{}"), "more than 1048576 bytes"),
        (b"", "it cannot be reached"),
        (
            plain(json.dumps({"status": "error", "error": "odd \x1b[31m" + "x" * 1000}).encode(), "400 Bad Request"),
            "odd \\[31mx{200,300}$",
        ),
    ],
    ids=["html", "bad gateway", "another shape", "nested", "long", "nothing", "an error's text"],
)
def test_an_odd_answer_is_a_fault(answer: bytes, told: str) -> None:
    found, heard = told_by(answer)
    assert re.search(told, found), found
    assert b"Bearer t0ken" in heard[0]


def test_a_redirect_is_not_followed() -> None:
    elsewhere, heard = odd_server(plain(b'{"status": "success"}'))
    place = f"Location: http://127.0.0.1:{elsewhere.server_address[1]}/\r\n"
    assert "answered 302, no result" in told_by(plain(b"", "302 Found", place))[0]
    assert heard == []
    end(elsewhere)


def test_a_question_ends_however_slowly_its_answer_drips() -> None:
    server, _ = odd_server(drips=True)
    began = time.monotonic()
    slow = PrometheusServers({"main": PrometheusServer(f"http://127.0.0.1:{server.server_address[1]}")}, seconds=0.3)
    with pytest.raises(TelemetryFault, match=r"no answer in 0\.3 s"):
        slow.ask(None, ["up"], 1.0)
    assert time.monotonic() - began < 3.0
    end(server)
