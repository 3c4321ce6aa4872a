"""Slices block on proven harm alone, and over all of them an identical model is blocked no more often than alpha."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from tests.measured import report_of

from interlock.gate.judge import NO_PRODUCTION, UNKNOWN_PRODUCTION, judge
from interlock.gate.row_metrics import GROUP_METRICS, evaluate, row_metric
from interlock.gate.rows.cutting import Parts, cut
from interlock.gate.rows.harm import benjamini_hochberg, holm, mcnemar_mid_p
from interlock.gate.rows.pairs import pair_of
from interlock.pipeline.plan import GatePlan, SlicePlan
from interlock.vocabulary import Verdict

PASS, FAIL, UNDECIDED = Verdict.PASS, Verdict.FAIL, Verdict.UNDECIDED
PRODUCTION = "flights v3"
METRICS = ("accuracy", "auc", "f1", "log_loss", "rmse", "mae", "row_loss")


def reports(count=5000, seed=1, harm=0.0, on=3, noise=0.5, columns=None):
    """Two models of one kind; the candidate guesses in a share ``harm`` of the rows of slice number ``on`` of 20."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(count) < 0.5).astype(float)
    part = np.arange(count) % 20
    hidden = generator.normal(0, 1, count)
    sides = []
    for is_candidate in (True, False):
        chance = 1 / (1 + np.exp(-(2 * (labels * 2 - 1) + hidden + generator.normal(0, noise, count))))
        if is_candidate:
            spoiled = (part == on) & (generator.random(count) < harm)
            chance[spoiled] = generator.random(int(spoiled.sum()))
        loss = np.abs(labels - chance).tolist()
        sides.append(({"prediction": (chance > 0.5).astype(float).tolist(), "probability": chance.tolist()}, loss))
    there = {"carrier": [f"C{one:02d}" for one in part.tolist()], **(columns or {})}
    baseline = {"name": PRODUCTION, "missing": 0, **sides[1][0], "columns": {"row_loss": sides[1][1]}}
    return {"measurements": report_of(labels.tolist(), sides[0][0], {**there, "row_loss": sides[0][1]}, baseline)}


def gate(metric="accuracy", slices=("carrier",), margin=0.03, **more):
    chosen = slices if isinstance(slices, str) else tuple(SlicePlan(column=name) for name in slices)
    return GatePlan(metric=metric, against="production", margin=margin, slices=chosen, **more)


def one(asked, measured, production=PRODUCTION):
    (result,) = judge([asked], measured, production).results
    assert result.gate == asked.title
    return result


@pytest.mark.parametrize("metric", METRICS)
def test_harm_in_one_slice_blocks_a_model_that_is_good_enough_on_all_rows(metric):
    spoiled = reports(harm=0.9)
    margin = 0.1 if metric in {"log_loss", "rmse"} else 0.03
    whole = one(gate(metric, slices=(), margin=margin), spoiled)
    assert whole.verdict is PASS, whole.because
    result = one(gate(metric, margin=margin), spoiled)
    assert result.verdict is FAIL
    assert result.because.startswith("carrier=C03 is proven worse")
    found = result.evidence["slices"]
    assert (found["tested"], found["skipped"], found["family"]) == (20, 0, 20)
    assert found["look_at"][0] == "carrier=C03"
    worst = found["worst"][0]
    assert (worst["slice"], worst["rows"], worst["blocks"]) == ("carrier=C03", 250, True)
    assert worst["gain"] < -margin
    assert worst["holm"] >= worst["probability"]
    assert [shown["blocks"] for shown in found["worst"][1:]] == [False] * 9


@pytest.mark.parametrize("metric", METRICS)
def test_an_even_model_passes_although_some_slices_look_worse(metric):
    measured = reports(seed=5)
    result = one(gate(metric), measured)
    assert result.verdict is PASS, result.because
    assert "none of 20 slices is proven worse" in result.because
    assert any(shown["gain"] < 0 for shown in result.evidence["slices"]["worst"])


