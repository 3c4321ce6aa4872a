"""Supervise as a process: what it starts, starts again, ends, adopts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock.edges.sandbox import BubblewrapSandbox
from interlock.edges.serving import ensure_supervise, stop_supervise
from interlock.ports import Isolation
from interlock.supervise.ailments import Pulse
from interlock.supervise.loop import has_room
from interlock.system.processes import identity_of, is_alive

STEADY = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile 1: signal.pause()"
)
GENTLE = """
import signal, sys
def leave(*_):
    print("leaving", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("up", flush=True)
signal.pause()
"""


def eventually(holds: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Folder:
    """A data-plane folder and what a test asks of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "processes").mkdir()

    def want(self, name: str, code: str = STEADY, **settings: object) -> None:
        self.want_command(name, [sys.executable, "-S", "-c", code], **settings)

    def want_command(self, name: str, argv: list[str], **settings: object) -> None:
        process = {"name": name, "argv": argv, "env": {}, "generation": 1, "grace": 5, **settings}
        self.write(f"processes/{name}.json", json.dumps(process))

    def write(self, name: str, content: str) -> None:
        part = self.path / "part"
        part.write_text(content)
        part.rename(self.path / name)

    def unwant(self, name: str) -> None:
        (self.path / "processes" / f"{name}.json").unlink()

    def status(self, name: str) -> dict[str, Any]:
        try:
            status: dict[str, Any] = json.loads((self.path / "status" / f"{name}.json").read_bytes())
        except FileNotFoundError:
            return {}
        return status

    def log(self, name: str) -> str:
        path = self.path / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def wait_up(self, name: str, times: int = 1) -> dict[str, Any]:
        eventually(lambda: self.log(name).count("up") >= times, f"{name} is up for the {times}. time")
        return self.status(name)

    def events(self, name: str) -> list[dict[str, Any]]:
        path = self.path / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["name"] == name]

    def children(self, name: str) -> list[int]:
        return self.children_of(self.status(name)["pid"])

    @staticmethod
    def children_of(stub: int) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{stub}/task/{stub}/children").read_text().split()]

    def supervisor(self) -> int:
        return int(json.loads((self.path / "supervise.json").read_bytes())["pid"])

    def kill_supervise(self) -> int:
        pid = self.supervisor()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: identity_of(pid) is None, "supervise is dead")
        return pid


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    ensure_supervise(tmp_path)
    try:
        yield folder
    finally:
        ensure_supervise(tmp_path)
        stop_supervise(tmp_path)
        assert not list((tmp_path / "status").glob("*.json"))


def test_a_program_runs_while_its_file_is_there(folder: Folder) -> None:
    folder.want("a", GENTLE)
    status = folder.wait_up("a")
    assert is_alive(status["identity"])
    assert (status["state"], status["restarts"], status["generation"], status["exit"]) == ("running", 0, 1, None)
    assert abs(status["started"] - time.time()) < 60
    folder.unwant("a")
    eventually(lambda: not folder.status("a"), "its status is gone")
    assert not is_alive(status["identity"])
    assert folder.log("a") == "up\nleaving\n"  # it was asked, not killed


def test_a_program_that_dies_is_started_again(folder: Folder) -> None:
    folder.want("a")
    first = folder.wait_up("a")
    os.kill(folder.children("a")[0], signal.SIGKILL)
    second = folder.wait_up("a", 2)
    assert second["pid"] != first["pid"]
    assert (second["restarts"], second["exit"]) == (1, 128 + signal.SIGKILL)
    assert "exit code 137" in folder.events("a")[-1]["because"]


def test_a_program_whose_stub_is_killed_does_not_live_on_beside_the_next(folder: Folder) -> None:
    folder.want("a")
    first = folder.wait_up("a")
    program = identity_of(folder.children("a")[0])
    assert program is not None
    os.kill(first["pid"], signal.SIGKILL)
    folder.wait_up("a", 2)
    eventually(lambda: not is_alive(program), "the first program ended")


def test_a_crash_loop_slows_down_and_says_so(folder: Folder) -> None:
    folder.want("a", "print('up'); raise SystemExit(7)")
    eventually(lambda: folder.status("a").get("restarts", 0) >= 3, "it was started four times")
    delays = [event["because"] for event in folder.events("a")]
    assert delays[:3] == [f"exit code 7; started again in {delay} s" for delay in ("0", "0.2", "0.4")]
    eventually(lambda: folder.status("a")["state"] == "backing_off", "it waits")
    assert folder.status("a")["exit"] == 7


