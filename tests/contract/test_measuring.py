"""Metrics of other sources, asked beside the loop: a real command in its sandbox, and sources that hang."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.revisions import revision

import interlock
from interlock.control.delivering.measuring import ANSWER, Measuring, measure_nothing, read_printed
from interlock.control.rows import write_state
from interlock.delivery.external.measured import COUNTED, Measured
from interlock.delivery.revision import CounterSeen
from interlock.delivery.rollout import Rollout, begin
from interlock.edges.blobs import LocalBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.executor import FakeExecutor, LocalExecutor
from interlock.edges.git import CommandGit
from interlock.edges.sandbox import BubblewrapSandbox
from interlock.edges.store import MemoryStore
from interlock.edges.telemetry import MemoryTelemetry
from interlock.errors import TelemetryFault
from interlock.gate.judgement import Judgement
from interlock.pipeline.canaries.external import ExternalMetricPlan
from interlock.pipeline.canaries.plan import AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan, Plan, PythonPlan
from interlock.ports import Executor, Telemetry
from interlock.registry.version import ModelVersion
from interlock.run import run as runs
from interlock.run.stage import StageOutcome
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Kind, Phase

QUEUE = ExternalMetricPlan(metric="queue", source="prometheus", queries={"value": "queue"}, every=10.0, max=1.0)
ORDERS = ExternalMetricPlan(
    metric="orders",
    source="prometheus",
    queries={"events": "bad of $revision", "requests": "all of $revision"},
    is_counted=True,
    every=10.0,
)
COMMAND = ExternalMetricPlan(metric="revenue", source="command", command="echo 7", every=10.0, min=1.0)
COMMIT = Commit(repository="small", git_directory="/none", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)


def canary(*external: ExternalMetricPlan, number: int = 4) -> Rollout:
    analysis = AnalysisPlan(external=external)
    strategy = StrategyPlan(kind="canary", steps=(StepPlan(set_weight=30),), analysis=analysis)
    plan = EnvironmentPlan(name="production", strategy=strategy)
    begun = begin(number, revision(2), revision(1), plan, release=1, now=0.0)
    return begun.model_copy(update={"weight": 30})


class Room:
    """What a measuring needs. ``now`` is moved by hand; ``rung`` counts the bell."""

    def __init__(self, folder: Path, executor: Executor, telemetry: Telemetry, commit: Commit = COMMIT) -> None:
        self.now, self.rung = 100.0, 0
        self.store = MemoryStore(lambda: self.now)
        self.blobs = LocalBlobs(folder / "blobs")
        run = runs.begin(
            7,
            commit,
            Occasion(kind="push"),
            Plan(python=PythonPlan(lock="requirements.txt")),
            Digest("p"),
            driver="server",
            is_trusted=True,
        )
        version = ModelVersion(
            model="flights",
            number=2,
            digest=Digest("blake3:2"),
            lock=Digest("l"),
            format="skops",
            judgement=Judgement(),
            repository="small",
            ref=commit.ref,
            commit=commit.sha,
            run="7",
            plan=Digest("p"),
            serving=Digest("s"),
            signature=Digest("s"),
            provenance=Digest("p"),
            is_trusted=True,
            made=0.0,
        )
        self.store.save(write_state(Kind.RUN, "7", run, expected=0, phase=run.phase, because="test"))
        self.store.save(write_state(Kind.VERSION, version.key, version, expected=0, phase="registered", because="test"))
        self.measuring = Measuring(
            self.store, executor, self.blobs, telemetry, lambda _: "http://127.0.0.1:1", lambda: self.now, self.ring
        )

    def ring(self) -> None:
        self.rung += 1

    def soon(self, rollout: Rollout, metric: str, is_so: Callable[[Measured], bool] = lambda _: True) -> Measured:
        """What is known of the metric once something is."""
        until = time.monotonic() + 30.0
        while time.monotonic() < until:
            found = self.measuring.newest(rollout).get(metric)
            if found is not None and is_so(found):
                return found
            time.sleep(0.01)
        raise AssertionError(f"nothing of {metric} came")


def test_numbers_come_beside_the_loop_and_ring_it(tmp_path: Path) -> None:
    telemetry = MemoryTelemetry()
    for query, number in {
        "queue": 3.0,
        "bad of flights.production.r2": 1.0,
        "all of flights.production.r2": 40.0,
        "bad of flights.production.r1": 2.0,
        "all of flights.production.r1": 400.0,
    }.items():
        telemetry.put(query, number)
    room = Room(tmp_path, FakeExecutor(), telemetry)
    rollout = canary(QUEUE, ORDERS)
    assert room.soon(rollout, "queue") == Measured(at=100.0, value=3.0)
    counts = {
        "candidate": CounterSeen(epoch=COUNTED, requests=40, errors=1),
        "stable": CounterSeen(epoch=COUNTED, requests=400, errors=2),
    }
    assert room.soon(rollout, "orders") == Measured(at=100.0, counts=counts)
    assert room.rung == 2
    telemetry.put("queue", 5.0)
    room.now = 109.0
    assert room.measuring.newest(rollout)["queue"].value == 3.0  # not due
    room.now = 110.0
    assert room.soon(rollout, "queue", lambda one: one.at > 100.0).value == 5.0
    telemetry.put("queue", None)
    telemetry.put("bad of flights.production.r2", 41.0)
    room.now = 120.0
    assert room.soon(rollout, "queue", lambda one: one.at > 110.0).problem == "no series: queue"
    problem = "candidate: 41 events of 40 requests are no counts"
    assert room.soon(rollout, "orders", lambda one: one.at > 110.0) == Measured(at=120.0, problem=problem)


def test_another_rollout_hears_nothing_of_the_one_before(tmp_path: Path) -> None:
    telemetry = MemoryTelemetry()
    telemetry.put("queue", 3.0)
    room = Room(tmp_path, FakeExecutor(), telemetry)
    room.soon(canary(QUEUE), "queue")
    telemetry.put("queue", 4.0)
    assert room.soon(canary(QUEUE, number=5), "queue").value == 4.0
    assert measure_nothing(canary(QUEUE)) == room.measuring.newest(canary()) == {}


class Hanging:
    """A source that answers when it is let."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked: list[str] = []

    def ask(self, _server: str | None, queries: Sequence[str], _at: float) -> list[float]:
        self.asked += queries
        if queries != ["other"]:
            self.may_answer.wait(30.0)
            raise TelemetryFault("it hung")
        return [1.0]


