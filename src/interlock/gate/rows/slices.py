"""Slices: parts of the rows in which the candidate may be worse although it is not worse on all of them.

A slice never has to be proven good, only a proven harm blocks: "no slice drops by 2 points" blocks an identical model
in four of five runs. Over all slices and metrics of all gates of a judgement, the probabilities adjusted by Holm:

=======================================================  =================
adjusted probability <= alpha and worse than the margin   fail
a column is not there, or no slice has enough rows        undecided
else                                                      the gate's own verdict
=======================================================  =================

What Benjamini and Hochberg would list is shown as worth a look; it blocks nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlock.gate.judgement import GateResult
from interlock.gate.paired import classes_harm, classes_values, kinds_of
from interlock.gate.row_metrics import Array, RowMetric, evaluate
from interlock.gate.rows.arrays import Column
from interlock.gate.rows.harm import benjamini_hochberg, harm_probability, holm, mcnemar_mid_p
from interlock.pipeline.plan import GatePlan, SlicePlan
from interlock.vocabulary import Json, Verdict

SMALLEST_SLICE = 50
"""Rows below which a slice is not judged."""
SMALLEST_CLASS = 10
"""Rows of either class below which a slice is not judged by a metric of two classes."""
MOST_VALUES = 20
"""A column of numbers with more different values than this is cut at its quantiles."""
QUANTILES = 4
"""Parts of a column of numbers where the gate does not say how many."""

_SHOWN = 10
_AT_ONCE = 65_536  # rows whose intermediate results stay in the processor's cache


class Parts(NamedTuple):
    """One column cut into slices: for each row the number of its slice, and the slices' names."""

    codes: NDArray[np.intp]
    names: tuple[str, ...]


class SliceTest(NamedTuple):
    """One slice judged by one metric. ``gain`` is how much better the candidate is, ``probability`` that of harm."""

    name: str
    rows: int
    candidate: float
    production: float
    gain: float
    probability: float


class Tested(NamedTuple):
    """All slices of one gate, and how many were too small."""

    tests: tuple[SliceTest, ...]
    skipped: int
    problem: str = ""


Examine: TypeAlias = Callable[[Parts], tuple[list[SliceTest], int]]
"""The slices of one column that are large enough, and how many have any rows."""


def cut(name: str, column: Column, quantiles: int | None = None) -> Parts:
    """The slices of a column: its values, or for numbers with many values its quantiles."""
    is_missing = _is_missing(column)
    if is_missing.any():
        there = cut(name, column[~is_missing], quantiles)
        codes = np.full(column.size, len(there.names), dtype=np.intp)
        codes[~is_missing] = there.codes
        return Parts(codes, (*there.names, f"{name} missing"))
    if not np.issubdtype(column.dtype, np.number):
        values, codes = np.unique(column.astype(str), return_inverse=True)
        return Parts(codes.astype(np.intp), tuple(f"{name}={value}" for value in values))
    if quantiles is None:
        by_value = _by_value(name, column)
        if by_value is not None:
            return by_value
    return _by_quantile(name, column.astype(np.float64), quantiles or QUANTILES)


def _is_missing(column: Column) -> NDArray[np.bool_]:
    if column.dtype == object:
        return np.array([cell is None for cell in column.tolist()], dtype=np.bool_)
    return np.isnan(column.astype(np.float64)) if column.dtype.kind == "f" else np.zeros(column.size, dtype=np.bool_)


def _by_value(name: str, column: Column) -> Parts | None:
    if column.size and np.issubdtype(column.dtype, np.integer):
        least = int(column.min())
        span = int(column.max()) - least + 1
        if span <= MOST_VALUES:  # a value that is not there is a slice without rows
            whole = column.astype(np.intp, copy=False)
            codes = whole - least if least else whole
            return Parts(codes, tuple(f"{name}={least + place}" for place in range(span)))
    values, found = np.unique(column, return_inverse=True)
    if values.size > MOST_VALUES:
        return None
    return Parts(found.astype(np.intp), tuple(f"{name}={float(value):g}" for value in values))


