"""The checks of datasets, on summaries of real tables: what passes, what fails, and what cannot be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interlock.gate.data.judge import CHECKS, NOTHING_ACCEPTED, judge_data
from interlock.gate.judge import NO_PRODUCTION, UNKNOWN_PRODUCTION
from interlock.gate.judgement import Checked, GateResult
from interlock.pipeline.checks.data import DataChecksSpec
from interlock.pipeline.checks.resolution import data_checks
from interlock.pipeline.plan import DataPlan
from interlock.probes.summaries import summarise
from interlock.vocabulary import Json, Verdict

Columns = dict[str, Any]
DAY = 86_400.0


def table(columns: Columns) -> pd.DataFrame:
    """Cells as they are read from a file: all of them texts."""
    return pd.DataFrame({name: [str(value) for value in values] for name, values in columns.items()}, dtype=object)


def report(label: str | None = "y", apart: str | None = None, **tables: Columns) -> Json:
    """What the probe reports of these tables."""
    datasets = [{"name": name, "id": "id", "label": label} for name in tables]
    found = summarise(datasets, {name: table(columns) for name, columns in tables.items()}, apart)
    made: Json = json.loads(json.dumps({name: {"summary": one} for name, one in found.items()}))
    return made


def asked(name: str = "train", **written: object) -> DataPlan:
    """A dataset with the checks that are written, and those that are asked by themselves."""
    return DataPlan(name=name, path=f"{name}.csv", checks=data_checks(DataChecksSpec.model_validate(written)))


def judge(
    new: Json, old: Json = None, *, production: str = "flights v1", now: float = 0.0, **written: object
) -> Checked:
    names = list(new) if isinstance(new, dict) else ["train"]
    return judge_data([asked(name, **written) for name in names], new, old, production, now)


def result(checked: Checked, title: str) -> GateResult:
    return next(one for one in checked.results if one.gate == title)


def flights(seed: int = 0, rows: int = 1000, **more: Any) -> Columns:
    chance = np.random.default_rng(seed)
    air_time = chance.gamma(4.0, 30.0, rows).round(1)
    late = (chance.random(rows) < 0.2 + 0.001 * air_time).astype(int)
    columns: Columns = {
        "id": range(rows),
        "air_time": air_time,
        "wind": chance.normal(10.0, 3.0, rows).round(2),
        "carrier": chance.choice(["AA", "B6", "DL", "UA"], rows, p=[0.4, 0.3, 0.2, 0.1]),
        "y": late,
    }
    return columns | more


def test_every_check_of_the_file_has_a_judge() -> None:
    assert set(CHECKS) == set(DataChecksSpec.model_fields)


def test_the_same_process_alarms_nobody() -> None:
    old = report(train=flights(0))
    for seed in range(1, 21):
        checked = judge(report(train=flights(seed)), old, drift={})
        assert checked.objections == ()
        assert checked.verdict is Verdict.PASS


def test_without_evidence_what_is_written_is_undecided_and_the_rest_is_left_out() -> None:
    new = report(train=flights())
    unknown = judge(new, None, production=UNKNOWN_PRODUCTION, drift={}, volume={})
    for check in ("drift of train", "volume of train"):
        assert result(unknown, check).verdict is Verdict.UNDECIDED
        assert "not known what data was accepted" in result(unknown, check).because
    assert "units of train" in unknown.left_out
    first = judge(new, None, production=NO_PRODUCTION, drift={}, volume={})
    for check in ("drift of train", "volume of train"):
        assert (result(first, check).verdict, result(first, check).because) == (Verdict.PASS, NOTHING_ACCEPTED)
    assert first.left_out["units of train"] == NOTHING_ACCEPTED


@pytest.mark.parametrize(
    "broken", [None, {}, {"train": {}}, {"train": {"summary": None}}, {"train": {"summary": 7}}, 3]
)
def test_a_summary_that_is_not_there_leaves_every_check_undecided(broken: Json) -> None:
    dataset = asked()
    checked = judge_data([dataset], broken, None, NO_PRODUCTION, 0.0)
    assert [one.verdict for one in checked.results] == [Verdict.UNDECIDED] * len(dataset.checks)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rows",), 0),
        (("rows",), True),
        (("rows",), "1000"),
        (("columns", "wind", "nulls"), -1),
        (("columns", "wind", "kind"), "numbers"),
        (("columns", "wind", "quantiles"), [float("nan")]),
        (("columns", "wind", "told"), {"strength": 7.0, "measure": "AUC"}),
        (("columns", "wind", "more"), 1),
        (("label", "rows"), 0),
    ],
)
def test_a_summary_with_anything_wrong_in_it_is_not_read(path: tuple[str, ...], value: Any) -> None:
    new: Any = report(train=flights())
    place = new["train"]["summary"]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    checked = judge(new, report(train=flights(1)))
    assert {one.verdict for one in checked.results} == {Verdict.UNDECIDED}
    assert "not of the agreed shape" in checked.results[0].because


def test_accepted_data_that_cannot_be_read_is_no_evidence() -> None:
    checked = judge(report(train=flights()), {"train": {"summary": 3}}, volume={})
    assert "the summary of train is not of the agreed shape" in result(checked, "volume of train").because


def test_a_dataset_without_checks_is_not_judged() -> None:
    assert judge_data([DataPlan(name="images", path="images/")], {}, None, NO_PRODUCTION, 0.0).results == ()


@pytest.mark.parametrize(
    ("check", "written", "new", "because"),
    [
        ("duplicates", {"duplicates": {"max": 0.0}}, flights(air_time=[1] * 1000, wind=[2] * 1000), "repeat another"),
        ("leakage", {}, flights(told=flights()["y"]), "told alone tells y: AUC 1.0000 is above 0.99; if it is known"),
        ("leakage", {}, flights(told=np.where(flights()["y"] == 1, "", "landed")), "told alone tells y"),
        ("leakage", {"leakage": {"max": 0.5}}, flights(), "air_time alone tells y: AUC 0.5"),
        ("balance", {}, flights(y=[1] * 1000), "y has one class only: 1"),
        ("balance", {"balance": {"min": 0.45}}, flights(), "below 45.00%"),
        ("constant", {"constant": {"max": 0}}, flights(wind=[1] * 1000), "1 columns have one value (wind), above 0"),
        (
            "freshness",
            {"freshness": {"column": "at", "max_age": "2d"}},
            flights(at=["1970-01-01"] * 1000),
            "above 2 days",
        ),
    ],
)
def test_what_one_table_alone_shows(check: str, written: Columns, new: Columns, because: str) -> None:
    found = result(judge(report(train=new), production=NO_PRODUCTION, now=3 * DAY, **written), f"{check} of train")
    assert found.verdict is Verdict.FAIL
    assert because in found.because
    assert found.evidence


@pytest.mark.parametrize(
    ("check", "written", "new", "because"),
    [
        ("duplicates", {"duplicates": {}}, flights(), "0 of 1000 rows repeat another (0.0%), at most 10.0%"),
        ("balance", {}, flights(), "; no data was accepted yet"),
        ("constant", {"constant": {"max": 1}}, flights(wind=[1] * 1000), "1 columns have one value"),
        ("constant", {"constant": {"max": 0, "ignore": ["wind"]}}, flights(wind=[1] * 1000), "every column varies"),
        ("leakage", {"leakage": {"ignore": ["told"]}}, flights(told=flights()["y"]), "air_time tells most of y"),
        (
            "freshness",
            {"freshness": {"column": "at", "max_age": "2d"}},
            flights(at=["1970-01-02"] * 1000),
            "2.00 days old",
        ),
    ],
)
def test_what_one_table_alone_may_hold(check: str, written: Columns, new: Columns, because: str) -> None:
    found = result(judge(report(train=new), production=NO_PRODUCTION, now=3 * DAY, **written), f"{check} of train")
    assert found.verdict is Verdict.PASS
    assert because in found.because


@pytest.mark.parametrize(
    ("check", "written", "new", "label", "because"),
    [
        ("duplicates", {}, {"a": [1, 2] * 200}, None, "rows may well agree by chance"),
        ("duplicates", {"duplicates": {}}, {"id": range(9)}, None, "no column beside its id"),
        ("leakage", {}, flights(), None, "it names no label"),
        ("leakage", {}, flights(rows=150), "y", "are too few: 200 rows and 20 of each class"),
        ("leakage", {}, flights(y=[0] * 999 + [1]), "y", "1 of the rarest class"),
        ("leakage", {}, {"id": range(300), "y": [0, 1] * 150}, "y", "no column can be asked"),
        ("balance", {}, flights(y=range(1000)), "y", "y is no class"),
        ("balance", {}, flights(), None, "it names no label"),
        ("balance", {}, flights(rows=10), "y", "10 rows are too few"),
        ("overlap", {}, flights(), "y", "it is not the holdout"),
        ("freshness", {"freshness": {"column": "at", "max_age": "1d"}}, flights(), "y", "there is no column at"),
        ("freshness", {"freshness": {"column": "wind", "max_age": "1d"}}, flights(), "y", "holds no times"),
        (
            "freshness",
            {"freshness": {"column": "at", "max_age": "1d"}},
            flights(at=["1970-02-01"] * 1000),
            "y",
            "future",
        ),
    ],
)
def test_what_cannot_be_told_is_no_pass(
    check: str, written: Columns, new: Columns, label: str | None, because: str
) -> None:
    checked = judge(report(label, train=new), production=UNKNOWN_PRODUCTION, **written)
    if written:
        found = result(checked, f"{check} of train")
        assert (found.verdict, because in found.because) == (Verdict.UNDECIDED, True)
    else:
        assert because in checked.left_out[f"{check} of train"]


def test_a_label_of_several_classes_or_of_numbers_can_be_told_too() -> None:
    chance = np.random.default_rng(1)
    classes = chance.choice(["a", "b", "c"], 1000)
    found = result(judge(report(train=flights(y=classes, told=classes))), "leakage of train")
    assert "told alone tells y: lambda 1.0000 is above 0.99" in found.because
    amounts = chance.normal(size=1000)
    new = flights(y=amounts, told=amounts * 3 + 1, nearly=amounts + chance.normal(size=1000) / 10)
    found = result(judge(report(train=new)), "leakage of train")
    assert "told alone tells y: rank correlation 1.0000 is above 0.999" in found.because
    assert "nearly" not in found.because


def test_a_table_whose_every_row_has_its_own_text_tells_nothing() -> None:
    new = flights(name=[f"flight {number}" for number in range(1000)])
    found: Any = result(judge(report(train=new)), "leakage of train").evidence["strongest"]
    assert found["name"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("check", "change", "because"),
    [
        ("types", {"wind": ["calm", *flights(1)["wind"][1:]]}, "wind is text, and number in the accepted data"),
        ("nulls", {"wind": [""] * 500 + [*flights(1)["wind"][500:]]}, "50.0% of wind are empty, and 0.0% were"),
        ("constant", {"wind": [0] * 1000}, "wind has one value, and varied in the accepted data"),
        ("constant", {"carrier": [""] * 1000}, "carrier has one value, and varied"),
        ("balance", {"y": [0] * 50 + [1] * 950}, "the classes moved by"),
        ("drift", {"wind": flights(1)["wind"] + 3.0}, "wind moved by 0.3"),
        ("drift", {"carrier": ["AA"] * 900 + ["UA"] * 100}, "carrier moved by"),
    ],
)
def test_what_changed_since_the_accepted_data(check: str, change: Columns, because: str) -> None:
    checked = judge(report(train=flights(1, **change)), report(train=flights(0)), drift={})
    found = result(checked, f"{check} of train")
    assert found.verdict is Verdict.FAIL
    assert because in found.because


@pytest.mark.parametrize(
    ("rows", "written", "because"),
    [
        (400, {}, "400 rows, and 1000 in the accepted data: 0.40 times as many, below 0.5"),
        (3000, {"max_ratio": 2.0}, "3.00 times as many, above 2"),
    ],
)
def test_rows_that_are_far_fewer_or_more(rows: int, written: Columns, because: str) -> None:
    checked = judge(report(train=flights(1, rows)), report(train=flights(0)), volume=written)
    assert because in result(checked, "volume of train").because
    assert checked.verdict is Verdict.FAIL


def test_constant_columns_that_hardly_varied_or_never_did_may_be_so() -> None:
    rare = ["2"] * 999 + ["1"]
    old = report(train=flights(0, engines=rare, year=[2013] * 1000))
    new = report(train=flights(1, engines=[2] * 1000, year=[2013] * 1000, new=[1] * 1000))
    found = result(judge(new, old), "constant of train")
    assert (found.verdict, found.because) == (Verdict.PASS, "3 columns have one value, as before")


def test_a_million_rows_with_a_negligible_change_do_not_alarm() -> None:
    new: Any = report(train=flights(1, wind=flights(0)["wind"] + 0.15))
    old: Any = report(train=flights(0))
    for one in (new, old):
        one["train"]["summary"]["rows"] = 1_000_000
    found: Any = result(judge(new, old, drift={"max": 0.1}), "drift of train")
    assert found.verdict is Verdict.PASS
    assert found.evidence["wind"]["p_adjusted"] < 0.01
    assert result(judge(new, old, drift={"max": 0.0}), "drift of train").verdict is Verdict.FAIL


@pytest.mark.parametrize("check", ["drift", "nulls", "units"])
def test_few_rows_are_not_compared(check: str) -> None:
    checked = judge(report(train=flights(1, 100)), report(train=flights(0)), **{check: {}})
    assert "100 rows are too few: 200 at least" in result(checked, f"{check} of train").because


def test_there_may_be_nothing_to_compare() -> None:
    new, old = report(None, train={"a": range(300)}), report(None, train={"b": range(300)})
    checked = judge(new, old, drift={})
    assert result(checked, "drift of train").because == "no column can be compared with the accepted data"
    assert result(checked, "types of train").verdict is Verdict.PASS


def test_a_label_that_became_another_kind_has_no_shift() -> None:
    checked = judge(report(train=flights(1)), report(train=flights(0, y=np.arange(1000) / 7)))
    assert "the accepted label is of another kind" in result(checked, "balance of train").because


def mixed(change: Callable[[Columns], Columns] = dict, share: int = 200) -> Json:
    train, holdout = flights(0), flights(1, id=range(1000, 2000))
    copied = {name: [*values[:share]] for name, values in change(train).items()}
    both = {name: [*holdout[name][share:], *copied[name]] for name in holdout}
    return report(apart="holdout", train=train, holdout=both | {"id": range(1000, 2000)})


@pytest.mark.parametrize(
    ("found", "overlap", "near"),
    [
        (mixed(), Verdict.FAIL, Verdict.FAIL),
        (mixed(lambda train: train | {"wind": train["wind"] + 1.0}), Verdict.PASS, Verdict.FAIL),
        (mixed(lambda train: train | {"wind": train["wind"] + 1e-4}), Verdict.PASS, Verdict.FAIL),
        (mixed(lambda train: train | {"y": 1 - train["y"]}), Verdict.PASS, Verdict.FAIL),
        (mixed(share=5), Verdict.PASS, Verdict.PASS),
        (mixed(share=0), Verdict.PASS, Verdict.PASS),
    ],
)
def test_rows_of_the_holdout_in_the_training_data(found: Json, overlap: Verdict, near: Verdict) -> None:
    checked = judge(found, production=NO_PRODUCTION)
    assert result(checked, "overlap of holdout").verdict is overlap
    assert result(checked, "near_duplicates of holdout").verdict is near
    assert "overlap of train" in checked.left_out


def test_rows_that_agree_by_chance_are_no_overlap() -> None:
    chance = np.random.default_rng(0)
    tables = {
        name: {"id": range(600), "a": chance.integers(0, 4, 600), "b": chance.integers(0, 4, 600), "y": [0, 1] * 300}
        for name in ("train", "holdout")
    }
    checked = judge(report(apart="holdout", **tables), production=NO_PRODUCTION)
    shared: Any = result(checked, "overlap of holdout").evidence["train"]
    assert (shared["share"], shared["usual"]) == (1.0, 1.0)
    assert result(checked, "overlap of holdout").verdict is Verdict.PASS
    assert "duplicates of holdout" in checked.left_out
