"""The HTTP face over a real store and real sockets, for the tests of what stands behind it."""

import hashlib
import hmac
import http.client
import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from interlock.access.caller import Role
from interlock.app.services import Health, Services
from interlock.control.delivering.requests import Requests
from interlock.control.front.keys import Keys
from interlock.control.front.retiring import Retiring
from interlock.control.inbox import Inbox
from interlock.control.people import People, local_caller
from interlock.control.rows import write_state
from interlock.control.running.attempts import FINISHED, RUNNING, Attempt
from interlock.control.running.intake import Intake
from interlock.control.running.lookups import Lookups
from interlock.control.running.requests import RunRequests
from interlock.control.secrets import Secrets
from interlock.edges.blobs import MemoryBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.executor import LogFiles
from interlock.edges.git import CommandGit
from interlock.edges.store import SqlStore
from interlock.edges.vault import MemoryVault
from interlock.gate.judgement import Judgement
from interlock.pipeline.plan import EnvironmentPlan, Plan, StagePlan
from interlock.registry.version import ModelVersion
from interlock.run.run import Run, StageRun
from interlock.source.commit import Commit, Occasion
from interlock.source.repository import Watched
from interlock.vocabulary import Digest, Json, Kind, Phase, Write
from interlock.web.serving import Face, Listener

SECRET = b"a secret of webhooks"
PIPELINE = "version: 1\nchecks: []\nstages:\n  train: {cmd: python train.py, outs: [model/]}\n"
PUSH = json.dumps({"ref": "refs/heads/main", "before": "0" * 40, "after": "1" * 40}).encode()


