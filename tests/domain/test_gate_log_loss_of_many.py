"""Log-loss of more than two classes: against scikit-learn, against production, by slices, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import log_loss
from tests.measured import report_of

from interlock.gate.judge import NO_PRODUCTION, judge
from interlock.gate.measurements import read_measurements
from interlock.gate.rows.alone import judge_predictions
from interlock.pipeline.plan import GatePlan, ReusePlan, SlicePlan
from interlock.vocabulary import Verdict

AGAINST = GatePlan(metric="log_loss", against="production", margin=0.02)
CLASSES = np.array([1.0, 4.0, 7.0])


def drawn(generator, rows, sharpness):
    """Labels, and the chances that models of this sharpness give to each of three classes."""
    places = generator.integers(0, 3, rows)
    truth = np.eye(3)[places]
    shared = generator.normal(0, 1, (rows, 3))
    sides = []
    for sharp in sharpness:
        raw = np.exp(sharp * truth + shared + generator.normal(0, 0.3, (rows, 3)))
        sides.append(raw / raw.sum(axis=1, keepdims=True))
    return CLASSES[places], *sides


def side(chances):
    return {"prediction": CLASSES[chances.argmax(axis=1)], "probability": chances}


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_values_and_their_difference_are_those_of_scikit_learn(seed):
    labels, ours, theirs = drawn(np.random.default_rng(seed), 400, (1.5, 1.4))
    ours[0] = np.roll(np.eye(3)[0], int(np.searchsorted(CLASSES, labels[0])) + 1)  # sure, and wrong
    (found,) = judge_predictions([AGAINST], labels, side(ours), side(theirs)).results
    expected = log_loss(labels, ours), log_loss(labels, theirs)
    assert (found.evidence["candidate"], found.evidence["production"]) == pytest.approx(expected, rel=1e-9)
    assert found.evidence["estimate"] == pytest.approx(expected[0] - expected[1], abs=1e-9)
    low, high = found.evidence["interval"]
    assert low < found.evidence["estimate"] < high


def test_chances_as_they_were_written_are_divided_by_what_they_add_up_to():
    labels, ours, _ = drawn(np.random.default_rng(1), 500, (1.5, 1.5))
    written = np.round(ours, 2)
    limit = GatePlan(metric="log_loss", max=3.0)
    (found,) = judge_predictions([limit], labels, side(written)).results
    exact = log_loss(labels, written / written.sum(axis=1, keepdims=True))
    assert found.evidence["candidate"] == pytest.approx(exact, rel=1e-9)
    greedy = side(np.minimum(written * 1.5, 1.0))  # who gives more than there is, to every class
    assert judge_predictions([limit], labels, greedy).verdict is Verdict.FAIL


def test_a_model_at_the_margin_passes_about_as_often_as_alpha_says():
    generator, runs = np.random.default_rng(2), 400
    big, ours, theirs = drawn(np.random.default_rng(3), 400_000, (1.3, 1.5))
    margin = log_loss(big, ours) - log_loss(big, theirs)
    gate = GatePlan(metric="log_loss", against="production", margin=margin)
    passed = 0
    for _ in range(runs):
        labels, ours, theirs = drawn(generator, 600, (1.3, 1.5))
        passed += judge_predictions([gate], labels, side(ours), side(theirs)).verdict is Verdict.PASS
    assert binomtest(passed, runs, 0.05).pvalue > 0.001


def test_a_slice_that_lost_is_found_among_others():
    labels, ours, theirs = drawn(np.random.default_rng(4), 4000, (1.5, 1.5))
    part = np.arange(4000) % 5
    ours[part == 2] = 0.7 / 3 + 0.3 * ours[part == 2]
    gate = GatePlan(metric="log_loss", against="production", margin=0.1, slices=(SlicePlan(column="part"),))
    (found,) = judge_predictions([gate], labels, side(ours), side(theirs), {"part": part}).results
    assert found.verdict is Verdict.FAIL
    assert found.because.startswith("part=2 is proven worse")
    groups = GatePlan(metric="log_loss", gap_between="part", max=0.1)
    (gap,) = judge_predictions([groups], labels, side(ours), columns={"part": part}).results
    assert gap.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("labels", "chances", "verdict", "told"),
    [
        (CLASSES, [0.2, 0.3, 0.5], Verdict.PASS, "<= 3"),
        (CLASSES, [0.2, 0.3, 0.8], Verdict.FAIL, "miss 600 of 600 rows"),
        (CLASSES, [0.2, float("nan"), 0.8], Verdict.FAIL, "miss 600 of 600 rows"),
        (CLASSES, [-0.5, 0.7, 0.8], Verdict.FAIL, "miss 600 of 600 rows"),
        (CLASSES, [0.5, 0.5], Verdict.UNDECIDED, "600 x 2 float64, not one column for each of 3 classes"),
        (CLASSES, [1, 0, 0], Verdict.UNDECIDED, "int64, not one column"),
        ([0.0, 1.0, 1.0], [0.5, 0.5], Verdict.UNDECIDED, "600 x 2 float64, not one value for each row"),
    ],
)
def test_what_are_no_chances_never_passes(labels, chances, verdict, told):
    (found,) = judge_predictions(
        [GatePlan(metric="log_loss", max=3.0)],
        np.tile(labels, 200),
        {"prediction": np.zeros(600), "probability": np.tile(chances, (600, 1))},
    ).results
    assert found.verdict is verdict
    assert told in found.because


def report(labels, ours, theirs=None):
    """As the probe reports it: what each row gave to the class that its label is."""

    def rows(chances):
        right = chances[np.arange(labels.size), np.searchsorted(CLASSES, labels)]
        prediction = CLASSES[chances.argmax(axis=1)]
        return {"prediction": prediction.tolist(), "probability": None, "right": right.tolist()}

    other = None if theirs is None else {**rows(theirs), "name": "flights v3", "missing": 0, "columns": {}}
    return {"measurements": report_of(labels.tolist(), rows(ours), {}, other)}


def test_a_run_judges_it_by_limits_against_production_and_on_a_ladder():
    labels, ours, theirs = drawn(np.random.default_rng(5), 3000, (1.5, 1.5))
    raw = report(labels, ours, theirs)
    limit = GatePlan(metric="log_loss", max=3.0, reuse=ReusePlan(commits=9))
    compared, limited = judge([AGAINST, limit], raw, "flights v3").results
    assert (compared.verdict, limited.verdict) == (Verdict.PASS, Verdict.PASS)
    assert limited.evidence["candidate"] == pytest.approx(log_loss(labels, ours), rel=1e-9)
    surprises = -np.log(ours[np.arange(3000), np.searchsorted(CLASSES, labels)])
    assert limited.evidence["standard_error"] == pytest.approx(surprises.std(ddof=1) / 3000**0.5, rel=1e-6)


def test_without_the_chances_of_a_side_it_is_undecided_and_says_what_is_missing():
    labels, ours, theirs = drawn(np.random.default_rng(6), 600, (1.5, 1.5))
    raw = report(labels, ours, theirs)
    raw["measurements"]["rows"]["baseline"]["right"] = None
    (found,) = judge([AGAINST], raw, "flights v3").results
    assert (found.verdict, found.because) == (Verdict.UNDECIDED, "flights v3 has no log_loss for 600 of 600 rows")
    raw["measurements"]["rows"]["candidate"]["right"] = None
    (found,) = judge([GatePlan(metric="log_loss", max=1.0)], raw, NO_PRODUCTION).results
    assert found.verdict is Verdict.UNDECIDED
    told = (
        "log_loss needs labels of two classes, and these have 3 values; give a column probability_CLASS for each class"
    )
    assert found.because == told
    (auc,) = judge([GatePlan(metric="auc", min=0.1)], raw, NO_PRODUCTION).results
    assert "judge by log_loss, accuracy or f1_macro, or make one class against the rest the label" in auc.because


@pytest.mark.parametrize(("right", "told"), [(1.5, "outside 0 to 1"), (float("nan"), "finite"), (True, "not a number")])
def test_a_report_with_chances_that_are_none_never_passes(right, told):
    labels, ours, _ = drawn(np.random.default_rng(7), 600, (1.5, 1.5))
    raw = report(labels, ours)
    raw["measurements"]["rows"]["candidate"]["right"][3] = right
    (found,) = judge([GatePlan(metric="log_loss", max=9.0)], raw, NO_PRODUCTION).results
    assert found.verdict is Verdict.UNDECIDED
    assert told in found.because


def test_labels_of_one_class_say_nothing():
    raw = report(np.full(600, 4.0), np.tile([0.1, 0.8, 0.1], (600, 1)))
    (found,) = judge([GatePlan(metric="log_loss", max=9.0)], raw, NO_PRODUCTION).results
    assert (found.verdict, found.because) == (Verdict.UNDECIDED, "the holdout's labels are all of one class")
    assert read_measurements(raw).rows.right[0] == 0.8