def test_a_source_that_hangs_keeps_nobody_waiting_and_is_asked_once(tmp_path: Path) -> None:
    source = Hanging()
    room = Room(tmp_path, FakeExecutor(), source)
    other = QUEUE.model_copy(update={"metric": "other", "queries": {"value": "other"}})
    rollout = canary(QUEUE, other)
    began = time.monotonic()
    assert room.measuring.newest(rollout) == {}
    assert time.monotonic() - began < 0.5
    assert room.soon(rollout, "other").value == 1.0
    room.now = 200.0
    assert set(room.measuring.newest(rollout)) == {"other"}
    assert source.asked.count("queue") == 1
    source.may_answer.set()
    assert room.soon(rollout, "queue").problem == "it hung"


def test_a_command_whose_run_is_gone_is_told(tmp_path: Path) -> None:
    room = Room(tmp_path, FakeExecutor(), MemoryTelemetry())
    gone = canary(COMMAND).model_copy(update={"candidate": revision(3)})
    assert "the run that made flights v3 is gone" in room.soon(gone, "revenue").problem


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (StageOutcome(phase=Phase.FAILED, because="exit code 1"), "the command failed: exit code 1"),
        (StageOutcome(phase=Phase.SUCCEEDED, because="", products={ANSWER: Digest(f"blake3:{'0' * 64}")}), "missing"),
    ],
)
def test_a_command_without_an_answer_is_told(tmp_path: Path, outcome: StageOutcome, told: str) -> None:
    executor = FakeExecutor({"revenue": outcome})
    room = Room(tmp_path, executor, MemoryTelemetry())
    assert told in room.soon(canary(COMMAND), "revenue").problem
    (request,) = executor.started
    assert (request.endpoint, request.stage.timeout) == ("http://127.0.0.1:1", 60.0)
    assert request.stage.env["INTERLOCK_CANDIDATE"] == "flights.production.r2"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, LocalExecutor, Commit]]:
    """A repository with a script, and what runs it for real."""
    folder = tmp_path_factory.mktemp("world")
    repository = folder / "repository"
    repository.mkdir()
    (repository / "requirements.txt").write_text("")
    (repository / "shop.py").write_text("import os\nprint(len(os.environ['SHOP_KEY']))\n")
    (repository / "revenue.py").write_text(
        "import json, os\n"
        "print(json.dumps({os.environ['INTERLOCK_CANDIDATE'].rpartition('.')[0] == 'flights.production' and side:\n"
        "    {'events': 1, 'requests': 40} for side in ('candidate', 'stable')}))\n"
    )
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "c"]):
        subprocess.run([*git, *words], cwd=repository, check=True, capture_output=True)
    edge = CommandGit(folder / "git")
    probes = Path(interlock.__file__).parent / "probes"
    environments = UvEnvironments(folder / "environments")
    executor = LocalExecutor(
        edge,
        LocalBlobs(folder / "blobs"),
        environments,
        BubblewrapSandbox(),
        folder / "executor",
        probes,
        secrets=lambda of, names: dict.fromkeys(names, of),
    )
    yield folder, executor, edge.commit("small", str(repository / ".git"), "refs/heads/main")
    executor.close()


