"""HTTP/1.1 of the model server: real connections on a Unix socket, and what clients send that is not as it should."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.inference.protocol.answers import Answer
from interlock.inference.protocol.bodies import LONGEST_BODY, UnreadableBody
from interlock.inference.wire import connection as connections
from interlock.inference.wire import serving
from interlock.inference.wire.connection import Connection
from interlock.inference.wire.reading import LONGEST_HEAD, MOST_HELD, Held, Request

SMALL = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"


class Echo:
    """Answers with the path and the body: at once, or at ``/later`` after a moment and at ``/wrong`` never rightly."""

    def __init__(self) -> None:
        self.held = Held()
        self.connections: set[Connection] = set()
        self.lines = b"x-who: echo\r\n"
        self.is_closing = False
        self.service = self
        self.headers = ()

    async def answer(self, request: Request) -> Answer:
        try:
            body = request.read()
        except UnreadableBody as wrong:
            return Answer(wrong.status, b"unreadable")
        if request.path == "/later":
            for _ in range(3):
                await asyncio.sleep(0.02)
        if request.path == "/thread":
            try:
                await asyncio.to_thread(int, body)
            except ValueError:
                return Answer(400, b"no number")
        if request.path == "/large":
            return Answer(200, bytes(int(body)))
        return Answer(200, request.path.encode() + b" " + body)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Echo, Path]]:
    path = tmp_path_factory.mktemp("echo") / "s"
    gateway = Echo()
    ready = threading.Event()
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_unix_server(lambda: Connection(gateway), str(path))
        stops.append((asyncio.get_running_loop(), asyncio.Event()))
        ready.set()
        await stops[0][1].wait()
        server.close()
        for each in list(gateway.connections):
            each.end()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    ready.wait()
    yield gateway, path
    loop, event = stops[0]
    loop.call_soon_threadsafe(event.set)
    thread.join()


def talk(path: Path, *parts: bytes, ends: bool = True, pause: float = 0.0) -> bytes:
    """What is answered to these bytes until the server closes the connection."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        if ends:
            client.shutdown(socket.SHUT_WR)
        found = []
        while content := client.recv(1 << 16):
            found.append(content)
        return b"".join(found)


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def test_requests_in_any_pieces(echo: tuple[Echo, Path]) -> None:
    chunked = (
        b"POST /a%20b?c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\nx-trailer: 1\r\n\r\n"
    )
    answer = talk(echo[1], *(bytes([byte]) for byte in SMALL + chunked))
    assert statuses(answer) == [200, 200]
    assert b"\r\n\r\n/echo hiHTTP/1.1 200 OK\r\nx-who: echo\r\n" in answer
    assert answer.endswith(b"\r\n\r\n/a b hi")


def test_many_at_once_are_answered_in_their_order(echo: tuple[Echo, Path]) -> None:
    later = SMALL.replace(b"/echo", b"/later")
    answer = talk(echo[1], b"".join((later, SMALL, later, SMALL * 500, later)))
    assert statuses(answer) == [200] * 504
    assert [part[:6] for part in answer.split(b"\r\n\r\n/")[1:4]] == [b"later ", b"echo h", b"later "]


def test_a_fault_in_a_thread_is_the_answers(echo: tuple[Echo, Path]) -> None:
    assert statuses(talk(echo[1], SMALL.replace(b"/echo", b"/thread") + SMALL)) == [400, 200]


def test_how_a_connection_ends(echo: tuple[Echo, Path]) -> None:
    for request in (
        SMALL.replace(b"host: x", b"connection: close"),
        SMALL.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ):
        answer = talk(echo[1], request, ends=False)
        assert statuses(answer) == [200]
        assert b"\r\nconnection: close\r\n" in answer


def test_head_and_continue(echo: tuple[Echo, Path]) -> None:
    answer = talk(echo[1], b"HEAD /echo HTTP/1.1\r\n\r\n")
    assert b"content-length: 6\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")
    head, body = SMALL.replace(b"host: x", b"expect: 100-continue").split(b"hi")[0], b"hi"
    assert statuses(talk(echo[1], head, body, pause=0.05)) == [100, 200]


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /echo HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: identity\r\n\r\nhi",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nz\r\nhi\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: -1\r\n\r\nhi",
        b"POST /echo HTTP/1.1\r\ncontent-length : 2\r\n\r\nhi",
        b"GET /echo HTTP/1.1\r\na: b\r\n c\r\n\r\n",
        b"GET /echo HTTP/1.1\nhost: x\n\n",
        b"GET /echo HTTP/1.1\r\na: \x00\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        SMALL.replace(b"host: x", b"upgrade: h2c\r\nconnection: upgrade"),
        b"POST /echo HTTP/1.1\r\ncontent-length: 5\r\n\r\nhi",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello",
    ],
)
def test_what_is_no_request_ends_the_connection(echo: tuple[Echo, Path], request_: bytes) -> None:
    answer = talk(echo[1], SMALL + request_)
    assert statuses(answer)[0] == 200
    assert statuses(answer)[-1] == 400
    assert b'{"error":"' in answer
    assert b"connection: close\r\n" in answer
    assert answer.count(b"/echo hi") == 1


