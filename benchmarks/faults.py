"""Two faults at their full length: a model that takes a minute to start, and ten minutes without a control plane.

    python benchmarks/faults.py [--start SECONDS] [--away SECONDS] [--rate PER_SECOND]

Real Envoy and real model servers, requests in an open loop. Targets: no request fails, the slow revision has no traffic
before it is ready and is promoted then, and a control plane that comes back finds all processes as they were.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from live_plane import KEY, Load, MadeOf, Site, percentile

MODEL = """
import time

class Model:
    def load(self, folder):
        time.sleep({seconds})

    def predict(self, inputs):
        return inputs["x"].sum(axis=1)
"""


def model(folder: Path, seconds: float) -> Path:
    """A model that takes so long to load."""
    path = folder / f"takes-{seconds:g}.py"
    path.write_text(MODEL.format(seconds=seconds))
    return path


def slow_start(site: Site, seconds: float) -> str | None:
    """A revision of which no replica is ready for so long takes over; what was wrong, or None."""
    site.bring(model(site.folder, seconds))
    candidate, began = site.revision(), time.monotonic()
    looks = site.roll_out(candidate, seconds * 2 + 120.0)
    took = time.monotonic() - began
    early = [seen for seen in looks if seen.weights.get(candidate.key, 0) > 0 and not site.is_healthy(seen, candidate)]
    print(f"    promoted after {took:.0f} s, with traffic and not ready in {len(early)} of {len(looks)} looks")
    return None if took >= seconds and not early else "it had traffic before it was ready"


def away(site: Site, seconds: float) -> str | None:
    """Nobody keeps the data plane for so long; what was wrong, or None."""
    stable = site.environment.stable
    assert stable is not None
    names = ["envoy", *(stable.replica(index) for index in range(stable.replicas))]
    before = {name: site.pid(name) for name in names}
    site.kill_keeper()
    time.sleep(seconds)
    site.keeper = site.start_keeper()
    time.sleep(5.0)
    after = {name: site.pid(name) for name in names}
    others = [name for name in names if before[name] != after[name]]
    print(f"    {seconds:.0f} s away; of {len(names)} processes {len(others)} are others now")
    return None if before == after else "processes were replaced"


def main() -> None:
    """Prints a line for each fault; exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--start", type=float, default=60.0)
    parser.add_argument("--away", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=100.0)
    asked = parser.parse_args()
    faults: dict[str, Callable[[Site], str | None]] = {
        f"a start of {asked.start:g} s": lambda site: slow_start(site, asked.start),
        f"no control plane for {asked.away:g} s": lambda site: away(site, asked.away),
    }
    folder = Path(tempfile.mkdtemp(prefix="interlock-faults-"))
    site = Site(folder, MadeOf(model(folder, 0.0), "python"))
    missed = False
    try:
        site.begin()
        print(f"{'fault':32} {'requests':>9} {'failed':>7} {'p50 ms':>8} {'p99 ms':>8}")
        for name, fault in faults.items():
            load = Load(site.proxy.endpoint(KEY), lambda _seconds: asked.rate)
            problem = None
            try:
                problem = fault(site)
            finally:
                answered, failed = load.end()
            times = [one.seconds for one in answered]
            shown = f"{percentile(times, 0.5):8.1f} {percentile(times, 0.99):8.1f}"
            print(f"{name:32} {len(times) + len(failed):9d} {len(failed):7d} {shown} {problem or ''}", flush=True)
            for one in failed[:3]:
                print(f"    {one}")
            missed = missed or bool(failed) or problem is not None
    finally:
        site.close()
        shutil.rmtree(folder)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
