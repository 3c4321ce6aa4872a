"""Replicas: the real ones, sandboxed and kept alive by supervise, and their fake."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from interlock.delivery.revision import ReplicaSeen, Revision
from interlock.edges.sandbox import BubblewrapSandbox, NoSandbox
from interlock.edges.sandbox.cells import Cells
from interlock.edges.serving import FakeReplicas, Installed, LocalReplicas, ensure_supervise, stop_supervise
from interlock.errors import ServingFault, StaleWrite
from interlock.ports import Replicas, Sandbox
from interlock.system.sockets import http_over
from interlock.system.usage import measure, tree_of
from interlock.vocabulary import Digest

ENVIRONMENT = "flights/production"
PROGRAM = """
import argparse, http.server, json, os, signal, socketserver, sys, threading
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("name", "model", "digest", "format", "socket", "golden", "revision", "predictions", "version"):
    parser.add_argument("--" + name)
options = parser.parse_args()
model = Path(options.model).read_text()
if model == "spins":
    threading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()
if model == "broken":
    sys.exit("the model cannot be loaded")
Path(options.predictions, options.revision + ".jsonl").write_text("{}")
def may_write(path):
    try:
        Path(path).write_text("x")
    except OSError:
        return False
    return True
said = {"options": vars(options), "golden": options.golden and Path(options.golden).read_text(),
        "threads": os.environ["OMP_NUM_THREADS"], "may_write_model": may_write(options.model),
        "sees": sorted(os.listdir(".")), "sockets": sorted(os.listdir("s"))}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(said).encode()
        self.send_response(503 if model == "slow" and "ready" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self):
        return "unix"
    def log_message(self, *_):
        pass
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
Server(options.socket, Handler).serve_forever()
"""


def digest(letter: str) -> Digest:
    return Digest(f"blake3:{letter * 64}")


GOLDEN = Digest(f"blake3:{blake3(b'golden').hexdigest()}")


def revision(number: int = 1, model: str = "a", environment: str = ENVIRONMENT, golden: bool = False) -> Revision:
    return Revision(
        environment=environment,
        number=number,
        version=7,
        model=environment.partition("/")[0],
        model_digest=digest(model),
        lock=digest("e"),
        format="skops",
        golden=GOLDEN if golden else None,
    )


CONTENTS = {digest("a"): "good", digest("b"): "broken", digest("c"): "slow", digest("d"): "spins", GOLDEN: "golden"}


def eventually(holds: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


class Machine:
    """A data-plane folder, artifacts, a Python environment, and a model server of a few lines."""

    def __init__(self, path: Path, sandbox: Sandbox) -> None:
        self.folder = path / "data"
        self.placed: list[Digest] = []
        self.inference = path / "installed" / "inference"
        self.inference.mkdir(parents=True)
        (self.inference / "__init__.py").write_text("")
        (self.inference / "__main__.py").write_text(PROGRAM)
        (path / "environment" / "bin").mkdir(parents=True)
        (path / "environment" / "bin" / "python").symlink_to(sys.executable)
        self.environment = path / "environment"
        self.key = path / "key.pub.pem"
        key = self.key
        self.replicas = LocalReplicas(self.folder, sandbox, self.place, self.environment_of, self.inference, key)

    def place(self, artifact: Digest, target: Path) -> None:
        assert not target.exists()
        target.write_text(CONTENTS[artifact][:1])
        target.write_text(CONTENTS[artifact])
        self.placed.append(artifact)

    def environment_of(self, revision: Revision) -> Installed:
        assert revision.lock == digest("e")
        return Installed(str(self.environment), None)

    def status(self, name: str) -> dict[str, object]:
        path = self.folder / "status" / f"{name}.json"
        status: dict[str, object] = json.loads(path.read_bytes()) if path.exists() else {}
        return status

    def ask(self, name: str) -> dict[str, object]:
        answer: dict[str, object] = json.loads(http_over(self.folder / "s" / name, "http", "GET", "/").body)
        return answer


def machine_in(path: Path, sandbox: Sandbox) -> Iterator[Machine]:
    machine = Machine(path, sandbox)
    machine.folder.mkdir()
    ensure_supervise(machine.folder)
    try:
        yield machine
    finally:
        stop_supervise(machine.folder)


@pytest.fixture(scope="module")
def bubblewrap() -> Sandbox:
    return BubblewrapSandbox()


@pytest.fixture
def machine(tmp_path: Path, bubblewrap: Sandbox) -> Iterator[Machine]:
    yield from machine_in(tmp_path / ("a folder too deep for the address of a socket " * 3).strip(), bubblewrap)


@pytest.fixture(params=["fake", "local"])
def replicas(request: pytest.FixtureRequest, tmp_path: Path, bubblewrap: Sandbox) -> Iterator[Replicas]:
    if request.param == "fake":
        yield FakeReplicas()
        return
    for machine in machine_in(tmp_path, bubblewrap):
        yield machine.replicas


def are_ready(replicas: Replicas, *names: str) -> bool:
    seen = replicas.observe(ENVIRONMENT)
    return set(seen) == set(names) and all(replica.is_ready for replica in seen.values())


R1 = ("flights.production.r1.0", "flights.production.r1.1")
R2 = ("flights.production.r2.0", "flights.production.r2.1")


def test_replicas_come_stay_and_go(replicas: Replicas) -> None:
    assert replicas.observe(ENVIRONMENT) == {}
    replicas.ensure(revision(1), 1)
    eventually(lambda: are_ready(replicas, *R1), "the first revision is ready")
    before = replicas.observe(ENVIRONMENT)
    assert all(one.age is None or 0.0 <= one.age < 60.0 for one in before.values())
    assert {name: one.model_copy(update={"age": None}) for name, one in before.items()} == {
        name: ReplicaSeen(is_running=True, is_ready=True) for name in R1
    }
    replicas.ensure(revision(1), 1)
    replicas.ensure(revision(2), 2)
    eventually(lambda: are_ready(replicas, *R1, *R2), "both are ready")
    assert replicas.observe("flights/staging") == {}
    replicas.remove(revision(1).key, 3)
    replicas.remove(revision(1).key, 3)
    eventually(lambda: are_ready(replicas, *R2), "the second is left")


def test_an_older_act_changes_nothing(replicas: Replicas) -> None:
    replicas.ensure(revision(1), 5)
    with pytest.raises(StaleWrite):
        replicas.remove(revision(1).key, 4)
    assert set(replicas.observe(ENVIRONMENT)) == set(R1)
    replicas.remove(revision(1).key, 6)
    with pytest.raises(StaleWrite):
        replicas.ensure(revision(1), 5)
    assert replicas.observe(ENVIRONMENT) == {}


def test_what_a_replica_is_given_and_what_it_sees(machine: Machine) -> None:
    machine.replicas.ensure(revision(golden=True), 1)
    eventually(lambda: are_ready(machine.replicas, *R1), "it is ready")
    said = machine.ask(R1[0])
    options = said["options"]
    assert isinstance(options, dict)
    assert (options["name"], options["version"], options["format"]) == ("flights", "7", "skops")
    assert (options["revision"], options["digest"]) == ("flights.production.r1", digest("a"))
    assert (said["golden"], said["threads"], said["may_write_model"]) == ("golden", "1", False)
    assert said["sees"] == ["models", "predictions", "s", "server"]
    assert said["sockets"] == [R1[0]]  # not even that of its neighbour
    written = machine.folder / "predictions" / "flights.production" / "flights.production.r1.jsonl"
    assert written.read_text() == "{}"
    assert machine.placed == [digest("a"), GOLDEN]  # once for all replicas


def test_a_killed_replica_comes_back(machine: Machine) -> None:
    machine.replicas.ensure(revision(), 1)
    eventually(lambda: are_ready(machine.replicas, *R1), "it is ready")
    pid = machine.status(R1[0])["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: machine.replicas.observe(ENVIRONMENT)[R1[0]].restarts == 1, "it is started again")
    eventually(lambda: are_ready(machine.replicas, *R1), "it is ready again")
    assert machine.replicas.observe(ENVIRONMENT)[R1[0]].problem is None


def test_a_replica_that_crashes_again_and_again_says_why(machine: Machine) -> None:
    machine.replicas.ensure(revision(model="b"), 1)
    eventually(lambda: machine.replicas.observe(ENVIRONMENT)[R1[0]].problem is not None, "it has a problem")
    seen = machine.replicas.observe(ENVIRONMENT)[R1[0]]
    assert seen.problem == "the model cannot be loaded"
    assert not seen.is_ready


def test_a_replica_that_runs_is_not_yet_ready(machine: Machine) -> None:
    machine.replicas.ensure(revision(model="c"), 1)
    eventually((machine.folder / "s" / R1[0] / "http").exists, "it listens")
    eventually(lambda: machine.replicas.observe(ENVIRONMENT)[R1[0]].is_running, "it runs")
    assert machine.ask(R1[0])
    assert not machine.replicas.observe(ENVIRONMENT)[R1[0]].is_ready


def test_a_hung_replica_holds_nobody_up(machine: Machine) -> None:
    machine.replicas.ensure(revision(), 1)
    eventually(lambda: are_ready(machine.replicas, *R1), "it is ready")
    stub = machine.status(R1[0])["pid"]
    assert isinstance(stub, int)
    stopped = below(stub)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    seen = machine.replicas.observe(ENVIRONMENT)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    assert (seen[R1[0]].is_running, seen[R1[0]].is_ready) == (True, False)
    assert seen[R1[1]].is_ready


def below(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(found for child in children for found in below(child))]


def test_an_upgrade_of_the_program_leaves_what_runs_as_it_is(machine: Machine) -> None:
    machine.replicas.ensure(revision(), 1)
    eventually(lambda: are_ready(machine.replicas, *R1), "it is ready")
    (machine.inference / "__main__.py").write_text("raise SystemExit('another program')")
    machine.replicas.ensure(revision(), 2)
    pid = machine.status(R1[0])["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: machine.replicas.observe(ENVIRONMENT)[R1[0]].restarts == 1, "it is started again")
    eventually(lambda: are_ready(machine.replicas, *R1), "the old program is ready again")


def test_what_nobody_needs_is_removed(machine: Machine) -> None:
    machine.replicas.ensure(revision(1), 1)
    machine.replicas.ensure(revision(2, model="c"), 1)
    eventually(lambda: len(machine.placed) == 2, "both models are there")
    models = machine.folder / "models"
    machine.replicas.remove(revision(1).key, 2)
    assert [path.name for path in models.iterdir()] == [digest("c").replace(":", "-")]
    eventually(lambda: not machine.status(R1[0]) and not machine.status(R1[1]), "its processes have ended")
    machine.replicas.remove(revision(2).key, 2)
    eventually(lambda: not machine.status(R2[0]) and not machine.status(R2[1]), "its processes have ended")
    machine.replicas.remove(revision(2).key, 2)
    assert list(models.iterdir()) == []
    assert list((machine.folder / "s").iterdir()) == []


def test_a_model_that_was_half_written_when_the_power_went_is_written_again(machine: Machine) -> None:
    part = machine.folder / "models" / f".{digest('a').replace(':', '-')}.part"
    part.mkdir(parents=True)
    (part / "half").write_text("half")
    machine.replicas.ensure(revision(), 1)
    eventually(lambda: are_ready(machine.replicas, *R1), "it is ready")


def test_supervise_is_started_again_by_who_needs_it(machine: Machine) -> None:
    machine.replicas.ensure(revision(), 1)
    eventually(lambda: are_ready(machine.replicas, *R1), "it is ready")
    stop_supervise(machine.folder)
    seen = machine.replicas.observe(ENVIRONMENT)[R1[0]]
    assert (seen.is_running, seen.problem) == (False, "nobody supervises it")
    machine.replicas.ensure(revision(), 1)
    eventually(lambda: are_ready(machine.replicas, *R1), "it is ready again")


def test_it_serves_without_a_sandbox_too(tmp_path: Path) -> None:
    for machine in machine_in(tmp_path, NoSandbox()):
        machine.replicas.ensure(revision(golden=True), 1)
        eventually(lambda machine=machine: are_ready(machine.replicas, *R1), "it is ready")


def test_a_supervise_that_cannot_start_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ServingFault, match="supervise"):
        ensure_supervise(tmp_path / "file")
    assert not stop_supervise(tmp_path / "file")


def test_the_fake_shows_what_a_test_sets() -> None:
    replicas = FakeReplicas(is_ready_at_once=False)
    replicas.ensure(revision(), 1)
    assert not replicas.observe(ENVIRONMENT)[R1[0]].is_ready
    crashed = ReplicaSeen(is_running=False, is_ready=False, restarts=4, problem="no memory")
    replicas.set_seen(R1[0], crashed)
    replicas.ensure(revision(), 1)
    assert replicas.observe(ENVIRONMENT)[R1[0]] == crashed
    assert not replicas.observe(ENVIRONMENT)[R1[1]].is_ready


def test_a_copy_whose_bytes_have_changed_is_made_again(machine: Machine) -> None:
    program = (machine.inference / "__main__.py").read_text()
    checked = program.replace('if model == "broken":', 'if model == "rotten":\n    sys.exit(3)\nif model == "broken":')
    (machine.inference / "__main__.py").write_text(checked)
    machine.replicas.ensure(revision(), 1)
    eventually(lambda: are_ready(machine.replicas, *R1), "it is ready")
    (machine.folder / "models" / digest("a").replace(":", "-")).write_text("rotten")
    pid = machine.status(R1[0])["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: machine.status(R1[0]).get("exit") == 3, "it refuses the bytes")
    machine.replicas.ensure(revision(), 1)
    eventually(lambda: are_ready(machine.replicas, *R1), "it is ready again")


def test_what_may_be_used_and_where_it_is_asked_is_told_to_supervise(machine: Machine) -> None:
    more = {"memory": 2**30, "cpu": 2.5, "slices": {"carrier": ("AA", "UA")}}
    machine.replicas.ensure(revision().model_copy(update=more), 1)
    told = json.loads((machine.folder / "processes" / f"{R1[0]}.json").read_bytes())
    assert (told["memory"], told["pulse"]) == (2**30, f"s/{R1[0]}/http")
    bound = told["argv"].index("interlock.edges.sandbox.bounded")
    assert told["argv"][bound + 1] == "2.5"
    threads = told["argv"].index("OMP_NUM_THREADS")
    assert told["argv"][threads + 1] == "2"  # as many as whole cores
    watched = told["argv"].index("--slices")
    assert json.loads(told["argv"][watched + 1]) == {"carrier": ["AA", "UA"]}


@pytest.mark.skipif("cgroup" not in Cells().walls, reason="this user may make no control groups")
def test_a_replica_that_spins_gets_no_more_of_the_processor_than_it_may(machine: Machine) -> None:
    machine.replicas.ensure(revision(model="d").model_copy(update={"cpu": 0.3, "replicas": 1}), 1)
    eventually(lambda: are_ready(machine.replicas, R1[0]), "it is ready")
    stub = machine.status(R1[0])["pid"]
    assert isinstance(stub, int)
    pids = tree_of(stub)
    used, began = measure(pids).cpu_seconds, time.monotonic()
    time.sleep(1.0)
    took = time.monotonic() - began
    assert measure(pids).cpu_seconds - used < 0.3 * (took + 0.1) + 0.05
    (told,) = Path("/sys/fs/cgroup").rglob(f"interlock-*-{pids[1]}-*/cpu.stat")
    counted = dict(line.split() for line in told.read_text().splitlines())
    assert int(counted["nr_throttled"]) > 0
