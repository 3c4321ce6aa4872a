"""How often a monitor is wrong, and how soon it is right: ``python benchmarks/monitoring.py [--runs N]``.

Made worlds with fixed seeds, judged by the rules of the product with their defaults (alpha 0.05, a period of a day).
Each run draws a reference of 5000 rows and fourteen days of traffic, 1 request a second, looked at every five minutes:

- ``iid``: rows as those of the reference;
- ``daily``: each column's values move with the hour, by up to half of their spread, and so does what is missing (1 to
  3 %); the reference has rows of all hours;
- ``autocorrelated``: they wander as an autoregression with a time constant of an hour, by half of their spread.

False alarms: runs in which anything fired. Then one column is changed on the third day, in the daily world: the days
until an alert of that column fires. What is compared with: the usual rules, looked at once a day over all rows of that
day: a population stability index above 0.2, Kolmogorov-Smirnov at 5 % (both without correction for columns or looks).
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from interlock.delivery.monitoring.monitor import advance, begin_monitor
from interlock.delivery.monitoring.questions import questions_of
from interlock.delivery.monitoring.reference import ColumnReference, Reference
from interlock.pipeline.monitoring.plan import DAY, MonitoringPlan

LOOK = 300.0
ROWS = 300
DAYS = 14
LOOKS = int(DAY / LOOK)
SAMPLE = 5000
CHANGED_ON = 2
WORLDS = ("iid", "daily", "autocorrelated")
Floats = NDArray[np.float64]


class Change(NamedTuple):
    """What happens to the first column: its values move by so many spreads, or a share of them goes missing or out."""

    shift: float = 0.0
    missing: float = 0.0
    outside: float = 0.0


CHANGES = {
    "values move by 2 spreads": Change(shift=2.0),
    "values move by 1 spread": Change(shift=1.0),
    "30 % missing": Change(missing=0.3),
    "all missing": Change(missing=1.0),
    "half out of range": Change(outside=0.5),
}


def moods(world: str, columns: int, looks: int, random: np.random.Generator) -> Floats:
    """By look and column, how far its values are moved, in spreads."""
    if world == "iid":
        return np.zeros((looks, columns))
    if world == "daily":
        phases = random.random(columns)
        return 0.5 * np.sin(2.0 * np.pi * (np.arange(looks)[:, None] / LOOKS + phases))
    fade = math.exp(-LOOK / 3600.0)
    found = np.empty((looks, columns))
    mood = random.normal(size=columns)
    for look in range(looks):
        mood = fade * mood + math.sqrt(1.0 - fade * fade) * random.normal(size=columns)
        found[look] = 0.5 * mood
    return found


def rows_of(moods: Floats, rows: int, change: Change, random: np.random.Generator) -> Floats:
    """Values by row and column; NaN where one is missing. Moods are by column, or by row and column."""
    columns = moods.shape[-1]
    values = random.normal(size=(rows, columns)) + moods
    values[random.random((rows, columns)) < 0.02 * (1.0 + moods)] = np.nan
    values[:, 0] += change.shift
    values[random.random(rows) < change.outside, 0] = 1e6
    values[random.random(rows) < change.missing, 0] = np.nan
    return values


class Bins:
    """The bins of a reference, and counts in them, as ``probes.offline.reference`` makes them."""

    def __init__(self, values: Floats) -> None:
        self.edges = np.nanquantile(values, np.arange(1, 10) / 10.0, axis=0)
        self.lowest, self.highest = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        self.names = [f"input.c{column}" for column in range(values.shape[1])]
        self.reference = Reference(
            rows=len(values),
            columns=tuple(
                ColumnReference(name=name, is_number=True, strange=2.0 / (sum(counts) + 1), counts=counts)
                for name, counts in self.count(values).items()
            ),
        )

    def count(self, values: Floats) -> dict[str, tuple[int, ...]]:
        """By column: missing, outside, and in each bin."""
        places = 2 + sum((values >= edge).astype(int) for edge in self.edges)
        places[(values < self.lowest) | (values > self.highest)] = 1
        places[np.isnan(values)] = 0
        return {
            name: tuple(np.bincount(places[:, place], minlength=12).tolist()) for place, name in enumerate(self.names)
        }


class Outcome(NamedTuple):
    """When the first alert fired, and the first of the changed column (days from the change); and each day's values."""

    first: float | None
    found: float | None
    days: list[Floats]
    sample: Floats


