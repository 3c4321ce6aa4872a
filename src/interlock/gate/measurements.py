"""Reports of probes, read strictly: they come out of a sandbox in which the user's code has run.

Whatever is not a finite number of the right kind is carried as a reason, never as a number, and never dropped.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from interlock.pipeline.gates.served import SIZE
from interlock.vocabulary import Json, Stored

LATENCY_SHARES: Mapping[str, float] = MappingProxyType(
    {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
)
"""The share of requests that each latency percentile covers. A percentile is the smallest latency that at least so many
requests do not exceed."""

LIFE_METRICS = ("startup_ms", "memory_peak_mb", "cpu_s_per_1000", "throughput_rps")
"""Numbers that each life of a server has one of."""


def smallest_latency_sample(share: float) -> int:
    """How many requests a percentile needs: so many that two lie above it."""
    return round(2.0 / (1.0 - share))


class Reading(Stored):
    """A number, or the reason why there is none."""

    value: float | None = None
    because: str = ""


Cell: TypeAlias = float | str | None
"""A value of a column by which rows are told apart; None where there is none."""


class BaselineRows(Stored):
    """What production predicted for the candidate's rows, in the same order; None where it predicted nothing.

    ``is_asked``: its server was asked for them now; else they are of its own run, on the same holdout.
    """

    name: str
    is_asked: bool = False
    prediction: tuple[float | None, ...]
    probability: tuple[float | None, ...] | None = None
    right: tuple[float | None, ...] | None = None
    missing: int = 0
    columns: dict[str, tuple[Cell, ...]] = {}


class Rows(Stored):
    """Labels and predictions, one of each for every holdout row that has both, in order of id.

    ``right`` is what was given to the class that the label is, of more than two classes. ``columns`` are those that
    gates ask for: slices, groups, losses of the candidate. ``baseline_because``: why production could not be asked.
    """

    holdout: int
    candidate_missing: int
    unknown_ids: int
    duplicate_ids: int
    labels: tuple[float, ...]
    prediction: tuple[float, ...]
    probability: tuple[float, ...] | None = None
    right: tuple[float, ...] | None = None
    columns: dict[str, tuple[Cell, ...]] = {}
    baseline: BaselineRows | None = None
    baseline_because: str = ""


class Life(Stored):
    """One life of a model server: its latencies in milliseconds in order of the requests, and LIFE_METRICS."""

    latency_ms: tuple[float, ...] = ()
    numbers: dict[str, Reading] = {}

    def reading(self, metric: str) -> Reading:
        """Its measurement of this name: a latency or one of LIFE_METRICS."""
        if metric in LATENCY_SHARES:
            return percentile_of(self.latency_ms, LATENCY_SHARES[metric])
        return self.numbers.get(metric, Reading(because="was not measured"))


class ServedSide(Stored):
    """One model as it was served, in one life of its server or more.

    ``loaded_ms`` are the latencies under open-loop load of ``rate`` requests a second, where the model names a rate.
    """

    name: str
    lives: tuple[Life, ...] = ()
    rate: float | None = None
    loaded_ms: tuple[float, ...] = ()
    model_size_mb: Reading = Reading(because="was not measured")
    requests: int = 0
    errors: int = 0
    golden_checked: int = 0
    golden_wrong: tuple[str, ...] = ()

    @property
    def disqualified(self) -> str:
        """Why no number of it counts, however good; empty where they count."""
        if self.errors:
            return f"{self.name} answered {self.errors} of {self.requests} requests with an error"
        if self.golden_wrong:
            wrong, checked = len(self.golden_wrong), max(self.golden_checked, len(self.golden_wrong))
            return f"{self.name} answered {wrong} of {checked} golden requests wrongly: {self.golden_wrong[0]}"
        return ""

    @property
    def latency_ms(self) -> tuple[float, ...]:
        """The latencies that limits judge: those at the declared rate; without one, those of all lives."""
        if self.rate is not None:
            return self.loaded_ms
        return tuple(latency for life in self.lives for latency in life.latency_ms)

    def reading(self, metric: str) -> Reading:
        """The measurement of this name that limits judge: the most memory of all lives, of others their median."""
        if metric in LATENCY_SHARES:
            return percentile_of(self.latency_ms, LATENCY_SHARES[metric])
        values = self.values(metric)
        if isinstance(values, Reading):
            return values
        return Reading(value=max(values) if metric == "memory_peak_mb" else statistics.median(values))

    def values(self, metric: str) -> tuple[float, ...] | Reading:
        """The measurement of this name in each life, the model's size once; or why there is one missing."""
        readings = [self.model_size_mb] if metric == SIZE else [life.reading(metric) for life in self.lives]
        missing = [reading for reading in readings if reading.value is None]
        if missing or not readings:
            return missing[0] if missing else Reading(because="was not measured")
        return tuple(reading.value for reading in readings if reading.value is not None)


