"""The macro average of F1 over many classes: against scikit-learn, and by simulation how often its bound is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from interlock.gate.paired import mean_error, means_difference
from interlock.gate.row_metrics import MOST_CLASSES, compute, contributions, row_metric
from interlock.gate.rows import classes as by_kinds
from interlock.gate.rows.alone import judge_predictions
from interlock.gate.rows.pairs import pair_of
from interlock.pipeline.plan import GatePlan, SlicePlan
from interlock.vocabulary import Verdict

ALPHA = 0.05
MACRO = row_metric("f1_macro")


def predicted(generator, rows, classes, right, together=0.6):
    """Labels, and two models that have the shares ``right`` of them right and often err on the same rows."""
    labels = generator.integers(0, classes, rows).astype(float)
    shared, is_shared = generator.random(rows), generator.random(rows) < together
    sides = []
    for share in right:
        luck = np.where(is_shared, shared, generator.random(rows))
        wrong = (labels + generator.integers(1, classes, rows)) % classes
        sides.append(np.where(luck < share, labels, wrong))
    return labels, *sides


def macro(labels, values):
    return f1_score(labels, values, labels=np.unique(labels), average="macro")


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6))
@settings(max_examples=40)
def test_values_and_their_difference_are_those_of_scikit_learn(seed, classes):
    labels, ours, theirs = predicted(np.random.default_rng(seed), 400, classes, (0.7, 0.8))
    ours[:3] = 77.0  # a class that no label has
    pair = pair_of(MACRO, labels, ours, theirs)
    assert pair.values == pytest.approx((macro(labels, ours), macro(labels, theirs)), abs=1e-12)
    assert compute(MACRO, labels, ours).value == pytest.approx(macro(labels, ours), abs=1e-12)
    found = pair.difference(ALPHA)
    mirrored = pair_of(MACRO, labels, theirs, ours).difference(ALPHA)
    assert found.estimate == pytest.approx(macro(labels, ours) - macro(labels, theirs), abs=1e-12)
    assert found.lower < found.estimate < found.upper
    assert (mirrored.lower, mirrored.upper) == pytest.approx((-found.upper, -found.lower), abs=1e-6)


def test_of_two_classes_it_is_the_mean_of_the_f1_of_either():
    labels, ours, theirs = predicted(np.random.default_rng(2), 500, 2, (0.75, 0.8))
    f1 = row_metric("f1")
    flipped = [pair_of(f1, 1 - labels, 1 - ours, 1 - theirs), pair_of(f1, labels, ours, theirs)]
    expected = np.mean([one.values for one in flipped], axis=0)
    assert pair_of(MACRO, labels, ours, theirs).values == pytest.approx(tuple(expected))


def test_with_many_rows_the_bound_is_that_of_the_jackknife():
    labels, ours, theirs = predicted(np.random.default_rng(3), 20_000, 4, (0.78, 0.8))
    found = pair_of(MACRO, labels, ours, theirs).difference(ALPHA)
    pair = contributions(MACRO, labels, ours), contributions(MACRO, labels, theirs)
    plain = means_difference(pair, MACRO.combine, ALPHA)
    assert found.standard_error == pytest.approx(plain.standard_error, rel=0.02)
    assert (found.lower, found.upper) == pytest.approx((plain.lower, plain.upper), abs=2e-4)
    assert mean_error(MACRO, labels, ours) == pytest.approx(np.sqrt(0.78 * 0.22 / 20_000), rel=0.15)


def test_a_model_at_the_margin_passes_about_as_often_as_alpha_says():
    generator = np.random.default_rng(4)
    right, runs = (0.75, 0.8), 500
    truth = -0.05  # wrong answers are spread evenly, so that the macro F1 is the share that is right
    missed = 0
    for _ in range(runs):
        missed += pair_of(MACRO, *predicted(generator, 400, 4, right)).difference(ALPHA).lower > truth
    assert binomtest(missed, runs, ALPHA).pvalue > 0.001


def test_harm_is_where_the_bound_touches_no_difference():
    labels, ours, theirs = predicted(np.random.default_rng(5), 2000, 3, (0.76, 0.8))
    kinds, codes = by_kinds.kinds_of_many("f1_macro", labels, ours, theirs)
    counts = np.bincount(codes, minlength=kinds.prior.size).astype(float)
    chance = by_kinds.classes_harm(kinds, counts)
    assert 0.0 < chance < 0.05
    assert by_kinds.classes_difference(kinds, counts, chance).upper == pytest.approx(0.0, abs=1e-6)
    assert by_kinds.classes_harm(kinds.turned(), counts) == 1.0


def test_kinds_of_two_classes_assume_what_those_of_many_do():
    labels, ours, theirs = predicted(np.random.default_rng(6), 300, 2, (0.75, 0.8))
    kinds, _ = by_kinds.kinds_of_many("f1_macro", labels, ours, theirs)
    two = by_kinds.kinds_of_two(row_metric("f1"))
    assert sorted(kinds.prior) == sorted(two.prior)
    counts = np.bincount(by_kinds.code_of_two(labels, ours, theirs), minlength=8).astype(float)
    assert by_kinds.classes_values(two, counts) == pytest.approx((f1_score(labels, ours), f1_score(labels, theirs)))


def judged(labels, ours, theirs, columns=None, **more):
    gate = GatePlan(metric="f1_macro", against="production", **{"margin": 0.05, **more})
    (result,) = judge_predictions([gate], labels, {"prediction": ours}, {"prediction": theirs}, columns).results
    return result


def test_a_gate_judges_it_and_slices_by_the_classes_that_have_rows_there():
    labels, ours, theirs = predicted(np.random.default_rng(7), 4000, 5, (0.8, 0.8))
    part = np.arange(4000) % 4
    labels[(part == 3) & (labels == 4.0)] = 0.0  # a class that this slice hardly has
    labels[3] = 4.0
    spoilt = ours.copy()
    spoilt[part == 3] = 1.0
    slices = {"slices": (SlicePlan(column="part"),)}
    good = judged(labels, ours, theirs, {"part": part}, **slices)
    assert good.verdict is Verdict.PASS
    assert good.evidence["slices"]["tested"] == 4
    shown = {one["slice"]: one for one in good.evidence["slices"]["worst"]}["part=3"]
    assert shown["candidate"] == pytest.approx(
        f1_score(labels[part == 3], ours[part == 3], labels=[0, 1, 2, 3], average="macro"), abs=1e-9
    )
    bad = judged(labels, spoilt, theirs, {"part": part}, margin=0.3, **slices)
    assert bad.verdict is Verdict.FAIL
    assert "part=3 is proven worse" in bad.because
    few = judged(labels, ours, theirs, {"part": np.array([f"p{one}" for one in np.arange(4000) // 40])}, **slices)
    assert "no slice has 50 rows" in few.because


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.zeros(400), "all of one class"),
        (np.arange(400.0), f"at most {MOST_CLASSES} classes, and these have 400 values"),
        (np.append(np.arange(396.0) % 3, [7.0] * 4), "10 rows of each class, and of one class there are 4"),
    ],
)
def test_what_is_not_classes_or_too_rare_is_undecided(labels, told):
    result = judged(labels, labels, labels)
    assert result.verdict is Verdict.UNDECIDED
    assert told in result.because


def test_a_limit_on_it_is_judged_from_the_predictions():
    labels, ours, _ = predicted(np.random.default_rng(8), 400, 3, (0.8, 0.8))
    (result,) = judge_predictions([GatePlan(metric="f1_macro", min=0.6)], labels, {"prediction": ours}).results
    assert result.verdict is Verdict.PASS
    assert result.evidence["candidate"] == pytest.approx(macro(labels, ours))
