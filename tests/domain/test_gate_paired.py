"""Paired tests against published vectors, other implementations, and simulation of how often they are wrong."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    precision_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)

from interlock.gate.paired import (
    accuracy_difference,
    mean_error,
    means_difference,
    tango_score,
)
from interlock.gate.row_metrics import GROUP_METRICS, ROW_METRICS, compute, contributions, row_metric
from interlock.gate.rows.classes import classes_difference, classes_harm, classes_values, code_of_two, kinds_of_two

ALPHA = 0.05


@pytest.mark.parametrize(
    ("wrong", "mended", "rows", "lower", "score"),
    [
        (10, 20, 500, 0.002071, 2.646126),
        (25, 20, 1000, -0.016447, 0.737705),
        (0, 5, 200, 0.011319, 2.659080),
        (40, 30, 2000, -0.012082, 1.174766),
    ],
)
def test_tango_known_values(wrong, mended, rows, lower, score):
    assert accuracy_difference(wrong, mended, rows, ALPHA).lower == pytest.approx(lower, abs=1e-6)
    assert tango_score(wrong, mended, rows, -0.01) == pytest.approx(score, abs=1e-6)


def test_tango_at_no_difference_is_mcnemar():
    assert tango_score(10, 25, 400, 0.0) == pytest.approx((25 - 10) / math.sqrt(25 + 10))


@given(wrong=st.integers(0, 60), mended=st.integers(0, 60), agreeing=st.integers(1, 500))
@settings(max_examples=60)
def test_tango_bounds_are_where_its_score_is_critical_and_mirror_each_other(wrong, mended, agreeing):
    rows = wrong + mended + agreeing
    found, mirrored = accuracy_difference(wrong, mended, rows, ALPHA), accuracy_difference(mended, wrong, rows, ALPHA)
    assert -1.0 <= found.lower <= found.estimate <= found.upper <= 1.0
    assert found.lower == pytest.approx(-mirrored.upper, abs=1e-9)
    assert tango_score(wrong, mended, rows, found.lower) == pytest.approx(norm.ppf(0.95), abs=1e-5)


def test_tango_where_every_row_differs():
    assert accuracy_difference(50, 0, 50, ALPHA).lower == -1.0
    assert accuracy_difference(0, 50, 50, ALPHA).upper == 1.0
    assert tango_score(0, 0, 50, 0.0) == 0.0


def test_tango_misses_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    runs, missed = 600, 0
    for _ in range(runs):
        wrong, mended, _ = generator.multinomial(500, [0.02, 0.01, 0.97])  # truly 1 point worse
        missed += accuracy_difference(int(wrong), int(mended), 500, ALPHA).lower > -0.01
    assert binomtest(missed, runs, ALPHA).pvalue > 0.001


def counted(labels, ours, theirs):
    """How many rows there are of each kind."""
    return np.bincount(code_of_two(labels, ours, theirs), minlength=8).astype(float)


def scored(generator, rows, strength, noise=1.0):
    labels = (generator.random(rows) < 0.3).astype(float)
    hidden = generator.normal(0, 1, rows)
    scores = [strength * labels + hidden + generator.normal(0, noise, rows) for _ in range(2)]
    return labels, *(1 / (1 + np.exp(-score)) for score in scores)


@pytest.mark.parametrize("name", ["rmse", "mae", "f1", "log_loss"])
def test_metrics_of_means_give_the_same_answer_twice_and_mirror_themselves(name):
    metric = row_metric(name)
    labels, ours, theirs = scored(np.random.default_rng(5), 400, 1.0)
    if name == "f1":
        ours, theirs = (ours > 0.5).astype(float), (theirs > 0.5).astype(float)
    pair = metric.columns(labels, ours), metric.columns(labels, theirs)
    found = means_difference(pair, metric.combine, ALPHA)
    assert means_difference(pair, metric.combine, ALPHA) == found
    assert means_difference(pair[::-1], metric.combine, ALPHA).estimate == pytest.approx(-found.estimate)
    assert found.lower < found.estimate < found.upper


def bootstrapped(pair, combine, resamples=2000):
    """The standard error that resampling the rows of both sides together gives."""
    rows = pair[0].shape[0]
    picks = np.random.default_rng(17).integers(0, rows, (resamples, rows))
    gaps = [combine(pair[0][pick].mean(axis=0)) - combine(pair[1][pick].mean(axis=0)) for pick in picks]
    return float(np.std(gaps, ddof=1))


@pytest.mark.parametrize("name", ["rmse", "mae", "f1", "log_loss"])
def test_error_of_a_metric_of_means_is_that_of_a_paired_bootstrap(name):
    metric = row_metric(name)
    labels, ours, theirs = scored(np.random.default_rng(6), 600, 1.0)
    if name == "f1":
        ours, theirs = (ours > 0.5).astype(float), (theirs > 0.5).astype(float)
    pair = metric.columns(labels, ours), metric.columns(labels, theirs)
    found = means_difference(pair, metric.combine, ALPHA).standard_error
    assert found == pytest.approx(bootstrapped(pair, metric.combine), rel=0.06)


def test_error_of_a_mean_is_the_known_one_and_a_quarter_of_the_row_that_pulls_most():
    generator = np.random.default_rng(6)
    labels, ours, theirs = generator.normal(0, 1, (3, 1000))
    metric = row_metric("mae")
    pair = metric.columns(labels, ours), metric.columns(labels, theirs)
    excess = np.abs(labels - ours) - np.abs(labels - theirs)
    known = excess.var() / 999 + 0.25 * np.max((excess - excess.mean()) ** 2) / (1000 * 999)
    assert means_difference(pair, metric.combine, ALPHA).standard_error == pytest.approx(math.sqrt(known))


def test_many_rows_are_worked_through_in_parts_with_one_result():
    labels, ours, theirs = np.random.default_rng(8).normal(0, 1, (3, 20_000))
    metric = row_metric("rmse")
    pair = [contributions(metric, labels, side) for side in (ours, theirs)]
    assert np.array_equal(pair[0], metric.columns(labels, ours))
    without = [np.sqrt((side.sum() - side[:, 0]) / (labels.size - 1)) for side in pair]
    left_out = without[0] - without[1]
    pulls = (left_out - left_out.mean()) * math.sqrt((labels.size - 1) / labels.size)
    known = np.square(pulls).sum() + 0.25 * np.square(pulls).max()
    assert means_difference(tuple(pair), metric.combine, ALPHA).standard_error == pytest.approx(math.sqrt(known))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_errors_follow_the_unit_of_the_labels(scale):
    labels, ours, theirs = np.random.default_rng(18).normal(0, scale, (3, 500))
    metric = row_metric("rmse")
    pair = metric.columns(labels, ours), metric.columns(labels, theirs)
    unit = metric.columns(labels / scale, ours / scale), metric.columns(labels / scale, theirs / scale)
    found, plain = (means_difference(both, metric.combine, ALPHA).standard_error for both in (pair, unit))
    assert found / scale == pytest.approx(plain, rel=1e-6)
    one_side = mean_error(metric, labels, ours), mean_error(metric, labels / scale, ours / scale)
    assert one_side[0] / scale == pytest.approx(one_side[1], rel=1e-6)


def test_f1_by_its_means_misses_about_as_often_as_it_says():
    generator = np.random.default_rng(7)
    metric = row_metric("f1")
    runs, missed = 80, 0
    for _ in range(runs):
        labels, ours, theirs = scored(generator, 400, 1.5)
        pair = [metric.columns(labels, (scores > 0.6).astype(float)) for scores in (ours, theirs)]
        missed += means_difference(tuple(pair), metric.combine, ALPHA).lower > 0.0
    assert binomtest(missed, runs, ALPHA).pvalue > 0.001


def test_row_metrics_are_those_everybody_knows():
    labels, chances, _ = scored(np.random.default_rng(11), 300, 1.0)
    chances = np.round(chances, 2)
    classes = (chances > 0.5).astype(float)
    expected = {
        "accuracy": accuracy_score(labels, classes),
        "auc": roc_auc_score(labels, chances),
        "f1": f1_score(labels, classes),
        "log_loss": log_loss(labels, chances),
        "rmse": root_mean_squared_error(labels, chances),
        "mae": mean_absolute_error(labels, chances),
        "f1_macro": f1_score(labels, classes, average="macro"),
    }
    values = {"accuracy": classes, "f1": classes, "f1_macro": classes}
    assert {metric.name for metric in ROW_METRICS} == set(expected)
    for metric in ROW_METRICS:
        found = compute(metric, labels, values.get(metric.name, chances))
        assert found.value == pytest.approx(expected[metric.name], abs=1e-9), metric.name


def test_certain_and_wrong_is_a_large_but_finite_loss():
    labels, chances = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    assert compute(row_metric("log_loss"), labels, chances).value == pytest.approx(log_loss(labels, chances))


def test_f1_without_any_positive_prediction_is_zero():
    assert compute(row_metric("f1"), np.array([0.0, 1.0]), np.array([0.0, 0.0])).value == 0.0
    nothing = np.array([0.0, 0.0])
    assert row_metric("f1").combine(row_metric("f1").columns(nothing, nothing).mean(axis=0)) == 0.0


@pytest.mark.parametrize(
    ("name", "labels", "values", "because"),
    [
        ("auc", [0, 1], None, "needs a probability column"),
        ("auc", [], [], "no row has both"),
        ("auc", [1, 1], [0.1, 0.2], "all of one class"),
        ("f1", [0, 2], [0, 1], "labels of two classes"),
        ("f1", [0, 1], [0.2, 1], "predictions that are classes"),
        ("log_loss", [0, 1], [-0.1, 0.5], "outside 0 to 1"),
    ],
)
def test_why_a_metric_cannot_be_had(name, labels, values, because):
    values = None if values is None else np.array(values, dtype=float)
    found = compute(row_metric(name), np.array(labels, dtype=float), values)
    assert found.value is None
    assert because in found.because


def test_an_unknown_metric_is_none():
    assert row_metric("profit") is None


def test_every_pair_of_orderings_gives_an_area_of_wins():
    for scores in itertools.permutations([0.1, 0.2, 0.3, 0.4]):
        labels = np.array([1.0, 0.0, 1.0, 0.0])
        wins = sum(scores[i] > scores[j] for i in (0, 2) for j in (1, 3))
        assert compute(row_metric("auc"), labels, np.array(scores)).value == wins / 4


# ---- metrics of classes


def kinds_of_rows(positives, found, found_too, mistaken, mistaken_too, together):
    """Shares of (label, candidate's class, production's): the two agree on a case where they use the same luck."""
    shares, kinds = [], []
    for label, share, rates in ((1.0, positives, (found, found_too)), (0.0, 1 - positives, (mistaken, mistaken_too))):
        for ours, theirs in itertools.product((1.0, 0.0), repeat=2):
            alone = math.prod(rate if chosen else 1 - rate for rate, chosen in zip(rates, (ours, theirs), strict=True))
            low, high = min(rates), max(rates)
            both = {(1.0, 1.0): low, (0.0, 0.0): 1 - high}.get(
                (ours, theirs), high - low if (ours > theirs) == (rates[0] > rates[1]) else 0.0
            )
            shares.append(share * (together * both + (1 - together) * alone))
            kinds.append((label, ours, theirs))
    return np.array(shares), np.array(kinds)


def exact_f1(shares, kinds, side):
    return 2 * shares @ (kinds[:, 0] * kinds[:, side]) / (shares @ (kinds[:, 0] + kinds[:, side]))


@pytest.mark.parametrize(
    "world", [(0.1, 0.7, 0.8, 0.05, 0.05, 0.8), (0.3, 0.7, 0.7, 0.07, 0.05, 0.9), (0.5, 0.65, 0.75, 0.1, 0.06, 0.7)]
)
def test_f1_misses_no_more_often_than_it_says_where_a_bootstrap_does(world):
    generator = np.random.default_rng(12)
    shares, kinds = kinds_of_rows(*world)
    truth = exact_f1(shares, kinds, 1) - exact_f1(shares, kinds, 2)
    metric, runs, missed = row_metric("f1"), 400, 0
    for counts in generator.multinomial(300, shares, runs):
        labels, ours, theirs = np.repeat(kinds, counts, axis=0).T
        missed += classes_difference(kinds_of_two(metric), counted(labels, ours, theirs), ALPHA).lower > truth
    assert binomtest(missed, runs, ALPHA, alternative="greater").pvalue > 0.001


@given(counts=st.lists(st.integers(0, 60), min_size=8, max_size=8), alpha=st.floats(0.001, 0.4))
@settings(max_examples=60)
def test_f1_bounds_surround_the_estimate_and_mirror_each_other(counts, alpha):
    kinds = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    counts[0] += 1
    counts[7] += 1
    labels, ours, theirs = np.repeat(kinds, counts, axis=0).T
    metric = row_metric("f1")
    found, mirrored = (
        classes_difference(kinds_of_two(metric), counted(labels, *pair), alpha)
        for pair in ((ours, theirs), (theirs, ours))
    )
    assert found.estimate == pytest.approx(f1_score(labels, ours) - f1_score(labels, theirs), abs=1e-12)
    assert -1.0 <= found.lower <= found.estimate <= found.upper <= 1.0
    assert (found.lower, found.upper) == pytest.approx((-mirrored.upper, -mirrored.lower), abs=1e-9)
    wider = classes_difference(kinds_of_two(metric), counted(labels, ours, theirs), alpha / 2)
    assert wider.lower <= found.lower + 1e-9


def test_f1_of_many_rows_agrees_with_the_jackknife():
    shares, kinds = kinds_of_rows(0.3, 0.7, 0.75, 0.06, 0.05, 0.7)
    labels, ours, theirs = np.repeat(kinds, np.round(shares * 5000).astype(int), axis=0).T
    metric = row_metric("f1")
    score = classes_difference(kinds_of_two(metric), counted(labels, ours, theirs), ALPHA)
    pair = metric.columns(labels, ours), metric.columns(labels, theirs)
    plain = means_difference(pair, metric.combine, ALPHA)
    assert score.estimate == pytest.approx(plain.estimate, abs=1e-12)
    assert score.standard_error == pytest.approx(plain.standard_error, rel=0.1)
    assert score.lower == pytest.approx(plain.lower, abs=0.15 * plain.standard_error)


def test_harm_of_f1_is_where_its_bound_is_zero():
    shares, kinds = kinds_of_rows(0.3, 0.68, 0.75, 0.06, 0.05, 0.8)
    labels, ours, theirs = np.repeat(kinds, np.round(shares * 1000).astype(int), axis=0).T
    metric = row_metric("f1")
    counts = counted(labels, ours, theirs)
    chance = classes_harm(kinds_of_two(metric), counts)
    assert 0.0 < chance < 0.05
    assert classes_difference(kinds_of_two(metric), counts, chance).upper == pytest.approx(0.0, abs=1e-6)
    turned = counted(labels, theirs, ours)
    assert classes_harm(kinds_of_two(metric), turned) == 1.0
    values = f1_score(labels, ours), f1_score(labels, theirs)
    assert classes_values(kinds_of_two(metric), counts) == pytest.approx(values)
    assert classes_values(kinds_of_two(metric), turned) == pytest.approx(values[::-1])


def long_tailed(generator, own, rows=2000):
    """Squared errors of two sides, their spread varying from row to row."""
    spread = np.exp(generator.normal(0, 0.5, rows))
    shared, ours, theirs = (generator.normal(0, part, rows) * spread for part in (1.0, own, 0.5))
    return (shared + ours)[:, None] ** 2, (shared + theirs)[:, None] ** 2


@pytest.mark.parametrize("own", [0.5, 0.7])
def test_rmse_at_the_margin_passes_no_more_often_than_it_says(own):
    generator = np.random.default_rng(14)
    metric, runs = row_metric("rmse"), 3000
    margin = math.exp(0.25) * (math.sqrt(1 + own**2) - math.sqrt(1 + 0.5**2))
    found = [means_difference(long_tailed(generator, own), metric.combine, ALPHA).upper < margin for _ in range(runs)]
    assert 0.04 <= np.mean(found) <= 0.055


def test_a_ratio_of_nothing_is_zero():
    for metric in GROUP_METRICS:
        if metric.is_of_classes:
            assert metric.combine(np.zeros(2)) == 0.0


def test_rates_of_groups_are_those_everybody_knows():
    labels, chances, _ = scored(np.random.default_rng(15), 300, 1.0)
    classes = (chances > 0.6).astype(float)
    negatives = labels == 0
    expected = {
        "precision": precision_score(labels, classes),
        "recall": recall_score(labels, classes),
        "positive_rate": classes.mean(),
        "false_positive_rate": 1 - recall_score(negatives, classes == 0),
    }
    for metric in GROUP_METRICS[len(ROW_METRICS) :]:
        assert compute(metric, labels, classes).value == pytest.approx(expected[metric.name], abs=1e-12)
