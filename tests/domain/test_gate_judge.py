"""What gates say: never a pass without a number, never a number that the evidence does not hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.gate.judge import NO_PRODUCTION, UNKNOWN_PRODUCTION, judge
from interlock.gate.judgement import GateResult, Judgement
from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Verdict

PASS, FAIL, UNDECIDED = Verdict.PASS, Verdict.FAIL, Verdict.UNDECIDED
PRODUCTION = "flights v3"


def one(gate, reports=None, production=PRODUCTION):
    judgement = judge([gate], reports or {}, production)
    assert len(judgement.results) == 1
    assert judgement.results[0].gate == gate.title
    return judgement.results[0]


def metrics(**values):
    return {"measurements": {"metrics": values, "invalid": {}, "rows": None}}


def against(metric, **more):
    return GatePlan(metric=metric, against="production", **more)


@pytest.mark.parametrize(
    ("limits", "value", "verdict", "because"),
    [
        ({"min": 0.7}, 0.7, PASS, "0.7 >= 0.7"),
        ({"min": 0.7}, 0.69, FAIL, "0.69 is below min 0.7"),
        ({"max": 5}, 5, PASS, "5 <= 5"),
        ({"max": 5}, 5.1, FAIL, "5.1 is above max 5"),
        ({"min": 1, "max": 5}, 3, PASS, "3 >= 1 and <= 5"),
        ({"min": 1, "max": 5}, 6, FAIL, "6 is above max 5"),
        ({}, 6, UNDECIDED, "the gate names no limit"),
    ],
)
def test_limits(limits, value, verdict, because):
    result = one(GatePlan(metric="gain", **limits), metrics(gain=value))
    assert (result.verdict, result.because) == (verdict, because)
    assert result.evidence["source"] == "metrics file"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, False, "0.9", None, [1], {"a": 1}])
def test_what_is_no_finite_number_never_passes(value):
    for gate in (GatePlan(metric="auc", min=-1e308), GatePlan(metric="auc", max=1e308)):
        assert one(gate, metrics(auc=value)).verdict is UNDECIDED


@pytest.mark.parametrize(
    ("asked", "there", "hint"),
    [
        ("acc", {"auc": 1}, "did you mean auc?"),
        ("auc", {"test.auc": 1}, "did you mean test.auc?"),
        ("profit", {"auc": 1}, "the metrics files hold auc"),
        ("profit", {}, "the metrics files hold nothing"),
        ("latency_p99", {}, "did you mean latency_p99_ms?"),
    ],
)
def test_a_metric_that_is_not_there_is_undecided_with_a_hint(asked, there, hint):
    result = one(GatePlan(metric=asked, min=0), metrics(**there))
    assert result.verdict is UNDECIDED
    assert hint in result.because


def test_nothing_measured_is_undecided():
    assert one(GatePlan(metric="auc", max=1e9), {}).verdict is UNDECIDED


def test_a_metric_of_rows_that_is_misspelt_is_undecided_with_a_hint():
    result = one(GatePlan(metric="acuracy", min=0), with_rows(rows()))
    assert (result.verdict, "did you mean accuracy?" in result.because) == (UNDECIDED, True)


def test_a_malformed_report_is_undecided():
    result = one(GatePlan(metric="gain", min=0), {"measurements": {"metrics": {"gain": 1}, "rows": 3}})
    assert result.verdict is UNDECIDED
    assert "shape" in result.because


# ---- rows


def rows(count=1000, seed=1, better=1.5, worse=0.5, **more):
    """Labels, and predictions of two models: the candidate separates by ``better``, production by ``worse``."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(count) < 0.4).astype(float)
    hidden = generator.normal(0, 1, count)
    sides = []
    for strength in (better, worse):
        chance = 1 / (1 + np.exp(-(strength * (labels * 2 - 1) + hidden)))
        sides.append({"prediction": (chance > 0.5).astype(float).tolist(), "probability": chance.tolist()})
    return {
        "holdout": count,
        "candidate_missing": 0,
        "unknown_ids": 0,
        "duplicate_ids": 0,
        "labels": labels.tolist(),
        "candidate": sides[0],
        "baseline": {"name": PRODUCTION, "missing": 0, **sides[1]},
        **more,
    }


def with_rows(raw, **values):
    return {"measurements": {"metrics": values, "invalid": {}, "rows": raw}}


def accuracy_of(raw):
    return float(np.mean(np.array(raw["labels"]) == np.array(raw["candidate"]["prediction"])))