def run(world: str, columns: int, seed: int, change: Change | None, *, keeps: bool = False) -> Outcome:
    """One made world."""
    random = np.random.default_rng([seed, columns, WORLDS.index(world)])
    of_reference = moods(world, columns, LOOKS * 40, random)[random.integers(0, LOOKS * 40, SAMPLE)]
    sample = rows_of(of_reference, SAMPLE, Change(), random)
    bins = Bins(sample)
    plan = MonitoringPlan()
    questions = questions_of(plan, bins.reference, None, SAMPLE)
    monitor = begin_monitor("made/production", "r1", "made v1", plan, "", 0.0)
    days: list[Floats] = []
    today: list[Floats] = []
    first = found = None
    for look, mood in enumerate(moods(world, columns, LOOKS * DAYS, random)):
        at = (look + 1) * LOOK
        changed = change if change is not None and look >= CHANGED_ON * LOOKS else Change()
        values = rows_of(mood, ROWS, changed, random)
        monitor = advance(monitor, questions, bins.count(values), at).state
        if keeps:
            today.append(values)
            if len(today) == LOOKS:
                days.append(np.concatenate(today))
                today.clear()
        if monitor.alerts and first is None:
            first = at / DAY - CHANGED_ON
        if any(alert.column == bins.names[0] for alert in monitor.alerts.values()):
            found = at / DAY - CHANGED_ON
            break
    return Outcome(first, found, days, sample)


def usual_alarms(outcome: Outcome) -> tuple[bool, bool]:
    """Whether the population stability index, and Kolmogorov-Smirnov, alarmed on any day and column."""
    psi = smirnov = False
    critical = 1.358  # of the two-sample statistic at 5 %
    for day in outcome.days:
        for column in range(day.shape[1]):
            old, new = (part[~np.isnan(part)] for part in (outcome.sample[:, column], day[:, column]))
            edges = np.quantile(old, np.arange(1, 10) / 10.0)
            one, other = (
                np.bincount(np.searchsorted(edges, part, side="right"), minlength=10) / len(part) for part in (old, new)
            )
            psi |= bool(np.sum((other - one) * np.log((other + 1e-6) / (one + 1e-6))) > 0.2)
            grid = np.sort(old)
            gap = np.abs(
                np.searchsorted(np.sort(new), grid, side="right") / len(new) - np.arange(1, len(old) + 1) / len(old)
            )
            smirnov |= bool(gap.max() > critical * math.sqrt(1.0 / len(old) + 1.0 / len(new)))
    return psi, smirnov


def false_alarms(runs: int) -> Iterator[str]:
    """One line for each world and number of columns."""
    yield "| world | columns | false alarms | index > 0.2, daily | KS at 5 %, daily |\n|---|---|---|---|---|"
    for columns in (20, 200):
        for world in WORLDS:
            yield false_alarms_in(world, columns, runs if columns == 20 else max(2, runs // 10))


def false_alarms_in(world: str, columns: int, runs: int) -> str:
    """The line of one world; the usual rules are played over its first three runs."""
    outcomes = [run(world, columns, seed, None, keeps=seed < 3) for seed in range(runs)]
    usual = [usual_alarms(outcome) for outcome in outcomes[:3]]
    alarmed = sum(outcome.first is not None for outcome in outcomes)
    psi, smirnov = (f"{sum(one[place] for one in usual)} of {len(usual)}" for place in (0, 1))
    return f"| {world} | {columns} | {alarmed} of {runs} | {psi} | {smirnov} |"


def detections(runs: int) -> Iterator[str]:
    """One line for each change and number of columns."""
    yield "| change, on the third day of the daily world | columns | found | median | slowest |\n|---|---|---|---|---|"
    for name, change in CHANGES.items():
        for columns, count in ((20, max(2, runs // 5)), (200, max(2, runs // 30))):
            found = [run("daily", columns, seed, change).found for seed in range(count)]
            known = [days for days in found if days is not None and days > 0]
            told = [_told(statistics.median(known)), _told(max(known))] if known else ["-", "-"]
            yield f"| {name} | {columns} | {len(known)} of {count} | {told[0]} | {told[1]} |"


def _told(days: float) -> str:
    return f"{days:.1f} d" if days >= 1 else f"{days * 24:.1f} h"


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args().runs
    began = time.perf_counter()
    for line in (*false_alarms(runs), "", *detections(runs)):
        print(line, flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
