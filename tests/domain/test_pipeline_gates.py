"""Slices, gaps and losses of one's own, as they are written and as they are planned."""

from __future__ import annotations

import pytest

from interlock.errors import SeveralRefused
from interlock.gate.row_metrics import GROUP_METRICS as GATE_GROUPS
from interlock.pipeline.plan import GatePlan, Plan, ReusePlan, SlicePlan
from interlock.pipeline.resolve import read_pipeline, resolve
from interlock.pipeline.rules.work import GROUP_METRICS, gate_of

FILE = """\
version: 1
data: {holdout: {path: h.csv, id: id, label: late}}
stages: {evaluate: {cmd: python e.py, metrics: [m.json], predictions: p.csv, outs: [m.skops]}}
model: {path: m.skops, golden: h.csv}
gates: [%s]
"""


def gates(text):
    return [gate_of(gate) for gate in read_pipeline((FILE % text).encode()).spec.gates]


def test_slices_and_gaps_are_planned():
    found = gates(
        "{metric: auc, against: production, margin: 0.01, slices: [carrier, {column: age, quantiles: 5}]}, "
        "{metric: row_loss_cost, against: production, slices: found}, "
        "{metric: recall, gap_between: sex, max: 0.1, alpha: 0.01}"
    )
    assert found == [
        GatePlan(
            metric="auc",
            against="production",
            margin=0.01,
            slices=(SlicePlan(column="carrier"), SlicePlan(column="age", quantiles=5)),
        ),
        GatePlan(metric="row_loss_cost", against="production", slices="found"),
        GatePlan(metric="recall", gap_between="sex", max=0.1, alpha=0.01),
    ]
    assert [gate.title for gate in found] == [
        "auc against production, margin 0.01, slices carrier, age/5",
        "row_loss_cost against production, margin 0, slices found",
        "recall gap between sex max 0.1",
    ]
    assert Plan(gates=tuple(found)).columns == ("*", "age", "carrier", "row_loss_cost", "sex")


def test_the_budget_of_a_test_set_is_planned():
    found = gates(
        "{metric: accuracy, min: 0.8, reuse: {commits: 32}}, "
        "{metric: recall, gap_between: sex, max: 0.1, reuse: {commits: 8, adaptivity: first_change}}"
    )
    assert [gate.reuse for gate in found] == [
        ReusePlan(commits=32, scores="ladder"),
        ReusePlan(commits=8, adaptivity="first_change", scores="ladder"),
    ]


def test_the_rate_of_open_loop_load_is_planned():
    text = (FILE % "{metric: throughput_rps, against: production, min_ratio: 0.9}").replace(
        "h.csv}", "h.csv, rate: 50}"
    )
    plan = resolve(
        read_pipeline(text.encode()),
        project="",
        paths=["uv.lock", "h.csv", "e.py"],
        params={},
        overrides={},
        repository="m",
    )
    assert (plan.model.rate, plan.gates[0].ratios) == (50.0, {"min_ratio": 0.9})


def test_a_limit_on_a_loss_is_one_on_a_metrics_file():
    assert Plan(gates=(GatePlan(metric="row_loss", max=1.0),)).columns == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{metric: auc, min: 0, reuse: {commits: 0}}", "commits must be at least 1"),
        ("{metric: auc, min: 0, reuse: {adaptivity: full}}", "the key commits is missing"),
        ("{metric: auc, min: 0, reuse: {commits: 2, adaptivity: none}}", "none is not known here"),
        ("{metric: startup_ms, max: 9, reuse: {commits: 2}}", "startup_ms is not measured on the rows of a holdout"),
        ("{metric: profit, min: 9, reuse: {commits: 2}}", "profit is not measured on the rows of a holdout"),
        ("{metric: auc, min: 0, slices: [a]}", "slices needs something to compare with"),
        ("{metric: auc, against: production, slices: []}", "slices is empty"),
        ("{metric: auc, against: production, slices: all}", "all is not known here"),
        ("{metric: auc, against: production, slices: [{quantiles: 4}]}", "the key column is missing"),
        ("{metric: auc, against: production, slices: [{column: a, quantiles: 1}]}", "quantiles must be at least 2"),
        ("{metric: auc, against: production, slices: [{column: a, parts: 4}]}", "the key parts is unknown"),
        ("{metric: startup_ms, against: production, max_ratio: 2, slices: [a]}", "startup_ms is not a metric of rows"),
        ("{metric: throughput_rps, against: production, max_ratio: 2}", "throughput_rps is compared by min_ratio"),
        ("{metric: throughput_rps, against: production}", "throughput_rps is compared by min_ratio"),
        ("{metric: startup_ms, against: production, min_ratio: 2}", "startup_ms is compared by max_ratio"),
        ("{metric: auc, against: production, min_ratio: 0.9}", "auc is compared by margin"),
        ("{metric: throughput_rps, min_ratio: 0.9}", "min_ratio needs something to compare with"),
        ("{metric: auc, against: production, gap_between: a}", "a gate against production has no gap_between"),
        ("{metric: profit, gap_between: a, max: 1}", "profit has no gap between groups"),
        ("{metric: auc, gap_between: a}", "a gap between groups is bounded by max"),
        ("{metric: auc, gap_between: a, min: 0.1}", "a gap between groups is bounded by max"),
        ("{metric: auc, gap_between: a, max: 0.1, margin: 0.1}", "margin needs something to compare with"),
        ("{metric: auc, max: 0.1, alpha: 0.1}", "alpha needs something to compare with"),
        ("{metric: row_lost, against: production}", "row_lost cannot be compared with production"),
    ],
)
def test_what_makes_no_sense_is_refused(text, problem):
    with pytest.raises(SeveralRefused) as refused:
        gates(text)
    assert problem in str(refused.value)


@pytest.mark.parametrize("missing", ["predictions: p.csv, ", ", id: id, label: late"])
def test_gaps_need_predictions_and_a_labelled_holdout(missing):
    text = (FILE % "{metric: auc, gap_between: sex, max: 0.1}").replace(missing, "")
    with pytest.raises(SeveralRefused, match="compared between groups row by row"):
        read_pipeline(text.encode())


def test_the_metrics_of_groups_are_those_that_gates_know():
    assert tuple(metric.name for metric in GATE_GROUPS) == GROUP_METRICS