def _by_quantile(name: str, column: Array, parts: int) -> Parts:
    edges = np.unique(np.quantile(column, np.arange(1, parts) / parts)) if column.size else np.empty(0)
    codes = np.searchsorted(edges, column, side="right").astype(np.intp)
    ends = [f"{edge:g}" for edge in edges]
    lowest = [f"{name} below {ends[0]}"] if ends else [f"{name} of any value"]
    between = [f"{name} {low} to below {high}" for low, high in itertools.pairwise(ends)]
    highest = [f"{name} from {ends[-1]}"] if ends else []
    return Parts(codes, (*lowest, *between, *highest))


def examine_slices(
    gate: GatePlan, metric: RowMetric, labels: Array, pair: tuple[Array, Array], columns: Mapping[str, Column]
) -> Tested:
    """Every slice that the gate asks for; ``problem`` says why there is none, or why not all are there."""
    found = [SlicePlan(column=name) for name in sorted(columns)]
    wanted = found if isinstance(gate.slices, str) else list(gate.slices)
    absent = [part.column for part in wanted if part.column not in columns]
    if absent:
        return Tested((), 0, f"neither the holdout nor the predictions have a column {absent[0]} to slice by")
    if metric.name == "accuracy":
        examine = _by_counts(labels, *pair)
    elif metric.is_of_classes:
        examine = _by_kinds(metric, kinds_of(labels, *pair))
    else:
        examine = _by_metric(metric, labels, *pair)
    tests: list[SliceTest] = []
    skipped = 0
    for part in wanted:
        judged, there = examine(cut(part.column, columns[part.column], part.quantiles))
        tests += judged
        skipped += there - len(judged)
    problem = "" if tests else f"no slice has {SMALLEST_SLICE} rows, and {SMALLEST_CLASS} of either class"
    return Tested(tuple(tests), skipped, problem)


def _by_metric(metric: RowMetric, labels: Array, ours: Array, theirs: Array) -> Examine:
    def examine(parts: Parts) -> tuple[list[SliceTest], int]:
        counts = np.bincount(parts.codes, minlength=len(parts.names))
        order = np.argsort(parts.codes, kind="stable")
        tests = []
        for name, index in zip(parts.names, np.split(order, np.cumsum(counts)[:-1]), strict=True):
            truth, candidate, production = labels[index], ours[index], theirs[index]
            if is_too_small(metric, truth):
                continue
            values = evaluate(metric, truth, candidate), evaluate(metric, truth, production)
            gain = values[0] - values[1] if metric.is_higher_better else values[1] - values[0]
            chance = harm_probability(metric, truth, candidate, production)
            tests.append(SliceTest(name, index.size, *values, gain, chance))
        return tests, int(np.count_nonzero(counts))

    return examine


def _by_counts(labels: Array, ours: Array, theirs: Array) -> Examine:
    """Accuracy needs no more than counts: in one pass, of the rows that neither, one or both have right."""
    right = (ours == labels).astype(np.int8) + 2 * (theirs == labels).astype(np.int8)

    def examine(parts: Parts) -> tuple[list[SliceTest], int]:
        table = _count(parts, right, 4)
        tests = []
        for name, (neither, won, lost, both) in zip(parts.names, table.tolist(), strict=True):
            rows = neither + won + lost + both
            if rows < SMALLEST_SLICE:
                continue
            values = (won + both) / rows, (lost + both) / rows
            tests.append(SliceTest(name, rows, *values, (won - lost) / rows, mcnemar_mid_p(lost, won)))
        return tests, int(np.count_nonzero(table.sum(axis=1)))

    return examine


