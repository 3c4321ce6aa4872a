"""Gates without a run: labels and predictions that are at hand, as arrays.

    from interlock.gate.rows.alone import judge_predictions
    from interlock.pipeline.plan import GatePlan, SlicePlan

    gate = GatePlan(metric="accuracy", against="production", margin=0.01, slices=(SlicePlan(column="carrier"),))
    judgement = judge_predictions([gate], labels, {"prediction": ours}, {"prediction": theirs}, {"carrier": carriers})
    judgement.verdict, judgement.because, judgement.results[0].evidence

A side is ``prediction``, and perhaps ``probability`` and columns ``row_loss...``. Of more than two classes
``probability`` is (rows, classes), a column for each value of the labels in order, as scikit-learn's
``predict_proba`` answers. The rules are those of a run, and so
is what never passes: what is not a finite number, rows without a prediction, labels of one class, too few rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interlock.gate.comparison import Compared, answer, compare_rows, count_missing
from interlock.gate.judge import Finding, judge_number
from interlock.gate.judgement import GateResult, Judgement
from interlock.gate.reuse.conditional import judge_condition
from interlock.gate.row_metrics import ROW_METRICS, Array, compute, row_metric
from interlock.gate.rows.arrays import Column, Predictions, RowArrays
from interlock.gate.rows.gaps import judge_gap
from interlock.gate.rows.slices import with_slices
from interlock.pipeline.plan import GatePlan, is_row_loss
from interlock.vocabulary import Verdict

_ROUNDED = 0.05  # how far the chances of a row may be from 1 in all


class _Unusable(Exception):
    """Values that cannot be judged, and why."""


def judge_predictions(
    gates: Sequence[GatePlan],
    labels: ArrayLike,
    candidate: Mapping[str, ArrayLike],
    baseline: Mapping[str, ArrayLike] | None = None,
    columns: Mapping[str, ArrayLike] | None = None,
) -> Judgement:
    """The verdict of every gate on these rows; gates ``against="production"`` compare with the baseline.

    All arrays have one value for each row, in the same order. Classes are numbers; those of two are 0 and 1.
    """
    try:
        truth = _numbers("labels", labels, None)
        ours = _side("candidate", candidate, truth)
        theirs = None if baseline is None else _side("baseline", baseline, truth)
        known = {name: _column(name, cells, truth) for name, cells in (columns or {}).items()}
    except _Unusable as problem:
        return Judgement(results=tuple(answer(gate, Verdict.UNDECIDED, str(problem)) for gate in gates))
    compared: list[Compared] = []
    for gate in gates:
        if not (math.isfinite(gate.margin) and gate.margin >= 0.0 and 0.0 < gate.alpha <= 0.5):
            because = (
                f"margin {gate.margin:g} or alpha {gate.alpha:g} makes no sense: at least 0, and above 0 up to 0.5"
            )
            compared.append(Compared(answer(gate, Verdict.UNDECIDED, because)))
        elif gate.against is not None and theirs is not None:
            compared.append(_compared(gate, RowArrays(truth, ours, theirs, "baseline", known)))
        else:
            compared.append(Compared(_limited(gate, truth, ours, known)))
    results = [one.result for one in compared]
    return Judgement(results=with_slices(gates, results, [one.slices for one in compared]))


def _compared(gate: GatePlan, rows: RowArrays) -> Compared:
    metric = row_metric(gate.metric)
    if metric is None:
        return Compared(answer(gate, Verdict.UNDECIDED, _unknown(gate)))
    if gate.ratios:
        because = f"{metric.name} is compared by margin, not by {', '.join(gate.ratios)}"
        return Compared(answer(gate, Verdict.UNDECIDED, because))
    if gate.condition is not None:
        pair = rows.candidate.prediction, rows.production.prediction
        return Compared(judge_condition(gate, gate.condition, rows.labels, *pair))
    return compare_rows(gate, metric, rows)


def _limited(gate: GatePlan, labels: Array, candidate: Predictions, columns: Mapping[str, Column]) -> GateResult:
    metric = row_metric(gate.metric)
    if gate.against is not None:
        return answer(gate, Verdict.UNDECIDED, "there is no baseline to compare with")
    missing = max(map(count_missing, (candidate.prediction, candidate.probability, candidate.right)))
    if missing:
        return answer(gate, Verdict.FAIL, f"the predictions miss {missing} of {labels.size} rows")
    if gate.condition is not None:
        return judge_condition(gate, gate.condition, labels, candidate.prediction, None)
    if gate.gap_between is not None:
        return judge_gap(gate, labels, candidate, columns)
    if metric is None:
        return answer(gate, Verdict.UNDECIDED, _unknown(gate))
    metric = candidate.form_of(metric)
    values = candidate.values(metric)
    if count_missing(values):
        return answer(gate, Verdict.FAIL, f"the predictions miss {count_missing(values)} of {labels.size} rows")
    return judge_number(gate, Finding(reading=compute(metric, labels, values), evidence={"rows": int(labels.size)}))


def _unknown(gate: GatePlan) -> str:
    return f"{gate.metric} is no metric of rows; those are {', '.join(metric.name for metric in ROW_METRICS)}, row_loss"


def _side(name: str, given: Mapping[str, ArrayLike], labels: Array) -> Predictions:
    if "prediction" not in given:
        raise _Unusable(f"the {name} has no prediction")
    unknown = [key for key in given if key not in ("prediction", "probability") and not is_row_loss(key)]
    if unknown:
        raise _Unusable(f"{unknown[0]} of the {name} is neither prediction, probability nor row_loss")
    chances = _array(f"probability of the {name}", given["probability"]) if "probability" in given else None
    right = _given_to_labels(name, chances, labels) if chances is not None and chances.ndim == 2 else None
    values = {
        key: _numbers(f"{key} of the {name}", cells, labels.size)
        for key, cells in given.items()
        if right is None or key != "probability"
    }
    losses = {key: cells for key, cells in values.items() if is_row_loss(key)}
    return Predictions(values["prediction"], values.get("probability"), losses, right)


def _given_to_labels(name: str, chances: NDArray[np.generic], labels: Array) -> Array:
    """What each row gave to the class that its label is, of chances (rows, classes); NaN where they are none."""
    classes, places = np.unique(labels, return_inverse=True)
    if chances.dtype.kind != "f" or chances.shape != (labels.size, classes.size) or classes.size <= 2:
        shape = f"{chances.shape[0]} x {chances.shape[1]} {chances.dtype.name}"
        wanted = f"one column for each of {classes.size} classes" if classes.size > 2 else "one value for each row"
        raise _Unusable(f"probability of the {name}: {shape}, not {wanted}")
    whole = chances.astype(np.float64)
    sums = whole.sum(axis=1)
    are_chances = ((whole >= 0.0) & (whole <= 1.0)).all(axis=1) & (np.abs(sums - 1.0) <= _ROUNDED)
    return np.where(are_chances, whole[np.arange(labels.size), places] / np.where(are_chances, sums, 1.0), np.nan)


def _numbers(name: str, given: ArrayLike, rows: int | None) -> Array:
    """Numbers as they were given. NaN and infinities are refused in labels; elsewhere they are counted as missing."""
    values = _vector(name, given, rows)
    if isinstance(given, Sequence) and any(isinstance(value, bool) for value in given):
        raise _Unusable(f"{name}: not numbers, but bool")
    if values.dtype.kind not in "iuf":
        raise _Unusable(f"{name}: not numbers, but {values.dtype.name}")
    numbers: Array = values.astype(np.float64, copy=False)
    if rows is None and not np.isfinite(numbers).all():
        raise _Unusable(f"{name}: {count_missing(numbers)} of {numbers.size} are not finite numbers")
    return numbers


def _column(name: str, given: ArrayLike, labels: Array) -> Column:
    values = _vector(name, given, labels.size)
    return values if values.dtype.kind in "iufbO" else values.astype(object)


def _vector(name: str, given: ArrayLike, rows: int | None) -> Column:
    values = _array(name, given)
    if values.ndim != 1:
        raise _Unusable(f"{name}: not one value for each row")
    if rows is not None and values.size != rows:
        raise _Unusable(f"{name}: {values.size} values for {rows} rows")
    return values


def _array(name: str, given: ArrayLike) -> Column:
    try:
        return np.asarray(given)
    except ValueError as problem:
        raise _Unusable(f"{name}: {problem}") from None
