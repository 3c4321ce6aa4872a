"""The measurements probe on real files: what it reads, what it refuses, and what gates can make of its report."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from interlock.gate.judge import judge
from interlock.gate.measurements import read_measurements
from interlock.pipeline.plan import GatePlan
from interlock.probes.measurements import measure
from interlock.vocabulary import Verdict


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, text):
    Path(path).write_text(text, encoding="utf-8")


def metrics(name, text):
    write(name, text)
    return measure({"metrics": [name], "predictions": None, "holdout": None})


def joined(holdout, predictions, baseline=None, header="id,prediction,probability"):
    write("h.csv", "\n".join(["key,y", *holdout]))
    write("p.csv", "\n".join([header, *predictions]))
    settings = {"metrics": [], "predictions": "p.csv", "holdout": {"path": "h.csv", "id": "key", "label": "y"}}
    if baseline is not None:
        write("b.csv", "\n".join([header, *baseline]))
        settings |= {"baseline_predictions": "b.csv", "baseline_name": "flights v3"}
    found = measure(settings)
    json.dumps(found, allow_nan=False)
    return found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.json", '{"auc": 0.7, "test": {"rmse": 3, "by_month": {"1": 1e-3}}}'),
        ("m.yaml", "auc: 0.7\ntest:\n  rmse: 3\n  by_month: {1: 0.001}\n"),
        ("m.csv", "auc,test.rmse,test.by_month.1\n0.7,3,0.001\n"),
        ("n.csv", "metric,value\nauc,0.7\ntest.rmse,3\n\ntest.by_month.1,1e-3\n"),
    ],
)
def test_the_same_numbers_in_every_form(name, text):
    found = metrics(name, text)
    assert found["passed"] is True
    assert found["report"] == {
        "metrics": {"auc": 0.7, "test.rmse": 3.0, "test.by_month.1": 0.001},
        "invalid": {},
        "rows": None,
    }


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("m.json", '{"auc": NaN}', "is nan, not a finite number"),
        ("m.json", '{"auc": -Infinity}', "is -inf, not a finite number"),
        ("m.json", '{"auc": true}', "is true, not a number"),
        ("m.json", '{"auc": "0.7"}', "is the str '0.7', not a number"),
        ("m.json", '{"auc": null}', "is null"),
        ("m.json", '{"auc": [0.7]}', "is the list [0.7], not a number"),
        ("m.json", '{"auc": 0.7, "auc": 0.9}', "is given more than once"),
        ("m.json", '{"auc": 0.7, "auc": 0.9, "auc": 0.8}', "is given more than once"),
        ("m.json", '{"auc": 1' + "0" * 400 + "}", "is too large for a number"),
        ("m.yaml", "auc: .nan\n", "is nan, not a finite number"),
        ("m.yaml", "auc: yes\n", "is true, not a number"),
        ("m.yaml", "auc: 1\nauc: 2\n", "is given more than once"),
        ("m.csv", "auc,auc\n1,2\n", "is given more than once"),
        ("m.csv", "auc\nhigh\n", "is the str 'high', not a number"),
    ],
)
def test_what_is_no_number_is_listed_with_its_reason(name, text, reason):
    found = metrics(name, text)
    assert found["report"]["metrics"] == {}
    assert found["report"]["invalid"]["auc"].startswith(reason.replace("[0.7]", "'[0.7]'"))
    assert all(problem["is_warning"] for problem in found["problems"])


def test_a_number_in_two_files_is_invalid():
    write("a.json", '{"auc": 0.7}')
    write("b.json", '{"auc": 0.8, "f1": 0.5}')
    report = measure({"metrics": ["a.json", "b.json"]})["report"]
    assert report["metrics"] == {"f1": 0.5}
    assert list(report["invalid"]) == ["auc"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.json", "{"),
        ("m.json", "[1]"),
        ("m.json", "1"),
        ("m.yaml", ""),
        ("m.yaml", "a: [\n"),
        ("m.yaml", "&a {b: *a}"),
        ("m.csv", "auc\n"),
        ("m.csv", "a,b\n1\n"),
        ("m.csv", "a,b\n1,2\n3,4\n"),
        ("m.csv", "name,value\na\n"),
        ("m.json", "[" * 100_000),
    ],
)
def test_unreadable_metrics_files_are_problems(name, text):
    found = metrics(name, text)
    assert found["passed"] is False
    assert found["problems"][0]["path"] == name
    assert found["because"].startswith(name)


def test_a_missing_metrics_file_is_a_problem():
    assert measure({"metrics": ["gone.json"]})["because"] == "gone.json: there is no such file"


def test_rows_are_joined_by_id_in_order():
    found = joined(["b,1", "a,0", "c,1"], ["c,1,0.9", "a,0,0.2", "b,0,0.4"], ["a,1,0.6", "b,1,0.7", "c,0,0.1"])
    rows = found["report"]["rows"]
    assert found["passed"] is True
    assert rows["labels"] == [0.0, 1.0, 1.0]
    assert rows["candidate"] == {"prediction": [0.0, 0.0, 1.0], "probability": [0.2, 0.4, 0.9]}
    assert rows["baseline"] == {
        "name": "flights v3",
        "is_asked": False,
        "prediction": [1.0, 1.0, 0.0],
        "probability": [0.6, 0.7, 0.1],
        "missing": 0,
        "unknown_ids": 0,
        "columns": {},
    }
    assert rows["columns"] == {}
    assert (rows["holdout"], rows["candidate_missing"], rows["unknown_ids"], rows["duplicate_ids"]) == (3, 0, 0, 0)


def test_what_does_not_join_is_counted_and_said():
    found = joined(["a,0", "b,1", "c,1", "d,"], ["a,0,0.1", "a,0,0.1", "b,1,nan", "z,1,0.5"], ["b,1,0.5"])
    rows = found["report"]["rows"]
    assert (rows["holdout"], rows["unlabelled"], rows["candidate_missing"]) == (3, 1, 2)
    assert (rows["unknown_ids"], rows["duplicate_ids"]) == (1, 1)
    assert rows["labels"] == [0.0]
    assert rows["baseline"]["missing"] == 1
    assert rows["baseline"]["prediction"] == [None]
    assert ("p.csv", 4) in {(problem["path"], problem["line"]) for problem in found["problems"]}


@pytest.mark.parametrize("row", ["a,,0.5", "a,nan,0.5", "a,inf,0.5", "a,1,1.5", "a,1,x", "a,1,"])
def test_an_unusable_prediction_is_a_missing_one(row):
    found = joined(["a,1", "b,0"], [row, "b,0,0.1"])
    assert found["report"]["rows"]["candidate_missing"] == 1
    assert found["problems"][0]["line"] == 2


def test_classes_in_words_are_coded_in_sort_order():
    found = joined(["a,yes", "b,no"], ["a,no", "b,no"], ["a,yes", "b,often"], header="id,prediction")
    rows = found["report"]["rows"]
    assert rows["classes"] == {"no": 0.0, "yes": 1.0}
    assert rows["labels"] == [1.0, 0.0]
    assert rows["candidate"] == {"prediction": [0.0, 0.0], "probability": None}
    assert rows["baseline"]["prediction"] == [1.0, None]
    assert rows["baseline"]["missing"] == 1


def test_two_numbers_are_classes_only_where_they_are_predicted_as_such():
    rows = joined(["a,-1", "b,1"], ["a,1", "b,1.0"], header="id,prediction")["report"]["rows"]
    assert (rows["labels"], rows["candidate"]["prediction"]) == ([0.0, 1.0], [1.0, 1.0])
    rows = joined(["a,-1", "b,1"], ["a,0.7", "b,1"], header="id,prediction")["report"]["rows"]
    assert (rows["labels"], rows["candidate"]["prediction"]) == ([-1.0, 1.0], [0.7, 1.0])
    rows = joined(["a,True", "b,False"], ["a,1", "b,true"], header="id,prediction")["report"]["rows"]
    assert (rows["labels"], rows["candidate"]["prediction"]) == ([1.0, 0.0], [1.0, 1.0])


@pytest.mark.parametrize(
    ("holdout", "predictions", "header", "expected"),
    [
        (["a,1"], ["a,1"], "key,prediction", "column id is missing; there are key, prediction"),
        (["a,1"], ["a,1"], "id,score", "column prediction is missing"),
        (["a,1", "a,0"], ["a,1"], "id,prediction", "key a occurs more than once"),
        (["a,1"], ["a,late"], "id,prediction", "prediction late is neither a number nor one of the label's classes"),
        (["a,yes", "b,no"], ["a,1", "b,no"], "id,prediction", "prediction 1.0 is neither"),
        (["a,1"], ["a"], "id,prediction", "the row has 1 of 2 columns"),
    ],
)
def test_predictions_that_cannot_be_used_are_problems(holdout, predictions, header, expected):
    found = joined(holdout, predictions, header=header)
    assert found["passed"] is False
    assert expected in found["because"]
    assert found["report"]["rows"] is None


def test_predictions_without_a_labelled_holdout_are_a_warning():
    write("p.csv", "id,prediction\n1,1\n")
    found = measure({"metrics": [], "predictions": "p.csv", "holdout": {"path": "h.csv", "id": "k", "label": None}})
    assert found["passed"] is True
    assert found["problems"][0]["is_warning"] is True


def test_its_report_is_what_gates_read():
    generator = random.Random(5)
    labels = [generator.randint(0, 1) for _ in range(2000)]
    chances = [round(min(1, max(0, 0.3 + 0.4 * y + generator.gauss(0, 0.2))), 4) for y in labels]
    worse = [round(min(1, max(0, 0.5 + 0.1 * y + generator.gauss(0, 0.2))), 4) for y in labels]
    found = joined(
        [f"{i},{y}" for i, y in enumerate(labels)],
        [f"{i},{int(p > 0.5)},{p}" for i, p in enumerate(chances)],
        [f"{i},{int(p > 0.5)},{p}" for i, p in enumerate(worse)],
    )
    reports = {"measurements": found["report"]}
    assert read_measurements(reports).malformed == ""
    gates = [GatePlan(metric="auc", min=0.7), GatePlan(metric="auc", against="production", margin=0.005)]
    assert judge(gates, reports, "flights v3").verdict is Verdict.PASS
    swapped = joined(
        [f"{i},{y}" for i, y in enumerate(labels)],
        [f"{i},{int(p > 0.5)},{p}" for i, p in enumerate(worse)],
        [f"{i},{int(p > 0.5)},{p}" for i, p in enumerate(chances)],
    )
    assert judge(gates, {"measurements": swapped["report"]}, "flights v3").verdict is Verdict.FAIL


def with_columns(columns):
    write("h.csv", "key,y,carrier,row_loss\nb,1,AA,9\na,0,UA,9\nc,1,,9")
    write("p.csv", "id,prediction,carrier,row_loss,age,label\nc,1,lie,0.5,30,1\na,0,lie,0.25,,0\nb,0,lie,x,41,1")
    write("b.csv", "id,prediction,carrier,row_loss\na,1,lie,0.75\nb,1,lie,0.5\n")
    holdout = {"path": "h.csv", "id": "key", "label": "y"}
    settings = {"metrics": [], "predictions": "p.csv", "holdout": holdout, "columns": columns}
    return measure({**settings, "baseline_predictions": "b.csv", "baseline_name": "v3"})["report"]["rows"]


@pytest.mark.parametrize("columns", [["carrier", "age", "row_loss"], ["*"]])
def test_columns_are_the_holdouts_own_else_those_of_the_predictions(columns):
    rows = with_columns(columns)
    assert rows["columns"] == {"carrier": ["UA", "AA", None], "age": [None, 41.0, 30.0], "row_loss": [0.25, "x", 0.5]}
    assert rows["baseline"]["columns"] == {"row_loss": [0.75, 0.5, None]}
    found = read_measurements({"measurements": {"rows": rows}}).rows
    assert found.columns["carrier"] == ("UA", "AA", None)
    assert found.baseline.columns == {"row_loss": (0.75, 0.5, None)}


def test_columns_that_nobody_asks_for_are_left_out():
    rows = with_columns(["carrier", "gone"])
    assert (list(rows["columns"]), rows["baseline"]["columns"]) == (["carrier"], {})


FLOWERS = "id,prediction,probability_rose,probability_iris,probability_tulip"


def test_of_more_than_two_classes_what_was_given_to_the_label_is_kept():
    holdout = ["1,rose", "2,tulip", "3,iris", "4,iris"]
    rows = ["1,rose,0.7,0.2,0.1", "2,iris,0.1,0.5,0.4", "3,iris,0.33,0.33,0.33", "4,rose,0.9,0.9,0.9", "9,iris,x,,"]
    baseline = [row.replace("0.7,0.2,0.1", "0.6,0.3,0.1") for row in rows]
    found = joined(holdout, rows, baseline, FLOWERS)
    measured = found["report"]["rows"]
    assert (measured["candidate_missing"], len(measured["labels"])) == (1, 3)  # chances that add up to 2.7 are none
    assert measured["candidate"]["right"] == pytest.approx([0.7, 0.4, 1 / 3])
    assert measured["baseline"]["right"] == pytest.approx([0.6, 0.4, 1 / 3])
    assert any("id 4: the probabilities of its classes are no chances" in one["message"] for one in found["problems"])
    gate = GatePlan(metric="log_loss", max=9.0)
    assert judge([gate], {"measurements": found["report"]}, "none").verdict is Verdict.FAIL


def test_a_class_without_a_column_leaves_no_log_loss_and_is_named():
    found = joined(
        ["1,0", "2,1", "3,2.5"],
        ["1,0,0.5,0.5", "2,1,0.5,0.5", "3,0,1,0"],
        None,
        "id,prediction,probability_0,probability_1",
    )
    assert found["report"]["rows"]["candidate"].keys() == {"prediction", "probability"}
    assert any(
        "column probability_2.5 is missing, so there is no log_loss" in one["message"] for one in found["problems"]
    )
    two = joined(["1,0", "2,1"], ["1,0,0.5,0.5", "2,1,0.5,0.5"], None, "id,prediction,probability_0,probability_1")
    assert two["report"]["rows"]["candidate"].keys() == {"prediction", "probability"}
