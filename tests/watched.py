"""A model in production that is watched: rows, fakes of what serves, and a control plane that may come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.production import NO_DIGEST

from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.scaling import Scaling
from interlock.control.monitoring import monitoring
from interlock.control.monitoring.alerting import Alerting
from interlock.control.rows import load_state, read_state, write_environment, write_state
from interlock.delivery.environment import Environment
from interlock.delivery.monitoring.messages import Message
from interlock.delivery.monitoring.monitor import Monitor
from interlock.delivery.revision import ObservedSeen, Revision
from interlock.edges.blobs import MemoryBlobs
from interlock.edges.notify import MemoryReceivers
from interlock.edges.proxy import FakeProxy
from interlock.edges.serving import FakeReplicas
from interlock.edges.store import MemoryStore
from interlock.gate.judgement import Judgement
from interlock.pipeline.monitoring.plan import DAY, DEFAULT_RULES, MonitoringPlan, MonitorRulePlan, OnBreach
from interlock.pipeline.plan import EnvironmentPlan
from interlock.ports import Store
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Digest, Kind, canonical

WHERE = "small/production"
REFERENCE = {
    "rows": 2000,
    "columns": [
        {"name": "x", "side": "input", "kind": "number", "strange": 0.001, "counts": [0, 0, *[200] * 10]},
        {"name": "prediction", "side": "output", "kind": "number", "strange": 0.001, "counts": [0, 0, 1000, 1000]},
    ],
}


class World:
    """A model in production, with a previous one; ``live`` again after a kill of the control plane.

    ``watching`` is the module that watches.
    """

    def __init__(self, store: Store | None = None, watching: Any = monitoring) -> None:
        self.now = 1000.0
        self.store = store or MemoryStore(lambda: self.now)
        self.blobs = MemoryBlobs()
        self.replicas = FakeReplicas()
        self.proxy = FakeProxy({"production": "127.0.0.1:1"})
        self.receivers = MemoryReceivers("oncall")
        self._watching = watching
        self.sums: dict[str, tuple[int, ...]] = {}
        self.live()

    def live(self) -> None:
        plane = Plane(self.store, self.replicas, self.proxy, Scaling(self.store, lambda: self.now, 2.0, 2.0**33))
        self.monitoring = self._watching.Monitoring(self.store, self.blobs, plane, lambda: self.now)
        self.alerting = Alerting(self.store, self.receivers, lambda: self.now)

    def revision(self, number: int, **more: object) -> Revision:
        digests = {"model_digest": Digest(f"blake3:{number:064x}"), "lock": NO_DIGEST, "provenance": NO_DIGEST}
        about = {"environment": WHERE, "number": number, "version": number, "model": "small", "format": "skops"}
        return Revision.model_validate({**digests, **about, **more})

    def deliver(
        self,
        on_breach: OnBreach = "alert",
        *,
        has_previous: bool = True,
        reference: object = REFERENCE,
        period: float = DAY,
    ) -> None:
        """Version 2 serves; a breach of a missing value has this consequence."""
        others = tuple(rule for rule in DEFAULT_RULES if rule.metric != "missing")
        rules = (*others, MonitorRulePlan(metric="missing", max=0.1, on_breach=on_breach))
        plan = EnvironmentPlan(name="production", monitoring=MonitoringPlan(rules=rules, period=period))
        digest = self.blobs.put_bytes(canonical(reference)) if reference is not None else None  # type: ignore[arg-type]
        digests = dict.fromkeys(("digest", "lock", "plan", "serving", "signature", "provenance"), NO_DIGEST)
        version = ModelVersion(
            model="small",
            number=2,
            format="skops",
            judgement=Judgement(),
            repository="small",
            ref="refs/heads/main",
            commit="a" * 40,
            run="1",
            is_trusted=True,
            made=1.0,
            deploy=(plan,),
            reference=digest,
            **digests,
        )
        stable = self.revision(2, reference=digest)
        previous = self.revision(1) if has_previous else None
        environment = Environment(name="production", model="small", stable=stable, previous=previous, revisions=2)
        self.store.save(
            write_state(Kind.VERSION, version.key, version, expected=0, phase="registered", because="well"),
            write_environment(environment, 0, "well"),
        )
        self.stable = stable

    def look(self, counts: Mapping[str, tuple[int, ...]], times: int = 1) -> bool:
        """So many minutes, in each of which so much comes; whether anything turned."""
        is_turn = False
        for _ in range(times):
            self.now += 60.0
            for column, more in counts.items():
                known = self.sums.get(column, (0,) * len(more))
                self.sums[column] = tuple(a + b for a, b in zip(known, more, strict=True))
            seen = ObservedSeen(epoch="e", rows=1, columns=dict(self.sums))
            self.replicas.asked[WHERE] = {self.stable.replica(0): seen}
            is_turn = self.monitoring.step(WHERE) or is_turn
        return is_turn

    def monitor(self) -> Monitor:
        found, _ = load_state(self.store, Kind.MONITOR, WHERE, Monitor)
        assert found is not None
        return found

    def environment(self) -> Environment:
        found, _ = load_state(self.store, Kind.ENVIRONMENT, WHERE, Environment)
        assert found is not None
        return found

    def messages(self) -> list[Message]:
        return [read_state(row, Message) for row in self.store.rows(Kind.ALERT)]