def test_several_harmed_slices_are_counted_and_all_shown():
    columns = {"twin": [f"T{place % 20:02d}" for place in range(5000)]}
    result = one(gate(slices=("carrier", "twin")), reports(harm=0.9, columns=columns))
    assert "carrier=C03 and 1 more slices are proven worse" in result.because
    assert [shown["slice"] for shown in result.evidence["slices"]["worst"][:2]] == ["carrier=C03", "twin=T03"]


def test_a_loss_within_the_margin_never_blocks():
    measured = reports(harm=0.9)
    assert one(gate(margin=0.03), measured).verdict is FAIL
    assert one(gate(margin=0.6), measured).verdict is PASS


def test_what_is_worth_a_look_blocks_nothing():
    measured = reports(harm=0.3, seed=8)
    result = one(gate(margin=0.3), measured)
    assert result.verdict is PASS
    assert result.evidence["slices"]["look_at"] == ["carrier=C03"]
    assert result.because.endswith("look at carrier=C03")


def test_the_family_is_that_of_all_gates():
    asked = [gate(), gate("auc"), gate("f1"), GatePlan(metric="accuracy", min=0.0)]
    results = judge(asked, reports(), PRODUCTION).results
    assert [result.evidence.get("slices", {}).get("family") for result in results] == [60, 60, 60, None]


@pytest.mark.parametrize("metric", ["accuracy", "auc"])
@pytest.mark.parametrize(("slices", "because"), [(("carier",), "have a column carier"), (("rare",), "no slice has 50")])
def test_slices_that_cannot_be_judged_are_undecided(metric, slices, because):
    measured = reports(columns={"rare": [f"R{place % 500}" for place in range(5000)]})
    result = one(gate(metric, slices=slices), measured)
    assert result.verdict is UNDECIDED
    assert because in result.because


def test_a_gate_that_fails_stays_failed_whatever_its_slices():
    measured = reports()
    measured["measurements"]["rows"]["candidate"]["prediction"] = [0.0] * 5000
    assert one(gate(slices=("carier",)), measured).verdict is FAIL
    assert one(gate(), measured).verdict is FAIL


def test_a_gate_that_is_undecided_stays_so():
    result = one(gate(margin=0.001), reports(noise=0.3, seed=2))
    assert result.verdict is UNDECIDED
    assert "none of 20 slices" in result.because


def test_a_slice_of_one_class_is_skipped_by_metrics_of_two():
    measured = reports()
    labels = measured["measurements"]["rows"]["labels"]
    measured["measurements"]["rows"]["columns"] = {"truth": ["yes" if label else "no" for label in labels]}
    assert one(gate("auc", slices=("truth",)), measured).verdict is UNDECIDED
    assert one(gate("accuracy", slices=("truth",)), measured).evidence["slices"]["tested"] == 2


def test_found_slices_are_those_of_every_column():
    generator = np.random.default_rng(2)
    ages = generator.uniform(18, 80, 5000).tolist()
    measured = reports(columns={"age": ages, "code": (np.arange(5000) % 3).astype(float).tolist()})
    found = one(gate(slices="found"), measured).evidence["slices"]
    assert found["tested"] == 20 + 4 + 3


def test_without_production_there_is_nothing_to_slice():
    assert "slices" not in one(gate(), reports(), NO_PRODUCTION).evidence
    assert "slices" not in one(gate(), reports(), UNKNOWN_PRODUCTION).evidence
    short = reports(count=200)
    assert one(gate(), short).because.startswith("200 common rows are too few")


def test_a_report_with_columns_of_another_length_is_refused():
    measured = reports()
    measured["measurements"]["rows"]["columns"]["carrier"].pop()
    assert "column carrier is not as long" in one(gate(), measured).because


