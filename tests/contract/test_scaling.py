"""An environment follows its load, with a store, replicas and a proxy that a test can see into."""

from __future__ import annotations

import pytest
from tests.revisions import scaled_revision

from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.scaling import Scaling
from interlock.control.rows import load_state, write_environment
from interlock.delivery.environment import Environment
from interlock.delivery.revision import LoadSeen, ReplicaSeen, Revision
from interlock.edges.proxy import FakeProxy
from interlock.edges.serving import FakeReplicas
from interlock.edges.store import MemoryStore
from interlock.pipeline.plan import ScalingPlan
from interlock.vocabulary import Kind

KEY = "flights/production"
REVISION = scaled_revision(ScalingPlan(most=8, latency_ms=100.0), 20.0)


class Site:
    """One environment, whose load a test makes second by second."""

    def __init__(self, revision: Revision = REVISION, cores: float = 4.0, memory: float = 2.0**33) -> None:
        self.now = 1000.0
        self.store = MemoryStore(lambda: self.now)
        self.proxy = FakeProxy({"production": "127.0.0.1:1"})
        self.replicas = FakeReplicas()
        self.scaling = Scaling(self.store, lambda: self.now, cores, memory)
        self.plane = Plane(self.store, self.replicas, self.proxy, self.scaling)
        self.key = revision.key
        self.answered = 0
        environment = Environment(name="production", model="flights", stable=revision, weights={self.key: 100})
        self.store.save(write_environment(environment, 0, "begun"))

    def go(self, seconds: int, rate: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.answered += rate
            seconds_taken = self.answered * 0.02
            self.proxy.loads = {self.key: LoadSeen(epoch="1", answered=self.answered, active=0, seconds=seconds_taken)}
            self.plane.keep(KEY)

    def environment(self) -> Environment:
        found, _ = load_state(self.store, Kind.ENVIRONMENT, KEY, Environment)
        assert found is not None
        return found

    def counts(self) -> tuple[int, int]:
        return len(self.replicas.observe(KEY)), len(self.proxy.observe(KEY).endpoints[self.key])


def test_replicas_come_with_the_load_and_go_with_it_and_the_row_says_why() -> None:
    site = Site()
    site.go(5, 10)
    assert site.counts() == (2, 2)
    site.go(3, 200)
    most = site.environment().replicas
    assert most is not None
    assert most > 4
    assert site.counts() == (most, most)
    assert site.environment().replicas_because.startswith("2 -> ")
    site.go(170, 10)
    assert site.counts() == (most, most)
    site.go(30, 10)
    assert site.environment().replicas == 2
    assert site.counts() == (2, 2)
    told = [event.because for event in site.store.events(Kind.ENVIRONMENT, KEY)]
    assert any("200 requests/s came at once" in one for one in told)


def test_a_save_is_made_only_when_the_number_changes() -> None:
    site = Site()
    site.go(60, 50)
    row = site.store.load(Kind.ENVIRONMENT, KEY)
    assert row is not None
    assert row.version == 1


@pytest.mark.parametrize(
    ("revision", "cores", "most"),
    [
        (REVISION, 0.75, 3),
        (REVISION.model_copy(update={"cpu": 0.5}), 1.5, 3),
        (REVISION.model_copy(update={"memory": 2**31}), 4.0, 3),
        (REVISION.model_copy(update={"memory_mb": 2048.0}), 4.0, 3),
    ],
)
def test_the_machine_bounds_it_by_cores_and_by_memory(revision: Revision, cores: float, most: int) -> None:
    site = Site(revision, cores)
    site.go(10, 380)
    assert site.environment().replicas == most
    assert f"the machine holds {most}" in site.environment().replicas_because


def test_nothing_scales_that_has_no_bounds_or_no_proxy_to_look_at() -> None:
    site = Site(REVISION.model_copy(update={"scaling": None}))
    site.go(10, 380)
    assert site.environment().replicas is None
    site = Site()
    site.proxy.problem = "no answer"
    site.go(10, 380)
    assert site.environment().replicas is None


def test_a_crash_loop_of_what_serves_is_told_once_and_its_end_too() -> None:
    site = Site()
    site.go(3, 10)
    for restarts in (3, 4, 5):
        site.replicas.set_seen(
            REVISION.replica(1), ReplicaSeen(is_running=False, is_ready=False, restarts=restarts, problem="no memory")
        )
        site.go(2, 10)
    told = f"1 of 2 replicas cannot live: {REVISION.replica(1)} was started 4 times: no memory"
    assert site.environment().trouble == told
    site.replicas.set_seen(REVISION.replica(1), ReplicaSeen(is_running=True, is_ready=True, restarts=5))
    site.go(2, 10)
    assert site.environment().trouble == ""
    events = [event.because for event in site.store.events(Kind.ENVIRONMENT, KEY)]
    assert events[1:] == [told, "all replicas live again"]


def test_who_loses_the_row_to_somebody_else_follows_at_the_next_look() -> None:
    site = Site()
    site.go(5, 10)
    stale, version = site.environment(), 1
    site.store.save(write_environment(stale, version, "a rival"))
    seen = site.plane.observe(KEY)
    site.now += 1.0
    loads = {site.key: seen.loads[site.key].model_copy(update={"answered": site.answered + 200})}
    assert site.scaling.follow(stale, version, seen.model_copy(update={"loads": loads})) == (stale, version)
    site.go(2, 200)
    assert site.environment().replicas is not None
