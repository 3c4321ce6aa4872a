"""Following logs and events over real connections that are lost, slow, many, or ended by the server."""

import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.face import Sent, ServedFace

from interlock.access.caller import Role
from interlock.vocabulary import Phase
from interlock.web.live import streams

LOG = "/api/v1/runs/1/stages/train/attempts/1/log/stream"


@pytest.fixture
def face(tmp_path: Path) -> Iterator[ServedFace]:
    served = ServedFace(tmp_path)
    served.add_run(1)
    served.begin_attempt(1)
    yield served
    served.end()


@pytest.fixture
def token(face: ServedFace) -> str:
    return face.token(Role.VIEWER)


class Printing:
    """A program that prints ``lines`` lines, some at a time, and then ends."""

    def __init__(self, face: ServedFace, lines: int, *, each: int = 20, pause: float = 0.01, tail: str = "") -> None:
        self._face = face
        self._lines = lines
        self._each = each
        self._pause = pause
        self._tail = tail
        self._path = face.log_path(1)
        self._thread = threading.Thread(target=self._print)

    def text(self, number: int) -> str:
        return f"line {number}{self._tail}"

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _print(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            for first in range(0, self._lines, self._each):
                numbers = range(first, min(first + self._each, self._lines))
                file.write("".join(f"{self.text(number)}\n" for number in numbers).encode())
                time.sleep(self._pause)
        self._face.end_attempt(1)


def test_a_log_is_followed_over_lost_connections_without_gap_or_duplicate(face: ServedFace, token: str) -> None:
    printing = Printing(face, 3000, tail=' "quoted" \r \u2028 <b> \x1b[1m')
    printing.start()
    choose = random.Random(7)
    seen: list[Sent] = []
    is_ended = False
    while not is_ended:
        stream = face.follow(LOG, token=token, last=seen[-1].id if seen else None)
        for _ in range(choose.randrange(1, 600)):
            sent = next(stream)
            is_ended = sent.event == "end"
            if is_ended:
                break
            seen.append(sent)
        stream.close()
    printing.join()
    assert [int(sent.id) for sent in seen] == list(range(3000))
    shown = face.ask("GET", LOG.replace("/stream", "?first=5&most=1"), token=token).json["lines"][0]
    assert {sent.data.replace(str(int(sent.id)), "5", 1) for sent in seen} == {shown}


def test_many_followers_who_come_at_odd_times_all_see_every_line(face: ServedFace, token: str) -> None:
    printing = Printing(face, 1500)
    seen: dict[int, list[int]] = {}

    def follow(number: int) -> None:
        time.sleep(number * 0.03)
        seen[number] = [int(sent.id) for sent in face.follow(LOG, token=token) if sent.event != "end"]

    followers = [threading.Thread(target=follow, args=(number,)) for number in range(20)]
    printing.start()
    for follower in followers:
        follower.start()
    for follower in (*followers, printing):
        follower.join()
    assert all(numbers == list(range(1500)) for numbers in seen.values())
    assert len(seen) == 20


def test_a_log_that_ended_is_sent_and_ended(face: ServedFace, token: str) -> None:
    face.log_path(1).write_text("one\ntwo\nthree\n")
    face.end_attempt(1)
    assert list(face.follow(LOG, token=token)) == [
        Sent("0", "", "one"),
        Sent("1", "", "two"),
        Sent("2", "", "three"),
        Sent("", "end", {}),
    ]
    assert [sent.data for sent in face.follow(f"{LOG}?first=-1", token=token)] == ["three", {}]
    assert [sent.data for sent in face.follow(f"{LOG}?first=2", token=token)] == ["three", {}]
    assert [sent.data for sent in face.follow(LOG, token=token, last="1")] == ["three", {}]
    assert [sent.data for sent in face.follow(LOG, token=token, last="999")] == [{}]


def test_a_log_without_a_line_ends_with_its_attempt(face: ServedFace, token: str) -> None:
    stream = face.follow(LOG, token=token)
    threading.Timer(0.2, face.end_attempt, [1]).start()
    assert [sent.event for sent in stream] == ["end"]


def test_who_does_not_read_is_dropped_and_nobody_waits_for_them(face: ServedFace, token: str) -> None:
    printing = Printing(face, 40_000, each=100, pause=0.005, tail=" " + "x" * 400)  # as fast as one who reads reads
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.settimeout(60)
    slow.connect(("127.0.0.1", face.port))
    slow.sendall(f"GET {LOG} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    assert slow.recv(12) == b"HTTP/1.1 200"
    printing.start()
    seen = sum(1 for sent in face.follow(LOG, token=token, patience=60) if sent.event != "end")
    printing.join()
    assert seen == 40_000
    received = bytearray()
    with slow:
        try:
            while piece := slow.recv(1 << 16):
                received += piece
        except ConnectionResetError:
            pass  # it was cut off
    assert b"event: end" not in received
    assert len(received) < 8 << 20


def test_a_silent_stream_says_that_it_is_there(face: ServedFace, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", face.port), timeout=30) as connection:
        connection.sendall(f"GET {LOG} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        received = b""
        while received.count(b": still here\n\n") < 3:
            piece = connection.recv(4096)
            assert piece
            received += piece


def test_streams_end_with_the_server_and_at_once(face: ServedFace, token: str) -> None:
    stream = face.follow(LOG, token=token)
    face.log_path(1).write_text("one\n")
    assert next(stream).data == "one"
    stopping = threading.Thread(target=face.face.stop)
    stopping.start()
    assert list(stream) == []  # it ends properly, and without the word that ends it for good
    stopping.join(5)
    assert not stopping.is_alive()


def test_streams_whose_followers_left_are_let_go(face: ServedFace, token: str) -> None:
    def followers() -> str:
        lines = face.ask("GET", "/metrics", token=token).body.decode().splitlines()
        return next(line for line in lines if line.startswith("interlock_followers "))

    face.log_path(1).write_text("one\n")
    opened = [face.follow(LOG, token=token) for _ in range(5)]
    for stream in opened:
        next(stream)
    assert followers() == "interlock_followers 5"
    for stream in opened:
        stream.close()
    deadline = time.monotonic() + 30
    while followers() != "interlock_followers 0":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_events_are_followed_from_where_they_were_left(face: ServedFace, token: str) -> None:
    stream = face.follow("/api/v1/events/stream?kind=run&after=0", token=token)
    first = next(stream)
    assert (first.data["kind"], first.data["key"], first.data["because"]) == ("run", "1", "it is running")
    stream.close()
    for number in range(2, 40):
        face.add_run(number)
    stream = face.follow("/api/v1/events/stream?kind=run", token=token, last=first.id)
    assert [next(stream).data["key"] for _ in range(2, 40)] == [str(number) for number in range(2, 40)]
    face.add_run(40)
    assert next(stream).data["key"] == "40"
    stream.close()


def test_events_of_one_run_end_with_it(face: ServedFace, token: str) -> None:
    run = face.add_run(2)
    stream = face.follow("/api/v1/events/stream?kind=run&key=2", token=token)
    assert next(stream).data["phase"] == "running"
    face.save_run(run.model_copy(update={"phase": Phase.SUCCEEDED}), 1)
    assert [(sent.event, sent.data.get("phase")) for sent in stream] == [("", "succeeded"), ("end", None)]


def test_a_token_for_one_repository_hears_of_nothing_else(face: ServedFace) -> None:
    token = face.token(Role.VIEWER, "of large", ["large"])
    stream = face.follow("/api/v1/events/stream?after=0", token=token)
    face.add_run(2, "small")
    face.add_run(3, "large")
    face.add_run(4, "small")
    face.add_run(5, "large")
    assert [next(stream).data["key"] for _ in range(2)] == ["3", "5"]
    stream.close()
    listed = face.ask("GET", "/api/v1/events?limit=2", token=token).json
    assert [event["key"] for event in listed["items"]] == ["3", "5"]
    assert face.ask("GET", LOG, token=token).status == 403