def percentile_of(latencies: Sequence[float], share: float) -> Reading:
    """The smallest latency that at least this share of the requests do not exceed, where there are enough of them."""
    count, needed = len(latencies), smallest_latency_sample(share)
    if count < needed:
        return Reading(because=f"needs {needed} requests, and {count} were measured")
    return Reading(value=sorted(latencies)[math.ceil(share * count) - 1])


class Measurements(Stored):
    """Everything gates may judge. Each ``..._because`` says why the field beside it is None.

    ``malformed`` is set where the report of metrics and predictions is not of the agreed shape: none of it counts then.
    """

    metrics: dict[str, float] = {}
    invalid: dict[str, str] = {}
    malformed: str = ""
    rows: Rows | None = None
    rows_because: str = ""
    served: ServedSide | None = None
    served_because: str = ""
    served_baseline: ServedSide | None = None
    served_baseline_because: str = ""


class _Unreadable(Exception):
    """A part of a report that is not what it should be."""


_T = TypeVar("_T")


def read_measurements(reports: Mapping[str, Json]) -> Measurements:
    """The reports ``measurements`` and ``served`` (either may be absent) as values that can be trusted to be finite."""
    report, served = reports.get("measurements"), reports.get("served")
    numbers, malformed = _attempt(_metrics, report)
    rows, malformed_rows = _attempt(_rows, report)
    side, side_because = _attempt(_candidate_side, served)
    baseline, baseline_because = _attempt(_baseline_side, served)
    metrics, invalid = numbers or ({}, {})
    return Measurements(
        metrics=metrics,
        invalid=invalid,
        malformed=malformed or malformed_rows,
        rows=rows,
        rows_because="there are no predictions joined with a labelled holdout" if rows is None else "",
        served=side,
        served_because=side_because or ("" if side else "the model was not measured as served"),
        served_baseline=baseline,
        served_baseline_because=baseline_because or ("" if baseline else "production was not measured as served"),
    )


def _attempt(read: Callable[[Json], _T | None], report: Json) -> tuple[_T | None, str]:
    """What ``read`` makes of the report, or None and why."""
    try:
        return read(report), ""
    except _Unreadable as problem:
        return None, str(problem)


def _metrics(report: Json) -> tuple[dict[str, float], dict[str, str]]:
    whole = _mapping(report)
    invalid = {name: str(reason) for name, reason in _mapping(whole.get("invalid")).items()}
    metrics: dict[str, float] = {}
    for name, value in _mapping(whole.get("metrics")).items():
        reading = read_number(value)
        if reading.value is None:
            invalid[name] = reading.because
        elif name not in invalid:
            metrics[name] = reading.value
    return metrics, invalid


def read_number(value: Json) -> Reading:
    """A finite number, or what it is instead."""
    if isinstance(value, bool):
        return Reading(because=f"is {str(value).lower()}, not a number")
    if not isinstance(value, int | float):
        return Reading(because="is missing" if value is None else f"is {type(value).__name__}, not a number")
    try:
        number = float(value)
    except OverflowError:
        return Reading(because="is too large for a number")
    if not math.isfinite(number):
        return Reading(because=f"is {number}, not a finite number")
    return Reading(value=number)


def _rows(report: Json) -> Rows | None:
    raw = _mapping(report).get("rows")
    if raw is None:
        return None
    rows = _mapping(raw)
    candidate = _mapping(rows.get("candidate"))
    labels = _numbers(rows.get("labels"), "labels")
    return Rows(
        holdout=_count(rows, "holdout"),
        candidate_missing=_count(rows, "candidate_missing"),
        unknown_ids=_count(rows, "unknown_ids"),
        duplicate_ids=_count(rows, "duplicate_ids"),
        labels=labels,
        prediction=_numbers(candidate.get("prediction"), "predictions", len(labels)),
        probability=_optional(candidate.get("probability"), len(labels)),
        right=_optional(candidate.get("right"), len(labels)),
        columns=_cells(rows.get("columns"), len(labels)),
        baseline=_baseline_rows(rows.get("baseline"), len(labels)),
        baseline_because=str(rows.get("baseline_because") or ""),
    )