def _by_kinds(metric: RowMetric, kinds: NDArray[np.int8]) -> Examine:
    """Metrics of classes need no more than the counts of the eight kinds of rows: label and both sides' class."""

    def examine(parts: Parts) -> tuple[list[SliceTest], int]:
        table = _count(parts, kinds, 8).astype(np.float64)
        tests = []
        for name, counts in zip(parts.names, table, strict=True):
            rows, positives = int(counts.sum()), int(counts[4:].sum())
            if rows < SMALLEST_SLICE or min(positives, rows - positives) < SMALLEST_CLASS:
                continue
            values = classes_values(metric, counts)
            gain = values[0] - values[1] if metric.is_higher_better else values[1] - values[0]
            tests.append(SliceTest(name, rows, *values, gain, classes_harm(metric, counts)))
        return tests, int(np.count_nonzero(table.sum(axis=1)))

    return examine


def _count(parts: Parts, kinds: NDArray[np.int8], different: int) -> NDArray[np.intp]:
    """How many rows of each kind each slice has, in one pass."""
    size = different * len(parts.names)
    counts = np.zeros(size, dtype=np.intp)
    for start in range(0, kinds.size, _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        counts += np.bincount(parts.codes[some] * different + kinds[some], minlength=size)
    return counts.reshape(-1, different)


def is_too_small(metric: RowMetric, labels: Array) -> bool:
    """Whether so few rows say nothing of the metric."""
    positives = int((labels == 1.0).sum())
    has_rare_class = metric.is_binary and min(positives, labels.size - positives) < SMALLEST_CLASS
    return labels.size < SMALLEST_SLICE or has_rare_class


def with_slices(
    gates: Sequence[GatePlan], results: Sequence[GateResult], tested: Mapping[int, Tested]
) -> tuple[GateResult, ...]:
    """The results with what their slices say; ``tested`` by the place of the gate. Holm goes over all of them."""
    everything = [test for place in sorted(tested) for test in tested[place].tests]
    probabilities = [test.probability for test in everything]
    adjusted = iter(zip(holm(probabilities), benjamini_hochberg(probabilities), strict=True))
    judged = list(results)
    for place in sorted(tested):
        found = [(test, *next(adjusted)) for test in tested[place].tests]
        judged[place] = _judge(gates[place], results[place], tested[place], found, len(everything))
    return tuple(judged)


def _judge(
    gate: GatePlan, result: GateResult, tested: Tested, found: Sequence[tuple[SliceTest, float, float]], family: int
) -> GateResult:
    if tested.problem:
        verdict = Verdict.FAIL if result.verdict is Verdict.FAIL else Verdict.UNDECIDED
        return result.model_copy(update={"verdict": verdict, "because": f"{tested.problem}; {result.because}"})
    worst_first = sorted(found, key=lambda one: one[0].probability)
    harmed = [one for one in worst_first if one[1] <= gate.alpha and one[0].gain < -gate.margin]
    look_at = [one[0].name for one in worst_first if one[2] <= gate.alpha]
    shown: list[Json] = [_shown(*one, blocks=one in harmed) for one in worst_first[: max(_SHOWN, len(harmed))]]
    evidence: dict[str, Json] = {
        "tested": len(found),
        "skipped": tested.skipped,
        "family": family,
        "look_at": list(look_at),
        "worst": shown,
    }
    because = f"{result.because}; none of {len(found)} slices is proven worse"
    because += f", look at {', '.join(look_at[:3])}" if look_at else ""
    verdict = result.verdict
    if harmed:
        test, probability, _ = harmed[0]
        more = f" and {len(harmed) - 1} more slices are" if len(harmed) > 1 else " is"
        because = f"{test.name}{more} proven worse: {test.candidate:.4f} against {test.production:.4f}"
        because += f" on {test.rows} rows (probability {probability:.2g}, Holm over {family} tests); {result.because}"
        verdict = Verdict.FAIL
    update = {"verdict": verdict, "because": because, "evidence": {**result.evidence, "slices": evidence}}
    return result.model_copy(update=update)


def _shown(test: SliceTest, adjusted: float, false_share: float, *, blocks: bool) -> Json:
    return {
        "slice": test.name,
        "rows": test.rows,
        "candidate": test.candidate,
        "production": test.production,
        "gain": test.gain,
        "probability": test.probability,
        "holm": adjusted,
        "benjamini_hochberg": false_share,
        "blocks": blocks,
    }
