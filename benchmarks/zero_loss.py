"""Whether production loses a request while it changes: real Envoy, real model servers, requests in an open loop.

A child process keeps the data plane as the environment's row says, with the server's own parts; this one plays the
rollouts and saves the row. Requests come at fixed moments whatever became of those before, from a process of their own,
over kept-alive connections.

    python benchmarks/zero_loss.py [--rate PER_SECOND] [--seconds SECONDS] [--runs RUNS] [--only NAME]

Targets: 0 failed requests in each of the changes, and their p99 at most three times that of the steady state. With the
defaults each change sees 50,000 requests, five times; that takes an hour. ``make zero-loss`` is the short form.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.linear_model import LogisticRegression

from interlock.app.parts import PACKAGE
from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.scaling import Scaling
from interlock.control.rows import load_state, write_environment
from interlock.delivery.environment import Environment
from interlock.delivery.revision import DataPlaneSeen, Revision
from interlock.edges.blobs import LocalBlobs
from interlock.edges.proxy import EnvoyProxy
from interlock.edges.sandbox import SANDBOXES
from interlock.edges.serving import Installed, LocalReplicas, ensure_supervise, stop_supervise
from interlock.edges.store import SqlStore
from interlock.errors import InterlockError
from interlock.system.sockets import free_port
from interlock.vocabulary import Digest, Kind

KEY = "small/production"
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 4], "data": [0.1, 0.2, 0.3, 0.4]}]}
).encode()


class Site:
    """A data-plane folder with one environment, and what one does to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        self.store = SqlStore(f"sqlite:///{folder / 'rows.db'}")
        self.blobs = LocalBlobs(folder / "artifacts")
        self.proxy = EnvoyProxy(self.data, {"production": f"127.0.0.1:{free_port()}"})
        rows = np.random.default_rng(1).normal(size=(200, 4))
        model = LogisticRegression().fit(rows, rows[:, 0] > 0.0)
        path = folder / "model.skops"
        skops.io.dump(model, path)
        self.digest = self.blobs.put(str(path))
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

    def revision(self) -> Revision:
        """The next one; all serve the same model."""
        self.number += 1
        return Revision(
            environment=KEY,
            number=self.number,
            version=self.number,
            model="small",
            model_digest=self.digest,
            lock=Digest("blake3:none"),
            format="skops",
            replicas=2,
        )

    def start_keeper(self) -> multiprocessing.process.BaseProcess:
        """The control plane's part that keeps the world as the row says."""
        process = multiprocessing.get_context("fork").Process(target=self._keep, daemon=True)
        process.start()
        return process

    def _keep(self) -> None:
        store = SqlStore(f"sqlite:///{self.folder / 'rows.db'}")
        sandbox = SANDBOXES["namespace"]()
        installed, key = Installed(sys.prefix, None), self.folder / "key.pub.pem"
        inference = PACKAGE / "inference"
        replicas = LocalReplicas(self.data, sandbox, self._place, lambda _revision: installed, inference, key)
        plane = Plane(store, replicas, self.proxy, Scaling(store, time.monotonic, 2.0, 2.0**33))
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
        environment, version = load_state(self.store, Kind.ENVIRONMENT, KEY, Environment)
        assert environment is not None
        self.store.save(write_environment(environment.model_copy(update=fields), version, "a change"))

    @property
    def environment(self) -> Environment:
        """As its row says."""
        environment, _ = load_state(self.store, Kind.ENVIRONMENT, KEY, Environment)
        assert environment is not None
        return environment

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
        return int(json.loads((self.data / "status" / f"{name}.json").read_bytes())["pid"])

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


# ---- changes


def introduce(site: Site) -> tuple[Revision, Revision]:
    """A candidate, healthy and without weight, beside stable."""
    stable, candidate = site.environment.stable, site.revision()
    assert stable is not None
    site.change(candidate=candidate, rollout=site.number)
    site.wait(lambda seen: site.is_healthy(seen, candidate), "the candidate is healthy")
    return stable, candidate


def weigh(site: Site, weights: dict[str, int]) -> None:
    """These shares, in force."""
    site.change(weights=weights)
    site.wait(lambda seen: {key: one for key, one in seen.weights.items() if one} == weights, f"weights {weights}")


def settle(site: Site, stable: Revision) -> None:
    """This one alone serves, and the other has left."""
    site.change(stable=stable, candidate=None, rollout=None, weights={stable.key: 100})
    site.wait(lambda seen: set(seen.endpoints) == {stable.key}, "the other has left")


def rolling_update(site: Site) -> None:
    """All traffic at once to a new revision; the old one leaves."""
    _, candidate = introduce(site)
    weigh(site, {candidate.key: 100})
    settle(site, candidate)


def canary(site: Site) -> None:
    """Up by steps, down again, up to the end."""
    stable, candidate = introduce(site)
    for share in (1, 5, 25, 50, 75, 50, 25, 5, 50, 99):
        weigh(site, {stable.key: 100 - share, candidate.key: share})
    settle(site, candidate)


def rollback(site: Site) -> None:
    """Half of the traffic to a candidate, which is taken back."""
    stable, candidate = introduce(site)
    weigh(site, {stable.key: 50, candidate.key: 50})
    settle(site, stable)


