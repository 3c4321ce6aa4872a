"""CPU of ``interlock --help`` against ``python -c pass``: at most 6 times as much, 3 times as the goal.

Run it with ``python benchmarks/help.py [ROUNDS]``. The commands take turns, so that whatever else the machine does hits
all of them alike; what is compared is user and system time of the process, as the kernel counted it.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

LIMIT, GOAL = 6.0, 3.0
BIN = Path(sys.executable).parent
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "interlock --help": [str(BIN / "interlock"), "--help"],
    "interlock run --help": [str(BIN / "interlock"), "run", "--help"],
    "interlock --version": [str(BIN / "interlock"), "--version"],
}
BASE = "python -c pass"


def cpu_milliseconds(command: list[str]) -> float:
    """What one run of the command costs, in milliseconds of CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def measure(rounds: int) -> dict[str, list[float]]:
    """Every command once a round, after one round that only warms the caches."""
    for command in COMMANDS.values():
        cpu_milliseconds(command)
    costs: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            costs[name].append(cpu_milliseconds(command))
    return costs


def main() -> int:
    """Prints the table; 1 where the limit is broken."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 31
    costs = measure(rounds)
    base = statistics.median(costs[BASE])
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {rounds} rounds, medians\n")
    print(f"{'command':<22} {'CPU ms':>8} {'least':>8} {'ratio':>7}")
    for name, values in costs.items():
        median = statistics.median(values)
        print(f"{name:<22} {median:>8.1f} {min(values):>8.1f} {median / base:>6.2f}x")
    ratio = statistics.median(costs["interlock --help"]) / base
    print(f"\ninterlock --help costs {ratio:.2f} times `{BASE}`; the limit is {LIMIT:g}, the goal {GOAL:g}.")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
