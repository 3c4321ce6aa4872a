"""Gaps between groups: passed, proven too wide, or not to be told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportions_ztest
from tests.measured import report_of

from interlock.gate.judge import NO_PRODUCTION, judge, judge_limits
from interlock.gate.paired import mean_error
from interlock.gate.ranking import auc_error
from interlock.gate.row_metrics import GROUP_METRICS, row_metric
from interlock.gate.rows.arrays import Predictions
from interlock.gate.rows.gaps import judge_gap
from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Verdict

PASS, FAIL, UNDECIDED = Verdict.PASS, Verdict.FAIL, Verdict.UNDECIDED


def report(count=2000, seed=1, unfair=0.0, groups=("a", "b"), **more):
    """Predictions that are right in 85 of 100 rows; of the first group in a share ``unfair`` fewer."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(count) < 0.5).astype(float)
    group = np.array(groups, dtype=object)[np.arange(count) % len(groups)]
    right = generator.random(count) < 0.85 - unfair * (group == groups[0])
    predicted = np.where(right, labels, 1 - labels)
    chance = np.clip(0.5 + (predicted - 0.5) * generator.random(count), 0, 1)
    candidate = {"prediction": predicted.tolist(), "probability": chance.tolist()}
    told = report_of(labels.tolist(), candidate, {"sex": group.tolist(), "one": ["x"] * count})
    return {**told, "rows": {**told["rows"], **more}}


def gap(metric="accuracy", column="sex", most=0.1, **more):
    return GatePlan(metric=metric, gap_between=column, max=most, **more)


def one(gate, measured):
    (result,) = judge([gate], {"measurements": measured}, NO_PRODUCTION).results
    assert (result,) == judge_limits([gate], measured).results
    return result


@pytest.mark.parametrize("metric", [metric.name for metric in GROUP_METRICS if metric.name != "positive_rate"])
def test_a_wide_gap_fails_and_a_narrow_one_passes(metric):
    narrow, wide = one(gap(metric, most=0.12), report()), one(gap(metric, most=0.12), report(unfair=0.3))
    assert narrow.verdict is PASS, narrow.because
    assert wide.verdict is FAIL, wide.because
    assert "proven above max 0.12" in wide.because
    evidence = wide.evidence
    assert evidence["groups"]["sex=a"]["rows"] == 1000
    values = [group["value"] for group in evidence["groups"].values()]
    assert evidence["estimate"] == pytest.approx(max(values) - min(values))
    assert evidence["interval"][0] < evidence["estimate"] < evidence["interval"][1]


def test_a_gap_of_the_positive_rate_is_demographic_parity():
    measured = report()
    predicted = [float(group == "a") for group in measured["rows"]["columns"]["sex"]]
    measured["rows"]["candidate"]["prediction"] = predicted
    result = one(gap("positive_rate"), measured)
    assert result.verdict is FAIL
    assert result.evidence["estimate"] == 1.0


def test_too_wide_but_not_proven_is_undecided():
    result = one(gap(most=0.05), report(300, unfair=0.1, seed=3))
    assert result.verdict is UNDECIDED
    assert "not proven" in result.because


@pytest.mark.parametrize(
    ("gate", "measured", "because"),
    [
        (gap(column="age"), report(), "have a column age"),
        (gap(column="one"), report(), "all rows are of one group of one"),
        (gap("profit"), report(), "profit has no gap between groups"),
        (GatePlan(metric="accuracy", gap_between="sex", min=0.1), report(), "bounded by max"),
        (gap(), report(80), "too few rows to tell for sex=a (40 rows)"),
        (gap("recall"), report(labels=[1.0] * 2000), "all of one class"),
        (gap(), {"metrics": {}, "invalid": {}, "rows": None}, "no predictions joined"),
        (gap(), {"metrics": {}, "invalid": {}, "rows": 7}, "shape"),
    ],
)
def test_a_gap_that_cannot_be_judged_is_undecided(gate, measured, because):
    result = one(gate, measured)
    assert result.verdict is UNDECIDED
    assert because in result.because


def test_predictions_with_gaps_fail():
    assert one(gap(), report(candidate_missing=1)).verdict is FAIL


def test_groups_that_are_equal_without_error_are_no_gap():
    measured = report()
    measured["rows"]["candidate"]["prediction"] = measured["rows"]["labels"]
    result = one(gap("accuracy", most=0.0), measured)
    assert (result.verdict, result.evidence["probability"]) == (PASS, 1.0)


def test_the_error_of_two_shares_is_the_known_one():
    result = one(gap(most=0.0), report(unfair=0.05))
    groups = result.evidence["groups"].values()
    counts = [round(group["value"] * group["rows"]) for group in groups]
    rows = [group["rows"] for group in groups]
    known = proportions_ztest(counts, rows, alternative="smaller")[1]
    assert result.evidence["probability"] == pytest.approx(known, rel=0.1)


def test_standard_errors_against_a_bootstrap():
    generator = np.random.default_rng(5)
    labels = (generator.random(800) < 0.4).astype(float)
    chance = 1 / (1 + np.exp(-(labels * 2 - 1 + generator.normal(0, 1, 800))))
    values = {"f1": (chance > 0.5).astype(float), "rmse": chance}
    index = generator.integers(0, 800, (2000, 800))
    for name, column in values.items():
        metric = row_metric(name)
        spread = np.std([metric.combine(metric.columns(labels[i], column[i]).mean(axis=0)) for i in index])
        assert mean_error(metric, labels, column) == pytest.approx(spread, rel=0.06)
    wins = [np.mean(np.subtract.outer(chance[i][labels[i] == 1], chance[i][labels[i] == 0]) > 0) for i in index[:300]]
    assert auc_error(labels, chance) == pytest.approx(np.std(wins), rel=0.12)


def test_fair_predictions_fail_no_more_often_than_alpha():
    failed = 0
    for seed in range(100):
        rows = report(600, seed=seed, groups=("a", "b", "c", "d"))["rows"]
        columns = {"sex": np.array(rows["columns"]["sex"], dtype=object)}
        labels, predicted = np.array(rows["labels"]), np.array(rows["candidate"]["prediction"])
        found = judge_gap(gap(most=0.0), labels, Predictions(predicted), columns)
        failed += found.verdict is FAIL
    assert binomtest(failed, 100, 0.05, alternative="greater").pvalue > 0.001
