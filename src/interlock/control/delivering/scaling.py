"""Follows the load of each environment with its number of replicas."""

from __future__ import annotations

from collections.abc import Callable

from interlock.control.rows import read_state, save_or_lose, write_environment
from interlock.delivery.environment import Environment, desired, scaled
from interlock.delivery.looks.baseline import Baseline
from interlock.delivery.looks.baseline import remember as remember_baseline
from interlock.delivery.revision import DataPlaneSeen, Revision
from interlock.delivery.scaling import History, Scope, remember, size, total
from interlock.ports import Store
from interlock.vocabulary import Kind

TICK_SECONDS = 1.0
"""Least time between two looks at the load."""
PER_CORE = 4
"""Replicas that a core may hold: those that wait for something else need none of its time."""
MEMORY_SHARE = 0.8
"""How much of the machine's memory replicas may take."""


class Scaling:
    """Remembers the load of the last minutes, by environment; ``now`` is monotonic. It begins anew with each server.

    While no rollout is under way, what is seen of the stable revision is the baseline of the next one.

    ``cores`` and ``memory`` (bytes) are those of the machine.
    """

    def __init__(self, store: Store, now: Callable[[], float], cores: float, memory: float) -> None:
        self._store = store
        self._now = now
        self._cores = cores
        self._memory = memory
        self._histories: dict[str, History] = {}
        self._baselines: dict[str, Baseline] = {}

    def baseline(self, environment: str) -> Baseline:
        """What is known of the stable revision of ``model/environment``."""
        return self._baselines.get(environment, Baseline())

    def follow(self, environment: Environment, version: int, seen: DataPlaneSeen) -> tuple[Environment, int]:
        """The environment with as many replicas as its load needs, saved where that is another number than before.

        It comes back as it was where nothing scales, the proxy cannot be read, or somebody else saved it first.
        """
        if environment.stable is not None and environment.rollout is None:
            before = self.baseline(environment.key)
            self._baselines[environment.key] = remember_baseline(before, environment.stable, seen, self._now())
        revision = environment.stable or environment.candidate
        load = total(seen.loads.values())
        if environment.counts:  # they are being replaced, as many as there were
            return environment, version
        if revision is None or revision.scaling is None or load is None or seen.problem is not None:
            return environment, version
        now, history = self._now(), self._histories.get(environment.key, History())
        if history.last is not None and now - history.at < TICK_SECONDS:
            return environment, version
        scope = self._scope(revision)
        asked = scaled(environment, revision).replicas
        ready = sum(endpoint.is_healthy for endpoint in seen.endpoints.get(revision.key, {}).values())
        history = remember(history, load, scope, now)
        history, found = size(history, scope, asked, ready, now, is_moving=environment.rollout is not None)
        self._histories[environment.key] = history
        if found.replicas == asked:
            return environment, version
        because = f"{asked} -> {found.replicas} replicas: {found.because}"
        after = environment.model_copy(update={"replicas": found.replicas, "replicas_because": because})
        if not save_or_lose(self._store, write_environment(after, version, because)):
            return environment, version
        return after, version + 1

    def memory_left(self, key: str) -> float:
        """The bytes that the replicas of all other environments leave to those of ``model/environment``."""
        rows = (row for row in self._store.rows(Kind.ENVIRONMENT) if row.key != key)
        others = [desired(read_state(row, Environment)).revisions for row in rows]
        used = sum(one.replicas * one.footprint for revisions in others for one in revisions)
        return self._memory * MEMORY_SHARE - used

    def _scope(self, revision: Revision) -> Scope:
        assert revision.scaling is not None
        room = int(self._cores * PER_CORE if revision.cpu is None else max(1.0, self._cores / revision.cpu))
        if revision.footprint:
            room = min(room, int(self._memory * MEMORY_SHARE / revision.footprint))
        latency, service = revision.scaling.latency_ms, revision.service_ms
        return Scope(
            least=revision.replicas,
            most=revision.scaling.most,
            room=room,
            latency=latency / 1000.0 if latency else None,
            service=service / 1000.0 if service else None,
            share=min(1.0, revision.cpu or 1.0),
        )
