"""A real data plane for benchmarks: Envoy, model servers and the part of the control plane that keeps them, and load.

A child process keeps the data plane as the environment's row says, with the server's own parts; the benchmark saves the
row. Requests come at fixed moments whatever became of those before, from a process of their own, over kept-alive
connections.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import uvloop

from interlock.app.parts import PACKAGE
from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.scaling import Scaling
from interlock.control.rows import load_state, write_environment
from interlock.delivery.advance import advance
from interlock.delivery.environment import Environment, enter, follow
from interlock.delivery.revision import DataPlaneSeen, Revision
from interlock.delivery.rollout import RolloutPhase, RolloutSeen, begin
from interlock.edges.blobs import LocalBlobs
from interlock.edges.proxy import EnvoyProxy
from interlock.edges.sandbox import SANDBOXES
from interlock.edges.serving import Installed, LocalReplicas, ensure_supervise, stop_supervise
from interlock.edges.signing import LocalSigning
from interlock.edges.store import SqlStore
from interlock.errors import InterlockError
from interlock.pipeline.plan import EnvironmentPlan, ScalingPlan
from interlock.system.machine import find_cores, find_memory
from interlock.system.sockets import free_port
from interlock.vocabulary import Digest, Json, Kind

KEY = "small/production"
LOCK = Digest("blake3:none")
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 4], "data": [0.1, 0.2, 0.3, 0.4]}]}
).encode()
REQUEST = f"POST /v2/models/small/infer HTTP/1.1\r\nHost: m\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY


class MadeOf(NamedTuple):
    """A model, its format, and how its replicas follow the load."""

    model: Path
    format: str
    scaling: ScalingPlan | None = None
    service_ms: float | None = None


class Answered(NamedTuple):
    """A request that was answered with 200: when it was due (``time.monotonic``), and the seconds it took since."""

    due: float
    seconds: float


def signed(signing: LocalSigning, blobs: LocalBlobs, model: Digest) -> Digest:
    """The signed statement that a replica's start looks for: which model it is, and which lock."""
    subject: Json = [{"digest": {"blake3": model.removeprefix("blake3:")}}]
    predicate: Json = {"buildDefinition": {"internalParameters": {"lock": LOCK}}}
    return blobs.put_bytes(signing.attest({"subject": subject, "predicate": predicate}))


