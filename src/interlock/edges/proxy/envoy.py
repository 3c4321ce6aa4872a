"""Envoy, configured by files that it watches, kept alive by supervise."""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from interlock.access.keys import Grant
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, EndpointSeen, LatencySeen, LoadSeen
from interlock.errors import NotFound, ProxyFault
from interlock.system.files import write_atomically

from . import configuration as config
from . import mirrors
from .admin import Admin
from .files import LOCK, Acceptance, Change, ConfigurationFiles
from .mirrors import NOTHING, Shares
from .notes import Front, Notes
from .program import Envoy
from .seen import (
    counter,
    endpoints,
    environment_of,
    latency,
    load,
    split_environment,
    testers_of,
    times_of,
    times_of_callers,
)

LABEL_PROGRAM = (
    sys.executable,
    "-P",
    "-m",
    "interlock.inference.labels",
    "--socket",
    config.socket_of(config.LABELS),
    "--folder",
    config.LABELS,
)
"""The label endpoint, started in the data-plane folder."""

CDS = "cluster_manager.cds."
LDS = "listener_manager.lds."


class EnvoyProxy:
    """The proxy of all environments in one data-plane folder.

    ``listeners`` says where each environment name answers (``production`` to ``127.0.0.1:8080``); ``labels`` is the
    program of the label endpoint, None where there is none; after ``lease_seconds`` without renewal a candidate loses
    its weight; ``fronts`` say what listeners ask of who comes, others ask nothing. The files are the truth: a proxy
    that is not there is no error for a write, it starts from them.
    """

    def __init__(
        self,
        folder: Path,
        listeners: Mapping[str, str],
        labels: Sequence[str] | None = LABEL_PROGRAM,
        lease_seconds: float = 300.0,
        fronts: Mapping[str, Front] | None = None,
    ) -> None:
        self._folder = folder
        self._listeners = dict(listeners)
        self._labels = labels
        self._lease_seconds = lease_seconds
        self._files = ConfigurationFiles(folder / config.FOLDER)
        self._notes = Notes(self._files, fronts or {})
        self._admin = Admin(folder / config.FOLDER, config.ADMIN)
        self._acceptance = Acceptance(self._admin, self._files, folder / "logs" / "envoy.log")

    def start(self, seconds: float = 10.0) -> None:
        """Envoy and the label endpoint run with what the files say, also where they ran before.

        Waits until it takes requests; ProxyFault where it does not within ``seconds``, or a port is taken.
        """
        for name in (config.FOLDER, "processes", "leases", "logs", config.LABELS, f"s/{config.LABELS}"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        secrets = self._notes.secrets(time.time())
        refused = self._acceptance.rejections(LDS)
        with self._files.locked():
            pairs = [self._files.write(config.secrets_file(name), [secret]) for name, secret in secrets.items()]
            self._write_clusters(self._revisions())
            for name in self._listeners:
                self._write_routes(name, self._shares(name))
            listeners = [
                self._notes.listener(config.listener(name, *_address(where))) for name, where in self._listeners.items()
            ]
            change = self._files.write(config.LISTENERS, listeners)
        if self._labels is not None:
            self._run(config.LABELS, self._labels, [config.socket_of(config.LABELS)])
        bootstrap = json.dumps(config.bootstrap(), indent=1).encode()
        write_atomically(self._folder / config.FOLDER / "bootstrap.json", bootstrap)
        envoy = Envoy.installed()
        argv, left = envoy.command(self._folder), envoy.left_behind(self._folder)
        self._run("envoy", argv, left, bootstrap + envoy.version.encode(), envoy.succession)
        self._acceptance.wait_until_ready(seconds)
        self._acceptance.wait_for(change, LDS, refused)
        for name, pair in zip(secrets, pairs, strict=True):
            self._acceptance.wait_for(pair, f"sds.{name}.", 0)

    def observe(self, environment: str) -> DataPlaneSeen:
        """All but ``replicas``; see the port."""
        _, name = split_environment(environment)
        problem = None
        hosts: dict[str, dict[str, EndpointSeen]] = {}
        counters: dict[str, CounterSeen] = {}
        loads: dict[str, LoadSeen] = {}
        latencies: dict[str, LatencySeen] = {}
        try:
            shares = self._shares(name).get(split_environment(environment)[0], NOTHING)
            revisions = [key for key in self._revisions() if environment_of(key) == environment]
            is_retired = self._notes.is_retired(environment)
        except ProxyFault as fault:
            return DataPlaneSeen(problem=str(fault))
        try:
            epoch = self._admin.epoch()
            counted = [*revisions, *map(testers_of, revisions)]
            stats = self._admin.stats(_rds(name), *(f"cluster.{key}.upstream_rq_" for key in counted))
            times = self._admin.times(map(times_of, counted))
            clusters = self._admin.clusters()
            if self._admin.epoch() != epoch:
                raise ProxyFault("the proxy was started again just now")
            hosts = {key: endpoints(clusters[key]) for key in revisions if key in clusters}
            counters = {key: counter(key, stats, epoch) for key in revisions}
            loads = {key: load(times.get(times_of(key), []), hosts.get(key, {}), epoch) for key in revisions}
            latencies = {key: latency(key, times_of_callers(key, times), stats, epoch) for key in revisions}
            if stats.get(f"{_rds(name)}version_text") != self._files.version(config.routes_file(name)):
                problem = f"the proxy has not taken its routes: {self._acceptance.reason()}"
        except ProxyFault as fault:
            problem = str(fault)
        return DataPlaneSeen(
            endpoints=hosts,
            weights=shares.weights,
            mirrors=shares.mirrors,
            counters=counters,
            loads=loads,
            latencies=latencies,
            is_retired=is_retired,
            problem=problem,
        )

    def ensure_endpoints(
        self, revision_key: str, replicas: Sequence[str], draining: Collection[str], version: int
    ) -> None:
        """The proxy knows these replicas; returns once requests could be routed to them. See the port."""
        name, prefix = config.endpoints_file(revision_key), f"cluster.{revision_key}."
        refused, refused_clusters = self._acceptance.rejections(prefix), self._acceptance.rejections(CDS)
        with self._files.locked():
            self._files.advance(revision_key, version)
            change = self._files.write(name, [config.endpoints(revision_key, replicas, draining)])
            revisions = self._revisions()
            clusters = self._write_clusters([*revisions, revision_key])
        self._acceptance.wait_for(clusters, CDS, refused_clusters)
        try:
            self._acceptance.wait_for(change, prefix, refused)
        except ProxyFault:
            if revision_key not in revisions:
                self._forget(revision_key)
            raise
        self._acceptance.wait_until_warm(revision_key)

    def remove_endpoints(self, revision_key: str, version: int) -> None:
        """The proxy forgets the revision; ProxyFault while it has weight, or requests are copied to it."""
        model, name = split_environment(environment_of(revision_key))
        refused = self._acceptance.rejections(_rds(name))
        with self._files.locked():
            self._files.advance(revision_key, version)
            shares = self._shares(name)
            mine = shares.get(model, NOTHING)
            if mine.weights.pop(revision_key, 0):
                raise ProxyFault(f"{revision_key} still has weight in {model}/{name}")
            if revision_key in mine.mirrors:
                raise ProxyFault(f"requests of {model}/{name} are still copied to {revision_key}")
            change = self._write_routes(name, shares) if name in self._listeners else None
        if change is not None:
            self._acceptance.wait_for(change, _rds(name), refused)
        self._forget(revision_key)

    def ensure_weights(self, environment: str, weights: Mapping[str, int], version: int) -> None:
        """Shares of traffic; returns once they are in force. ProxyFault for a revision without endpoints."""
        model, name = split_environment(environment)
        self.endpoint(environment)
        if weights and sum(weights.values()) != 100:
            raise ValueError(f"weights of {environment} are {dict(weights)}, not 100 together")
        refused = self._acceptance.rejections(_rds(name))
        with self._files.locked():
            self._files.advance(environment, version)
            unknown = sorted(set(weights) - set(self._revisions()))
            if unknown:
                raise ProxyFault(f"{environment} cannot send requests to {', '.join(unknown)}: no endpoints are known")
            self._notes.set_retired(environment, is_retired=False)
            shares = self._shares(name)
            mine = shares.get(model, NOTHING)._replace(weights=dict(weights))
            change = self._write_routes(name, {**shares, model: mine})
        self._acceptance.wait_for(change, _rds(name), refused)

    def ensure_mirrors(self, environment: str, copied: Mapping[str, int], version: int) -> None:
        """Which requests are copied to whom; returns once that is in force. ProxyFault for one without endpoints."""
        model, name = split_environment(environment)
        self.endpoint(environment)
        if len(copied) > 1 or not all(0 < percent <= 100 for percent in copied.values()):
            raise ValueError(f"mirrors of {environment} are {dict(copied)}, not a percentage to one revision")
        refused, refused_clusters = self._acceptance.rejections(_rds(name)), self._acceptance.rejections(CDS)
        with self._files.locked():
            self._files.advance(environment, version)
            unknown = sorted(set(copied) - set(self._revisions()))
            if unknown:
                raise ProxyFault(f"{environment} cannot copy requests to {', '.join(unknown)}: no endpoints are known")
            clusters = self._write_clusters(self._revisions(), copied)
        self._acceptance.wait_for(clusters, CDS, refused_clusters)
        for key in copied:
            self._acceptance.wait_until_warm(mirrors.cluster_of(key))
        with self._files.locked():
            self._files.advance(environment, version)
            shares = self._shares(name)
            mine = shares.get(model, NOTHING)._replace(mirrors=dict(copied))
            change = self._write_routes(name, {**shares, model: mine})
        self._acceptance.wait_for(change, _rds(name), refused)
        with self._files.locked():
            clusters = self._write_clusters(self._revisions())
        self._acceptance.wait_for(clusters, CDS, refused_clusters)

    def retire(self, environment: str, version: int) -> None:
        """The model is answered 410 there; returns once that is in force. See the port."""
        model, name = split_environment(environment)
        self.endpoint(environment)
        refused = self._acceptance.rejections(_rds(name))
        with self._files.locked():
            self._files.advance(environment, version)
            self._notes.set_retired(environment, is_retired=True)
            change = self._write_routes(name, {**self._shares(name), model: NOTHING})
        self._acceptance.wait_for(change, _rds(name), refused)

    def renew_lease(self, environment: str, candidate: str, stable: str) -> None:
        """The candidate keeps its weight and mirror for ``lease_seconds`` without a control plane; see the port."""
        model, name = split_environment(environment)
        lease = {
            "expires": self._lease_seconds,
            "file": f"{config.FOLDER}/{config.routes_file(name)}",
            "lock": f"{config.FOLDER}/{LOCK}",
            "candidate": candidate,
            "stable": stable,
            "mirror": mirrors.cluster_of(candidate),
        }
        content = json.dumps(lease).encode()
        path = self._lease_file(environment)
        with self._files.locked():
            shares = self._shares(name)
            mine = shares.get(model, NOTHING)
            if stable not in mine.weights and stable in self._revisions():
                # Or there would be nobody to give the weight to.
                shares[model] = mine._replace(weights={**mine.weights, stable: 0})
                self._write_routes(name, shares)
            if path.exists() and path.read_bytes() == content:
                os.utime(path, times=(time.time(), time.time()))
            else:
                write_atomically(path, content)

    def end_lease(self, environment: str) -> None:
        """The weights in force stay, whoever is there."""
        with self._files.locked():
            self._lease_file(environment).unlink(missing_ok=True)

    def endpoint(self, environment: str) -> str:
        """The base URL at which the environment answers. NotFound where no listener has its name."""
        _, name = split_environment(environment)
        if name not in self._listeners:
            raise NotFound(f"there is no environment {name}", environment, f"one of: {', '.join(self._listeners)}")
        return f"{self._notes.scheme(name)}://{self._listeners[name]}"

    def renew_certificates(self) -> None:
        """Takes certificates that are others than before.

        Refused where one is no good, and ProxyFault where the proxy does not take it: the one in force goes on.
        """
        for name, secret in self._notes.secrets(time.time()).items():
            refused = self._acceptance.rejections(f"sds.{name}.")
            with self._files.locked():
                change = self._files.write(config.secrets_file(name), [secret])
            if change.before != change.after:
                self._acceptance.wait_for(change, f"sds.{name}.", refused)

    def allow_keys(self, grants: Sequence[Grant], version: int) -> None:
        """These API keys open what they are for; returns once that is in force. See the port."""
        with self._files.locked():
            self._notes.set_keys(grants, version)
        for (
            name
        ) in self._notes.fronts:  # also where the keys are known: who wrote them may have ended before the routes
            refused = self._acceptance.rejections(_rds(name))
            with self._files.locked():
                change = self._write_routes(name, self._shares(name))
            if change.before != change.after:
                self._acceptance.wait_for(change, _rds(name), refused)

    def _lease_file(self, environment: str) -> Path:
        return self._folder / "leases" / f"{environment.replace('/', '.')}.json"

    def _revisions(self) -> list[str]:
        names = [one["name"] for one in self._files.read(config.CLUSTERS)]
        return [name for name in names if name != config.LABELS and not mirrors.is_of_copies(name)]

    def _shares(self, environment_name: str) -> dict[str, Shares]:
        """Weights and mirrors by model, of one listener."""
        resources = self._files.read(config.routes_file(environment_name))
        return mirrors.shares_of(resources[0]) if resources else {}

    def _write_routes(self, environment_name: str, shares: Mapping[str, Shares]) -> Change:
        models = {model: mirrors.routes(model, mine) for model, mine in sorted(shares.items())}
        resource = config.routes(environment_name, models, self._labels is not None)
        return self._files.write(config.routes_file(environment_name), [self._notes.applied(resource)])

    def _write_clusters(self, revisions: Collection[str], copied: Collection[str] = ()) -> Change:
        """Clusters of these revisions, and those for copies: where routes have them, and to ``copied``."""
        fixed = [config.static_cluster(config.LABELS)] if self._labels is not None else []
        of_routes = {key for name in self._listeners for mine in self._shares(name).values() for key in mine.mirrors}
        own = [*map(config.cluster, sorted(set(revisions)))]
        twins = [*map(mirrors.cluster, sorted(of_routes | set(copied)))]
        return self._files.write(config.CLUSTERS, [*fixed, *own, *twins])

    def _forget(self, revision_key: str) -> None:
        refused = self._acceptance.rejections(CDS)
        with self._files.locked():
            change = self._write_clusters([key for key in self._revisions() if key != revision_key])
        self._acceptance.wait_for(change, CDS, refused)
        self._files.remove(config.endpoints_file(revision_key))

    def _run(
        self,
        name: str,
        argv: Sequence[str],
        unlink: Sequence[str],
        made_of: bytes = b"",
        succession: str | None = None,
    ) -> None:
        """Asks supervise to keep a program alive; the same program is not started again."""
        generation = zlib.crc32(json.dumps(list(argv)).encode() + made_of)
        process: dict[str, Any] = {"name": name, "argv": list(argv), "env": {}, "folder": ".", "grace": 5}
        process |= {"generation": generation, "unlink": list(unlink), "succession": succession}
        path, content = self._folder / "processes" / f"{name}.json", json.dumps(process).encode()
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content)


def _rds(environment_name: str) -> str:
    return f"http.{environment_name}.rds.{environment_name}."


def _address(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    return host.strip("[]"), int(port)