def test_another_generation_replaces_the_program_one_after_the_other(folder: Folder) -> None:
    folder.want("a", GENTLE)
    first = folder.wait_up("a")
    folder.want("a", GENTLE, generation=2)
    second = folder.wait_up("a", 2)
    assert folder.log("a") == "up\nleaving\nup\n"
    assert not is_alive(first["identity"])
    assert (second["generation"], second["restarts"]) == (2, 0)


def test_a_successor_stands_beside_until_the_other_has_left(folder: Folder) -> None:
    code = "import signal, sys; print('up', sys.argv[1], flush=True); signal.pause()"
    argv = [sys.executable, "-S", "-c", code, "{epoch}"]
    folder.want_command("a", argv, succession="1.4")
    first = folder.wait_up("a")
    folder.want_command("a", argv, succession="1.4", generation=2)
    second = folder.wait_up("a", 2)
    assert is_alive(first["identity"])
    assert (second["generation"], second["predecessor"]) == (2, [first["pid"], first["identity"]])
    folder.want_command("a", argv, succession="1.4", generation=3)
    folder.kill_supervise()
    ensure_supervise(folder.path)
    time.sleep(0.3)
    assert folder.status("a")["identity"] == second["identity"]  # one after the other
    os.kill(folder.children_of(first["pid"])[0], signal.SIGKILL)  # as one does that has handed over
    folder.wait_up("a", 3)
    assert is_alive(second["identity"])
    assert folder.log("a").split() == ["up", "0", "up", "1", "up", "2"]
    assert [event["event"] for event in folder.events("a")] == ["adopted", "handed over"]


def test_a_successor_that_cannot_live_leaves_the_other_where_it_is(folder: Folder) -> None:
    folder.want("a", succession="1")
    first = folder.wait_up("a")
    folder.want("a", "print('up'); raise SystemExit(7)", succession="1", generation=2)
    eventually(lambda: folder.status("a").get("restarts", 0) >= 2, "it was tried three times")
    assert is_alive(first["identity"])
    folder.want("a", GENTLE, succession="2", generation=3)  # it takes over from nobody
    folder.wait_up("a", folder.log("a").count("up") + 1)
    folder.unwant("a")
    eventually(lambda: not folder.status("a"), "its status is gone")
    assert not is_alive(first["identity"])


def test_the_same_generation_written_again_changes_nothing(folder: Folder) -> None:
    folder.want("a")
    first = folder.wait_up("a")
    folder.want("a", "raise SystemExit(1)")
    time.sleep(0.3)
    assert folder.status("a") == first


def test_who_does_not_listen_is_killed_after_its_grace(folder: Folder) -> None:
    folder.want("a", STUBBORN, grace=0.5)
    status = folder.wait_up("a")
    folder.unwant("a")
    eventually(lambda: folder.status("a").get("state") == "stopping", "it is asked to end")
    eventually(lambda: not folder.status("a"), "its status is gone")
    assert not is_alive(status["identity"])


def test_what_a_program_started_ends_with_it(folder: Folder) -> None:
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}])"
    folder.want("a", f"{code}; print('parent', flush=True); import signal; signal.pause()", grace=0.3)
    folder.wait_up("a")
    group = folder.status("a")["pid"]
    folder.unwant("a")
    eventually(lambda: not folder.status("a"), "its status is gone")
    eventually(lambda: not has_members(group), "nobody of its process group is left")


def test_a_sandboxed_program_is_asked_to_end_too(folder: Folder) -> None:
    argv = (sys.executable, "-S", "-c", GENTLE)
    isolation = Isolation(argv=argv, folder="/tmp", interpreters=(sys.executable,))
    folder.want_command("a", BubblewrapSandbox().command(isolation))
    folder.wait_up("a")
    folder.unwant("a")
    eventually(lambda: not folder.status("a"), "its status is gone")
    assert folder.log("a") == "up\nleaving\n"


def test_programs_outlive_supervise_and_are_adopted(folder: Folder) -> None:
    isolation = Isolation(argv=(sys.executable, "-S", "-c", STEADY), folder="/tmp", interpreters=(sys.executable,))
    folder.want_command("sandboxed", BubblewrapSandbox().command(isolation))
    folder.want("plain")
    folder.want("removed")
    before = {name: folder.wait_up(name) for name in ("sandboxed", "plain", "removed")}
    old = folder.kill_supervise()
    time.sleep(0.3)
    assert all(is_alive(status["identity"]) for status in before.values())
    folder.unwant("removed")
    ensure_supervise(folder.path)
    assert folder.supervisor() != old
    eventually(lambda: not folder.status("removed"), "what is not wanted any more ends")
    assert not is_alive(before["removed"]["identity"])
    for name in ("sandboxed", "plain"):
        assert folder.status(name)["identity"] == before[name]["identity"]
        assert is_alive(before[name]["identity"])
        assert folder.log(name) == "up\n"
    os.kill(before["plain"]["pid"], signal.SIGKILL)
    folder.wait_up("plain", 2)
    assert folder.status("plain")["restarts"] == 1


