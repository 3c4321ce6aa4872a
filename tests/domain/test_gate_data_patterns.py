"""Changes that look like a certain mistake, and those that do not; distances and their p-values beside scipy's."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from interlock.gate.data.coding import best_match
from interlock.gate.data.distances import (
    chi_squared_tail,
    distance,
    holm,
    homogeneity,
    kolmogorov_tail,
    of_counts,
    stability_index,
    total_variation,
    usual_variation,
)
from interlock.gate.data.judge import judge_data
from interlock.gate.data.patterns import hours_of
from interlock.gate.data.scales import FACTORS, why_rescaled
from interlock.gate.data.summaries import ColumnSummary
from interlock.gate.judgement import GateResult
from interlock.pipeline.checks.data import DataChecksSpec
from interlock.pipeline.checks.resolution import data_checks
from interlock.pipeline.plan import DataPlan
from interlock.probes.summaries import summarise
from interlock.vocabulary import Json, Verdict

ROWS = 2000
Columns = dict[str, Any]


def report(columns: Columns) -> Json:
    cells = pd.DataFrame({name: [str(value) for value in values] for name, values in columns.items()}, dtype=object)
    found = summarise([{"name": "train", "id": None, "label": "y"}], {"train": cells}, None)
    made: Json = json.loads(json.dumps({"train": {"summary": found["train"]}}))
    return made


def judge(check: str, new: Columns, old: Columns, **limits: Any) -> GateResult:
    checks = data_checks(DataChecksSpec.model_validate({check: limits}))
    checked = judge_data([DataPlan(name="train", path="t.csv", checks=checks)], report(new), report(old), "v1", 0.0)
    return next(result for result in checked.results if result.gate == f"{check} of train")


def sample(seed: int) -> Columns:
    chance = np.random.default_rng(seed)
    carrier = chance.choice(["AA", "B6", "DL", "UA", "WN"], ROWS, p=[0.4, 0.25, 0.15, 0.12, 0.08])
    hour = np.clip(chance.normal(14, 4, ROWS).round(), 5, 23).astype(int)
    return {
        "carrier": carrier,
        "code": chance.choice([1, 2, 3, 4, 5, 6], ROWS, p=[0.35, 0.25, 0.15, 0.1, 0.1, 0.05]),
        "hour": hour,
        "at": [f"2013-01-0{1 + row % 9}T{one:02d}:00:00Z" for row, one in enumerate(hour)],
        "temp": chance.normal(60, 15, ROWS).round(1),
        "minutes": chance.gamma(4, 30, ROWS).round(),
        "distance": chance.gamma(3, 300, ROWS).round(),
        "y": (chance.random(ROWS) < np.where(carrier == "AA", 0.1, 0.4)).astype(int),
    }


OLD, NEW = sample(0), sample(1)
TURNED = {"AA": "B6", "B6": "WN", "DL": "UA", "UA": "AA", "WN": "DL"}


def changed(column: str, change: Any) -> Columns:
    return NEW | {column: [change(value) for value in NEW[column]]}


@pytest.mark.parametrize(
    ("check", "new", "because"),
    [
        ("swapped_columns", NEW | {"temp": NEW["minutes"], "minutes": NEW["temp"]}, "temp and minutes seem exchanged"),
        ("units", changed("minutes", lambda one: one * 60), "minutes seems multiplied by 60 (minutes and seconds"),
        ("units", changed("minutes", lambda one: one / 60), "minutes seems multiplied by 0.01667"),
        ("units", changed("distance", lambda one: round(one * 1.609)), "distance seems multiplied by 1.609"),
        ("units", changed("distance", lambda one: one / 1000), "distance seems multiplied by 0.001"),
        ("units", changed("temp", lambda one: (one - 32) / 1.8), "temp seems changed from Fahrenheit to Celsius"),
        ("categories", changed("carrier", TURNED.get), "carrier seems coded anew: AA is as UA was, B6 is as AA was"),
        ("categories", changed("code", lambda one: 7 - one), "code seems coded anew: 1 is as 6 was"),
        ("categories", changed("carrier", str.lower), "carrier is written otherwise: aa is as AA was"),
        (
            "categories",
            changed("carrier", lambda one: f"the {one}"),
            "carrier has other names for all: the AA is as AA",
        ),
        ("time_shift", changed("hour", lambda one: (one + 5) % 24), "hour seems shifted by +5 hours"),
        ("time_shift", changed("at", lambda one: one.replace("Z", "+08:00")), "at seems shifted by -8 hours"),
    ],
)
def test_a_mistake_is_told_as_what_it_is(check: str, new: Columns, because: str) -> None:
    found = judge(check, new, OLD)
    assert found.verdict is Verdict.FAIL
    assert because in found.because
    assert judge(check, NEW, OLD).verdict is Verdict.PASS
    column = because.partition(" ")[0]
    others = ["minutes"] if check == "swapped_columns" else []
    assert judge(check, new, OLD, ignore=[column, *others]).verdict is Verdict.PASS


def test_distances_below_the_limit_are_let_be() -> None:
    new = changed("distance", lambda one: one * 1.609344)
    assert judge("units", new, OLD, max=0.2).verdict is Verdict.FAIL
    assert judge("units", new, OLD, max=0.5).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("check", "new"),
    [
        ("units", changed("minutes", lambda one: one * 1.4)),  # no unit has this factor
        ("units", changed("minutes", lambda one: one + 300)),  # moved, not multiplied
        ("units", changed("minutes", lambda one: -one)),
        ("units", changed("minutes", lambda one: one % 7)),
        ("swapped_columns", changed("temp", lambda one: one + 40)),
        ("swapped_columns", changed("temp", lambda one: one + 40) | {"minutes": NEW["minutes"] + 100}),
        ("swapped_columns", changed("temp", lambda one: one + 40) | {"carrier": ["WN"] * ROWS}),
        ("categories", changed("carrier", lambda one: "AA" if one == "B6" else one)),
        ("categories", changed("code", lambda one: one + 1)),  # the next months, weeks or versions
        ("categories", changed("carrier", lambda one: "ZZ" if one == "WN" else one)),
        ("categories", NEW | {"carrier": ["AA", "B6", "DL", "UA", "WN"] * 400}),
        ("categories", changed("carrier", lambda one: f"new {one}" if one != "WN" else "new UA")),
        ("categories", NEW | {"carrier": [f"new {number % 5}" for number in range(ROWS)]}),
        ("categories", NEW | {"carrier": [number % 40 for number in range(ROWS)]}),
        ("time_shift", changed("hour", lambda one: (one + 1) % 24)),  # summer time
        ("time_shift", changed("hour", lambda one: 5 + (one - 5) // 2)),
        ("time_shift", NEW | {"at": ["2013-01-01"] * ROWS}),
    ],
)
def test_other_changes_are_not_taken_for_one(check: str, new: Columns) -> None:
    assert judge(check, new, OLD).verdict is Verdict.PASS


def test_a_holdout_is_compared_with_its_training_data() -> None:
    chance = np.random.default_rng(5)
    tables = {}
    for name, factor in (("train", 60), ("holdout", 1)):
        minutes = chance.gamma(4, 30, ROWS).round() * factor
        columns = {"minutes": minutes, "y": chance.integers(0, 2, ROWS)}
        tables[name] = pd.DataFrame(
            {key: [str(one) for one in values] for key, values in columns.items()}, dtype=object
        )
    datasets = [{"name": name, "id": None, "label": "y"} for name in tables]
    found = json.loads(json.dumps(summarise(datasets, tables, "holdout")))
    checks = data_checks(DataChecksSpec())
    plans = [DataPlan(name=name, path=name, checks=checks) for name in tables]
    checked = judge_data(plans, {name: {"summary": one} for name, one in found.items()}, None, "none", 0.0)
    assert [result.gate for result in checked.objections] == ["units of holdout"]
    assert "multiplied by 0.01667" in checked.because
    assert "(against the dataset train)" in checked.because


@pytest.mark.parametrize("factor", [*FACTORS, *(1 / one for one in FACTORS)])
def test_every_factor_is_found_in_both_directions(factor: float) -> None:
    grid = np.quantile(np.random.default_rng(0).gamma(3, 10, 5000), np.linspace(0, 1, 257))
    assert f"multiplied by {factor:.4g} " in why_rescaled(grid * factor, grid, 5000)


def test_a_small_factor_needs_many_rows_and_grids_must_be_alike() -> None:
    grid = np.linspace(1.0, 9.0, 257)
    assert "1.609" in why_rescaled(grid * 1.609344, grid, 500)
    assert why_rescaled(grid * 1.609344, grid, 499) == ""
    assert why_rescaled(grid * 60, grid[:-1], 500) == ""
    assert why_rescaled(np.arange(5.0) * 60, np.arange(5.0), 500) == ""
    assert "60" in why_rescaled(np.full(257, 120.0), np.full(257, 2.0), 500)
    assert why_rescaled(np.zeros(257), np.zeros(257), 500) == ""


@pytest.mark.parametrize(
    ("categories", "is_of_hours"),
    [
        ({str(hour): 1 for hour in range(5, 24)}, True),
        ({str(hour): 1 for hour in range(24)}, True),
        ({str(month): 1 for month in range(1, 13)}, False),  # months end before 13
        ({str(day): 1 for day in range(1, 32)}, False),
        ({str(number): 1 for number in range(17, 23)}, False),  # too few to be hours
        ({str(number): 1 for number in range(-1, 20)}, False),
        ({str(number): 1 for number in range(5, 25)}, False),
    ],
)
def test_which_whole_numbers_are_hours(categories: dict[str, int], is_of_hours: bool) -> None:
    counted: dict[str, tuple[int, float | None]] = {name: (count, None) for name, count in categories.items()}
    column = ColumnSummary(kind="integer", nulls=0, distinct=len(categories), categories=counted)
    assert (hours_of(column) is not None) is is_of_hours


def numbers(*values: float) -> ColumnSummary:
    return ColumnSummary(kind="number", nulls=0, distinct=len(values), quantiles=values)


def words(**counts: int) -> ColumnSummary:
    found: dict[str, tuple[int, float | None]] = {name: (count, None) for name, count in counts.items()}
    return ColumnSummary(kind="text", nulls=0, distinct=len(counts), categories=found)


def test_what_has_no_distance() -> None:
    assert distance(numbers(1.0), words(a=1), 1, 1) is None
    assert distance(numbers(1.0), numbers(1.0), 0, 1) is None
    assert distance(words(a=1), words(b=1), 1, 0) is None
    assert distance(words(), words(a=1), 1, 1) is None
    assert of_counts(np.zeros(3), np.ones(3)) == (0.0, 1.0, 0.0, 0.0, "total variation")
    assert homogeneity(np.array([500.0]), np.array([700.0])) == 1.0


def test_distances_of_numbers_are_those_of_scipy_within_the_summary() -> None:
    chance = np.random.default_rng(2)
    for shift in (0.0, 0.1, 0.5, 2.0):
        ones, others = chance.normal(0, 1, 3000), chance.normal(shift, 1, 2000)
        grids = [numbers(*(float(one) for one in np.quantile(x, np.linspace(0, 1, 257)))) for x in (ones, others)]
        apart = distance(grids[0], grids[1], 3000, 2000)
        assert apart is not None
        exact = stats.ks_2samp(ones, others)
        assert apart.value == pytest.approx(exact.statistic, abs=2 / 256)
        assert apart.p_value >= exact.pvalue * 0.99 or apart.p_value < 1e-6


@given(st.floats(0.0, 400.0), st.integers(1, 300))
def test_the_tail_of_chi_squared_is_that_of_scipy(statistic: float, freedom: int) -> None:
    assert chi_squared_tail(statistic, freedom) == pytest.approx(stats.chi2.sf(statistic, freedom), rel=1e-8, abs=1e-14)


@given(st.floats(0.0, 5.0))
def test_the_tail_of_kolmogorov_is_that_of_scipy(scaled: float) -> None:
    assert kolmogorov_tail(scaled) == pytest.approx(stats.kstwobign.sf(scaled), abs=1e-9)


def test_homogeneity_is_the_chi_squared_test_of_the_table() -> None:
    counts, olds = np.array([50.0, 30.0, 20.0]), np.array([70.0, 90.0, 40.0])
    expected = stats.chi2_contingency(np.stack([counts, olds]), correction=False).pvalue
    assert homogeneity(counts, olds) == pytest.approx(expected, rel=1e-9)
    rare = homogeneity(np.array([50.0, 30.0, 20.0, 1.0, 0.0]), np.array([70.0, 90.0, 40.0, 0.0, 1.0]))
    assert 0.0 < rare < 1.0


def test_the_usual_variation_is_the_mean_over_samples() -> None:
    chance = np.random.default_rng(3)
    shares = np.array([0.5, 0.2, 0.2, 0.1])
    pairs = [(chance.multinomial(400, shares), chance.multinomial(900, shares)) for _ in range(2000)]
    found = np.mean([total_variation(one / 400, other / 900) for one, other in pairs])
    assert usual_variation(shares * 400, shares * 900) == pytest.approx(found, rel=0.03)


def test_the_stability_index_of_a_textbook_example() -> None:
    found = stability_index(np.array([0.3, 0.7]), np.array([0.5, 0.5]))
    assert found == pytest.approx((0.3 - 0.5) * math.log(0.6) + (0.7 - 0.5) * math.log(1.4))


def test_holm_is_the_textbook_s_step_down() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )
    assert holm({}) == {}


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_holm_never_lowers_a_p_value_nor_turns_their_order(values: list[float]) -> None:
    named = {str(place): value for place, value in enumerate(values)}
    adjusted = holm(named)
    assert all(named[name] <= adjusted[name] <= 1.0 for name in named)
    ordered = sorted(named, key=lambda name: named[name])
    assert all(adjusted[one] <= adjusted[other] for one, other in pairwise(ordered))


def test_false_alarms_of_drift_are_as_rare_as_was_said() -> None:
    """400 times 20 columns that have not moved, without an effect floor: alpha is 0.05 over all of them."""
    chance = np.random.default_rng(4)
    alarms = 0
    for _ in range(400):
        p_values = {}
        for column in range(20):
            counts, olds = chance.multinomial(1000, [0.5, 0.3, 0.2]), chance.multinomial(1500, [0.5, 0.3, 0.2])
            p_values[str(column)] = of_counts(counts.astype(float), olds.astype(float)).p_value
        alarms += min(holm(p_values).values()) <= 0.05
    assert alarms / 400 <= 0.075  # 0.05 and 2.3 standard errors


@given(st.permutations(range(8)))
def test_the_best_match_finds_any_permutation(order: list[int]) -> None:
    shares = np.array(
        [[0.30, 0.05], [0.20, 0.02], [0.01, 0.09], [0.05, 0.05], [0.07, 0.01], [0.02, 0.03], [0.04, 0], [0.06, 0]]
    )
    assert best_match(shares[list(order)], shares) == list(order)
