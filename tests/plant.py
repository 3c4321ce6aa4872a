"""A control plane that delivers: real rows, bytes and signatures, over a data plane and a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from interlock.access.caller import Caller, Role
from interlock.control import loop
from interlock.control.delivering import dataplane, deliveries, requests
from interlock.control.delivering.measuring import measure_nothing
from interlock.control.delivering.requests import Requests
from interlock.control.delivering.scaling import Scaling
from interlock.control.loop import Loop
from interlock.control.rows import load_state, write_state
from interlock.control.running.attempts import Attempts
from interlock.control.running.lookups import Lookups
from interlock.control.running.runs import SERVER, Runs
from interlock.control.running.sealing import Sealing
from interlock.delivery.environment import Environment
from interlock.delivery.release import Release
from interlock.edges.blobs import LocalBlobs
from interlock.edges.executor import FakeExecutor
from interlock.edges.git import CommandGit
from interlock.edges.proxy import FakeProxy
from interlock.edges.serving import FakeReplicas
from interlock.edges.signing import LocalSigning
from interlock.edges.store import MemoryStore
from interlock.errors import StoreFault
from interlock.gate.judgement import Judgement
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan, PythonPlan
from interlock.ports import Proxy, Replicas, Store
from interlock.registry.attestation import attest_provenance, attest_summary
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Digest, Kind, Row, Verdict, Write

STEPS = (StepPlan(set_weight=20), StepPlan(analysis=5.0))
ANALYSIS = AnalysisPlan(metrics=(AnalysisMetricPlan(metric="error_rate", margin=0.05, max=0.1),))
CANARY = StrategyPlan(kind="canary", steps=STEPS, deadline=60.0, analysis=ANALYSIS)
DEPLOY = (
    EnvironmentPlan(name="staging", replicas=1),
    EnvironmentPlan(name="production", requires=("staging",), strategy=CANARY),
)


ADA = Caller(name="ada", role=Role.ADMIN)


BUILDER = "test"


class NoEnvironments:
    """No environment is asked for here."""

    def lock_files(self, python: PythonPlan, read: Callable[[Sequence[str]], Mapping[str, bytes]]) -> dict[str, bytes]:
        raise AssertionError

    def version(self, python: PythonPlan) -> str:
        return "3.12.0"

    def identify(self, python: PythonPlan, files: Mapping[str, bytes], purpose: str) -> str:
        raise AssertionError

    def ensure(self, python: PythonPlan, files: Mapping[str, bytes], purpose: str, say: Callable[[str], None]) -> str:
        raise AssertionError

    def check(self, python: PythonPlan, files: Mapping[str, bytes]) -> None:
        raise AssertionError


class Rules(NamedTuple):
    """The modules that deliver: a test of the tests puts others in their place."""

    loop: Any = loop
    deliveries: Any = deliveries
    dataplane: Any = dataplane
    requests: Any = requests


class Plant:
    """Registered versions with real bytes and real signatures; the data plane and the clock are a test's own."""

    def __init__(self, folder: Path, clock: Callable[[], float] | None = None) -> None:
        self.now = 1000.0
        self._clock = clock or (lambda: self.now)
        self.folder = folder
        self.store = RivalStore(lambda: self.now)
        self.blobs = LocalBlobs(folder / "artifacts")
        self.signing = LocalSigning(folder / "keys")
        self.proxy = FakeProxy({"staging": "127.0.0.1:1", "production": "127.0.0.1:2"})
        self.replicas = FakeReplicas()
        self.faults: list[str] = []
        self.measure: Callable[[Any], dict[str, Any]] = measure_nothing
        git = CommandGit(folder / "snapshots")
        lookups = Lookups(self.store, git, self.blobs, NoEnvironments(), platform="p", program="q")
        self.sealing = Sealing(self.store, self.blobs, self.signing, lookups, BUILDER)
        self._lookups = lookups
        self.registered: list[ModelVersion] = []
        self.loop, self.requests = self.begin(self.store, self.proxy, self.replicas)

    def begin(
        self, store: Store, proxy: Proxy, replicas: Replicas, rules: Rules | None = None
    ) -> tuple[Loop, Requests]:
        """A control plane that has just begun, over these parts, and what a person asks it with."""
        rules = rules or Rules()
        attempts = Attempts(store, FakeExecutor(), self.blobs, "life 1", lambda: None)
        runs = Runs(store, self.blobs, attempts, self._lookups, self.sealing, self._clock)
        plane = rules.dataplane.Plane(store, replicas, proxy, Scaling(store, self._clock, 2.0, 2.0**33))
        delivering = rules.deliveries.Deliveries(store, attempts, self.sealing, plane, self._clock, self._measured)
        begun = rules.loop.Loop(store, runs, delivering, plane, SERVER, self.faults.append, self._make_room)
        return begun, rules.requests.Requests(store, self._clock)

    def _measured(self, rollout: Any) -> dict[str, Any]:
        return self.measure(rollout)

    def _make_room(self) -> bool:
        has_room, self.store.is_full = self.store.is_full, False
        return has_room

    def register(self, number: int, model: str = "small", **other: Any) -> ModelVersion:
        """A version in the store."""
        version = self.made(number, model, **other)
        self.write_version(version, 0)
        return version

    def made(
        self, number: int, model: str = "small", files: Mapping[str, bytes] | None = None, **other: Any
    ) -> ModelVersion:
        """A version whose bytes, signature and provenance are there."""
        digest = self.blobs.put_files(files or {"model.skops": f"{model} {number}".encode() * 100})
        folder = self.folder / f"{model}-{number}"
        self.blobs.materialise(digest, str(folder))
        version = ModelVersion(
            model=model,
            number=number,
            digest=digest,
            lock=self.blobs.put_files({"requirements.txt": b""}),
            format="skops",
            judgement=Judgement(),
            repository=model,
            ref="refs/heads/main",
            commit="a" * 40,
            run=str(number),
            plan=Digest("p"),
            serving=Digest(f"s{number}"),
            signature=self.blobs.put_bytes(self.signing.sign(str(folder))),
            provenance=Digest(""),
            is_trusted=True,
            deploy=DEPLOY,
            made=self._clock(),
        )
        return self.attest(version.model_copy(update=other)).model_copy(update=other)

    def attest(
        self, version: ModelVersion, standing: Verdict = Verdict.PASS, signing: LocalSigning | None = None
    ) -> ModelVersion:
        """The version with provenance and summary of what it says now, by our key or another one."""
        key = signing or self.signing
        made = attest_provenance(version.claim, BUILDER, "", self._clock(), {"lock": version.lock}, ())
        provenance = self.blobs.put_bytes(key.attest(made))
        summary = self.blobs.put_bytes(key.attest(attest_summary(version.claim, standing, provenance, self._clock())))
        return version.model_copy(update={"provenance": provenance, "summary": summary})

    def write_version(self, version: ModelVersion, expected: int, store: Store | None = None) -> None:
        write = write_state(Kind.VERSION, version.key, version, expected=expected, phase="registered", because="test")
        (store or self.store).save(write)

    def release(self, number: int, model: str = "small") -> Release:
        return self.requests.start_release(ADA, f"{model}/{number}", "a test asked")

    def deliver(self, number: int) -> None:
        self.release(number)
        self.turn(40)
        assert self.environment("production").stable.version == number

    def turn(self, seconds: int = 1, rate: int = 50, candidate_errors: float = 0.0, model: str = "small") -> None:
        for _ in range(seconds):
            self.now += 1.0
            for name in ("staging", "production"):
                environment, _ = load_state(self.store, Kind.ENVIRONMENT, f"{model}/{name}", Environment)
                for key, weight in self.proxy.observe(f"{model}/{name}").weights.items():
                    is_candidate = environment is not None and environment.candidate is not None
                    is_candidate = is_candidate and environment.candidate.key == key
                    requests = rate * weight // 100
                    self.proxy.count(key, requests, round(requests * candidate_errors) if is_candidate else 0)
            self.loop.one_pass()

    def environment(self, name: str, model: str = "small") -> Any:
        found, _ = load_state(self.store, Kind.ENVIRONMENT, f"{model}/{name}", Environment)
        assert found is not None
        return found

    def phases(self, kind: Kind) -> list[str]:
        return [row.phase for row in self.store.rows(kind)]

    def last(self, kind: Kind) -> Row:
        return self.store.rows(kind)[-1]

    def place(self, digest: Digest) -> Path:
        digits = digest.removeprefix("blake3:")
        return self.folder / "artifacts" / "files" / digits[:2] / digits[2:]


class RivalStore(MemoryStore):
    """Somebody else saves a row of this kind once, between another's look and its save; and the disk may be full."""

    rival_of: Kind | None = None
    is_full = False

    def save(self, *writes: Write, **more: Any) -> tuple[Row, ...]:
        if self.is_full:
            raise StoreFault("database or disk is full")
        return super().save(*writes, **more)

    def load(self, kind: Kind, key: str) -> Row | None:
        row = super().load(kind, key)
        if row is not None and kind is self.rival_of:
            self.rival_of = None
            self.save(
                Write(kind=kind, key=key, expected=row.version, phase=row.phase, state=row.state, because="a rival")
            )
        return row
