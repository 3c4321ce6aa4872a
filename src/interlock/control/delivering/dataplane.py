"""Keeps the data plane as the environments desire it, for ever."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

from interlock.control.delivering.quarantine import forbidden
from interlock.control.delivering.scaling import Scaling
from interlock.control.front.keys import granted
from interlock.control.rows import load_state, save_or_lose, write_environment
from interlock.delivery.environment import Act, Environment, differences, examine, wished
from interlock.delivery.looks.baseline import Baseline
from interlock.delivery.looks.interface import rehearsals
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, LateLabels, ObservedSeen, PairsSeen, Revision
from interlock.delivery.rollout import Rollout
from interlock.errors import ServingFault, StaleWrite
from interlock.ports import Proxy, Replicas, Store
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Kind


class Plane:
    """Observes replicas and proxy as one, asks how many replicas the load needs, and acts on what differs."""

    def __init__(self, store: Store, replicas: Replicas, proxy: Proxy, scaling: Scaling) -> None:
        self._store = store
        self._scaling = scaling
        self._replicas = replicas
        self._proxy = proxy

    def observe(self, environment: str) -> DataPlaneSeen:
        """The environment as it is in the world."""
        seen = self._proxy.observe(environment)
        return seen.model_copy(update={"replicas": self._replicas.observe(environment)})

    def labelled(self, environment: str, late: LateLabels | None = None) -> dict[str, CounterSeen]:
        """By revision key the answers whose truth is known by now."""
        return self._replicas.labelled(environment, late)

    def paired(self, environment: str, tolerance: float) -> dict[str, PairsSeen]:
        """By revision key what became of requests that were copied to it."""
        return self._replicas.paired(environment, tolerance)

    def observed(self, environment: str) -> dict[str, ObservedSeen]:
        """By replica name what it was asked and answered."""
        return self._replicas.observed(environment)

    def rehearse(self, rollout: Rollout, plane: DataPlaneSeen) -> dict[str, str]:
        """By revision key what it does not answer of the golden requests that it is to be asked now, where it says."""
        found: dict[str, str] = {}
        for one in rehearsals(rollout, plane):
            with suppress(ServingFault):  # asked again at the next look
                found[one.revision.key] = self._replicas.unanswered(one.revision, one.golden)
        return found

    def endpoint(self, environment: str) -> str:
        """The base URL at which the environment answers."""
        return self._proxy.endpoint(environment)

    def forbid_quarantined(self) -> None:
        """What is quarantined does not start again, also while no control plane is there."""
        version = self._store.last_event()
        self._replicas.forbid(forbidden(self._store), version)

    def allow_keys(self) -> None:
        """The front knows the API keys that hold, also while no control plane is there."""
        version = self._store.last_event()
        with suppress(StaleWrite):
            self._proxy.allow_keys(granted(self._store), version)

    def baseline(self, environment: str) -> Baseline:
        """What is known of its stable revision from the time before a rollout."""
        return self._scaling.baseline(environment)

    def memory_left(self, environment: str) -> float:
        """The bytes that are left to the replicas of an environment."""
        return self._scaling.memory_left(environment)

    def keep(self, key: str) -> bool:
        """Acts on every difference of one environment; whether there was anything to change.

        Acts carry the environment's version: one that somebody else has overtaken is dropped without harm.
        """
        environment, version = load_state(self._store, Kind.ENVIRONMENT, key, Environment)
        if environment is None:
            return False
        seen = self.observe(key)
        environment, version = self._tell_trouble(*self._scaling.follow(environment, version, seen), seen)
        acts = differences(environment, seen)
        try:
            for act in acts:
                self._act(environment, act, version, seen)
        except StaleWrite:
            return False
        return any(act.name not in ("ensure_replicas", "ensure_endpoints", "renew_lease", "end_lease") for act in acts)

    def give_traffic_back(self, environment: Environment, version: int, seen: DataPlaneSeen) -> None:
        """Sets the shares of traffic and copies at once, by what was seen for the decision; all else is for ``keep``.

        To look again, and to tend to replicas first, would leave requests at a candidate that is known to be bad.
        Shares that are in force already are said again: another control plane may have saved others before, and sleep
        on what it has to do for them.
        """
        traffic = [act for act in differences(environment, seen) if act.name in ("ensure_weights", "ensure_mirrors")]
        if seen.weights and all(act.name != "ensure_weights" for act in traffic):
            traffic.append(Act(name="ensure_weights", weights=seen.weights))
        with suppress(StaleWrite):
            for one in traffic:
                self._act(environment, one, version, seen)

    def _tell_trouble(self, environment: Environment, version: int, seen: DataPlaneSeen) -> tuple[Environment, int]:
        """The environment with what keeps its replicas from living, saved where that is another thing than before."""
        after = examine(environment, seen)
        is_known = _without_numbers(after.trouble) == _without_numbers(environment.trouble)
        if is_known and after.is_dead == environment.is_dead:
            return environment, version
        because = after.trouble or "all replicas live again"
        if not save_or_lose(self._store, write_environment(after, version, because)):
            return environment, version
        return after, version + 1

    def _act(self, environment: Environment, act: Act, version: int, seen: DataPlaneSeen) -> None:
        wanted: Mapping[str, Revision] = {revision.key: revision for revision in wished(environment, seen).revisions}
        if act.name == "ensure_replicas":
            self._replicas.ensure(self._stated(wanted[act.revision]), version)
        elif act.name in ("ensure_endpoints", "drain_endpoints"):
            self._proxy.ensure_endpoints(act.revision, act.replicas, act.draining, version)
        elif act.name == "ensure_weights":
            self._proxy.ensure_weights(environment.key, act.weights, version)
        elif act.name == "ensure_mirrors":
            self._proxy.ensure_mirrors(environment.key, act.mirrors, version)
        elif act.name == "retire":
            self._proxy.retire(environment.key, version)
        elif act.name == "remove_endpoints":
            self._proxy.remove_endpoints(act.revision, version)
        elif act.name == "remove_replicas":
            self._replicas.remove(act.revision, version, act.beyond)
        elif act.name == "renew_lease" and environment.stable is not None:
            self._proxy.renew_lease(environment.key, act.revision, environment.stable.key)
        elif act.name == "end_lease":
            self._proxy.end_lease(environment.key)

    def _stated(self, revision: Revision) -> Revision:
        """The revision with the signed statement that each start looks at.

        One that was stored without, by an earlier release or whoever else, has that of its version. ServingFault where
        there is none.
        """
        if revision.provenance is not None:
            return revision
        version, _ = load_state(self._store, Kind.VERSION, f"{revision.model}/{revision.version}", ModelVersion)
        if version is None:
            raise ServingFault(f"no replica of {revision.title} starts: nothing signed is known of it")
        return revision.model_copy(update={"provenance": version.provenance})


def _without_numbers(text: str) -> str:
    """A replica that is started once more has no other trouble than before."""
    return re.sub(r"\d+ times", "", text)
