"""Rollouts for real, quickly: a database, Envoy, supervise and light replicas, and control planes that can be broken at
every call that changes a file.

A control plane is forked from a process that has imported all of it (tests.warm_server), and does of the loop what
delivers, by a clock ten times as fast as ours. Replicas are kept by the real edge; in the place of the sandboxed
model server stands one that answers at once, except where a test gives a model to serve.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.calls import Calls
from tests.plant import ADA, Plant
from tests.unix_server import SERVE

from interlock.control.rows import load_state
from interlock.delivery.environment import Environment
from interlock.edges.proxy.envoy import EnvoyProxy
from interlock.edges.sandbox import BubblewrapSandbox
from interlock.edges.serving.admitted import Installed
from interlock.edges.serving.local import LocalReplicas
from interlock.edges.serving.supervising import ensure_supervise, stop_supervise
from interlock.edges.store import SqlStore
from interlock.errors import InterlockError
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan
from interlock.ports import Isolation
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Kind, Row

ROOT = Path(__file__).parents[1]
PACE = 10.0
"""Seconds of a rollout's clock in one of ours."""
PRODUCTION = "small/production"
STEPS = (
    StepPlan(set_weight=1),
    StepPlan(set_weight=20),
    StepPlan(analysis=3.0),
    StepPlan(set_weight=50),
    StepPlan(pause=2.0),
)
RULE = AnalysisMetricPlan(metric="error_rate", margin=0.2, max=0.3)
CANARY = StrategyPlan(
    kind="canary", steps=STEPS, deadline=600.0, analysis=AnalysisPlan(metrics=(RULE,)), probation=3.0, holdback=10
)
DEPLOY = (EnvironmentPlan(name="production", strategy=CANARY, replicas=1),)
AGREEMENT_SECONDS = 10.0
FINAL = ("promoted", "rolled_back", "superseded", "cancelled")

REPLICA = (
    """
import http.server, itertools, json, socketserver, sys
revision, address, is_bad = sys.argv[1], sys.argv[2], len(sys.argv) > 3
asked = itertools.count()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps({"parameters": {"revision": revision}}).encode()
        self.send_response(500 if is_bad and self.command == "POST" and next(asked) % 2 else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer"""
    + SERVE
)


class LightSandbox:
    """In the place of a sandboxed model server: a program that answers with its revision. Every other version is bad
    whose folder says so.
    """

    level = "none"
    is_namespace = False

    def __init__(self, folder: Path) -> None:
        self._program = folder / "replica.py"
        self._bad = folder / "bad"

    def command(self, isolation: Isolation, _cpu: float | None) -> list[str]:
        words = list(isolation.argv)
        named = {name: words[words.index(f"--{name}") + 1] for name in ("revision", "socket", "version")}
        is_bad = (self._bad / named["version"]).exists()
        program = [sys.executable, "-S", "-E", str(self._program), named["revision"], named["socket"]]
        return [*program, *(["bad"] if is_bad else [])]

    def cell(self, bounds: Any, *, network: bool) -> Any:
        raise AssertionError

    def start(self, isolation: Isolation) -> Any:
        raise AssertionError


class Parts:
    """The edges over one state folder, as each process of it makes them."""

    def __init__(self, state: Path) -> None:
        ports = json.loads((state / "ports.json").read_text())
        self.plant = Plant(state / "plant", lambda: time.time() * PACE)
        self.store = SqlStore(f"sqlite:///{state / 'interlock.db'}")
        self.proxy = EnvoyProxy(state / "data", {"production": f"127.0.0.1:{ports['production']}"}, labels=None)
        python = Installed(str(Path(sys.executable).parents[1]), None)
        program = state / "program"
        self.replicas = LocalReplicas(
            state / "data",
            LightSandbox(state) if program.exists() else BubblewrapSandbox(),
            lambda digest, path: self.plant.blobs.materialise(digest, str(path)),
            lambda _: python,
            program if program.exists() else ROOT / "src" / "interlock" / "inference",
            self.plant.signing.public_key(),
        )
        self.loop, self.requests = self.plant.begin(self.store, self.proxy, self.replicas)


