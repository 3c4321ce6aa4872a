"""What every executor promises, the real one and the fake alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

import interlock
from interlock.edges.blobs import LocalBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.executor import FakeExecutor, LocalExecutor
from interlock.edges.git import CommandGit
from interlock.edges.sandbox import BubblewrapSandbox
from interlock.pipeline.plan import PythonPlan, StagePlan
from interlock.ports import Executor
from interlock.run.stage import StageOutcome, StageRequest
from interlock.source.commit import Commit
from interlock.vocabulary import Phase


class Stand(Protocol):
    """An executor, a request that runs until it is let go, and one that ends well or badly by itself."""

    executor: Executor

    def waiting(self, attempt: str) -> StageRequest: ...

    def let_go(self, attempt: str) -> None: ...

    def ending(self, attempt: str, phase: Phase) -> StageRequest: ...


def plain_request(attempt: str, name: str, commit: Commit, command: str, outs: tuple[str, ...] = ()) -> StageRequest:
    stage = StagePlan(name=name, kind="stage", command=command, timeout=60.0, network=True, outs=outs)
    return StageRequest(attempt=attempt, stage=stage, commit=commit, python=PythonPlan(lock="requirements.txt"))


class FakeStand:
    def __init__(self) -> None:
        bad = StageOutcome(phase=Phase.FAILED, because="written down")
        self.executor = FakeExecutor({"bad": bad}, on_demand=True)
        self.commit = Commit(repository="demo", git_directory="g", ref="refs/heads/main", sha="1", tree="2")

    def waiting(self, attempt: str) -> StageRequest:
        return plain_request(attempt, "good", self.commit, "")

    def let_go(self, attempt: str) -> None:
        self.executor.finish(attempt)

    def ending(self, attempt: str, phase: Phase) -> StageRequest:
        return plain_request(attempt, "good" if phase is Phase.SUCCEEDED else "bad", self.commit, "")


class LocalStand:
    """A stage waits for a file to appear in an exchange folder that only its own process can see: its log tells it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git = CommandGit(folder / "git-state")
        (folder / "repository").mkdir()
        (folder / "repository/requirements.txt").write_text("")
        self.commit = self.git.snapshot(str(folder / "repository"))
        blobs = LocalBlobs(folder / "blobs")
        environments = UvEnvironments(folder / "environments")
        probes = Path(interlock.__file__).parent / "probes"
        self.executor = LocalExecutor(self.git, blobs, environments, BubblewrapSandbox(), folder / "executor", probes)

    def waiting(self, attempt: str) -> StageRequest:
        return plain_request(attempt, "wait", self.commit, "until test -e go; do sleep 0.02; done")

    def let_go(self, attempt: str) -> None:
        wait_until(lambda: bool(list(self._projects(attempt))))
        for project in self._projects(attempt):
            (project / "go").touch()

    def ending(self, attempt: str, phase: Phase) -> StageRequest:
        return plain_request(attempt, "end", self.commit, "true" if phase is Phase.SUCCEEDED else "false")

    def _projects(self, attempt: str) -> Iterator[Path]:
        marker = attempt.replace("/", "%2F")
        for started in (self.folder / "executor/workspaces").glob(f"executor-*/{marker}-*/exchange/started"):
            yield started.parent.parent / "project"


def wait_until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture(params=["fake", "local"])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    if request.param == "fake":
        yield FakeStand()
        return
    local = LocalStand(tmp_path)
    yield local
    local.executor.close()


def test_an_attempt_runs_until_it_finishes_and_is_told_once(stand: Stand) -> None:
    outcomes: list[StageOutcome] = []
    stand.executor.start(stand.waiting("1/a/1"), outcomes.append)
    assert stand.executor.running() == {"1/a/1"}
    assert outcomes == []
    stand.let_go("1/a/1")
    wait_until(lambda: not stand.executor.running())
    assert [outcome.phase for outcome in outcomes] == [Phase.SUCCEEDED]


def test_starting_a_running_attempt_again_does_nothing(stand: Stand) -> None:
    first: list[StageOutcome] = []
    second: list[StageOutcome] = []
    request = stand.waiting("1/a/1")
    stand.executor.start(request, first.append)
    stand.executor.start(request, second.append)
    stand.let_go("1/a/1")
    wait_until(lambda: not stand.executor.running())
    assert (len(first), len(second)) == (1, 0)


def test_a_stopped_attempt_finishes_as_cancelled_with_the_reason(stand: Stand) -> None:
    outcomes: list[StageOutcome] = []
    stand.executor.start(stand.waiting("1/a/1"), outcomes.append)
    stand.executor.start(stand.waiting("1/b/1"), outcomes.append)
    stand.executor.stop("1/a/1", "superseded")
    wait_until(lambda: stand.executor.running() == {"1/b/1"})
    assert [(outcome.phase, outcome.because) for outcome in outcomes] == [(Phase.CANCELLED, "superseded")]
    stand.executor.stop("1/b/1", "too")
    wait_until(lambda: not stand.executor.running())


def test_stopping_what_does_not_run_does_nothing(stand: Stand) -> None:
    stand.executor.stop("9/none/1", "why not")
    assert stand.executor.running() == frozenset()


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED])
def test_run_waits_and_answers(stand: Stand, phase: Phase) -> None:
    outcome = stand.executor.run(stand.ending("1/a/1", phase))
    assert outcome.phase is phase
    assert outcome.because
    wait_until(lambda: not stand.executor.running())


def test_an_attempt_still_runs_while_its_end_is_told(stand: Stand) -> None:
    """So that nobody finds an attempt that neither runs nor has an outcome."""
    seen: list[frozenset[str]] = []
    is_told = threading.Event()

    def finished(_: StageOutcome) -> None:
        seen.append(stand.executor.running())
        is_told.set()

    stand.executor.start(stand.waiting("1/a/1"), finished)
    stand.let_go("1/a/1")
    assert is_told.wait(20)
    assert seen == [frozenset({"1/a/1"})]
    wait_until(lambda: not stand.executor.running())


def test_the_fake_keeps_what_was_started_and_finishes_at_once_unless_told_otherwise() -> None:
    stand = FakeStand()
    fake = FakeExecutor({"bad": StageOutcome(phase=Phase.FAILED, because="no")})
    outcomes: list[StageOutcome] = []
    fake.start(stand.ending("1/a/1", Phase.FAILED), outcomes.append)
    fake.start(stand.ending("1/b/1", Phase.SUCCEEDED), outcomes.append)
    assert [outcome.phase for outcome in outcomes] == [Phase.FAILED, Phase.SUCCEEDED]
    assert [request.attempt for request in fake.started] == ["1/a/1", "1/b/1"]
    assert fake.running() == frozenset()
