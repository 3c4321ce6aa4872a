"""Whether production follows a step of traffic: real Envoy, real model servers, twenty times as many requests at once.

A request takes 20 ms of a replica, which waits for something else meanwhile, so that a small machine holds as many
replicas as the load needs. The latency gate is 100 ms.

    python benchmarks/step.py [--before RATE] [--runs RUNS]

Targets: as many replicas as the load needs take requests within 5 s, no request fails, and p99 of each second is below
the gate again within 10 s. A run takes two minutes.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from live_plane import KEY, Answered, Load, MadeOf, Site, percentile

from interlock.delivery.scaling import replicas_for
from interlock.pipeline.plan import ScalingPlan

SERVICE, GATE, MOST = 0.020, 0.100, 8
TIMES = 20
STEADY, AFTER = 70.0, 30.0
"""Seconds before the step, in which the load becomes known, and after it."""
MODEL = f"""
import time

class Model:
    def predict(self, inputs):
        time.sleep({SERVICE})
        return inputs["x"][:, 0]
"""


class Followed(NamedTuple):
    """What came of one step; ``enough`` and ``well`` in seconds after it."""

    requests: int
    failed: list[str]
    enough: float
    well: float
    most: int
    because: str


def play(site: Site, before: float) -> Followed:
    """One step, from steady traffic."""
    needed = replicas_for(before * TIMES, SERVICE, GATE, MOST)
    load = Load(site.proxy.endpoint(KEY), lambda seconds: before if seconds < STEADY else before * TIMES)
    began = time.monotonic()  # the clock of the load's loop too
    time.sleep(STEADY)
    enough, most, because = math.inf, 0, ""
    while (passed := time.monotonic() - began - STEADY) < AFTER:
        endpoints = [one for seen in site.proxy.observe(KEY).endpoints.values() for one in seen.values()]
        healthy = sum(one.is_healthy for one in endpoints)
        most = max(most, healthy)
        if healthy >= needed and math.isinf(enough):
            enough, because = passed, site.environment.replicas_because
        time.sleep(0.05)
    answered, failed = load.end()
    return Followed(len(answered) + len(failed), failed, enough, well_again(answered, began), most, because)


def well_again(answered: list[Answered], began: float) -> float:
    """The end of the last second after the step in which p99 was over the gate."""
    seconds: dict[int, list[float]] = defaultdict(list)
    for one in answered:
        seconds[math.floor(one.due - began - STEADY)].append(one.seconds)
    bad = [at + 1 for at, latencies in seconds.items() if at >= 0 and percentile(latencies, 0.99) > GATE * 1000.0]
    return float(max(bad, default=0))


def main() -> None:
    """Prints a line for each run; exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--before", type=float, default=6.0)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    missed = False
    print(f"{'requests':>9} {'failed':>7} {'enough after':>13} {'p99 well after':>15} {'most replicas':>14}  because")
    for _ in range(asked.runs):
        folder = Path(tempfile.mkdtemp(prefix="interlock-step-"))
        (folder / "model").mkdir()
        (folder / "model" / "model.py").write_text(MODEL)
        scaling = ScalingPlan(most=MOST, latency_ms=GATE * 1000.0)
        site = Site(folder, MadeOf(folder / "model", "python", scaling, SERVICE * 1000.0))
        try:
            site.begin()
            found = play(site, asked.before)
        finally:
            site.close()
            shutil.rmtree(folder)
        told = (
            f"{found.requests:9d} {len(found.failed):7d} {found.enough:11.1f} s {found.well:13.0f} s {found.most:14d}"
        )
        print(f"{told}  {found.because}", flush=True)
        for one in found.failed[:3]:
            print(f"    {one}")
        missed = missed or bool(found.failed) or found.enough > 5.0 or found.well > 10.0
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