def test_what_died_while_supervise_was_dead_is_started_again(folder: Folder) -> None:
    folder.want("a")
    status = folder.wait_up("a")
    folder.kill_supervise()
    os.kill(status["pid"], signal.SIGKILL)
    ensure_supervise(folder.path)
    folder.wait_up("a", 2)


def test_there_is_one_supervise_for_a_folder(folder: Folder) -> None:
    pid = folder.supervisor()
    for options in ([], ["--detach"]):
        command = [sys.executable, "-m", "interlock.supervise", *options, str(folder.path)]
        assert subprocess.run(command, check=False).returncode == 3
    ensure_supervise(folder.path)
    assert folder.supervisor() == pid


def test_stop_ends_everything_and_a_new_start_brings_it_back(folder: Folder) -> None:
    folder.want("a", GENTLE)
    status = folder.wait_up("a")
    assert stop_supervise(folder.path)
    assert not is_alive(status["identity"])
    assert folder.log("a") == "up\nleaving\n"
    assert not stop_supervise(folder.path)
    ensure_supervise(folder.path)
    folder.wait_up("a", 2)


def test_a_file_that_cannot_be_read_stops_nothing(folder: Folder) -> None:
    folder.want("a")
    first = folder.wait_up("a")
    for content in ("{", "[]", '{"argv": []}', '{"argv": ["x"]}', '{"argv": 3, "generation": 1}'):
        folder.write("processes/a.json", content)
    folder.write("processes/b.json", '{"generation": 1}')
    folder.want("c")
    folder.wait_up("c")
    assert folder.status("a") == first
    assert folder.status("b") == {}
    assert "cannot be read" in folder.events("b")[0]["because"]


def test_a_program_that_is_not_there_is_said_in_its_log(folder: Folder) -> None:
    folder.want_command("a", ["/nowhere/program"])
    eventually(lambda: "cannot start /nowhere/program" in folder.log("a"), "the log says why")
    eventually(lambda: folder.status("a").get("exit") == 127, "the status says so")


def test_a_program_gets_its_folder_its_environment_and_a_clean_socket_path(folder: Folder) -> None:
    (folder.path / "inner").mkdir()
    (folder.path / "inner" / "socket").write_text("left behind")
    code = (
        "import os; print(os.getcwd(), dict(os.environ), os.listdir(), 'up', flush=True); import signal; signal.pause()"
    )
    folder.want("a", code, folder="inner", env={"ONE": "1", "LC_ALL": "C.UTF-8"}, unlink=["inner/socket"])
    folder.wait_up("a")
    expected = {"ONE": "1", "LC_ALL": "C.UTF-8"}
    assert folder.log("a").strip() == f"{folder.path / 'inner'} {expected} [] up"


def test_a_large_log_is_rotated(folder: Folder) -> None:
    folder.want("a", "print('x' * 11_000_000); print('up'); raise SystemExit(1)")
    rotated = folder.path / "logs" / "a.log.1"
    eventually(lambda: rotated.exists() and rotated.stat().st_size > 10_000_000, "the old part is kept aside")
    folder.unwant("a")


def test_a_lease_that_cannot_be_read_is_set_aside(folder: Folder) -> None:
    folder.write("leases/flights.production.json", "{")
    eventually((folder.path / "leases" / "flights.production.broken").exists, "it is set aside")
    assert "cannot be read" in folder.events("flights.production")[0]["because"]


def test_the_command_says_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-m", "interlock.supervise"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: python -m interlock.supervise [--detach] FOLDER\n")


ANSWERS = """
import os, socket, sys, time
from pathlib import Path
print("up", flush=True)
time.sleep(float(sys.argv[1]))
server = socket.socket(socket.AF_UNIX)
server.bind("s")
server.listen(1)
while True:
    connection, _ = server.accept()
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    connection.close()
"""
GROWS = """
import time
print("up", flush=True)
held = bytearray(120 << 20)
time.sleep(60)
"""


def test_a_program_that_takes_too_much_memory_is_replaced_and_says_so(folder: Folder) -> None:
    folder.want("a", GROWS, memory=100 << 20)
    folder.want("b", GROWS, memory=400 << 20)
    folder.wait_up("a", times=2)
    assert "MiB of memory, of 100 it may" in folder.events("a")[0]["because"]
    assert "MiB of memory" in folder.status("a")["ailment"]
    assert folder.status("b")["restarts"] == 0


