"""From an accepted notice to its run, killed at every write, fsync and rename: nothing acknowledged is lost or doubled.

C1 of the fault matrix, with strace: the K-th system call of the set kills (or fails with ENOSPC or EIO), K from 1 until
nothing is left to hit. Two wrong orders are planted, and have to be found: otherwise the harness shows nothing.

A warm process forks one child for each point, so that a point costs milliseconds. The child does in one thread what the
server's threads do: note the notice, say that it is kept, look, begin the run.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from interlock.control.rows import read_state
from interlock.control.running.intake import Intake
from interlock.control.running.lookups import Lookups
from interlock.control.running.triggers import Arrivals
from interlock.edges.blobs import LocalBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.git import CommandGit
from interlock.edges.store import SqlStore
from interlock.run.run import Run
from interlock.source.repository import Watched
from interlock.vocabulary import Kind

CALLS = "write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,link,linkat,mkdir"
MOST_POINTS = 400
PATIENCE = 30.0
GIT = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
STRACE = shutil.which("strace")

CHILD = '''
import ctypes, os, signal, sys, time
from pathlib import Path
from interlock.control.running.intake import Intake
from interlock.control.running.lookups import Lookups
from interlock.control.running.triggers import Arrivals
from interlock.edges.blobs import LocalBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.git import CommandGit
from interlock.edges.store import SqlStore
from interlock.errors import InterlockError
from interlock.source.notice import Notice
from interlock.source.repository import Watched

PR_SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)


class LateBlobs(LocalBlobs):
    """A wrong order: an artifact is stored after the row that names it."""

    late = []

    def put_files(self, files):
        self.late.append(files)
        trial = LocalBlobs(self.elsewhere)
        return trial.put_files(files)


def work(state, repository, variant, said):
    store = SqlStore(f"sqlite:///{state}/interlock.db")
    blobs = (LateBlobs if variant == "row-first" else LocalBlobs)(f"{state}/artifacts")
    LateBlobs.elsewhere = f"{state}/elsewhere"
    git = CommandGit(f"{state}/snapshots")
    environments = UvEnvironments(f"{state}/environments", ())
    lookups = Lookups(store, git, blobs, environments, platform="any", program="one")
    watched = Watched(name="small", git_directory=repository)
    notice = Notice(repository="small", source="git", kind="push", ref="refs/heads/main")
    if variant == "answer-first":
        os.write(said, b"kept\\n")
    store.note(notice)
    if variant != "answer-first":
        os.write(said, b"kept\\n")
    intake = Intake(store, git, blobs, environments, lookups)
    Arrivals(store, intake, lambda _: None, time.monotonic).settle_pending([watched])
    for files in LateBlobs.late:
        LocalBlobs(f"{state}/artifacts").put_files(files)


for line in sys.stdin:
    state, repository, variant = line.split()
    said = os.open(f"{state}/said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        code = 0
        try:
            work(state, repository, variant, said)
        except (InterlockError, OSError):
            code = 3
        os._exit(code)
    os.close(said)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
'''


class Harness:
    """The warm process, and a fresh state folder for each point."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.repository = folder / "small.git"
        self._warm = subprocess.Popen(
            [sys.executable, "-B", "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        clone = folder / "clone"
        subprocess.run([*GIT, "init", "-q", "--bare", self.repository], check=True)
        subprocess.run([*GIT, "init", "-q", clone], check=True)
        (clone / "pyproject.toml").write_text('[project]\nname = "s"\nversion = "1"\nrequires-python = ">=3.11"\n')
        (clone / "uv.lock").write_text('version = 1\nrequires-python = ">=3.11"\n')
        (clone / "interlock.yaml").write_text("version: 1\nchecks: [syntax]\n")
        subprocess.run([*GIT, "add", "-A"], cwd=clone, check=True)
        subprocess.run([*GIT, "commit", "-qm", "one"], cwd=clone, check=True)
        subprocess.run([*GIT, "push", "-q", self.repository, "HEAD:main"], cwd=clone, check=True, capture_output=True)
        self._template = folder / "template"
        self._template.mkdir()
        SqlStore(f"sqlite:///{self._template}/interlock.db").close()

    def sweep(self, fault: str, variant: str = "right", stop_at: str | None = None) -> tuple[int, list[str]]:
        """How many points there were, and what was wrong after each that broke a promise; up to one that is so."""
        wrong: list[str] = []
        for point in range(1, MOST_POINTS):
            state = self._folder / "state"
            shutil.copytree(self._template, state)
            code = self._break_at(point, fault, state, variant)
            wrong += [f"point {point}: {problem}" for problem in self._problems(state)]
            shutil.rmtree(state)
            if (code == 0 and not self._was_hit) or (stop_at is not None and any(stop_at in one for one in wrong)):
                return point - 1, wrong
        raise AssertionError(f"more than {MOST_POINTS} points")

    def _break_at(self, point: int, fault: str, state: Path, variant: str) -> int:
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.write(f"{state} {self.repository} {variant}\n")
        child = int(self._warm.stdout.readline())
        _wait_for(lambda: _status(child, "State").startswith("T"))
        log = state / "strace.log"
        inject = f"inject={CALLS}:{fault}:when={point}"
        tracer = subprocess.Popen(
            [str(STRACE), "-q", "-o", log, "-e", f"trace={CALLS}", "-e", inject, "-p", str(child)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _wait_for(lambda: _status(child, "TracerPid") != "0")
        os.kill(child, signal.SIGCONT)
        code = int(self._warm.stdout.readline())
        tracer.communicate(timeout=PATIENCE)
        text = log.read_text(errors="replace")
        self._was_hit = "INJECTED" in text or "killed by SIGKILL" in text
        return code

    def _problems(self, state: Path) -> Iterator[str]:
        """Every promise that is broken, after the next start has done its work."""
        said = (state / "said").read_text()
        with closing(sqlite3.connect(state / "interlock.db")) as connection:
            (whole,) = connection.execute("pragma integrity_check").fetchone()
            (kept,) = connection.execute("select count(*) from notices").fetchone()
        if whole != "ok":
            yield f"the database is damaged: {whole}"
        if said and kept < said.count("kept"):
            yield "an acknowledged notice is lost"
        store = SqlStore(f"sqlite:///{state}/interlock.db")
        blobs, git = LocalBlobs(state / "artifacts"), CommandGit(state / "snapshots")
        try:
            yield from _unreadable(store, blobs)
            environments = UvEnvironments(state / "environments", ())
            lookups = Lookups(store, git, blobs, environments, platform="any", program="one")
            intake = Intake(store, git, blobs, environments, lookups)
            watched = Watched(name="small", git_directory=str(self.repository))
            Arrivals(store, intake, lambda _: None, time.monotonic).settle_pending([watched])
            intake.look(watched)
            runs = store.rows(Kind.RUN)
            if len(runs) != 1:
                yield f"{len(runs)} runs after the next start"
            if store.pending(10):
                yield "a notice was never settled"
            yield from _unreadable(store, blobs)
        finally:
            store.close()

    def close(self) -> None:
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.close()
        self._warm.stdout.close()
        self._warm.wait()


def _unreadable(store: SqlStore, blobs: LocalBlobs) -> Iterator[str]:
    for row in store.rows(Kind.RUN):
        lock = read_state(row, Run).lock
        if lock is None or not blobs.has(lock):
            yield f"run {row.key} names an artifact that is not there"


def _status(process: int, field: str) -> str:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


def _wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "the process to be traced did not get there"
        time.sleep(0.001)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    if STRACE is None:
        pytest.skip("strace is not installed: no system call can be failed or killed at")
    made = Harness(tmp_path_factory.mktemp("crash"))
    try:
        yield made
    finally:
        made.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["signal=SIGKILL", "error=ENOSPC", "error=EIO"])
def test_nothing_acknowledged_is_lost_or_doubled_whatever_call_it_breaks_at(harness: Harness, fault: str) -> None:
    points, wrong = harness.sweep(fault)
    print(f"{points} points, {fault}")
    assert wrong == []
    assert points > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "problem"),
    [("answer-first", "acknowledged notice is lost"), ("row-first", "artifact that is not there")],
)
def test_a_wrong_order_of_writes_is_found(harness: Harness, variant: str, problem: str) -> None:
    _, wrong = harness.sweep("signal=SIGKILL", variant, stop_at=problem)
    assert any(problem in one for one in wrong)