def test_a_loss_that_one_side_lacks_is_no_loss():
    measured = reports()
    measured["measurements"]["rows"]["baseline"]["columns"] = {}
    assert "flights v3 has no row_loss for 5000 of 5000" in one(gate("row_loss"), measured).because
    measured = reports()
    measured["measurements"]["rows"]["columns"]["row_loss"][7] = "high"
    assert one(gate("row_loss"), measured).verdict is FAIL
    del measured["measurements"]["rows"]["columns"]["row_loss"]
    assert "needs a row_loss column" in one(gate("row_loss"), measured).because


# ---- how a column is cut


@pytest.mark.parametrize(
    ("column", "quantiles", "names", "codes"),
    [
        (["b", "a", None, "b"], None, ("x=a", "x=b", "x missing"), [1, 0, 2, 1]),
        ([2.0, 0.5, math.nan], None, ("x=0.5", "x=2", "x missing"), [1, 0, 2]),
        ([7, 5, 7], None, ("x=5", "x=6", "x=7"), [2, 0, 2]),
        ([7, 50_000, 7], None, ("x=7", "x=50000"), [0, 1, 0]),
        ([1.0, 2.0, 3.0, 4.0], 2, ("x below 2.5", "x from 2.5"), [0, 0, 1, 1]),
        ([1.0, 1.0, 1.0], 2, ("x below 1", "x from 1"), [1, 1, 1]),
        ([True, False], None, ("x=False", "x=True"), [1, 0]),
    ],
)
def test_a_column_is_cut(column, quantiles, names, codes):
    found = cut("x", np.array(column, dtype=object if None in column else None), quantiles)
    assert (found.names, found.codes.tolist()) == (names, codes)


@pytest.mark.parametrize("column", [np.arange(400), np.arange(400) / 7, np.arange(400) * 100_000])
def test_many_numbers_are_cut_at_their_quartiles(column):
    found = cut("x", column)
    assert len(found.names) == 4
    assert np.bincount(found.codes).tolist() == [100, 100, 100, 100]


def test_a_column_in_which_everything_is_missing_is_one_slice():
    found = cut("x", np.full(5, math.nan), 4)
    assert (found.names[-1], set(found.codes.tolist())) == ("x missing", {len(found.names) - 1})


# ---- probabilities


@pytest.mark.parametrize(("wrong", "mended"), [(12, 3), (1, 0), (40, 25), (400, 350)])
def test_mcnemar_mid_p_against_the_exact_test(wrong, mended):
    exact = mcnemar([[50, wrong], [mended, 50]], exact=True).pvalue / 2
    ties = math.comb(wrong + mended, mended) / 2 ** (wrong + mended)
    assert mcnemar_mid_p(wrong, mended) == pytest.approx(exact - ties / 2, rel=1e-8)


def test_mcnemar_of_many_is_the_normal_one():
    exact = binom.cdf(2450, 5050, 0.5) - binom.pmf(2450, 5050, 0.5) / 2
    assert mcnemar_mid_p(2600, 2450) == pytest.approx(exact, rel=1e-3)
    assert mcnemar_mid_p(3, 3) == mcnemar_mid_p(2, 5) == 1.0


def test_corrections_are_those_of_statsmodels():
    generator = np.random.default_rng(3)
    for count in (1, 2, 30):
        chances = (generator.random(count) ** 3).tolist()
        assert holm(chances) == pytest.approx(multipletests(chances, method="holm")[1])
        assert benjamini_hochberg(chances) == pytest.approx(multipletests(chances, method="fdr_bh")[1])
    assert holm([]) == benjamini_hochberg([]) == []


def harm_of(metric, labels, ours, theirs):
    """The probability of harm, of all rows as one slice."""
    (found,) = (
        pair_of(metric, labels, ours, theirs).compare([Parts(np.zeros(labels.size, dtype=np.intp), ("all",))]).tests
    )
    return found.probability


