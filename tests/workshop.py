"""A repository with everything that makes and moves its runs, over an executor that runs nothing."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from interlock.access.caller import Caller, Role
from interlock.control.arriving.seen import Repository
from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.deliveries import Deliveries
from interlock.control.delivering.scaling import Scaling
from interlock.control.loop import Loop
from interlock.control.rows import read_state
from interlock.control.running.attempts import Attempts
from interlock.control.running.intake import Intake
from interlock.control.running.lookups import Lookups
from interlock.control.running.requests import RunRequests
from interlock.control.running.runs import SERVER, Runs
from interlock.control.running.sealing import Sealing
from interlock.control.scheduling.costs import Costs
from interlock.control.scheduling.room import Room
from interlock.edges.blobs import LocalBlobs
from interlock.edges.executor import FakeExecutor
from interlock.edges.git import CommandGit
from interlock.edges.proxy import FakeProxy
from interlock.edges.serving import FakeReplicas
from interlock.edges.signing import LocalSigning
from interlock.edges.store import MemoryStore, SqlStore
from interlock.pipeline.plan import PythonPlan
from interlock.ports import Forge
from interlock.run.run import Run
from interlock.run.scheduling.costs import Capacity
from interlock.run.stage import StageOutcome
from interlock.source.notice import Notice
from interlock.source.repository import PullRequest, Watched
from interlock.vocabulary import Kind, Phase

PIPELINE = "version: 1\nchecks: []\nstages:\n  train: {cmd: python train.py, outs: [model/]}\n"
ADA = Caller(name="ada", role=Role.ADMIN)


class NamedEnvironments:
    """Environments that are named by their files and never built."""

    def lock_files(self, python: PythonPlan, read: Callable[[Sequence[str]], Mapping[str, bytes]]) -> dict[str, bytes]:
        return dict(read([python.lock]))

    def identify(self, python: PythonPlan, files: Mapping[str, bytes], purpose: str) -> str:
        return f"{purpose} {sorted(files.items())}"

    def version(self, python: PythonPlan) -> str:
        return "3.12.0"

    def ensure(self, python: PythonPlan, files: Mapping[str, bytes], purpose: str, say: Callable[[str], None]) -> str:
        raise AssertionError("nothing is built here")

    def check(self, python: PythonPlan, files: Mapping[str, bytes]) -> None:
        raise AssertionError("nothing is checked here")


class Workshop:
    """A bare repository with a clone to push from, and a control plane. ``now`` is moved by hand."""

    def __init__(
        self, folder: Path, pipeline: str = PIPELINE, *, cores: float = 8.0, url: bool = False, **more: Any
    ) -> None:
        self.folder = folder
        self.now = 1_700_000_000.0
        self.origin, self.clone = folder / "small.git", folder / "clone"
        self.store: MemoryStore | SqlStore = MemoryStore(lambda: self.now)
        self.git = CommandGit(folder / "snapshots", protocols=("file",))
        self.blobs = LocalBlobs(folder / "artifacts")
        self.capacity, self.most_runs = Capacity(cores, **more), dict[str, int]()
        self.faults: list[str] = []
        self.forges: dict[str, Forge] = {}
        self.lives = 0
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.origin], check=True)
        subprocess.run(["git", "clone", "-q", self.origin, self.clone], check=True, capture_output=True)
        mirror = str(folder / "mirror.git") if url else str(self.origin)
        address = f"file://{self.origin}" if url else None
        self.watched = Watched(name="small", git_directory=mirror, url=address, forge="github")
        self.command("checkout", "-q", "-b", "main")
        self.write({"interlock.yaml": pipeline, "train.py": "x = 1\n", "requirements.txt": ""})
        self.restart()

    def restart(self) -> None:
        """A new life on the same rows, as after ``kill -9``."""
        self.lives += 1
        self.executor = FakeExecutor(on_demand=True)
        environments = NamedEnvironments()
        self.lookups = Lookups(self.store, self.git, self.blobs, environments, platform="p", program="q")
        self.attempts = Attempts(self.store, self.executor, self.blobs, f"life {self.lives}", lambda: None)
        sealing = Sealing(self.store, self.blobs, LocalSigning(self.folder / "keys"), self.lookups, "test")
        self.costs = Costs(self.store)
        room = Room(self.capacity, self.most_runs, lambda: self.now, self.costs.of)
        self.runs = Runs(self.store, self.blobs, self.attempts, self.lookups, sealing, lambda: self.now, room)
        plane = Plane(self.store, FakeReplicas(), FakeProxy({}), Scaling(self.store, lambda: self.now, 2.0, 2.0**33))
        deliveries = Deliveries(self.store, self.attempts, sealing, plane, lambda: self.now)
        self.loop = Loop(self.store, self.runs, deliveries, plane, SERVER, self.faults.append)
        forges, gpus = self.forges, len(self.capacity.gpus)
        self.intake = Intake(self.store, self.git, self.blobs, environments, self.lookups, forges, gpus)
        self.requests = RunRequests(self.store, self.intake, {"small": self.watched}, lambda: self.now)

    def set_up(self, **settings: object) -> None:
        """Other settings of the repository."""
        self.watched = self.watched.model_copy(update=settings)
        self.requests = RunRequests(self.store, self.intake, {"small": self.watched}, lambda: self.now)

    def command(self, *words: str) -> str:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        done = subprocess.run(["git", *who, *words], cwd=self.clone, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, message: str = "next", **files: str) -> str:
        """A commit of these files (``_`` for ``.``) and whatever was written before."""
        self.write({name.replace("_", "."): text for name, text in files.items()})
        self.command("add", "-A")
        self.command("commit", "-qm", message, "--allow-empty")
        return self.command("rev-parse", "HEAD")

    def push(self, *words: str) -> None:
        self.command("push", "-q", "origin", *(words or ("HEAD:main",)))

    def look(self, *notices: Notice) -> list[Run]:
        return self.intake.look(self.watched, notices)

    def pull_request(self, number: int, **more: object) -> Notice:
        """What a forge would tell of the pull request."""
        told = {"number": number, "base": "main", "head": "0" * 40, "is_fork": True, **more}
        pull = PullRequest.model_validate(told)
        return Notice(repository="small", source="github", kind="pull_request", pull_request=pull)

    def row_phase(self, number: int) -> str:
        row = self.store.load(Kind.RUN, str(number))
        assert row is not None
        return row.phase

    def run(self, number: int) -> Run:
        row = self.store.load(Kind.RUN, str(number))
        assert row is not None
        return read_state(row, Run)

    def all_runs(self) -> list[Run]:
        return [read_state(row, Run) for row in self.store.rows(Kind.RUN)]

    def repository(self) -> Repository:
        (row,) = self.store.rows(Kind.REPOSITORY)
        return read_state(row, Repository)

    def told(self, kind: Kind = Kind.REPOSITORY) -> str:
        """Why the newest row of the kind is as it is."""
        return self.store.events(kind)[-1].because

    def finish(self, *attempts: str, phase: Phase = Phase.SUCCEEDED, model: bytes = b"weights") -> None:
        """These attempts, or all that run, end so."""
        for attempt in attempts or sorted(self.executor.running()):
            stage = attempt.split("/")[1]
            made = {"model": self.blobs.put_files({"model.skops": model})} if stage == "train" else {}
            outcome = StageOutcome(
                phase=phase,
                because=f"it {phase}",
                products=made if phase is Phase.SUCCEEDED else {},
                reads=("train.py",),
            )
            self.executor.finish(attempt, outcome)

    def run_all(self) -> None:
        """Passes until nothing runs any more; every attempt succeeds."""
        self.loop.one_pass()
        while self.executor.running():
            self.finish()
            self.loop.one_pass()
