"""Unix sockets work in folders of any depth."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interlock.system.clock import Clock
from interlock.system.sockets import connect, free_port, http_over, listen


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    return folder


@contextmanager
def answering(
    listener: socket.socket, answer: bytes, heard: list[bytes], ending: bytes = b"\r\n\r\n"
) -> Iterator[None]:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            request = b""
            while not request.endswith(ending):
                request += connection.recv(65536)
            heard.append(request)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_bytes_go_both_ways_through_a_deep_folder(deep: Path) -> None:
    heard: list[bytes] = []
    with listen(deep, "bell.sock") as listener, answering(listener, b"yes", heard, ending=b"ring"):  # noqa: SIM117
        with connect(deep, "bell.sock", timeout=5) as connection:
            connection.sendall(b"ring")
            assert connection.recv(10) == b"yes"
    assert heard == [b"ring"]


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_the_mode_is_what_was_asked(deep: Path, mode: int) -> None:
    with listen(deep, "s", mode=mode):
        assert stat.S_IMODE((deep / "s").stat().st_mode) == mode


def test_what_a_dead_listener_left_is_replaced(deep: Path) -> None:
    listen(deep, "s").close()
    assert (deep / "s").exists()
    with pytest.raises(ConnectionRefusedError):
        connect(deep, "s", timeout=1)
    with listen(deep, "s"), connect(deep, "s", timeout=1):
        pass


def test_nobody_there(deep: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect(deep, "s", timeout=1)
    with pytest.raises(FileNotFoundError):
        connect(deep / "nowhere", "s", timeout=1)


@pytest.mark.parametrize("name", ["../s", "a/b", "n" * 81])
def test_a_name_that_leaves_the_folder_is_an_error(deep: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name of a socket"):
        listen(deep, name)


def test_an_http_request(deep: Path) -> None:
    heard: list[bytes] = []
    answer = b"HTTP/1.1 201 Created\r\nX-Thing: 7\r\nContent-Length: 2\r\n\r\nok"
    with listen(deep, "api") as listener, answering(listener, answer, heard, ending=b"{}"):
        status, headers, body = http_over(deep, "api", "POST", "/v1/push", body=b"{}", headers={"X-A": "b"})
    assert (status, headers["x-thing"], body) == (201, "7", b"ok")
    assert heard[0].startswith(b"POST /v1/push HTTP/1.1\r\n")
    assert b"X-A: b\r\n" in heard[0]


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
def test_a_broken_answer_is_an_error_of_the_connection(deep: Path, answer: bytes) -> None:
    with listen(deep, "api") as listener, answering(listener, answer, []), pytest.raises(ConnectionError):
        http_over(deep, "api", "GET", "/")


def test_silence_ends_with_the_timeout(deep: Path) -> None:
    with listen(deep, "api"), pytest.raises(TimeoutError):
        http_over(deep, "api", "GET", "/", timeout=0.05)


def test_a_free_port_can_be_taken() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] > 0


def test_the_clock_moves() -> None:
    clock = Clock()
    assert clock.now() > 1_700_000_000
    assert clock.monotonic() <= clock.monotonic()
