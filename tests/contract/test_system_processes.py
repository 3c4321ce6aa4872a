"""A process is known by more than its number, and ends with all it started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.system.processes import age_of, identity_of, is_alive, kill_tree

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]

# A parent that ignores TERM, a child in a session of its own, and a grandchild left behind by its parent.
FAMILY = """
import os, signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder = Path(sys.argv[1])
sleep = "import time; time.sleep(60)"
orphaning = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {sleep!r}], stdout=2); print(p.pid)"
child = subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
orphan = subprocess.run([sys.executable, "-c", orphaning], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
(folder / "pids.part").write_text(f"{os.getpid()} {child.pid} {orphan}")
(folder / "pids.part").rename(folder / "pids")
time.sleep(60)
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def test_this_process_is_alive_and_keeps_its_identity() -> None:
    identity = identity_of(os.getpid())
    assert identity is not None
    assert identity == identity_of(os.getpid())
    assert is_alive(identity)


def test_a_process_that_ended_has_no_identity_even_before_it_is_reaped(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identity_of(sleeper.pid)
    age = age_of(identity or "")
    assert age is not None
    assert 0.0 <= age < 30.0
    assert identity is not None
    sleeper.kill()
    while Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert not is_alive(identity)
    assert identity_of(sleeper.pid) is None
    assert age_of(identity or "") is None
    sleeper.wait()
    assert identity_of(sleeper.pid) is None


@pytest.mark.parametrize("part", [1, 2])
def test_a_reused_number_is_another_process(part: int) -> None:
    parts = (identity_of(os.getpid()) or "").split(":")
    parts[part] = "1" + parts[part]
    assert not is_alive(":".join(parts))


@pytest.mark.parametrize("identity", ["", "x:1:y", "-1:0:z", "999999999:1:z"])
def test_no_process_is_not_alive(identity: str) -> None:
    assert not is_alive(identity)


def test_a_name_with_brackets_and_spaces_is_read(tmp_path: Path) -> None:
    program = tmp_path / "a) Z (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    try:
        assert identity_of(process.pid) is not None
    finally:
        process.kill()
        process.wait()


def test_a_whole_family_ends_although_the_parent_ignores_term(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", FAMILY, str(tmp_path)], start_new_session=True)
    while not (tmp_path / "pids").exists():
        time.sleep(0.02)
    identities = [identity_of(int(pid)) for pid in (tmp_path / "pids").read_text().split()]
    assert len(identities) == 3
    assert all(identity is not None and is_alive(identity) for identity in identities)
    kill_tree(parent.pid, grace=0.2)
    assert [identity for identity in identities if identity is None or is_alive(identity)] == []
    assert parent.wait() == -9


def test_the_orphans_of_a_dead_leader_end_too(tmp_path: Path) -> None:
    script = f"import subprocess, sys; print(subprocess.Popen({SLEEP!r}, stdout=subprocess.DEVNULL).pid)"
    leader = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert leader.stdout is not None
    identity = identity_of(int(leader.stdout.readline()))
    assert identity is not None
    leader.stdout.close()
    kill_tree(leader.pid, grace=5)  # it may have ended by now, but nobody has reaped it
    assert not is_alive(identity)
    leader.wait()


def test_a_gentle_end_is_given_its_time(sleeper: subprocess.Popen[bytes]) -> None:
    kill_tree(sleeper.pid, grace=10)
    assert sleeper.wait() == -15


def test_the_group_of_the_caller_is_spared(sleeper: subprocess.Popen[bytes]) -> None:
    other = subprocess.Popen(SLEEP)
    try:
        kill_tree(other.pid, grace=1)
        assert other.wait() == -15
        assert sleeper.poll() is None
    finally:
        other.kill()
        other.wait()


def test_nobody_ends_the_caller_or_one_that_is_gone() -> None:
    kill_tree(os.getpid(), grace=0)
    kill_tree(os.getppid(), grace=0)
    kill_tree(999_999_999, grace=0)
    assert is_alive(identity_of(os.getpid()) or "")
