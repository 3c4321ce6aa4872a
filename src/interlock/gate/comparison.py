"""Gates on rows against production: the candidate must be proven not to be worse by more than was allowed.

With gain = how much better the candidate is, and its one-sided bounds at alpha:

================================  =========
lower bound > -margin             pass
else gain < -margin               fail
else (too few rows to tell)       undecided
================================  =========
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from interlock.gate.judgement import GateResult
from interlock.gate.measurements import Measurements, Rows
from interlock.gate.paired import Difference, normal_quantile
from interlock.gate.row_metrics import Array, RowMetric, unsuitable
from interlock.gate.rows.arrays import RowArrays, arrays_of
from interlock.gate.rows.pairs import Pair, pair_of
from interlock.gate.rows.slices import Tested, examine_slices
from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Json, Verdict

SMALLEST_SAMPLE = 300
"""Rows below which no paired verdict is given: the bounds do not hold there."""

NOT_ASKED = "its run has not shown, by the check offline, that it is served as it predicted, so it is not asked"

_POWER = 0.8  # of the sample sizes that are recommended


def answer(gate: GatePlan, verdict: Verdict, because: str, evidence: dict[str, Json] | None = None) -> GateResult:
    """One gate's result, its evidence headed by what was asked."""
    return GateResult(gate=gate.title, verdict=verdict, because=because, evidence=evidence or {})


def unreliable_rows(rows: Rows) -> str:
    """Why predictions that were made may not be judged; empty where they may."""
    if rows.candidate_missing:
        return f"the predictions miss {rows.candidate_missing} of {rows.holdout} holdout rows"
    if rows.duplicate_ids:
        return f"the predictions name {rows.duplicate_ids} ids more than once"
    return ""


def reliable_rows(gate: GatePlan, measurements: Measurements) -> Rows | GateResult:
    """The rows that a gate judges, or what it says without them."""
    rows = measurements.rows
    if rows is None:
        return answer(gate, Verdict.UNDECIDED, measurements.malformed or measurements.rows_because)
    unreliable = unreliable_rows(rows)
    if unreliable:
        return answer(gate, Verdict.FAIL, unreliable, {"rows": len(rows.labels), "holdout": rows.holdout})
    return rows


def comparable_rows(gate: GatePlan, measurements: Measurements, production: str) -> RowArrays | GateResult:
    """The rows of a gate on a row metric as arrays, or what the gate says without them."""
    if gate.ratios:
        return answer(gate, Verdict.UNDECIDED, f"{gate.metric} is compared by margin, not by {', '.join(gate.ratios)}")
    rows = reliable_rows(gate, measurements)
    if isinstance(rows, GateResult):
        return rows
    baseline = rows.baseline
    if baseline is None:
        because = rows.baseline_because or NOT_ASKED
        return answer(gate, Verdict.UNDECIDED, f"{production} left no predictions of these rows: {because}")
    if baseline.name != production:
        because = f"measured beside {baseline.name}, but production is {production}"
        return answer(gate, Verdict.UNDECIDED, because)
    if baseline.missing:
        because = f"{production} has no {gate.metric} for {baseline.missing} of {len(rows.labels)} rows"
        return answer(gate, Verdict.UNDECIDED, because, {"rows": len(rows.labels)})
    return arrays_of(rows, baseline)


class Compared(NamedTuple):
    """What a gate against production says, and its slices where it has some and the rows could be compared."""

    result: GateResult
    slices: Tested | None = None


def compare_rows(gate: GatePlan, metric: RowMetric, rows: RowArrays) -> Compared:
    """The verdict of a gate on a row metric: see the first table of this module; and what its slices show."""
    metric = rows.candidate.form_of(metric)
    count = int(rows.labels.size)
    missing = count_missing(rows.candidate.values(metric))
    if missing:
        return Compared(answer(gate, Verdict.FAIL, f"the predictions miss {missing} of {count} rows", {"rows": count}))
    pair = _paired(metric, rows)
    if isinstance(pair, str):
        return Compared(answer(gate, Verdict.UNDECIDED, pair, {"rows": count}))
    slices = examine_slices(gate, pair, rows.columns) if gate.slices else None
    return Compared(_judge_rows(gate, metric, pair, count, rows), slices)


