"""The door of the control plane meets nonsense, slow and greedy visitors, and many at once: it answers on."""

import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interlock.control import door as doors
from interlock.control.door import LONGEST_MESSAGE, SOCKET_NAME, Door
from interlock.errors import NotFound, StoreFault
from interlock.system.sockets import connect
from interlock.vocabulary import Json

Answer = Callable[[dict[str, Json]], dict[str, Json]]


@pytest.fixture
def heard() -> list[dict[str, Json]]:
    return []


@pytest.fixture
def folder(tmp_path: Path, heard: list[dict[str, Json]]) -> Iterator[Path]:
    """A folder with an open door that keeps what it hears and answers with it."""

    def answer(message: dict[str, Json]) -> dict[str, Json]:
        heard.append(message)
        return {"heard": message}

    door = Door(tmp_path, answer)
    yield tmp_path
    door.close()


def knock(folder: Path, content: bytes, timeout: float = 10.0) -> dict[str, Json] | None:
    """Says it and reads the answer; None where the door was shut in our face."""
    with connect(folder, SOCKET_NAME, timeout) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough; what it answered may still be there
        try:
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except ConnectionResetError:
            return None
    answer: dict[str, Json] | None = json.loads(line) if line else None
    return answer


NONSENSE = {
    "nothing": b"",
    "an empty line": b"\n",
    "no JSON": b"GET / HTTP/1.1\r\n\r\n",
    "half a message": b'{"kind": "push", "git_dir',
    "a list": b"[1, 2]\n",
    "a number": b"7\n",
    "null": b"null\n",
    "no UTF-8": b'{"kind": "\xff\xfe"}\n',
    "a number of ten thousand digits": b'{"kind": ' + b"9" * 10_000 + b"}\n",
    "a hundred thousand brackets": b"[" * 100_000 + b"\n",
    "bytes of a program": bytes(range(256)) * 16,
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_answered_with_an_error_and_heard_by_nobody(
    folder: Path, heard: list[dict[str, Json]], content: bytes
) -> None:
    answer = knock(folder, content)
    assert answer is not None
    assert str(answer["error"]).startswith("not understood")
    assert heard == []
    assert knock(folder, b'{"kind": "bell"}\n') == {"heard": {"kind": "bell"}}


def test_a_message_beyond_the_limit_is_not_read_to_its_end(folder: Path, heard: list[dict[str, Json]]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    huge = b'{"kind": "' + b"a" * (16 * LONGEST_MESSAGE) + b'"}\n'
    answer = knock(folder, huge)
    assert answer is None or "error" in answer
    assert heard == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert knock(folder, b'{"kind": "bell"}\n') == {"heard": {"kind": "bell"}}


def test_a_long_message_within_the_limit_is_heard(folder: Path) -> None:
    message = {"kind": "push", "updates": ["x" * 1000] * 500}
    assert knock(folder, json.dumps(message).encode() + b"\n") == {"heard": message}


def test_fifty_who_say_nothing_hold_nobody_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "PATIENCE_SECONDS", 20.0)
    silent = [connect(folder, SOCKET_NAME, 10) for _ in range(50)]
    try:
        assert knock(folder, b'{"kind": "bell"}\n') == {"heard": {"kind": "bell"}}
    finally:
        for connection in silent:
            connection.close()


def test_who_says_nothing_is_sent_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "PATIENCE_SECONDS", 0.3)
    silent = [connect(folder, SOCKET_NAME, 10) for _ in range(5)]
    try:
        for connection in silent:
            with connection.makefile("rb") as lines:
                assert b"error" in lines.readline()
    finally:
        for connection in silent:
            connection.close()


def test_who_speaks_a_letter_at_a_time_is_sent_away_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "PATIENCE_SECONDS", 0.5)
    letters = 0
    with connect(folder, SOCKET_NAME, 10) as connection:
        try:
            while letters < 200:  # ten seconds
                connection.sendall(b" ")
                letters += 1
                time.sleep(0.05)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert 0 < letters < 200


