"""Whoever executes a stage dies, or only stalls and comes back: C7 and C8 of the fault matrix, with real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.small_server import LOCK, PROJECT, SmallRepository, SmallServer, wait_for

from interlock.control.rows import read_state
from interlock.control.running.attempts import LOST, Attempt, Attempts
from interlock.edges.blobs import LocalBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.executor import LocalExecutor
from interlock.edges.git import CommandGit
from interlock.edges.sandbox import BubblewrapSandbox
from interlock.edges.store import SqlStore
from interlock.pipeline.plan import PythonPlan, StagePlan
from interlock.run.stage import StageRequest
from interlock.vocabulary import Fact, Kind, Phase

LEASE = 15.0
"""Seconds within which a lost attempt is known as such."""
SLOW = """\
version: 1
checks: []
stages:
  train: {cmd: "date +%s.%N > out; sleep 3", outs: [out]}
  after: {cmd: "cat out > copy", deps: [out], outs: [copy]}
"""


@pytest.fixture
def repository(tmp_path: Path) -> SmallRepository:
    return SmallRepository(tmp_path, "small", SLOW)


@pytest.fixture
def server(tmp_path: Path, repository: SmallRepository) -> Iterator[SmallServer]:
    made = SmallServer(tmp_path, {"small": {"path": str(repository.bare)}})
    yield made
    made.end()


@pytest.mark.slow
def test_a_worker_killed_mid_stage_loses_the_attempt_and_nothing_of_it_is_used(
    server: SmallServer, repository: SmallRepository
) -> None:
    """C7: lost within 15 s of the next start, tried again as attempt 2, the outputs of attempt 1 never used."""
    server.start()
    repository.push()

    def stage(number: int) -> bool:
        runs = server.runs("small")
        return (
            bool(runs) and runs[0].stages["train"].phase is Phase.RUNNING and runs[0].stages["train"].attempt == number
        )

    wait_for(lambda: stage(1), "the first attempt")
    time.sleep(1.0)
    server.kill()
    server.start()
    began = time.monotonic()
    wait_for(lambda: stage(2), "the second attempt")
    assert time.monotonic() - began <= LEASE
    (run,) = server.until("small", 1, Phase.SUCCEEDED)
    first, second = (server.store.load(Kind.ATTEMPT, f"{run.number}/train/{number}") for number in (1, 2))
    assert first is not None
    assert second is not None
    assert first.phase == LOST
    assert read_state(first, Attempt).outcome is None
    outcome = read_state(second, Attempt).outcome
    assert outcome is not None
    assert run.stages["train"].products == outcome.products
    assert run.stages["after"].products["copy"] == outcome.products["out"]
    assert "attempt 1 was lost" in " ".join(event.because for event in server.store.events(Kind.RUN, run.key))


WORKER = """
import sys
from pathlib import Path
from tests.chaos.test_fault_workers import Worker
worker = Worker(Path(sys.argv[1]), sys.argv[2])
worker.start("1/train/1")
print("started", flush=True)
worker.over.wait()
print("ended", flush=True)
worker.close()
"""


class Worker:
    """A control plane's executor on a database that it shares with others."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.store = SqlStore(f"sqlite:///{folder}/interlock.db")
        self.blobs = LocalBlobs(folder / "artifacts")
        self.git = CommandGit(folder / "snapshots")
        environments = UvEnvironments(folder / "environments", ())
        place = folder / f"execution-{owner}"
        probes = Path(sys.modules["interlock"].__path__[0]) / "probes"
        self.executor = LocalExecutor(self.git, self.blobs, environments, BubblewrapSandbox(), place, probes)
        self.over = threading.Event()
        self.attempts = Attempts(self.store, self.executor, self.blobs, owner, self.over.set)
        self._folder = folder

    def start(self, attempt: str) -> None:
        commit = self.git.snapshot(str(self._folder / "tree"))
        stage = StagePlan(name="train", kind="stage", command="echo begun; date +%s.%N > out; sleep 2", outs=("out",))
        request = StageRequest(attempt=attempt, stage=stage, commit=commit, python=PythonPlan())
        self.attempts.start(request, lambda outcome: [Fact("trace", "train", outcome.products["out"])])

    def close(self) -> None:
        self.executor.close()
        self.store.close()


@pytest.mark.slow
def test_the_late_result_of_a_worker_that_stalled_is_refused(tmp_path: Path) -> None:
    """C8: it is stopped mid stage, its attempt is given up and tried again; then it goes on, and ends too late."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "pyproject.toml").write_text(PROJECT)
    (tree / "uv.lock").write_text(LOCK)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WORKER, tmp_path, "stalled"]
    stalled = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    other = Worker(tmp_path, "other")
    try:
        assert stalled.stdout is not None
        assert stalled.stdout.readline() == "started\n"
        log = tmp_path / "execution-stalled" / "logs" / "1" / "train" / "1.log"
        # Earlier it may hold the lock under which an environment is made, and everybody waits for that.
        wait_for(lambda: log.exists() and b"begun" in log.read_bytes(), "the stage of the stalled worker")
        stalled.send_signal(signal.SIGSTOP)
        assert other.attempts.is_lost("1/train/1")
        assert other.attempts.refuse_end("1/train/1")
        other.start("1/train/2")
        wait_for(lambda: other.attempts.outcome("1/train/2"), "the second attempt")
        stalled.send_signal(signal.SIGCONT)
        assert stalled.stdout.readline() == "ended\n"  # it believes that all is well
        assert stalled.wait(30) == 0
        row = other.store.load(Kind.ATTEMPT, "1/train/1")
        assert row is not None
        assert (row.phase, read_state(row, Attempt).outcome) == (LOST, None)
        outcome = other.attempts.outcome("1/train/2")
        assert outcome is not None
        assert outcome.phase is Phase.SUCCEEDED, outcome.because
        assert other.store.recall("trace", "train") == [outcome.products["out"]]
    finally:
        stalled.kill()
        stalled.wait()
        other.close()
        stalled.stdout.close()
