"""Whether production loses a request while it changes: real Envoy, real model servers, requests in an open loop.

    python benchmarks/zero_loss.py [--rate PER_SECOND] [--seconds SECONDS] [--runs RUNS] [--only NAME]

Targets: 0 failed requests in each of the changes, and their p99 at most three times that of the steady state. With the
defaults each change sees 50,000 requests, five times; that takes an hour. ``make zero-loss`` is the short form.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skops.io
from live_plane import KEY, Load, MadeOf, Site, percentile
from sklearn.linear_model import LogisticRegression

from interlock.delivery.revision import Revision
from interlock.errors import InterlockError
from interlock.pipeline.plan import SurgePlan
from interlock.system.files import write_atomically

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


def hot_restart(site: Site) -> None:
    """Another Envoy takes over, as after an upgrade; the old one drains and ends."""
    path = site.data / "processes" / "envoy.json"
    process = json.loads(path.read_bytes())
    before = site.pid("envoy")
    write_atomically(path, json.dumps(process | {"generation": process["generation"] + 1}).encode())
    until = time.monotonic() + 60.0
    while site.pid("envoy") == before or site.status("envoy")["predecessor"] is not None:
        if time.monotonic() > until:
            raise SystemExit("not within 60 s: another Envoy has taken over")
        time.sleep(0.1)


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


def replace(site: Site, surge: SurgePlan) -> None:
    """A rollout on a machine with no room for two copies."""
    candidate = site.revision().model_copy(update={"surge": surge})
    most = max(len(seen.replicas) for seen in site.roll_out(candidate))
    if most > candidate.replicas + surge.max_surge:
        raise SystemExit(f"{most} replicas at once")


def one_more(site: Site) -> None:
    """Replicas are replaced one after the other, with room for one more."""
    replace(site, SurgePlan(max_surge=1, max_unavailable=0))


def one_fewer(site: Site) -> None:
    """The same without any more room: one leaves before another starts."""
    replace(site, SurgePlan(max_surge=0, max_unavailable=1))


CHANGES: dict[str, Callable[[Site], None]] = {
    "rolling update": rolling_update,
    "replaced, one more": one_more,
    "replaced, one fewer": one_fewer,
    "canary up and down": canary,
    "rollback": rollback,
    "scale up and down": scale,
    "replica kill -9": killed_replica,
    "Envoy hot restart": hot_restart,
    "control plane kill -9": killed_control_plane,
    "configuration": configuration,
}

# ---- what came of it


def logistic_regression(folder: Path) -> Path:
    """A small model."""
    rows = np.random.default_rng(1).normal(size=(200, 4))
    skops.io.dump(LogisticRegression().fit(rows, rows[:, 0] > 0.0), folder / "model.skops")
    return folder / "model.skops"


def measure(site: Site, rate: float, seconds: float, change: Callable[[Site], None]) -> tuple[list[float], list[str]]:
    """The change, again and again for so long, under load."""
    load = Load(site.proxy.endpoint(KEY), lambda _seconds: rate)
    until = time.monotonic() + seconds
    try:
        time.sleep(0.5)
        while True:
            change(site)
            if time.monotonic() > until:
                break
        time.sleep(0.5)
    finally:
        answered, failed = load.end()
    return [one.seconds for one in answered], failed


def main() -> None:
    """Prints a line for each change; exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=CHANGES)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="interlock-zero-loss-"))
    site = Site(folder, MadeOf(logistic_regression(folder), "skops"))
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
