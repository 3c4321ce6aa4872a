"""The paired AUC against other implementations, and by simulation how often its bounds are wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm
from sklearn.metrics import roc_auc_score

from interlock.gate.comparison import compare_rows
from interlock.gate.ranking import LEAST_MISPLACED, SMALLEST_CLASS, _last_consistent, auc_difference
from interlock.gate.row_metrics import row_metric
from interlock.gate.rows.arrays import Predictions, RowArrays
from interlock.gate.rows.cutting import Parts
from interlock.gate.rows.pairs import pair_of
from interlock.gate.rows.ranks import Ranked
from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Verdict

ALPHA = 0.05


def difference_of(labels, ours, theirs, alpha):
    return auc_difference(Ranked(labels, ours).placements(), Ranked(labels, theirs).placements(), alpha)


def harm_of(labels, ours, theirs):
    """The probability of harm, of all rows as one slice."""
    whole = Parts(np.zeros(labels.size, dtype=np.intp), ("all",))
    (found,) = pair_of(row_metric("auc"), labels, ours, theirs).compare([whole]).tests
    return found.probability


def scored(generator, rows, strength, noise=1.0):
    labels = (generator.random(rows) < 0.3).astype(float)
    hidden = generator.normal(0, 1, rows)
    scores = [strength * labels + hidden + generator.normal(0, noise, rows) for _ in range(2)]
    return labels, *(1 / (1 + np.exp(-score)) for score in scores)


def test_auc_difference_is_that_of_the_areas():
    labels, ours, theirs = scored(np.random.default_rng(2), 500, 1.0)
    ours, theirs = np.round(ours, 1), np.round(theirs, 2)  # ties
    found = difference_of(labels, ours, theirs, ALPHA)
    assert found.estimate == pytest.approx(roc_auc_score(labels, ours) - roc_auc_score(labels, theirs), abs=1e-12)
    assert found.lower < found.estimate < found.upper


def test_auc_standard_error_by_listing_every_pair():
    labels, ours, theirs = scored(np.random.default_rng(3), 60, 1.0)
    ours = np.round(ours, 1)
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)

    def wins(scores, i, j):
        return 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0

    table = np.array([[wins(ours, i, j) - wins(theirs, i, j) for j in negatives] for i in positives])
    variance = table.mean(1).var(ddof=1) / len(positives) + table.mean(0).var(ddof=1) / len(negatives)
    assert difference_of(labels, ours, theirs, ALPHA).standard_error == pytest.approx(math.sqrt(variance), abs=1e-12)


def test_auc_misses_about_as_often_as_it_says():
    generator = np.random.default_rng(4)
    runs, missed = 400, 0
    for _ in range(runs):
        labels, ours, theirs = scored(generator, 300, 1.0)
        missed += difference_of(labels, ours, theirs, ALPHA).lower > 0.0
    assert binomtest(missed, runs, ALPHA).pvalue > 0.001


def normal_scores(generator, rows, positives, shifts, shared=0.8):
    """Labels, and scores of two models whose AUC are ``norm.cdf(shift / sqrt(2))``."""
    labels = (np.arange(rows) < positives).astype(float)
    both = generator.normal(0, math.sqrt(shared), rows)
    scores = [shift * labels + both + generator.normal(0, math.sqrt(1 - shared), rows) for shift in shifts]
    return labels, *scores


@pytest.mark.parametrize(("rows", "positives", "shifts"), [(300, 30, (2.33, 2.6)), (1000, 100, (2.8, 3.3))])
def test_strong_models_with_few_positives_are_not_passed_too_often(rows, positives, shifts):
    generator = np.random.default_rng(40)
    margin = norm.cdf(shifts[1] / math.sqrt(2)) - norm.cdf(shifts[0] / math.sqrt(2))
    runs, missed, naive = 500, 0, 0
    for _ in range(runs):
        found = difference_of(*normal_scores(generator, rows, positives, shifts), ALPHA)
        missed += found.lower > -margin
        naive += found.estimate - norm.ppf(1 - ALPHA) * found.standard_error > -margin
    assert binomtest(missed, runs, ALPHA, alternative="greater").pvalue > 0.01
    assert naive > missed  # DeLong's own is wrong more often


@given(seed=st.integers(0, 10_000), positives=st.integers(1, 80), decimals=st.integers(0, 3))
@settings(max_examples=60)
def test_bounds_lie_about_the_estimate_and_mirror_each_other(seed, positives, decimals):
    labels, ours, theirs = normal_scores(np.random.default_rng(seed), 160, positives, (1.5, 1.2), 0.5)
    ours, theirs = np.round(ours, decimals), np.round(theirs, decimals)
    found, mirrored = difference_of(labels, ours, theirs, ALPHA), difference_of(labels, theirs, ours, ALPHA)
    assert -1.0 <= found.lower <= found.estimate <= found.upper <= 1.0
    assert (found.lower, found.upper) == pytest.approx((-mirrored.upper, -mirrored.lower), abs=1e-6)
    assert difference_of(labels, ours, theirs, 0.01).lower <= found.lower


def test_with_many_rows_the_bounds_are_delongs():
    labels, ours, theirs = normal_scores(np.random.default_rng(41), 40_000, 16_000, (1.4, 1.5))
    found = difference_of(labels, ours, theirs, ALPHA)
    assert found.lower == pytest.approx(found.estimate - norm.ppf(0.95) * found.standard_error, abs=2e-5)


def test_models_that_order_all_rows_alike_do_not_differ():
    labels, ours, _ = normal_scores(np.random.default_rng(42), 400, 100, (1.2, 1.2))
    found = difference_of(labels, ours, np.exp(ours), ALPHA)
    assert (found.estimate, found.lower, found.upper) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("positives", [1, 5, 40, 150])
def test_two_models_without_a_fault_are_bounded_by_what_no_fault_in_so_many_rows_proves(positives):
    labels = (np.arange(300) < positives).astype(float)
    found = difference_of(labels, labels + np.linspace(0, 0.4, 300), labels, ALPHA)
    # of a share of this size, none would be seen in as many draws in 4.5 % of cases; the rest is for the other side
    assert binom.pmf(0, positives, -found.lower) == pytest.approx(0.9 * ALPHA, rel=1e-5)
    assert found.upper == pytest.approx(-found.lower)
    assert found.is_coarse


@pytest.mark.parametrize(("positives", "is_coarse"), [(SMALLEST_CLASS - 1, True), (SMALLEST_CLASS, False)])
def test_few_rows_of_a_class_say_little(positives, is_coarse):
    labels, ours, theirs = normal_scores(np.random.default_rng(43), 300, positives, (0.6, 0.7))
    found = difference_of(labels, ours, theirs, ALPHA)
    assert found.is_coarse is is_coarse
    assert difference_of(1 - labels, -ours, -theirs, ALPHA).is_coarse is is_coarse


def test_rows_that_are_hardly_out_of_place_say_little():
    labels = (np.arange(300) < 40).astype(float)
    scores = labels.copy()
    scores[40 : 40 + round(260 * (LEAST_MISPLACED - 0.1))] = 2.0  # one row's worth of misplaced positives, for 40 rows
    worth = 40 * (1 - roc_auc_score(labels, scores))
    assert worth > LEAST_MISPLACED
    assert not difference_of(labels, scores, scores, ALPHA).is_coarse
    perfect = difference_of(labels, scores, labels, ALPHA)
    assert perfect.is_coarse
    assert "0 of 40 rows are out of place" in perfect.method


def test_of_all_positives_below_all_negatives_the_other_side_alone_says_something():
    labels = (np.arange(300) < 5).astype(float)
    # of five rows all were out of place: fewer than this share would be in so many cases of a thousand
    assert difference_of(labels, -labels, -labels, ALPHA).lower == pytest.approx(-(1.0 - (0.1 * ALPHA) ** (1 / 5)))


def test_a_model_without_a_fault_is_proven_better_than_one_far_behind():
    labels, _, theirs = normal_scores(np.random.default_rng(45), 600, 300, (1.0, 1.1))
    found = difference_of(labels, labels, theirs, ALPHA)
    assert found.is_coarse
    assert 0.0 < found.lower < found.estimate < found.upper
    turned = difference_of(labels, theirs, labels, ALPHA)
    assert (turned.lower, turned.upper) == pytest.approx((-found.upper, -found.lower))


def test_a_gate_says_how_many_rows_two_strong_models_need():
    gate = GatePlan(metric="auc", against="production", margin=0.005)
    verdicts = {}
    for rows in (300, 6500):
        labels = (np.arange(rows) < rows // 10).astype(float)
        chance = np.where(labels == 1.0, 0.9, 0.1)
        side = Predictions(labels, chance)
        metric = row_metric("auc")
        assert metric is not None
        result = compare_rows(gate, metric, RowArrays(labels, side, side, "v1", {})).result
        verdicts[rows] = (result.verdict, result.evidence["more_rows_needed"])
    assert verdicts[6500] == (Verdict.PASS, 0)
    assert verdicts[300][0] is Verdict.UNDECIDED
    assert 5500 < verdicts[300][1] < 6500


def test_harm_is_seen_where_there_is_some():
    generator = np.random.default_rng(44)
    labels, ours, theirs = normal_scores(generator, 600, 200, (0.8, 1.6))
    assert harm_of(labels, ours, theirs) < 1e-3
    assert harm_of(labels, theirs, ours) == 1.0


def test_a_bound_far_out_is_found_where_few_rows_decide():
    # one positive alone is placed otherwise: under the hypothesis it weighs far more than where it was seen once
    labels = (np.arange(340) < 40).astype(float)
    theirs = np.where(labels == 1.0, 0.6, np.where(np.arange(340) % 10 == 0, 0.7, 0.2))
    ours = theirs.copy()
    ours[0] = 0.1
    found = difference_of(labels, ours, theirs, ALPHA)
    assert not found.is_coarse
    naive = norm.ppf(0.95) * found.standard_error
    assert found.estimate - found.lower > 2.0 * naive


@pytest.mark.parametrize("critical", [0.5, 2.0, 20.0])
def test_the_farthest_tilt_that_is_not_rejected(critical):
    def tilted(tilt):
        return tilt, 1.0 - tilt / 20.0

    expected = min(10.0, critical / (1.0 + critical / 20.0))  # the end where none of them is rejected
    assert _last_consistent(tilted, critical, 10.0) == pytest.approx(expected, rel=1e-3)