def test_a_metric_of_rows_needs_no_metrics_file():
    raw = rows()
    result = one(GatePlan(metric="accuracy", min=0.5), with_rows(raw))
    assert result.verdict is PASS
    assert result.evidence["candidate"] == pytest.approx(accuracy_of(raw))
    assert (result.evidence["source"], result.evidence["rows"]) == ("predictions", 1000)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [(0.0, PASS), (0.00005, PASS), (0.01, FAIL), (-0.01, FAIL), (0.0005, FAIL)],
)
def test_a_metrics_file_must_say_what_the_predictions_say(change, verdict):
    raw = rows(997)
    result = one(GatePlan(metric="accuracy", min=0.1), with_rows(raw, accuracy=accuracy_of(raw) + change))
    assert result.verdict is verdict
    if verdict is FAIL:
        assert "the metrics file says" in result.because


def test_a_metrics_file_may_be_rounded_to_three_decimals_but_not_to_two():
    raw = rows(997)
    exact = accuracy_of(raw)
    assert abs(exact - round(exact, 3)) > 1e-4
    assert one(GatePlan(metric="accuracy", min=0.1), with_rows(raw, accuracy=round(exact, 3))).verdict is PASS
    assert one(GatePlan(metric="accuracy", min=0.1), with_rows(raw, accuracy=round(exact, 2))).verdict is FAIL


def test_without_probabilities_the_metrics_file_is_all_there_is():
    raw = rows()
    raw["candidate"]["probability"] = None
    assert one(GatePlan(metric="auc", min=0.7), with_rows(raw, auc=0.8)).evidence["source"] == "metrics file"
    result = one(GatePlan(metric="auc", min=0.7), with_rows(raw))
    assert result.verdict is UNDECIDED
    assert "probability" in result.because
    assert one(against("auc"), with_rows(raw)).verdict is UNDECIDED


def test_an_invalid_entry_is_not_overruled_by_rows():
    assert one(GatePlan(metric="auc", min=0.1), with_rows(rows(), auc=math.nan)).verdict is UNDECIDED


@pytest.mark.parametrize(
    ("broken", "because"),
    [({"candidate_missing": 3}, "miss 3 of 1000 holdout rows"), ({"duplicate_ids": 2}, "2 ids more than once")],
)
def test_predictions_with_gaps_or_repeats_fail(broken, because):
    for gate in (GatePlan(metric="accuracy", min=0.0), against("accuracy", margin=0.5)):
        result = one(gate, with_rows(rows(**broken)))
        assert result.verdict is FAIL
        assert because in result.because


@pytest.mark.parametrize("metric", ["accuracy", "auc", "f1", "log_loss", "rmse", "mae"])
def test_better_passes_worse_fails_and_the_evidence_says_why(metric):
    result = one(against(metric, margin=0.005), with_rows(rows()))
    assert result.verdict is PASS, result.because
    assert {"method", "estimate", "interval", "rows", "margin", "alpha", "candidate", "production"} <= set(
        result.evidence
    )
    assert result.evidence["production_name"] == PRODUCTION
    assert result.evidence["more_rows_needed"] == 0
    result = one(against(metric, margin=0.005), with_rows(rows(better=0.5, worse=1.5)))
    assert result.verdict is FAIL
    assert "proven worse" in result.because


def test_not_proven_but_likely_worse_fails():
    result = one(against("accuracy", margin=0.028), with_rows(rows(400, better=0.9, worse=1.0)))
    assert result.verdict is FAIL
    assert "more likely worse" in result.because


def test_too_close_to_tell_is_undecided_and_says_how_many_more_rows():
    result = one(against("accuracy", margin=0.002), with_rows(rows(400, better=1.0, worse=1.0)))
    assert result.verdict is UNDECIDED
    more = result.evidence["more_rows_needed"]
    assert f"needs about {more} more rows" in result.because
    enough = one(against("accuracy", margin=0.002), with_rows(rows(400 + 2 * more, better=1.0, worse=1.0)))
    assert enough.verdict is PASS


def test_equal_models_cannot_prove_to_be_better():
    result = one(against("accuracy", margin=0.0), with_rows(rows(better=1.0, worse=1.0)))
    assert result.verdict is UNDECIDED
    assert result.evidence["more_rows_needed"] is None
    assert "a margin above 0" in result.because


def short(raw):
    return {**raw, "baseline": None}