def resize(site: Site, stable: Revision, count: int) -> None:
    """So many replicas, all healthy, and no other."""
    wanted = stable.model_copy(update={"replicas": count})
    site.change(stable=wanted)
    site.wait(lambda seen: len(seen.endpoints.get(stable.key, {})) == count, f"{count} replicas")
    site.wait(lambda seen: site.is_healthy(seen, wanted), "all are healthy")


def scale(site: Site) -> None:
    """Two replicas, four, two."""
    stable = site.environment.stable
    assert stable is not None
    resize(site, stable, 4)
    resize(site, stable, 2)


def killed_replica(site: Site) -> None:
    """One of two replicas is killed with -9."""
    stable = site.environment.stable
    assert stable is not None
    os.killpg(site.pid(stable.replica(0)), signal.SIGKILL)
    time.sleep(1.0)
    site.wait(lambda seen: site.is_healthy(seen, stable), "it is back")


def killed_control_plane(site: Site) -> None:
    """What keeps the world is killed with -9 in the middle of an update; another one goes on."""
    stable, candidate = introduce(site)
    site.change(weights={stable.key: 50, candidate.key: 50})
    site.kill_keeper()
    time.sleep(1.0)
    site.keeper = site.start_keeper()
    settle(site, candidate)


def configuration(site: Site) -> None:
    """Clusters that come and go, and a rejected configuration."""
    for _ in range(3):
        _, candidate = introduce(site)
        stable = site.environment.stable
        assert stable is not None
        settle(site, stable)
        try:
            site.proxy.ensure_endpoints(candidate.key, ["x" * 120], (), 10**6 + site.number)
        except InterlockError:
            continue
        raise SystemExit("a configuration that no proxy can take was taken")


CHANGES: dict[str, Callable[[Site], None]] = {
    "rolling update": rolling_update,
    "canary up and down": canary,
    "rollback": rollback,
    "scale up and down": scale,
    "replica kill -9": killed_replica,
    "control plane kill -9": killed_control_plane,
    "configuration": configuration,
}

# ---- load


class Load:
    """A process that asks at fixed moments; ``end`` answers latencies in seconds and what failed."""

    def __init__(self, address: str, rate: float) -> None:
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=lambda: asyncio.run(_ask_on(address, rate, theirs)), daemon=True)
        self._process.start()

    def end(self) -> tuple[list[float], list[str]]:
        """Stops asking."""
        self._ours.send(None)
        latencies, failed = self._ours.recv()
        self._process.join()
        return latencies, failed


async def _ask_on(address: str, rate: float, pipe: Any) -> None:
    host, port = address.removeprefix("http://").split(":")
    head = f"POST /v2/models/small/infer HTTP/1.1\r\nHost: m\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    latencies: list[float] = []
    failed: list[str] = []

    async def ask(due: float) -> None:
        try:
            reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
            writer.write(head + BODY)
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20.0)
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await reader.readexactly(int(length.partition(b":")[2]))
        except (OSError, EOFError, TimeoutError, StopIteration) as problem:
            failed.append(repr(problem))
            return
        if answer.startswith(b"HTTP/1.1 200"):
            latencies.append(asyncio.get_running_loop().time() - due)
        else:
            failed.append(f"{answer[:20]!r} {body[:200]!r}")
        idle.append((reader, writer))

    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    due = loop.time()
    while not pipe.poll():
        due += 1.0 / rate
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        task = loop.create_task(ask(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    pipe.send((latencies, failed))


def percentile(latencies: list[float], share: float) -> float:
    """Milliseconds."""
    return sorted(latencies)[int(share * (len(latencies) - 1))] * 1000.0


def measure(site: Site, rate: float, seconds: float, change: Callable[[Site], None]) -> tuple[list[float], list[str]]:
    """The change, again and again for so long, under load."""
    load = Load(site.proxy.endpoint(KEY), rate)
    until = time.monotonic() + seconds
    try:
        time.sleep(0.5)
        while True:
            change(site)
            if time.monotonic() > until:
                break
        time.sleep(0.5)
    finally:
        found = load.end()
    return found


def main() -> None:
    """Prints a line for each change; exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=CHANGES)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="interlock-zero-loss-"))
    site = Site(folder)
    missed = False
    try:
        site.begin()
        steady, failed = measure(site, asked.rate, min(20.0, asked.seconds), lambda _site: time.sleep(1.0))
        base = percentile(steady, 0.99)
        print(f"{'change':24} {'requests':>9} {'failed':>7} {'p50 ms':>8} {'p99 ms':>8} {'x steady':>9}")
        print(f"{'steady':24} {len(steady):9d} {len(failed):7d} {percentile(steady, 0.5):8.1f} {base:8.1f} {1.0:9.2f}")
        for name, change in CHANGES.items():
            if asked.only not in (None, name):
                continue
            for _ in range(asked.runs):
                latencies, failed = measure(site, asked.rate, asked.seconds, change)
                count, p50, p99 = (
                    len(latencies) + len(failed),
                    statistics.median(latencies) * 1000,
                    percentile(latencies, 0.99),
                )
                print(f"{name:24} {count:9d} {len(failed):7d} {p50:8.1f} {p99:8.1f} {p99 / base:9.2f}", flush=True)
                for one in failed[:3]:
                    print(f"    {one}")
                missed = missed or bool(failed) or p99 > 3.0 * base
    finally:
        site.close()
        shutil.rmtree(folder)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