def test_what_is_too_long(echo: tuple[Echo, Path]) -> None:
    gateway, path = echo
    long_head = b"GET /echo HTTP/1.1\r\n" + b"a: b\r\n" * (LONGEST_HEAD // 6 + 1)
    assert statuses(talk(path, long_head)) == [431]
    told = b"POST /echo HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (LONGEST_BODY + 1)
    answer = talk(path, told + bytes(LONGEST_BODY + 1) + SMALL)
    assert statuses(answer) == [413, 200]
    assert gateway.held.size == 0


def test_too_many_long_bodies_at_once(echo: tuple[Echo, Path]) -> None:
    gateway, path = echo
    gateway.held.size = MOST_HELD - 100_000
    try:
        long = b"POST /echo HTTP/1.1\r\ncontent-length: 200000\r\n\r\n" + bytes(200_000)
        assert statuses(talk(path, long + SMALL)) == [503, 200]
        assert gateway.held.size == MOST_HELD - 100_000
        with socket.socket(socket.AF_UNIX) as client:  # one that leaves holds nothing any more
            client.connect(str(path))
            client.sendall(long[:90_000])
            until = time.monotonic() + 10
            while gateway.held.size == MOST_HELD - 100_000 and time.monotonic() < until:
                time.sleep(0.01)
            assert gateway.held.size > MOST_HELD - 100_000
        while gateway.held.size != MOST_HELD - 100_000 and time.monotonic() < until:
            time.sleep(0.01)
        assert gateway.held.size == MOST_HELD - 100_000
    finally:
        gateway.held.size = 0


def test_who_sends_or_reads_too_slowly_is_left(echo: tuple[Echo, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 1)
    gateway, path = echo
    with socket.socket(socket.AF_UNIX) as sender, socket.socket(socket.AF_UNIX) as idle, \
            socket.socket(socket.AF_UNIX) as reader:  # fmt: skip
        for client in (sender, idle, reader):
            client.settimeout(10)
            client.connect(str(path))
        sender.sendall(SMALL[:-1])
        reader.sendall(b"POST /large HTTP/1.1\r\ncontent-length: 8\r\n\r\n20000000")
        idle.sendall(SMALL)
        assert statuses(idle.recv(1000)) == [200]
        time.sleep(0.1)
        for _ in range(2):
            for each in list(gateway.connections):
                each.look()
        time.sleep(0.1)
        idle.sendall(SMALL)
        assert statuses(idle.recv(1000)) == [200]
        assert statuses(sender.recv(1000)) == [408]
        found = 0
        with pytest.raises(ConnectionResetError):  # noqa: PT012 - what was in the buffers comes first
            while content := reader.recv(1 << 20):
                found += len(content)
            raise ConnectionResetError
        assert found < 20_000_000


def test_one_connection_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 0)
    service = type("Nothing", (), {"headers": ()})()

    async def ask() -> bytes:
        socket_ = serving._Socket(service, tmp_path / "s")
        server = await asyncio.get_running_loop().create_unix_server(socket_._connect, str(tmp_path / "s"))
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        answer = await reader.read()
        writer.close()
        server.close()
        return answer

    answer = uvloop.run(ask())
    assert statuses(answer) == [503]
    assert b"retry-after: 1\r\n" in answer
    assert answer.split(b"content-length: ")[1].split(b"\r\n\r\n", 1) == [b"33", b'{"error":"too many connections"}\n']


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.integers(0, len(SMALL)), noise=st.binary(max_size=30), after=st.integers(0, len(SMALL)))
def test_whatever_comes_is_answered_or_refused(echo: tuple[Echo, Path], before: int, noise: bytes, after: int) -> None:
    gateway, path = echo
    assert set(statuses(talk(path, SMALL[:before] + noise + SMALL[after:]))) <= {200, 400}
    assert statuses(talk(path, SMALL)) == [200]
    assert gateway.held.size == 0