def _baseline_rows(raw: Json, expected: int) -> BaselineRows | None:
    if raw is None:
        return None
    baseline = _mapping(raw)
    probability, right = baseline.get("probability"), baseline.get("right")
    return BaselineRows(
        name=str(baseline.get("name")),
        is_asked=baseline.get("is_asked") is True,
        prediction=_gappy(baseline.get("prediction"), expected),
        probability=None if probability is None else _gappy(probability, expected),
        right=None if right is None else _gappy(right, expected),
        missing=_count(baseline, "missing"),
        columns=_cells(baseline.get("columns"), expected),
    )


def _candidate_side(served: Json) -> ServedSide | None:
    raw = _mapping(served).get("candidate")
    return None if raw is None else _side(raw, "the candidate")


def _baseline_side(served: Json) -> ServedSide | None:
    raw = _mapping(served).get("baseline")
    return None if raw is None else _side(raw, str(_mapping(raw).get("name")))


def _side(raw: Json, name: str) -> ServedSide:
    side = _mapping(raw)
    golden, lives, loaded = _mapping(side.get("golden")), side.get("lives"), side.get("loaded")
    wrong = golden.get("wrong", [])
    if not isinstance(wrong, list):
        raise _Unreadable(f"the golden requests of {name} cannot be read")
    if not isinstance(lives, list):
        raise _Unreadable(f"the lives of {name} cannot be read")
    rate = None if loaded is None else _positive(_mapping(loaded).get("rate"))
    if rate is not None and rate.value is None:
        raise _Unreadable(f"the rate at which {name} was asked {rate.because}")
    return ServedSide(
        name=name,
        lives=tuple(_life(life, name) for life in lives),
        rate=None if rate is None else rate.value,
        loaded_ms=() if loaded is None else _latencies(_mapping(loaded), name),
        model_size_mb=_positive(side.get("model_size_mb")),
        requests=_count(side, "requests"),
        errors=_count(side, "errors"),
        golden_checked=_count(golden, "checked") if golden else 0,
        golden_wrong=tuple(str(one) for one in wrong),
    )


def _life(raw: Json, name: str) -> Life:
    life = _mapping(raw)
    numbers = {metric: _positive(life[metric]) for metric in LIFE_METRICS if metric in life}
    return Life(latency_ms=_latencies(life, name), numbers=numbers)


def _latencies(values: dict[str, Json], name: str) -> tuple[float, ...]:
    latencies = _numbers(values.get("latency_ms"), "latencies")
    if any(latency <= 0.0 for latency in latencies):
        raise _Unreadable(f"the latencies of {name} hold one that is not above 0")
    return latencies


def _positive(value: Json) -> Reading:
    reading = read_number(value)
    if reading.value is not None and reading.value <= 0.0:
        return Reading(because=f"is {reading.value:g}, not above 0")
    return reading


def _mapping(value: Json) -> dict[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Unreadable("the report is not of the shape that was agreed")
    return value


def _count(values: dict[str, Json], name: str) -> int:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Unreadable(f"the report's {name} is no count")
    return value


def _numbers(value: Json, what: str, expected: int | None = None) -> tuple[float, ...]:
    if not isinstance(value, list) or (expected is not None and len(value) != expected):
        raise _Unreadable(f"the report's {what} are missing or not as many as they should be")
    readings = [read_number(one) for one in value]
    for position, reading in enumerate(readings, start=1):
        if reading.value is None:
            raise _Unreadable(f"number {position} of the report's {what} {reading.because}")
    return tuple(reading.value for reading in readings if reading.value is not None)


def _optional(value: Json, expected: int) -> tuple[float, ...] | None:
    return None if value is None else _numbers(value, "probabilities", expected)


def _gappy(value: Json, expected: int) -> tuple[float | None, ...]:
    if not isinstance(value, list) or len(value) != expected:
        raise _Unreadable("production's predictions are not as many as the candidate's")
    return tuple(None if one is None else read_number(one).value for one in value)


def _cells(value: Json, expected: int) -> dict[str, tuple[Cell, ...]]:
    columns: dict[str, tuple[Cell, ...]] = {}
    for name, cells in _mapping(value).items():
        if not isinstance(cells, list) or len(cells) != expected:
            raise _Unreadable(f"the report's column {name} is not as long as it should be")
        columns[name] = tuple(cell if isinstance(cell, str) else read_number(cell).value for cell in cells)
    return columns