class Answer(NamedTuple):
    """``headers`` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Sent(NamedTuple):
    """One server-sent event."""

    id: str
    event: str
    data: Any


class ServedFace:
    """A store, what asks it, and the face before it. ``heard`` are the lines of its access log."""

    def __init__(self, folder: Path, *, listener: Mapping[str, Any] | None = None, store: Any = None) -> None:
        self.folder = folder
        self.store = store or SqlStore(f"sqlite:///{folder / 'interlock.db'}")
        self.heard: list[Mapping[str, Json]] = []
        self.front_log: list[Mapping[str, Json]] = []
        self.rung = threading.Event()
        self.inbox = Inbox(self.store, self.rung.set)
        self.people = People(self.store, time.time)
        self.repositories = {
            name: Watched(name=name, git_directory=str(folder / f"{name}.git")) for name in ("small", "large")
        }
        self.health = Health(loop_age=0.0)
        self.services = Services(
            store=self.store,
            logs=LogFiles(folder),
            inbox=self.inbox,
            runs=self._run_requests(),
            deliveries=Requests(self.store, time.time),
            people=self.people,
            keys=Keys(self.store, time.time),
            retiring=Retiring(self.store, time.time, lambda: self.front_log),
            secrets=Secrets(self.store, MemoryVault(), time.time),
            repositories=self.repositories,
            webhook_secrets=lambda name: (b"an older one", SECRET) if name == "small" else (),
            look=lambda name, pushed: [f"interlock: looked at {name}", *pushed],
            health=lambda: self.health,
            refused=lambda: {("production", "flights", "401"): 3},
            certificates=lambda: {"production": time.time() + 90 * 86_400.0},
            say=self.heard.append,
        )
        self.face = Face(self.services, [Listener(address="127.0.0.1", port=0, **(listener or {}))], folder)
        self.face.start()
        self.port = self.face.ports[0]

    def end(self) -> None:
        self.face.stop()
        self.inbox.close()
        self.store.close()

    def _run_requests(self) -> RunRequests:
        git, blobs = CommandGit(self.folder / "snapshots"), MemoryBlobs()
        environments = UvEnvironments(self.folder / "environments", ())
        lookups = Lookups(self.store, git, blobs, environments, platform="any", program="one")
        self.intake = Intake(self.store, git, blobs, environments, lookups)
        return RunRequests(self.store, self.intake, self.repositories, time.time)

    def make_repository(self) -> None:
        """The git repository of ``small``, with one commit on ``main``."""
        clone = self.folder / "clone"
        git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.folder / "small.git"], check=True)
        subprocess.run(["git", "clone", "-q", self.folder / "small.git", clone], check=True, capture_output=True)
        (clone / "interlock.yaml").write_text(PIPELINE)
        (clone / "train.py").write_text("x = 1\n")
        (clone / "requirements.txt").write_text("")
        subprocess.run([*git, "add", "-A"], cwd=clone, check=True)
        subprocess.run([*git, "commit", "-q", "-m", "Begin"], cwd=clone, check=True)
        subprocess.run([*git, "push", "-q", "origin", "HEAD:main"], cwd=clone, check=True, capture_output=True)

    def token(self, role: Role, name: str = "", repositories: Sequence[str] = (), **more: Any) -> str:
        """The text of a new token."""
        made = self.people.create_token(local_caller("test"), name or f"a {role}", role, repositories, **more)
        return made[1]

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own; ``body`` is sent as JSON unless it is bytes."""
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, content, {**sent, **(headers or {})})
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        finally:
            connection.close()

    def follow(self, path: str, *, token: str, last: str | None = None, patience: float = 30.0) -> Iterator[Sent]:
        """Server-sent events until the server ends the stream, or who asks closes this generator."""
        headers = {"Authorization": f"Bearer {token}"} | ({} if last is None else {"Last-Event-ID": last})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.getheader("Content-Type", "").startswith("text/event-stream")
            fields: dict[str, str] = {}
            while line := response.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    yield Sent(fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"]))
                    fields = {}
        finally:
            connection.close()

    def log_path(self, number: int) -> Path:
        """Where the first attempt of that run's stage prints to."""
        path = self.folder / "logs" / str(number) / "train" / "1.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def begin_attempt(self, number: int) -> None:
        """The first attempt of that run's stage is under way."""
        self._save_attempt(number, 0, RUNNING)

    def end_attempt(self, number: int) -> None:
        """It has ended: all it printed is in its log."""
        self._save_attempt(number, 1, FINISHED)

    def _save_attempt(self, number: int, expected: int, phase: str) -> None:
        write = write_state(
            Kind.ATTEMPT,
            f"{number}/train/1",
            Attempt(owner="a test"),
            expected=expected,
            phase=phase,
            because="a test",
        )
        self.store.save(write)

    def add_run(self, number: int, repository: str = "small", phase: Phase = Phase.RUNNING, ref: str = "main") -> Run:
        """A run as intake would have saved it, with one stage, ``train``."""
        commit = Commit(
            repository=repository,
            git_directory=str(self.folder / f"{repository}.git"),
            ref=f"refs/heads/{ref}",
            sha=f"{number:040x}",
            tree="e" * 40,
            subject=f"Change {number}",
        )
        run = Run(
            number=number,
            commit=commit,
            occasion=Occasion(kind="push", by="ada"),
            plan=Plan(stages=(StagePlan(name="train", kind="stage", command="true"),)),
            plan_digest=Digest("blake3:" + "0" * 64),
            driver="server",
            is_trusted=True,
            phase=phase,
            stages={"train": StageRun(phase=Phase.RUNNING, attempt=1)},
        )
        self.save_run(run, 0)
        return run

    def add_version(self, model: str = "small", number: int = 1, repository: str = "small") -> None:
        """A registered version that may be delivered."""
        some = Digest("blake3:" + "0" * 64)
        version = ModelVersion(
            model=model,
            number=number,
            digest=some,
            lock=some,
            format="skops",
            judgement=Judgement(),
            repository=repository,
            ref="refs/heads/main",
            commit="1" * 40,
            run="1",
            plan=some,
            serving=some,
            signature=some,
            provenance=some,
            is_trusted=True,
            deploy=(EnvironmentPlan(name="production"),),
            made=1.0,
        )
        state = version.model_dump(mode="json")
        self.store.save(
            Write(kind=Kind.VERSION, key=version.key, expected=0, phase="registered", state=state, because="a test")
        )

    def save_run(self, run: Run, expected: int) -> None:
        self.store.save(
            Write(
                kind=Kind.RUN,
                key=run.key,
                expected=expected,
                phase=run.phase,
                state=run.model_dump(mode="json"),
                because=f"it is {run.phase}",
                repository=run.commit.repository,
                ref=run.commit.ref,
            )
        )


def signed(body: bytes, secret: bytes = SECRET, event: str = "push") -> dict[str, str]:
    """The headers of a genuine call of GitHub's."""
    return {
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest(),
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "Content-Type": "application/json",
    }