def count_missing(values: Array | None) -> int:
    """How many rows have no finite value, where there are values at all."""
    return 0 if values is None else values.size - int(np.count_nonzero(np.isfinite(values)))


def _paired(metric: RowMetric, rows: RowArrays) -> Pair | str:
    """The two models side by side, or why they cannot be compared."""
    count, theirs = int(rows.labels.size), rows.production.values(metric)
    missing = count if theirs is None else count_missing(theirs)
    ours = rows.candidate.values(metric)
    if missing:
        problem = unsuitable(metric, rows.labels, ours) if theirs is None else ""
        return problem or f"{rows.name} has no {metric.name} for {missing} of {count} rows"
    if count < SMALLEST_SAMPLE:
        more = SMALLEST_SAMPLE - count
        return f"{count} common rows are too few for a verdict: needs {more} more rows ({SMALLEST_SAMPLE} at least)"
    problem = unsuitable(metric, rows.labels, ours, theirs)
    return problem if problem or ours is None or theirs is None else pair_of(metric, rows.labels, ours, theirs)


def _judge_rows(gate: GatePlan, metric: RowMetric, pair: Pair, rows: int, sides: RowArrays) -> GateResult:
    difference = pair.difference(gate.alpha)
    sign = 1.0 if metric.is_higher_better else -1.0
    gain = sign * difference.estimate
    lowest = difference.lower if metric.is_higher_better else -difference.upper
    highest = difference.upper if metric.is_higher_better else -difference.lower
    smallest = _smallest_detectable(difference, gate.alpha)
    is_proven = lowest > -gate.margin
    more = 0 if is_proven else _rows_needed(difference, rows, gain + gate.margin, gate.alpha)
    ours, theirs = pair.values
    evidence: dict[str, Json] = {
        "method": difference.method,
        "candidate": ours,
        "production": theirs,
        "production_name": sides.name,
        "production_was_asked": sides.is_asked,
        "estimate": difference.estimate,
        "interval": [difference.lower, difference.upper],
        "rows": rows,
        "margin": gate.margin,
        "alpha": gate.alpha,
        "smallest_detectable_difference": smallest,
        "more_rows_needed": more,
    }
    direction = "better" if gain >= 0 else "worse"
    said = f"{ours:.4f} against {theirs:.4f} on {rows} rows, {direction} by {abs(gain):.4f}"
    if is_proven:
        return answer(gate, Verdict.PASS, f"{said}, at least {lowest:+.4f} > {0.0 - gate.margin:+g}", evidence)
    if gain < -gate.margin:
        certainty = "proven worse" if highest < -gate.margin else "not proven, but more likely worse"
        because = f"{said}, at least {lowest:+.4f}, at most {highest:+.4f}: {certainty} than {0.0 - gate.margin:+g}"
        return answer(gate, Verdict.FAIL, because, evidence)
    need = f"needs about {more} more rows" if more else "only a difference or a margin above 0 can prove it"
    because = f"{said}, at least {lowest:+.4f}, not above {0.0 - gate.margin:+g}; {need}"
    return answer(gate, Verdict.UNDECIDED, because, evidence)


def _smallest_detectable(difference: Difference, alpha: float) -> float:
    """The difference that so many rows would show with a power of 80 %."""
    return (normal_quantile(1.0 - alpha) + normal_quantile(_POWER)) * (difference.standard_error or 0.0)


def _rows_needed(difference: Difference, rows: int, distance: float, alpha: float) -> int | None:
    """How many more rows prove the margin with a power of 80 % if the difference is as seen; None if none would."""
    if distance <= 0.0:
        return None
    if difference.is_coarse:
        reach = max(difference.estimate - difference.lower, difference.upper - difference.estimate)
        return max(1, math.ceil(rows * reach / distance) - rows)
    return max(1, math.ceil(rows * (_smallest_detectable(difference, alpha) / distance) ** 2) - rows)
