"""The offline gates: a plan's rules over the measurements of one run.

A limit (``min``, ``max``) on a number that is missing, misspelt or not finite is undecided, never passed. Metrics of
rows are computed again from the predictions, so that a metrics file cannot say what the predictions do not; latencies
and memory come from the model as it was served alone.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from interlock.gate.comparison import (
    Compared,
    answer,
    comparable_rows,
    compare_rows,
    reliable_rows,
    unreliable_rows,
)
from interlock.gate.judgement import GateResult, Judgement
from interlock.gate.measurements import Measurements, Reading, Rows, read_measurements
from interlock.gate.paired import mean_error
from interlock.gate.ranking import auc_error
from interlock.gate.reuse.conditional import judge_condition
from interlock.gate.row_metrics import ROW_METRICS, RowMetric, compute, row_metric, unsuitable
from interlock.gate.rows.arrays import candidate_of, columns_of
from interlock.gate.rows.gaps import judge_gap
from interlock.gate.rows.slices import with_slices
from interlock.gate.serving.comparison import compare_served
from interlock.pipeline.gates.served import SERVED_METRICS
from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Json, Stored, Verdict

ProductionKnowledge: TypeAlias = str
"""The name of the production model version as baselines carry it, or one of the two constants below."""

NO_PRODUCTION: Final = "none"
"""A server judges, and it knows that nothing is in production."""

UNKNOWN_PRODUCTION: Final = "unknown"
"""Nobody knows what is in production: a run without a server."""

_TOLERANCE = 1e-4  # between a metrics file and its predictions: files are written with few digits


class Finding(Stored):
    """A metric's number and where it is from; ``disqualified`` fails every limit on it."""

    reading: Reading
    disqualified: str = ""
    evidence: dict[str, Json] = {}


def judge(gates: Sequence[GatePlan], reports: Mapping[str, Json], production: ProductionKnowledge) -> Judgement:
    """The verdict of every gate. ``reports`` are those of the probes, by ``measurements`` and ``served``."""
    measurements = read_measurements(reports)
    compared = [_judge_one(gate, measurements, production) for gate in gates]
    results = [_with_error(gate, one.result, measurements) for gate, one in zip(gates, compared, strict=True)]
    return Judgement(results=with_slices(gates, results, [one.slices for one in compared]))


def judge_limits(gates: Sequence[GatePlan], report: Json) -> Judgement:
    """The verdicts of the gates that nothing but the report ``measurements`` decides, as ``judge`` would give them."""
    measurements = read_measurements({"measurements": report})
    limits = [gate for gate in gates if is_limit_on_metric(gate)]
    results = [_with_error(gate, _judge_limit(gate, measurements), measurements) for gate in limits]
    return Judgement(results=tuple(results))


def is_limit_on_metric(gate: GatePlan) -> bool:
    """Whether it is a limit on a number of metrics files or predictions: nothing else has a say in it."""
    return gate.against is None and gate.condition is None and gate.metric not in SERVED_METRICS


def _judge_one(gate: GatePlan, measurements: Measurements, production: ProductionKnowledge) -> Compared:
    metric = row_metric(gate.metric)
    if gate.against is None:
        return Compared(_judge_limit(gate, measurements))
    unasked = _unasked(gate, metric, production)
    if unasked is not None:
        return Compared(unasked)
    if metric is None:
        return Compared(compare_served(gate, measurements, production))
    rows = comparable_rows(gate, measurements, production)
    if isinstance(rows, GateResult):
        return Compared(rows)
    if gate.condition is not None:
        pair = rows.candidate.prediction, rows.production.prediction
        return Compared(judge_condition(gate, gate.condition, rows.labels, *pair))
    return compare_rows(gate, metric, rows)


def _unasked(gate: GatePlan, metric: RowMetric | None, production: ProductionKnowledge) -> GateResult | None:
    """What a gate against production says where there is nothing to compare."""
    if gate.metric not in SERVED_METRICS and metric is None:
        comparable = (*(one.name for one in ROW_METRICS), *SERVED_METRICS)
        hint = _did_you_mean(gate.metric, comparable) or f"; comparable are {', '.join(comparable)}"
        return answer(gate, Verdict.UNDECIDED, f"{gate.metric} cannot be compared with production{hint}")
    if production == UNKNOWN_PRODUCTION:
        return answer(gate, Verdict.UNDECIDED, "it is not known what is in production: no server was asked")
    if production == NO_PRODUCTION:
        return answer(gate, Verdict.PASS, "no production model yet: only absolute gates apply")
    return None


def _with_error(gate: GatePlan, result: GateResult, measurements: Measurements) -> GateResult:
    """With the standard error of the candidate's metric, where its test set has a budget: the step of its ladder."""
    metric, rows = row_metric(gate.metric), measurements.rows
    if gate.reuse is None or gate.gap_between or metric is None or rows is None or "candidate" not in result.evidence:
        return result
    candidate = candidate_of(rows)
    metric = candidate.form_of(metric)
    labels, values = np.array(rows.labels), candidate.values(metric)
    if unsuitable(metric, labels, values) or values is None:
        return result
    error = auc_error(labels, values) if metric.name == "auc" else mean_error(metric, labels, values)
    if metric.is_higher_better:  # a share of 1: a model that has all rows right has an error all the same
        error = max(error, 1.0 / labels.size)
    return result.model_copy(update={"evidence": {**result.evidence, "standard_error": error}})