@pytest.mark.parametrize(
    ("raw", "because"),
    [
        (None, "no predictions joined"),
        (short(rows()), "left no predictions of these rows: its run has not shown, by the check offline"),
        ({**short(rows()), "baseline_because": "it did not start"}, "left no predictions of these rows: it did not"),
        (rows(299), "needs 1 more rows"),
        (rows(baseline={**rows()["baseline"], "missing": 4}), "has no accuracy for 4 of 1000 rows"),
        (rows(baseline={**rows()["baseline"], "prediction": [None] + [1] * 999}), "for 1 of 1000 rows"),
        (rows(baseline={**rows()["baseline"], "name": "flights v2"}), "measured beside flights v2, but production is"),
    ],
)
def test_what_cannot_be_compared_is_undecided(raw, because):
    result = one(against("accuracy", margin=0.5), with_rows(raw))
    assert result.verdict is UNDECIDED
    assert because in result.because


@pytest.mark.parametrize(("told", "is_asked"), [(True, True), (False, False), (None, False), ("yes", False)])
def test_the_evidence_says_whether_production_was_asked_for_these_rows(told, is_asked):
    raw = rows(baseline={**rows()["baseline"], "is_asked": told})
    assert one(against("accuracy", margin=0.5), with_rows(raw)).evidence["production_was_asked"] is is_asked


def test_a_baseline_without_probabilities_cannot_be_compared_by_them():
    raw = rows(baseline={**rows()["baseline"], "probability": None})
    result = one(against("auc", margin=0.5), with_rows(raw))
    assert result.verdict is UNDECIDED
    assert "has no auc for 1000 of 1000 rows" in result.because


def test_labels_of_one_class_are_undecided():
    raw = rows(labels=[1.0] * 1000)
    for metric in ("auc", "f1", "log_loss"):
        assert one(against(metric, margin=0.5), with_rows(raw)).verdict is UNDECIDED
        assert one(GatePlan(metric=metric, max=9, min=0), with_rows(raw)).verdict is UNDECIDED


@pytest.mark.parametrize(
    ("gate", "because"),
    [
        (against("accuracy", max_ratio=1.2), "by margin, not by max_ratio"),
        (against("profit", margin=0.1), "comparable are accuracy, auc"),
        (against("accurcy", margin=0.1), "did you mean accuracy?"),
    ],
)
def test_gates_that_make_no_sense_are_undecided(gate, because):
    result = one(gate, with_rows(rows()))
    assert result.verdict is UNDECIDED
    assert because in result.because


def test_no_production_passes_and_unknown_production_does_not():
    result = one(against("auc", margin=0.1), with_rows(rows()), NO_PRODUCTION)
    assert (result.verdict, result.because) == (PASS, "no production model yet: only absolute gates apply")
    assert one(against("auc", margin=0.1), with_rows(rows()), UNKNOWN_PRODUCTION).verdict is UNDECIDED
    assert one(against("acu", margin=0.1), with_rows(rows()), NO_PRODUCTION).verdict is UNDECIDED


# ---- all of them


def test_a_judgement_is_as_bad_as_its_worst_gate():
    gates = [GatePlan(metric="a", min=1), GatePlan(metric="b", min=1), GatePlan(metric="c", min=1)]
    judgement = judge(gates, metrics(a=2, b=0), PRODUCTION)
    assert [result.verdict for result in judgement.results] == [PASS, FAIL, UNDECIDED]
    assert judgement.verdict is FAIL
    assert judgement.because == "b min 1: 0 is below min 1"
    assert judge(gates[::2], metrics(a=2), PRODUCTION).verdict is UNDECIDED
    passed = judge(gates[:1], metrics(a=2), PRODUCTION)
    assert (passed.verdict, passed.because) == (PASS, "all 1 gates passed")
    assert (Judgement().verdict, Judgement().because) == (PASS, "no gate was asked for")


def test_results_survive_json():
    gates = [against("auc", margin=0.01), GatePlan(metric="accuracy", min=0)]
    judgement = judge(gates, with_rows(rows()), PRODUCTION)
    assert Judgement.model_validate_json(judgement.model_dump_json()) == judgement
    assert all(isinstance(result, GateResult) for result in judgement.results)


@given(value=st.floats(), limit=st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=80)
def test_a_limit_passes_exactly_what_is_finite_and_within(value, limit):
    result = one(GatePlan(metric="x", min=limit), metrics(x=value))
    assert (result.verdict is PASS) == (math.isfinite(value) and value >= limit)