def test_forty_at_once_each_get_their_own_answer(folder: Path) -> None:
    answers: dict[int, dict[str, Json] | None] = {}
    gate = threading.Barrier(40)

    def visit(number: int) -> None:
        gate.wait()
        answers[number] = knock(folder, json.dumps({"number": number}).encode() + b"\n")

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(40)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert answers == {number: {"heard": {"number": number}} for number in range(40)}


@pytest.mark.parametrize(
    "problem",
    [
        StoreFault("the database did not do it: disk full"),
        NotFound("there is no commit"),
        OSError("too long"),
        RuntimeError("Symlink loop"),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_trouble_behind_the_door_is_told_to_who_knocked(tmp_path: Path, problem: Exception) -> None:
    def answer(_message: dict[str, Json]) -> dict[str, Json]:
        raise problem

    door = Door(tmp_path, answer)
    told = knock(tmp_path, b"{}\n")
    door.close()
    assert told is not None
    assert str(problem) in str(told["error"])


def test_who_leaves_before_the_answer_disturbs_nobody(tmp_path: Path) -> None:
    may_answer, done = threading.Event(), threading.Event()

    def answer(message: dict[str, Json]) -> dict[str, Json]:
        may_answer.wait(10)
        done.set()
        return {"much": "x" * 1_000_000}

    door = Door(tmp_path, answer)
    with connect(tmp_path, SOCKET_NAME, 10) as connection:
        connection.sendall(b"{}\n")
    may_answer.set()
    assert done.wait(10)
    assert knock(tmp_path, b"{}\n") is not None
    door.close()


def test_closing_removes_the_socket_and_ends_what_waits_at_it(tmp_path: Path) -> None:
    door = Door(tmp_path, lambda message: message)
    assert (tmp_path / SOCKET_NAME).stat().st_mode & 0o777 == 0o600
    door.close()
    assert not (tmp_path / SOCKET_NAME).exists()
    with pytest.raises(OSError, match="No such file"):
        connect(tmp_path, SOCKET_NAME, 1)


def test_a_door_opens_over_the_socket_of_a_dead_process(tmp_path: Path) -> None:
    dead = f"""
import os
from pathlib import Path
from interlock.control.door import Door
door = Door(Path({str(tmp_path)!r}), lambda message: message)
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", dead], check=False).returncode == 9
    assert (tmp_path / SOCKET_NAME).exists()
    with pytest.raises(ConnectionRefusedError):
        connect(tmp_path, SOCKET_NAME, 1)
    door = Door(tmp_path, lambda message: message)
    assert knock(tmp_path, b'{"a": 1}\n') == {"a": 1}
    door.close()


CROWD = """
import json, os, resource, socket, sys, time
from pathlib import Path
from interlock.control.door import Door, SOCKET_NAME
from interlock.system.sockets import connect

folder = Path(sys.argv[1])
door = Door(folder, lambda message: {"heard": message})
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
soft = len(os.listdir("/proc/self/fd")) + 3
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
waiting = []
try:
    while True:
        waiting.append(connect(folder, SOCKET_NAME, 1))
except OSError:
    pass
time.sleep(0.3)
for one in waiting:
    one.close()
for one in held:
    os.close(one)
time.sleep(0.3)
with connect(folder, SOCKET_NAME, 5) as connection:
    connection.sendall(b"{}\\n")
    print(connection.makefile().readline().strip())
door.close()
"""


def test_a_process_without_a_free_descriptor_answers_again_once_it_has_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CROWD, str(tmp_path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert json.loads(done.stdout or "null") == {"heard": {}}, done.stderr
    assert done.returncode == 0


def test_a_message_may_hold_any_text(folder: Path) -> None:
    for text in ("ref/with space", "\u202egpj.exe", "\0", "\ud800", "line\nline", os.sep * 5000):
        assert knock(folder, json.dumps({"ref": text}).encode() + b"\n") == {"heard": {"ref": text}}
