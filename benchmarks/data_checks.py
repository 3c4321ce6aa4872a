"""How often the checks of data alarm although nothing is wrong, and what they cost: on flights of a whole year.

``python benchmarks/data_checks.py``: samples of each month are compared with those of every other, which is harder than
two samples of one process, for weather, schedules and delays really move. Then the data probe's time for a table
with summaries, and for the same table without.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from interlock.cli.demo import dataset as flights
from interlock.gate.data.judge import judge_data
from interlock.pipeline.checks.data import DataChecksSpec
from interlock.pipeline.checks.resolution import data_checks
from interlock.pipeline.plan import DataPlan
from interlock.probes import data as probe
from interlock.probes.data_table import read_table
from interlock.probes.summaries import summarise
from interlock.vocabulary import Json

SIZES = (700, 3000)
MONTHS = range(1, 13)


def write(path: Path, year: flights.Year, month: int, size: int, seed: int) -> None:
    """A sample of one month as CSV."""
    flights.write_records(path, map(year.joined, year.sample([month], size, seed)), flights.COLUMNS)


def compare_months(year: flights.Year, folder: Path, size: int, told: Counter[str]) -> int:
    """Every month's sample against every other's, and against another sample of its own; answers how many pairs."""
    plans = [
        DataPlan(
            name=name, path=str(folder / f"{name}.csv"), id="id", label="late", checks=data_checks(DataChecksSpec())
        )
        for name in ("train", "holdout")
    ]
    datasets = [plan.model_dump(exclude={"checks"}) for plan in plans]
    reports: list[Json] = []
    for month, seed in itertools.product(MONTHS, range(2)):
        write(folder / "train.csv", year, month, size, seed)
        write(folder / "holdout.csv", year, month % 12 + 1, max(300, size // 3), seed)
        found = probe.measure({"data": datasets, "holdout": "holdout"})
        reports.append(json.loads(json.dumps(found["report"])))
    pairs = list(itertools.permutations(reports, 2))
    for new, old in pairs:
        checked = judge_data(plans, new, old, "flights v1", 0.0)
        told.update(result.gate for result in checked.objections)
    return len(pairs)


def measure_cost(year: flights.Year, folder: Path, rounds: int) -> tuple[float, float]:
    """Medians of seconds, interleaved: reading a table of 24,000 flights, and summarising it."""
    path = folder / "train.csv"
    write(path, year, 1, 24_000, 0)
    reading, summarising = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        cells = read_table(str(path)).cells
        read = time.perf_counter()
        summarise([{"name": "train", "id": "id", "label": "late"}], {"train": cells}, None)
        reading.append(read - began)
        summarising.append(time.perf_counter() - read)
    return statistics.median(reading), statistics.median(summarising)


def main() -> int:
    """Prints both; exit code 1 where a check alarmed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    year, alarms, pairs = flights.Year(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            pairs += compare_months(year, Path(folder), size, alarms)
        print(f"{pairs} pairs of months, every check that is on by default: {alarms.total()} alarms {dict(alarms)}")
        reading, summarising = measure_cost(year, Path(folder), rounds)
    share = summarising / reading
    print(f"24,000 flights: read in {reading:.2f} s, summarised in {summarising:.2f} s ({share:.2f} of it)")
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