def two_even_models(generator, metric, rows=250):
    labels = (generator.random(rows) < 0.4).astype(float)
    hidden = generator.normal(0, 1, rows) + 1.5 * labels
    scores = [hidden + generator.normal(0, 0.4, rows) for _ in range(2)]
    if metric.is_of_classes or metric.name == "accuracy":
        return labels, *((score > 0.7).astype(float) for score in scores)
    return labels, *(1 / (1 + np.exp(-score)) for score in scores)


@pytest.mark.parametrize("metric", [*GROUP_METRICS, row_metric("row_loss")], ids=lambda metric: metric.name)
def test_an_even_model_looks_harmful_no_more_often_than_the_probability_says(metric):
    generator = np.random.default_rng(4)
    chances = [harm_of(metric, *two_even_models(generator, metric)) for _ in range(300)]
    assert binomtest(sum(chance <= 0.05 for chance in chances), 300, 0.05, alternative="greater").pvalue > 0.001
    assert sum(chance <= 0.0005 for chance in chances) <= 3


def test_a_loss_that_is_worse_in_every_row_by_the_same_is_certain():
    zeros = np.zeros(100)
    assert harm_of(row_metric("row_loss"), zeros, zeros + 1, zeros) < 1e-20
    assert harm_of(row_metric("row_loss"), zeros, zeros, zeros) == 1.0
    labels = np.array([0.0, 1.0] * 50)
    assert harm_of(row_metric("auc"), labels, 1 - labels, labels) < 1e-6


@pytest.mark.parametrize("metric", [*GROUP_METRICS, row_metric("row_loss")], ids=lambda metric: metric.name)
@pytest.mark.parametrize("sizes", [(3,), (2, 5, 3), (20, 20, 20, 20)], ids=str)
def test_slices_of_many_columns_are_what_each_is_alone(metric, sizes):
    generator, rows = np.random.default_rng(9), 20_000
    sign = 1 if metric.is_higher_better else -1
    labels, ours, theirs = two_even_models(generator, metric, rows)
    if metric.is_of_probability:
        ours = np.round(ours, 2)  # ties
    parts = [
        Parts(generator.integers(0, size, rows), tuple(f"{place}={one}" for one in range(size)))
        for place, size in enumerate(sizes)
    ]
    found = pair_of(metric, labels, ours, theirs).compare(parts)
    assert found.there == sum(sizes)
    assert [test.name for test in found.tests] == [name for part in parts for name in part.names]
    tests = iter(found.tests)
    for part in parts:
        for code in range(len(part.names)):
            test, is_in = next(tests), part.codes == code
            alone = labels[is_in], ours[is_in], theirs[is_in]
            values = [evaluate(metric, alone[0], side) for side in alone[1:]]
            assert test.rows == np.count_nonzero(is_in)
            assert (test.candidate, test.production) == pytest.approx(tuple(values), abs=1e-9)
            assert test.gain == pytest.approx(sign * (values[0] - values[1]), abs=1e-9)
            assert test.probability == pytest.approx(harm_of(metric, *alone), abs=1e-9)


@pytest.mark.parametrize("metric", [*GROUP_METRICS, row_metric("row_loss")], ids=lambda metric: metric.name)
def test_a_slice_of_few_rows_is_there_and_not_judged(metric):
    labels, ours, theirs = two_even_models(np.random.default_rng(9), metric, 2000)
    codes = (np.arange(2000) < 10).astype(int)
    found = pair_of(metric, labels, ours, theirs).compare([Parts(codes, ("many", "few"))])
    assert ([test.name for test in found.tests], found.there) == (["many"], 2)


def test_holm_blocks_an_even_model_in_no_more_than_alpha_of_judgements():
    discordant = np.random.default_rng(5).multinomial(250, [0.03, 0.03, 0.94], (400, 20))
    blocked = sum(
        min(holm([mcnemar_mid_p(int(wrong), int(mended)) for wrong, mended, _ in slices])) <= 0.05
        for slices in discordant
    )
    assert binomtest(blocked, 400, 0.05, alternative="greater").pvalue > 0.001