def _judge_limit(gate: GatePlan, measurements: Measurements) -> GateResult:
    if gate.gap_between is None and gate.condition is None:
        return judge_number(gate, _find(gate.metric, measurements))
    rows = reliable_rows(gate, measurements)
    if isinstance(rows, GateResult):
        return rows
    if gate.condition is not None:
        return judge_condition(gate, gate.condition, np.array(rows.labels), candidate_of(rows).prediction, None)
    return judge_gap(gate, np.array(rows.labels), candidate_of(rows), columns_of(rows))


def judge_number(gate: GatePlan, finding: Finding) -> GateResult:
    """The verdict of a gate with limits on one number."""
    value, evidence = finding.reading.value, finding.evidence
    if finding.disqualified:
        return answer(gate, Verdict.FAIL, finding.disqualified, evidence)
    if value is None:
        return answer(gate, Verdict.UNDECIDED, finding.reading.because, evidence)
    evidence = {**evidence, "candidate": value, "min": gate.min, "max": gate.max}
    limits = [("min", gate.min, ">="), ("max", gate.max, "<=")]
    kept = []
    for name, limit, sign in limits:
        if limit is None:
            continue
        if not (value >= limit if name == "min" else value <= limit):
            side = "below min" if name == "min" else "above max"
            return answer(gate, Verdict.FAIL, f"{value:.6g} is {side} {limit:g}", evidence)
        kept.append(f"{sign} {limit:g}")
    if not kept:
        return answer(gate, Verdict.UNDECIDED, "the gate names no limit", evidence)
    return answer(gate, Verdict.PASS, f"{value:.6g} {' and '.join(kept)}", evidence)


def _find(name: str, measurements: Measurements) -> Finding:
    if name in SERVED_METRICS:
        return _find_served(name, measurements)
    if measurements.malformed:
        return Finding(reading=Reading(because=measurements.malformed))
    if name in measurements.invalid:
        return Finding(reading=Reading(because=f"{name} {measurements.invalid[name]}"))
    metric, rows = row_metric(name), measurements.rows
    if metric is not None and rows is not None:
        return _find_in_rows(metric, rows, measurements.metrics.get(name))
    return _find_in_files(name, measurements)


def _find_served(name: str, measurements: Measurements) -> Finding:
    side = measurements.served
    if side is None:
        return Finding(reading=Reading(because=measurements.served_because))
    reading = side.reading(name)
    evidence: dict[str, Json] = {"source": "the model as served", "requests": side.requests, "errors": side.errors}
    if name.startswith("latency"):
        asked = "one after the other" if side.rate is None else f"{side.rate:g} a second, open loop"
        evidence |= {"n": len(side.latency_ms), "asked": asked}
    if reading.value is None:
        reading = Reading(because=f"{name} {reading.because}")
    return Finding(reading=reading, disqualified=side.disqualified, evidence=evidence)


def _find_in_rows(metric: RowMetric, rows: Rows, written: float | None) -> Finding:
    evidence: dict[str, Json] = {"source": "predictions", "rows": len(rows.labels), "written": written}
    unreliable = unreliable_rows(rows)
    if unreliable:
        return Finding(reading=Reading(), disqualified=unreliable, evidence=evidence)
    candidate = candidate_of(rows)
    metric = candidate.form_of(metric)
    values = candidate.values(metric)
    reading = compute(metric, np.array(rows.labels), values)
    if reading.value is None:
        if written is not None and values is None:  # no probability was predicted: the file is all there is
            return Finding(reading=Reading(value=written), evidence={**evidence, "source": "metrics file"})
        return Finding(reading=reading, evidence=evidence)
    disagreement = ""
    if written is not None and not _agree(written, reading.value):
        disagreement = f"the metrics file says {written:.6g}, the predictions say {reading.value:.6g}"
        evidence = {**evidence, "candidate": reading.value}
    return Finding(reading=reading, disqualified=disagreement, evidence=evidence)


def _agree(written: float, computed: float) -> bool:
    """Whether a metrics file's number is the computed one, as far as it was written out (three decimals at least)."""
    if math.isclose(written, computed, rel_tol=1e-6, abs_tol=_TOLERANCE):
        return True
    decimals = len(repr(written).partition(".")[2])
    return decimals >= 3 and round(computed, decimals) == written


def _find_in_files(name: str, measurements: Measurements) -> Finding:
    if name in measurements.metrics:
        return Finding(reading=Reading(value=measurements.metrics[name]), evidence={"source": "metrics file"})
    known = [*measurements.metrics, *measurements.invalid, *SERVED_METRICS]
    if measurements.rows is not None:
        known += [metric.name for metric in ROW_METRICS]
    there = ", ".join(sorted(measurements.metrics)) or "nothing"
    hint = _did_you_mean(name, known) or f"; the metrics files hold {there}"
    return Finding(reading=Reading(because=f"{name} was not measured{hint}"))


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    nested = [other for other in known if other.rpartition(".")[2] == name]
    close = nested or difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