class Site:
    """A data-plane folder with one environment, and what one does to it. ``made_of`` is what its revisions serve."""

    def __init__(self, folder: Path, made_of: MadeOf) -> None:
        self.folder = folder
        self.made_of = made_of
        self.data = folder / "data"
        self.data.mkdir()
        self.store = SqlStore(f"sqlite:///{folder / 'rows.db'}")
        self.blobs = LocalBlobs(folder / "artifacts")
        self.proxy = EnvoyProxy(self.data, {"production": f"127.0.0.1:{free_port()}"})
        self.signing = LocalSigning(folder / "keys")
        self.bring(made_of.model)
        self.number = 0
        self.keeper: multiprocessing.process.BaseProcess | None = None

    def begin(self) -> None:
        """The first revision serves."""
        ensure_supervise(self.data)
        self.proxy.start()
        first = self.revision()
        environment = Environment(name="production", model="small", stable=first, weights={first.key: 100}, revisions=1)
        self.store.save(write_environment(environment, 0, "begun"))
        self.keeper = self.start_keeper()
        self.wait(lambda seen: self.is_served(seen, first), "the first revision serves")

    def bring(self, model: Path) -> None:
        """The next revisions serve this model."""
        self.digest = self.blobs.put(str(model))
        self.statement = signed(self.signing, self.blobs, self.digest)

    def revision(self) -> Revision:
        """The next one."""
        self.number += 1
        return Revision(
            environment=KEY,
            number=self.number,
            version=self.number,
            model="small",
            model_digest=self.digest,
            lock=LOCK,
            provenance=self.statement,
            format=self.made_of.format,
            replicas=2,
            scaling=self.made_of.scaling,
            service_ms=self.made_of.service_ms,
        )

    def start_keeper(self) -> multiprocessing.process.BaseProcess:
        """The control plane's part that keeps the world as the row says."""
        process = multiprocessing.get_context("fork").Process(target=self._keep, daemon=True)
        process.start()
        return process

    def plane(self, store: SqlStore) -> Plane:
        """The server's own part that looks at the world and changes it."""
        sandbox = SANDBOXES["namespace"]()
        installed, key = Installed(sys.prefix, None), self.signing.public_key()
        inference = PACKAGE / "inference"
        replicas = LocalReplicas(self.data, sandbox, self._place, lambda _revision: installed, inference, key)
        return Plane(store, replicas, self.proxy, Scaling(store, time.monotonic, find_cores(), find_memory()))

    def _keep(self) -> None:
        plane = self.plane(SqlStore(f"sqlite:///{self.folder / 'rows.db'}"))
        while True:
            try:
                plane.keep(KEY)
            except InterlockError as fault:
                sys.stderr.write(f"{fault}\n")
            time.sleep(0.1)

    def _place(self, digest: Digest, target: Path) -> None:
        self.blobs.materialise(digest, str(target))

    def change(self, **fields: object) -> None:
        """Saves the environment with other fields."""
        self.save(self.environment.model_copy(update=fields))

    def save(self, environment: Environment) -> None:
        """The environment is like this now."""
        _, version = load_state(self.store, Kind.ENVIRONMENT, KEY, Environment)
        self.store.save(write_environment(environment, version, "a change"))

    @property
    def environment(self) -> Environment:
        """As its row says."""
        environment, _ = load_state(self.store, Kind.ENVIRONMENT, KEY, Environment)
        assert environment is not None
        return environment

    def roll_out(self, candidate: Revision, seconds: float = 120.0) -> list[DataPlaneSeen]:
        """Moves the environment to it by the rules of rollouts, all at once or as its surge says, once stable is alone;
        what was seen on the way.
        """
        stable, plan = self.environment.stable, EnvironmentPlan(name="production")
        assert stable is not None
        plane, looks = self.plane(self.store), list[DataPlaneSeen]()
        until = time.monotonic() + seconds
        while any(name.rpartition(".")[0] != stable.key for name in plane.observe(KEY).replicas):
            if time.monotonic() > until:
                raise SystemExit(f"not within {seconds:g} s: what served before has left")
            time.sleep(0.05)
        rollout = begin(candidate.number, candidate, stable, plan, release=1, now=time.time(), replicas=stable.replicas)
        self.save(enter(self.environment, rollout))
        until = time.monotonic() + seconds
        while self.environment.rollout is not None or set(self.proxy.observe(KEY).endpoints) != {candidate.key}:
            looks.append(plane.observe(KEY))
            rollout = advance(rollout, RolloutSeen(plane=looks[-1]), time.time()).state
            followed = follow(self.environment, rollout)
            if followed != self.environment:
                self.save(followed)
            if time.monotonic() > until:
                raise SystemExit(f"not within {seconds:g} s: {rollout.because}")
            time.sleep(0.05)
        if rollout.phase is not RolloutPhase.PROMOTED:
            raise SystemExit(f"{rollout.phase}: {rollout.because}")
        return looks

    def wait(self, holds: Callable[[DataPlaneSeen], bool], what: str, seconds: float = 90.0) -> None:
        """Until the proxy shows it."""
        until = time.monotonic() + seconds
        while not holds(self.proxy.observe(KEY)):
            if time.monotonic() > until:
                raise SystemExit(f"not within {seconds:g} s: {what}")
            time.sleep(0.05)

    def is_served(self, seen: DataPlaneSeen, revision: Revision) -> bool:
        """Whether all its replicas are healthy in the proxy's eyes, and it has weight."""
        return self.is_healthy(seen, revision) and seen.weights.get(revision.key, 0) > 0

    def is_healthy(self, seen: DataPlaneSeen, revision: Revision) -> bool:
        """Whether all its replicas are, in the proxy's eyes."""
        endpoints = seen.endpoints.get(revision.key, {})
        names = [revision.replica(index) for index in range(revision.replicas)]
        return all(name in endpoints and endpoints[name].is_healthy for name in names)

    def pid(self, name: str) -> int:
        """The process group of a replica or of Envoy."""
        return int(self.status(name)["pid"])

    def status(self, name: str) -> dict[str, Any]:
        """What supervise says of a process."""
        status: dict[str, Any] = json.loads((self.data / "status" / f"{name}.json").read_bytes())
        return status

    def kill_keeper(self) -> None:
        """At once, whatever it does just now."""
        if self.keeper is not None:
            self.keeper.kill()
            self.keeper.join()

    def close(self) -> None:
        """Ends everything."""
        self.kill_keeper()
        stop_supervise(self.data)
        self.store.close()


