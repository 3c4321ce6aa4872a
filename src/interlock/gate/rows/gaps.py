"""Gaps: how far apart a metric is between the groups of a column, such as between men and women.

The gap is that of the groups farthest apart. As a maximum of noisy numbers it looks larger than it is, so a gap above
``max`` is a failure only where two groups are proven to be farther apart (Holm over all pairs of groups):

===================================  =========
a group too small to tell            undecided
gap <= max                           pass
two groups proven farther than max   fail
else                                 undecided
===================================  =========
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from interlock.gate.judgement import GateResult
from interlock.gate.paired import mean_error, normal_quantile, normal_share
from interlock.gate.ranking import auc_error
from interlock.gate.row_metrics import GROUP_METRICS, Array, RowMetric, evaluate, unsuitable
from interlock.gate.rows.arrays import Column, Predictions
from interlock.gate.rows.cutting import cut
from interlock.gate.rows.harm import holm
from interlock.gate.rows.pairs import is_too_small
from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Json, Verdict


class Group(NamedTuple):
    """One group's metric and its standard error."""

    name: str
    rows: int
    value: float
    error: float


def judge_gap(gate: GatePlan, labels: Array, candidate: Predictions, columns: Mapping[str, Column]) -> GateResult:
    """The verdict of a gate on the gap between groups."""
    metric = next((one for one in GROUP_METRICS if one.name == gate.metric), None)
    if metric is None:
        known = ", ".join(one.name for one in GROUP_METRICS)
        return _answer(gate, Verdict.UNDECIDED, f"{gate.metric} has no gap between groups; those that have: {known}")
    if gate.max is None or gate.min is not None:
        return _answer(gate, Verdict.UNDECIDED, "a gap between groups is bounded by max")
    metric = candidate.form_of(metric)
    values, column = candidate.values(metric), columns.get(gate.gap_between or "")
    problem = unsuitable(metric, labels, values)
    if column is None:
        problem = f"neither the holdout nor the predictions have a column {gate.gap_between}"
    if problem or values is None or column is None:
        return _answer(gate, Verdict.UNDECIDED, problem)
    groups, too_small = _groups(metric, gate.gap_between or "", column, labels, values)
    if too_small:
        return _answer(gate, Verdict.UNDECIDED, f"too few rows to tell for {', '.join(too_small[:3])}")
    if len(groups) < 2:
        return _answer(gate, Verdict.UNDECIDED, f"all rows are of one group of {gate.gap_between}")
    return _judge(gate, groups, gate.max)


def _groups(
    metric: RowMetric, name: str, column: Column, labels: Array, values: Array
) -> tuple[list[Group], list[str]]:
    """The groups, and those of which nothing can be said."""
    parts = cut(name, column)
    groups, too_small = [], []
    for place, title in enumerate(parts.names):
        is_in = parts.codes == place
        truth, predicted = labels[is_in], values[is_in]
        if is_too_small(metric, truth.size, int(np.count_nonzero(truth == 1.0))):
            too_small.append(f"{title} ({truth.size} rows)")
            continue
        error = auc_error(truth, predicted) if metric.name == "auc" else mean_error(metric, truth, predicted)
        groups.append(Group(title, truth.size, evaluate(metric, truth, predicted), error))
    return groups, too_small


def _judge(gate: GatePlan, groups: Sequence[Group], most: float) -> GateResult:
    pairs = [(low, high) for low, high in itertools.permutations(groups, 2) if low.value <= high.value]
    adjusted = holm([_probability(low, high, most) for low, high in pairs])
    lowest, highest = min(groups, key=lambda group: group.value), max(groups, key=lambda group: group.value)
    gap = highest.value - lowest.value
    error = math.hypot(lowest.error, highest.error)
    reach = normal_quantile(1.0 - gate.alpha) * error
    evidence: dict[str, Json] = {
        "method": "difference of independent groups (normal), Holm over all pairs",
        "source": "predictions",
        "candidate": gap,
        "estimate": gap,
        "interval": [gap - reach, gap + reach],
        "rows": sum(group.rows for group in groups),
        "max": most,
        "alpha": gate.alpha,
        "probability": min(adjusted),
        "groups": {group.name: {"rows": group.rows, "value": group.value} for group in groups},
    }
    said = f"{lowest.name} has {lowest.value:.4f}, {highest.name} {highest.value:.4f}: a gap of {gap:.4f}"
    if gap <= most:
        return _answer(gate, Verdict.PASS, f"{said} <= {most:g}", evidence)
    if min(adjusted) <= gate.alpha:
        return _answer(gate, Verdict.FAIL, f"{said}, proven above max {most:g}", evidence)
    because = f"{said}, above max {most:g} but not proven (probability {min(adjusted):.2g}); needs more rows"
    return _answer(gate, Verdict.UNDECIDED, because, evidence)


def _probability(low: Group, high: Group, most: float) -> float:
    """The chance of so large a gap where it is no more than ``most``."""
    excess, error = high.value - low.value - most, math.hypot(low.error, high.error)
    if error == 0.0:
        return 0.0 if excess > 0.0 else 1.0
    return 1.0 - normal_share(excess / error)


def _answer(gate: GatePlan, verdict: Verdict, because: str, evidence: dict[str, Json] | None = None) -> GateResult:
    return GateResult(gate=gate.title, verdict=verdict, because=because, evidence=evidence or {})
