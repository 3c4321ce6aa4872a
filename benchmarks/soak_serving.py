"""An hour at half load: whether production under steady traffic keeps its memory, its descriptors and its latency.

    python benchmarks/soak_serving.py [--minutes MINUTES] [--rate PER_SECOND]

Real Envoy before two real replicas, and the part of the control plane that keeps them. The load is half of the
highest rate that they keep up with, unless a rate is given. Each minute is a load of its own: connections come and go.
Ends with 1 where a request fails, or where the last quarter of the minutes, beside the second one (the first warms),
shows for one of the processes 10 % and 4 MB of memory more, more than 2 descriptors more, or 1.5 times the p99: medians
of minutes. A few minutes show a leak of some size.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from live_plane import KEY, Load, MadeOf, Site, percentile
from model_server import family_of, memory_of
from zero_loss import logistic_regression

MOST_BUSY = 50.0  # ms
MOST_GROWTH, SMALLEST_GROWTH, MOST_DESCRIPTORS, MOST_LATE = 1.10, 4.0, 2, 1.5


class Minute(NamedTuple):
    """``late`` is the p99 in milliseconds; ``memory`` (MB, what no file backs) and ``descriptors`` are by process,
    after the minute.
    """

    requests: int
    failed: list[str]
    late: float
    memory: dict[str, float]
    descriptors: dict[str, int]


def main() -> int:
    """Answers 1 where something is not flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rate", type=float)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="interlock-soak-"))
    site = Site(folder, MadeOf(logistic_regression(folder), "skops"))
    try:
        site.begin()
        rate = asked.rate or capacity(site) / 2
        print(f"{rate:.0f} requests/s, {asked.minutes} minutes")
        minutes = []
        for number in range(1, asked.minutes + 1):
            minutes.append(play(site, rate))
            show(number, minutes[-1])
    finally:
        site.close()
        shutil.rmtree(folder)
    wrong = judge(minutes)
    print("\n".join(wrong) or "all is flat")
    return int(bool(wrong))


def capacity(site: Site) -> float:
    """The highest rate that is kept for ten seconds with a p99 below ``MOST_BUSY``, by steps of a fifth."""
    rate = 500.0
    while True:
        asking = Load(site.proxy.endpoint(KEY), lambda _seconds, rate=rate: rate)
        time.sleep(10.0)
        answered, failed = asking.end()
        if failed or percentile([one.seconds for one in answered], 0.99) > MOST_BUSY:
            return rate / 1.2
        rate *= 1.2


def play(site: Site, rate: float) -> Minute:
    """One minute of load."""
    asking = Load(site.proxy.endpoint(KEY), lambda _seconds: rate)
    time.sleep(60.0)
    answered, failed = asking.end()
    time.sleep(2.0)  # until its connections are closed everywhere
    stable = site.environment.stable
    assert stable is not None
    assert site.keeper is not None
    assert site.keeper.pid is not None
    pids = {name: site.pid(name) for name in ("envoy", *map(stable.replica, range(stable.replicas)))}
    pids["control plane"] = site.keeper.pid
    return Minute(
        len(answered) + len(failed),
        failed,
        percentile([one.seconds for one in answered], 0.99),
        {name: memory_of(pid, "Pss_Anon:") for name, pid in pids.items()},
        {name: sum(map(count_descriptors, family_of(pid))) for name, pid in pids.items()},
    )


def count_descriptors(pid: int) -> int:
    """Open ones; 0 of a process that has ended."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def show(number: int, minute: Minute) -> None:
    """One line."""
    held = "  ".join(f"{name} {minute.memory[name]:.1f} MB {minute.descriptors[name]}" for name in minute.memory)
    print(
        f"{number:3}  {minute.requests:6} requests  {len(minute.failed)} failed  p99 {minute.late:5.1f} ms  {held}",
        flush=True,
    )


def judge(minutes: list[Minute]) -> list[str]:
    """What is not flat."""
    quarter = max(1, len(minutes) // 4)
    first, last = minutes[quarter : 2 * quarter] or minutes[:1], minutes[-quarter:]
    wrong = [f"{len(one.failed)} requests failed: {one.failed[0]}" for one in minutes if one.failed]
    for name in minutes[0].memory:
        before, after = (statistics.median(one.memory[name] for one in some) for some in (first, last))
        if after > max(before * MOST_GROWTH, before + SMALLEST_GROWTH):
            wrong.append(f"{name}: {before:.1f} MB became {after:.1f}")
        before, after = (statistics.median(one.descriptors[name] for one in some) for some in (first, last))
        if after > before + MOST_DESCRIPTORS:
            wrong.append(f"{name}: {before:g} descriptors became {after:g}")
    before, after = (statistics.median(one.late for one in some) for some in (first, last))
    if after > before * MOST_LATE:
        wrong.append(f"p99 of {before:.1f} ms became {after:.1f}")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