class Load:
    """A process that asks at fixed moments, ``rate`` of the seconds since its begin times in a second."""

    def __init__(self, address: str, rate: Callable[[float], float]) -> None:
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=lambda: uvloop.run(_ask_on(address, rate, theirs)), daemon=True)
        self._process.start()

    def end(self) -> tuple[list[Answered], list[str]]:
        """Stops asking; what was answered, and what failed."""
        self._ours.send(None)
        answered, failed = self._ours.recv()
        self._process.join()
        return answered, failed


class _Connection(asyncio.Protocol):
    """Asks one request at a time; ``idle`` holds those that wait for the next one."""

    def __init__(self, idle: list[_Connection], answered: list[Answered], failed: list[str]) -> None:
        self._idle, self._answered, self._failed = idle, answered, failed
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._due: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, due: float) -> None:
        """The request that was due then."""
        self._due = due
        self._late = self._loop.call_later(20.0, self._give_up)
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        fields = head.lower()
        if len(body) < int(fields.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]):
            return
        if head.startswith(b"HTTP/1.1 200"):
            assert self._due is not None
            self._answered.append(Answered(self._due, time.monotonic() - self._due))
        else:
            self._failed.append(f"{head[:20]!r} {body[:200]!r}")
        self._received, self._due = b"", None
        self._late.cancel()
        if b"connection: close" in fields:
            self._transport.close()
        else:
            self._idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        if self._due is not None:
            self._fail(f"the connection was lost: {exc!r}")

    def _give_up(self) -> None:
        self._fail("no answer within 20 s")
        self._transport.abort()

    def _fail(self, problem: str) -> None:
        self._failed.append(problem)
        self._due = None
        self._late.cancel()

    @property
    def is_asking(self) -> bool:
        """Whether a request is under way."""
        return self._due is not None


async def _ask_on(address: str, rate: Callable[[float], float], pipe: Any) -> None:
    host, port = address.removeprefix("http://").split(":")
    idle: list[_Connection] = []
    answered: list[Answered] = []
    failed: list[str] = []
    loop = asyncio.get_running_loop()
    connections: set[_Connection] = set()

    async def connect(due: float) -> None:
        try:
            made = await loop.create_connection(lambda: _Connection(idle, answered, failed), host, int(port))
        except OSError as problem:
            failed.append(repr(problem))
            return
        connections.add(made[1])
        made[1].ask(due)

    tasks: set[asyncio.Task[None]] = set()
    began = due = time.monotonic()  # the loop's own clock counts in milliseconds
    while not pipe.poll():
        due += 1.0 / rate(due - began)
        if (early := due - time.monotonic()) > 0.0:
            await asyncio.sleep(early)
        if idle:
            idle.pop().ask(due)
        else:
            task = loop.create_task(connect(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    while any(one.is_asking for one in connections):
        await asyncio.sleep(0.01)
    pipe.send((answered, failed))


def percentile(latencies: list[float], share: float) -> float:
    """Milliseconds."""
    return sorted(latencies)[int(share * (len(latencies) - 1))] * 1000.0