class Hanging:
    """A pulse of a program that answers until it is stopped, looked at by a clock of the test's own."""

    def __init__(self, path: Path, *, has_answered: bool = False, delay: float = 0.0) -> None:
        command = [sys.executable, "-S", "-c", ANSWERS, str(delay)]
        self.process = subprocess.Popen(command, cwd=path, stdout=subprocess.DEVNULL)
        self.pulse = Pulse(path, "s", has_answered=has_answered)
        self.now = 0.0

    def look(self, seconds: float) -> float:
        silent = 0.0
        for _ in range(int(seconds * 10)):
            self.now += 0.1
            silent = self.pulse.look(self.now)
            time.sleep(0.005)
        return silent

    def end(self) -> None:
        self.pulse.close()
        self.process.kill()
        self.process.wait()


def test_a_program_that_answers_is_never_silent_and_one_that_hangs_is_found(tmp_path: Path) -> None:
    one = Hanging(tmp_path)
    try:
        eventually((tmp_path / "s").exists, "it listens")
        assert one.look(5.0) < 1.0
        os.kill(one.process.pid, signal.SIGSTOP)
        assert one.look(10.0) == pytest.approx(9.5, abs=1.0)
        os.kill(one.process.pid, signal.SIGCONT)
        time.sleep(0.2)
        assert one.look(3.0) < 1.0
        one.process.kill()
        one.process.wait()
        assert one.look(3.0) == 0.0  # nobody listens: it is no hang, its end is seen elsewhere
    finally:
        one.end()


def test_a_program_may_take_its_time_to_start(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server = socket.socket(socket.AF_UNIX)
    request.addfinalizer(server.close)
    server.bind(str(tmp_path / "s"))
    server.listen(1)  # it listens, and does not answer yet
    for has_answered, silent in ((False, 0.0), (True, 30.0)):
        pulse = Pulse(tmp_path, "s", has_answered=has_answered)
        found = [pulse.look(float(now)) for now in range(32)]
        pulse.close()
        assert found[-1] == pytest.approx(silent, abs=2.0)
    crowd = [Pulse(tmp_path, "s", has_answered=True) for _ in range(4)]  # more than it lets wait
    assert [[pulse.look(float(now)) for pulse in crowd][-1] for now in range(4)][-1] == 3.0
    for pulse in crowd:
        pulse.close()


@pytest.mark.parametrize(
    ("beginning", "serving", "cores", "expected"),
    [
        (0, 1, 1, True),  # one can always begin
        (1, 1, 1, False),
        (1, 1, 2, False),
        (1, 1, 4, True),  # half of the cores
        (2, 1, 4, False),
        (9, 0, 2, True),  # nobody serves: nobody is disturbed
    ],
)
def test_half_of_the_cores_are_left_to_what_serves(beginning: int, serving: int, cores: int, expected: bool) -> None:
    assert has_room(beginning, serving, cores) is expected


def test_patient_programs_begin_one_after_the_other_beside_one_that_serves(folder: Folder) -> None:
    def want(name: str, delay: float, **settings: object) -> None:
        answers = ANSWERS.replace('"s"', f'"{name}"')
        folder.want_command(name, [sys.executable, "-S", "-c", answers, str(delay)], pulse=name, **settings)

    for name in ("a", "d"):
        want(name, 0.0)
        eventually((folder.path / name).exists, "it serves")
    time.sleep(0.3)  # so that they have answered
    at_once = max(1, len(os.sched_getaffinity(0)) // 2)
    patient = [f"b{number:02}" for number in range(at_once + 1)]
    for name in patient:
        want(name, 1.5, is_patient=True)
    for name in patient[:-1]:
        folder.wait_up(name)
    want("c", 0.0)  # which is not patient
    folder.wait_up("c")
    os.killpg(folder.status("a")["pid"], signal.SIGKILL)  # nor is one that ran before
    (folder.path / "a").unlink()
    folder.wait_up("a", times=2)
    assert not folder.status(patient[-1])
    folder.wait_up(patient[-1])
    eventually(lambda: all((folder.path / name).exists() for name in patient), "all serve")
    first = min(folder.status(name)["started"] for name in patient)
    assert folder.status(patient[-1])["started"] - first >= 1.4


@pytest.mark.slow
def test_a_program_that_hangs_is_replaced(folder: Folder) -> None:
    folder.want_command("a", [sys.executable, "-S", "-c", ANSWERS, "0"], pulse="s", unlink=["s"])
    folder.wait_up("a")
    eventually((folder.path / "s").exists, "it listens")
    time.sleep(1.5)  # so that it has answered
    (child,) = folder.children("a")
    os.kill(child, signal.SIGSTOP)
    eventually(lambda: folder.log("a").count("up") == 2, "it is started again", 30.0)
    assert "it has not answered for 20 s" in folder.events("a")[0]["because"]