@pytest.mark.parametrize(
    ("command", "is_counted", "expected"),
    [
        ("echo 0.97", False, Measured(at=100.0, value=0.97)),
        (
            "python revenue.py",
            True,
            Measured(
                at=100.0,
                counts=dict.fromkeys(("candidate", "stable"), CounterSeen(epoch=COUNTED, requests=40, errors=1)),
            ),
        ),
        ("python shop.py", False, Measured(at=100.0, value=float(len("small/flights/production")))),
        ("echo much; exit 3", False, None),
        ("head -c 100000 /dev/zero", False, Measured(at=100.0, problem="the command printed more than 4096 bytes")),
        ("ls /root /work", False, None),
    ],
    ids=["a number", "counts", "it is given secrets", "it fails", "too much", "it sees no machine"],
)
def test_a_real_command_in_its_sandbox(
    world: tuple[Path, LocalExecutor, Commit], command: str, is_counted: bool, expected: Measured | None
) -> None:
    folder, executor, commit = world
    room = Room(folder, executor, MemoryTelemetry(), commit)
    plan = COMMAND.model_copy(update={"command": command, "is_counted": is_counted, "secrets": ("SHOP_KEY",)})
    found = room.soon(canary(plan, number=sum(command.encode())), "revenue")
    if expected is not None:
        assert found == expected
    else:
        assert found.problem.startswith("the command failed: ")


@pytest.mark.parametrize(
    ("printed", "is_counted", "told"),
    [
        (b"", False, "did not print a number"),
        (b"many", False, "did not print a number"),
        (b"[3]", False, "did not print a number"),
        (b'{"values": 3}', False, "did not print a number"),
        (b"[" * 4000, False, "did not print a number"),
        (b"NaN", False, "printed nan"),
        (b"1e999", False, "printed inf"),
        (b"3", True, "did not print {"),
        (b'{"candidate": {"events": 0, "requests": 1}}', True, "did not print {"),
        (
            b'{"candidate": {"events": 0.5, "requests": 1}, "stable": {"events": 0, "requests": 1}}',
            True,
            "candidate: 0.5 events of 1 requests are no counts",
        ),
    ],
)
def test_what_a_command_prints_otherwise_is_told(printed: bytes, is_counted: bool, told: str) -> None:
    found = read_printed(printed, 3.0, is_counted)
    assert (found.at, found.value, found.counts) == (3.0, None, {})
    assert told in found.problem


def test_a_value_as_an_object() -> None:
    assert read_printed(b'{"value": 2}\n', 3.0, is_counted=False) == Measured(at=3.0, value=2.0)