def deliver(state: Path) -> int:
    """A control plane of deliveries, until it is ended."""
    parts = Parts(state)
    parts.proxy.start()
    print("ready", flush=True)
    while True:
        parts.loop.one_pass()
        while parts.plant.faults:
            print(parts.plant.faults.pop(0), flush=True)
        time.sleep(0.02)


class Life:
    """One control plane; ``calls`` are the changes that it makes."""

    def __init__(self, pid: int, listener: int, state: Path) -> None:
        self.pid, self._state = pid, state
        self._descriptor = os.pidfd_open(pid)
        self.calls = Calls(listener, self._is_ours, is_terse=True)

    def _is_ours(self, path: str) -> bool:
        """Opening a lock changes nothing, nor does making a folder that is there."""
        is_here = path.startswith(f"{self._state}/")
        return is_here and not path.endswith("lock") and not Path(path).is_dir()

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def is_over(self) -> bool:
        return bool(select.select([self._descriptor], [], [], 0)[0])

    def end(self) -> None:
        """Nothing of it is left."""
        self.send(signal.SIGKILL)
        select.select([self._descriptor], [], [], 30)
        os.close(self._descriptor)
        self.calls.close()


class RolloutLives:
    """One state folder, a model in production with traffic, and control planes for it.

    ``model`` is the Python class that two real model servers serve; without it a light one stands in their place.
    """

    def __init__(self, folder: Path, port: int, model: str | None = None) -> None:
        self.state = folder / "state"
        self._model = model
        for name in ("data", "bad"):
            (self.state / name).mkdir(parents=True)
        if model is None:
            (self.state / "program").mkdir()
            (self.state / "program" / "nothing.py").write_text("")
            (self.state / "replica.py").write_text(REPLICA)
        (self.state / "ports.json").write_text(json.dumps({"production": port}))
        self.parts = Parts(self.state)
        self.log_file = folder / "log"
        self.log_file.touch()
        self.number = 0
        self.good: ModelVersion
        """The version in production, where a test needs to know it."""
        self.slowest = 0.0
        """Seconds until rows and proxy agreed, the most of all."""
        self._warm: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._lives: list[Life] = []
        ensure_supervise(self.state / "data")  # by nobody who is watched: it outlives those who answer its calls

    @property
    def url(self) -> str:
        return f"{self.parts.proxy.endpoint(PRODUCTION)}/v2/models/small/infer"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def begin(self) -> Life:
        """One more control plane, which is ready when this returns."""
        self._warm = self._warm or self._warm_up()
        _, channel = self._warm
        before, deadline = len(self.log), time.monotonic() + 60
        life = {"state": str(self.state), "log": str(self.log_file), "variant": "right"}
        channel.send(json.dumps({**life, "is_watched": True, "delivers": True}).encode())
        told, listeners, _, _ = socket.recv_fds(channel, 100, 1)
        self._lives.append(Life(int(told), listeners[0], self.state))
        while "ready" not in self.log[before:]:
            assert time.monotonic() < deadline, self.log[before:]
            time.sleep(0.002)
        return self._lives[-1]

    def _warm_up(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel.settimeout(60)
        command = [sys.executable, "-m", "tests.warm_server", str(theirs.fileno())]
        warm = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
        theirs.close()
        return warm, channel

    def deliver_here(self, release: str) -> None:
        """No other process is a control plane: this one is until the release is over."""
        self.parts.proxy.start()
        while not self.is_over(release):
            self.parts.loop.one_pass()
            time.sleep(0.05)

    def end(self, life: Life) -> None:
        self._lives.remove(life)
        life.end()

    def end_all(self) -> None:
        """No control plane is left."""
        for life in list(self._lives):
            self.end(life)

    def close(self) -> None:
        self.end_all()
        if self._warm is not None:
            warm, channel = self._warm
            channel.close()
            warm.wait(60)
        self.parts.store.close()
        stop_supervise(self.state / "data")

    def release(self, *, is_bad: bool = False) -> str:
        """The next version is asked for; the release's key."""
        version = self.next_version()
        if is_bad:
            (self.state / "bad" / str(version.number)).touch()
        self.parts.plant.write_version(version, 0, self.parts.store)
        return self.ask_for(version)

    def next_version(self) -> ModelVersion:
        """One more, which nobody has stored yet."""
        self.number += 1
        if self._model is None:
            return self.parts.plant.made(self.number, deploy=DEPLOY)
        files = {"model.py": f"{self._model}\n# {self.number}\n".encode()}
        deploy = (DEPLOY[0].model_copy(update={"replicas": 2}),)
        return self.parts.plant.made(self.number, files=files, format="python", deploy=deploy)

    def ask_for(self, version: ModelVersion) -> str:
        """A person's release; its key."""
        return self.parts.requests.start_release(ADA, version.key, "a test asked").key

    # --- what is so ---

    def environment(self) -> Environment | None:
        found, _ = load_state(self.parts.store, Kind.ENVIRONMENT, PRODUCTION, Environment)
        return found

    def disagreement(self) -> str | None:
        """How rows and proxy differ; None where they do not. What must never be is an error at once."""
        environment, seen = self.environment(), self.parts.proxy.observe(PRODUCTION)
        told = {key: share for key, share in seen.weights.items() if share}
        wanted = environment.weights if environment else {}
        for where, shares in (("the proxy", told), ("the row", wanted)):
            assert sum(shares.values()) in (0, 100), f"{where} says {shares}"
        if environment is not None and environment.stable is not None:
            assert sum(told.values()) == sum(wanted.values()) == 100, (told, wanted)
        return seen.problem or (None if told == wanted else f"the proxy says {told}, the row {wanted}")

    def settle(self, release: str, seconds: float = 60.0) -> str:
        """The phase in which the release ends, once rows and proxy agree; they have to soon, and at the end again."""
        began = time.monotonic()
        agreed: float | None = None
        while True:
            waited = time.monotonic() - began
            disagreement = self.disagreement()
            if disagreement is None and agreed is None:
                agreed = waited
            assert agreed is not None or waited < AGREEMENT_SECONDS, f"not within {waited:.0f} s: {disagreement}"
            if disagreement is None and self.is_over(release):
                self.slowest = max(self.slowest, agreed or 0.0)
                self.assert_one_end_each()
                return self._row(release).phase
            assert waited < seconds, f"{self._row(release)}\n{self.log[-2000:]}"
            time.sleep(0.05)

    def is_over(self, release: str) -> bool:
        """Whether the release has ended, and no rollout is under way."""
        is_ended = self._row(release).phase in ("done", "stopped")
        return is_ended and not self.parts.store.rows(Kind.ROLLOUT, phases=("progressing",))

    def _row(self, release: str) -> Row:
        row = self.parts.store.load(Kind.RELEASE, release)
        assert row is not None
        return row

    def assert_one_end_each(self) -> None:
        """No rollout ended in two ways, or twice."""
        ends: dict[str, list[str]] = defaultdict(list)
        for event in self.parts.store.events(Kind.ROLLOUT):
            if event.phase in FINAL:
                ends[event.key].append(event.phase)
        assert all(len(phases) == 1 for phases in ends.values()), dict(ends)

    def is_of_a_bad_one(self, answer: str) -> bool:
        """Whether a bad version gave this answer."""
        revision = json.loads(answer)["parameters"]["revision"]
        rollouts = [row.state["candidate"] for row in self.parts.store.rows(Kind.ROLLOUT)]
        versions = [one["version"] for one in rollouts if revision == f"small.production.r{one['number']}"]
        return any((self.state / "bad" / str(version)).exists() for version in versions)

    def roll_back(self) -> bool:
        """A person asks for the way back; whether there was one."""
        try:
            self.parts.requests.roll_back(ADA, PRODUCTION, "I do not like it")
        except InterlockError:
            return False
        return True

    def unfreeze(self) -> None:
        with suppress(InterlockError):
            self.parts.requests.unfreeze(ADA, PRODUCTION, "over")
