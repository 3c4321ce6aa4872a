"""A proxy of dictionaries: it behaves as the real one does, and lets a test say what requests would have done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from interlock.access.keys import Grant
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, EndpointSeen, LatencySeen, LoadSeen
from interlock.errors import NotFound, ProxyFault, StaleWrite

from .seen import environment_of, split_environment


class FakeProxy:
    """Stands in for a proxy. New endpoints are healthy unless ``is_healthy_at_once`` is False.

    ``counters``, ``loads``, ``latencies``, ``problem`` and ``leases`` (environment to candidate and stable) may be set
    and read by tests; ``grants`` are the API keys that were allowed last.
    """

    def __init__(self, listeners: Mapping[str, str], is_healthy_at_once: bool = True) -> None:
        self.grants: list[Grant] = []
        self.counters: dict[str, CounterSeen] = {}
        self.leases: dict[str, tuple[str, str]] = {}
        self.loads: dict[str, LoadSeen] = {}
        self.latencies: dict[str, LatencySeen] = {}
        self.problem: str | None = None
        self._listeners = dict(listeners)
        self._is_healthy_at_once = is_healthy_at_once
        self._endpoints: dict[str, dict[str, EndpointSeen]] = {}
        self._weights: dict[str, dict[str, int]] = {}
        self._mirrors: dict[str, dict[str, int]] = {}
        self._retired: set[str] = set()
        self._versions: dict[str, int] = {}

    def observe(self, environment: str) -> DataPlaneSeen:
        """What was asked for and what the test has set."""
        mine = [key for key in self._endpoints if environment_of(key) == environment]
        nothing = CounterSeen(epoch="fake", requests=0, errors=0)
        return DataPlaneSeen(
            endpoints={key: dict(self._endpoints[key]) for key in mine},
            weights=dict(self._weights.get(environment, {})),
            mirrors=dict(self._mirrors.get(environment, {})),
            counters={key: self.counters.get(key, nothing) for key in mine},
            loads={key: self.loads[key] for key in mine if key in self.loads},
            latencies={key: self.latencies[key] for key in mine if key in self.latencies},
            is_retired=environment in self._retired,
            problem=self.problem,
        )

    def ensure_endpoints(
        self, revision_key: str, replicas: Sequence[str], draining: Collection[str], version: int
    ) -> None:
        """The revision has these replicas."""
        self._advance(revision_key, version)
        before = self._endpoints.get(revision_key, {})
        new = EndpointSeen(is_healthy=self._is_healthy_at_once, is_draining=False)
        self._endpoints[revision_key] = {
            name: before.get(name, new).model_copy(update={"is_draining": name in draining}) for name in replicas
        }

    def remove_endpoints(self, revision_key: str, version: int) -> None:
        """The revision is forgotten; ProxyFault while it has weight, or requests are copied to it."""
        self._advance(revision_key, version)
        environment = environment_of(revision_key)
        weights = self._weights.get(environment, {})
        if weights.get(revision_key, 0):
            raise ProxyFault(f"{revision_key} still has weight in {environment}")
        if revision_key in self._mirrors.get(environment, {}):
            raise ProxyFault(f"requests of {environment} are still copied to {revision_key}")
        weights.pop(revision_key, None)
        self._endpoints.pop(revision_key, None)
        self.counters.pop(revision_key, None)

    def ensure_weights(self, environment: str, weights: Mapping[str, int], version: int) -> None:
        """Shares of traffic; ProxyFault for a revision without endpoints."""
        self.endpoint(environment)
        if weights and sum(weights.values()) != 100:
            raise ValueError(f"weights of {environment} are {dict(weights)}, not 100 together")
        self._advance(environment, version)
        unknown = sorted(set(weights) - set(self._endpoints))
        if unknown:
            raise ProxyFault(f"{environment} cannot send requests to {', '.join(unknown)}: no endpoints are known")
        self._weights[environment] = dict(weights)
        self._retired.discard(environment)

    def retire(self, environment: str, version: int) -> None:
        """No weights and no mirrors, until it gets weights."""
        self.ensure_weights(environment, {}, version)
        self._mirrors.pop(environment, None)
        self._retired.add(environment)

    def ensure_mirrors(self, environment: str, copied: Mapping[str, int], version: int) -> None:
        """Which requests are copied to whom; ProxyFault for a revision without endpoints."""
        self.endpoint(environment)
        if len(copied) > 1 or not all(0 < percent <= 100 for percent in copied.values()):
            raise ValueError(f"mirrors of {environment} are {dict(copied)}, not a percentage to one revision")
        self._advance(environment, version)
        unknown = sorted(set(copied) - set(self._endpoints))
        if unknown:
            raise ProxyFault(f"{environment} cannot copy requests to {', '.join(unknown)}: no endpoints are known")
        self._mirrors[environment] = dict(copied)

    def renew_lease(self, environment: str, candidate: str, stable: str) -> None:
        """Remembered in ``leases``; stable is named in the weights, as the one that would take them over."""
        self.leases[environment] = (candidate, stable)
        if stable in self._endpoints and environment in self._weights:
            self._weights[environment].setdefault(stable, 0)

    def end_lease(self, environment: str) -> None:
        """Forgotten in ``leases``."""
        self.leases.pop(environment, None)

    def endpoint(self, environment: str) -> str:
        """As the listeners say; NotFound where none has the environment's name."""
        _, name = split_environment(environment)
        if name not in self._listeners:
            raise NotFound(f"there is no environment {name}", environment, f"one of: {', '.join(self._listeners)}")
        return f"http://{self._listeners[name]}"

    def allow_keys(self, grants: Sequence[Grant], version: int) -> None:
        """Remembered in ``grants``."""
        if list(grants) != self.grants:
            self._advance("keys", version)
            self.grants = list(grants)

    def set_health(self, replica: str, is_healthy: bool, active: int = 0) -> None:
        """What the next observation says of a replica."""
        revision_key = replica.rpartition(".")[0]
        endpoint = self._endpoints[revision_key][replica]
        changed = endpoint.model_copy(update={"is_healthy": is_healthy, "active": active})
        self._endpoints[revision_key][replica] = changed

    def count(self, revision_key: str, requests: int, errors: int = 0, epoch: str = "fake") -> None:
        """Adds requests to a revision's counter; another epoch begins at 0."""
        before = self.counters.get(revision_key)
        if before is None or before.epoch != epoch:
            before = CounterSeen(epoch=epoch, requests=0, errors=0)
        self.counters[revision_key] = CounterSeen(
            epoch=epoch, requests=before.requests + requests, errors=before.errors + errors
        )

    def _advance(self, thing: str, version: int) -> None:
        in_force = self._versions.get(thing, 0)
        if version < in_force:
            raise StaleWrite(f"{thing} was decided at version {in_force}; an act of version {version} comes too late")
        self._versions[thing] = version
