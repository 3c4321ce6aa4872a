"""The traffic that a canary is played over: even, or as a prediction log recorded it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from interlock.errors import Refused

TICK = 10.0
"""Seconds between two looks. Live ones are closer, which changes little: each is judged within itself."""
AROUND = 3
"""Ticks on either side of one whose failures tell how many fail in it: a minute together."""
LEAST_TICKS = 6


class Arrivals(NamedTuple):
    """What comes in one tick to both sides together: requests, and the share of stable's that fail."""

    requests: float
    rate: float


class Traffic(NamedTuple):
    """What comes tick by tick; after the last the first comes again."""

    arrivals: tuple[Arrivals, ...]

    @property
    def requests(self) -> float:
        """A minute, in the mean."""
        return sum(one.requests for one in self.arrivals) / len(self.arrivals) * 60.0 / TICK

    @property
    def rate(self) -> float:
        """The share of stable's requests that fail."""
        failing = sum(one.requests * one.rate for one in self.arrivals)
        return failing / max(1.0, sum(one.requests for one in self.arrivals))

    def at(self, tick: int) -> Arrivals:
        """What comes in this one."""
        return self.arrivals[tick % len(self.arrivals)]


def steady(requests: float, rate: float) -> Traffic:
    """So many requests a minute, of which that share fails."""
    return Traffic((Arrivals(requests / 60.0 * TICK, rate),))


def recorded(place: Path, rate: float | None) -> Traffic:
    """What a prediction log, or all those of a folder, recorded; ``rate`` takes the place of the recorded failures.

    Copies of requests are none. Refused where there is no log, or less than a minute of it.
    """
    paths = sorted(place.rglob("*.jsonl")) if place.is_dir() else [place]
    asked: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    for tick, is_failure in _requests(paths):
        asked[tick] += 1
        failed[tick] += is_failure
    ticks = range(min(asked), max(asked) + 1) if asked else range(0)
    if len(ticks) < LEAST_TICKS:
        remedy = "name a prediction log: data/predictions/MODEL.ENVIRONMENT of the server's state folder"
        raise Refused("it holds less than a minute of requests", str(place), remedy)
    if rate is None and not failed.total():
        raise Refused("no request failed in it", str(place), "say with --errors how many of stable's shall fail")
    return Traffic(
        tuple(Arrivals(float(asked[tick]), _rate(asked, failed, tick) if rate is None else rate) for tick in ticks)
    )


def _rate(asked: Counter[int], failed: Counter[int], tick: int) -> float:
    around = range(tick - AROUND, tick + AROUND)
    return sum(failed[one] for one in around) / max(1, sum(asked[one] for one in around))


def _requests(paths: Iterable[Path]) -> Iterator[tuple[int, bool]]:
    """The tick of each request of a caller, and whether it failed. A torn line is of a process that was killed."""
    for path in paths:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError as problem:
            raise Refused(f"it cannot be read: {problem.strerror}", str(path), "name a prediction log") from problem
        for line in lines:
            try:
                record = json.loads(line)
                found = int(record["time"] // TICK), record["status"] >= 500
            except (ValueError, KeyError, TypeError):
                continue
            if record.get("copied_to") != record.get("revision"):
                yield found
