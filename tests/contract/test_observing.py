"""What is asked and answered is counted in the bins of a reference: as the reference was made, and cheaply."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interlock.inference.inputs import Column, Signature
from interlock.inference.observing import observer
from interlock.inference.observing.observer import Observer
from interlock.probes.offline.reference import MOST_VALUES, make_reference
from interlock.probes.offline.rows import Holdout, request_of

NAMES = {"amount": "FP32", "hour": "INT64", "is_new": "BOOL", "city": "BYTES"}
SIGNATURE = Signature([Column(name, datatype, ()) for name, datatype in NAMES.items()])
TEMPLATE = [{"name": name, "shape": [1], "datatype": datatype, "data": [None]} for name, datatype in NAMES.items()]


def table(rows: int, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    cells = {
        "amount": [f"{value:.4f}" for value in random.lognormal(size=rows)],
        "hour": [str(value) for value in random.integers(0, 24, rows)],
        "is_new": [str(value < 0.3).lower() for value in random.random(rows)],
        "city": [f"c{int(value)}" for value in random.pareto(1.0, rows) * 10],
    }
    cells["amount"][::7] = [""] * len(cells["amount"][::7])
    cells["city"][::9] = [""] * len(cells["city"][::9])
    return pd.DataFrame(cells)


def answer(request: dict[str, Any]) -> dict[str, list[Any]]:
    amounts = [value or 0.0 for value in request["inputs"][0]["data"]]
    return {
        "prediction": ["dear" if value > 2.0 else "cheap" for value in amounts],
        "probability": [value / (1.0 + value) for value in amounts],
        "chances": [[0.5, 0.5] for _ in amounts],
    }


def reference_of(rows: pd.DataFrame) -> dict[str, Any]:
    return make_reference(Holdout(rows, "id", rows, TEMPLATE), answer)


def ask(observed: Observer, rows: pd.DataFrame, at_once: int = 1) -> None:
    """The rows, as requests that the model server reads and answers."""
    for start in range(0, len(rows), at_once):
        request = request_of(TEMPLATE, rows.iloc[start : start + at_once])
        batch = SIGNATURE.read(json.loads(json.dumps(request)))
        outputs = {
            name: np.array(values, object if isinstance(values[0], str) else float)
            for name, values in answer(request).items()
        }
        observed.note(batch.rows, batch.arrays, outputs)


@pytest.mark.parametrize("at_once", [1, 7, 700])
def test_the_rows_of_the_reference_are_counted_as_it_says(at_once: int) -> None:
    rows = table(700)
    reference = reference_of(rows)
    assert reference["rows"] == 700
    observed = Observer(json.loads(json.dumps(reference)))
    ask(observed, rows, at_once)
    told = observed.tell()
    assert (told["rows"], told["passed_over"]) == (700, 0)
    columns = {(column["side"], column["name"]): column["counts"] for column in reference["columns"]}
    assert {name for side, name in columns if side == "output"} == {"prediction", "probability"}
    assert columns == {(side, name): counts for side in ("input", "output") for name, counts in told[side].items()}
    assert all(sum(counts) == 700 for counts in columns.values())


def test_what_is_missing_and_strange_is_counted_apart_and_no_value_is_told() -> None:
    observed = Observer(reference_of(table(500)))
    asked = {"amount": [None, -1.0, 1e30], "hour": [3, 24, 5], "is_new": [True] * 3, "city": ["c9", None, "nowhere"]}
    inputs = [{**tensor, "shape": [3], "data": asked[str(tensor["name"])]} for tensor in TEMPLATE]
    batch = SIGNATURE.read({"inputs": inputs})
    observed.note(batch.rows, batch.arrays, {})
    told = observed.tell()
    assert {name: counts[:2] for name, counts in told["input"].items()} == {
        "amount": [1, 2],
        "hour": [0, 1],
        "is_new": [0, 0],
        "city": [1, 1],
    }
    assert {sum(counts) for counts in told["output"].values()} == {0}
    assert "nowhere" not in json.dumps(told)


def test_what_is_expected_to_be_strange_is_what_further_rows_bring() -> None:
    """The expectations are unbiased: over many references, further rows are as often strange as was expected."""
    expected, found = {"amount": 0.0, "city": 0.0}, {"amount": 0.0, "city": 0.0}
    for seed in range(20):
        reference = reference_of(table(200, seed))
        observed = Observer(reference)
        ask(observed, table(200, seed + 1000), 200)
        told = observed.tell()["input"]
        for column in reference["columns"]:
            if column["name"] in expected:
                expected[column["name"]] += column["strange"]
                found[column["name"]] += told[column["name"]][1] / (200 - told[column["name"]][0])
    assert found["amount"] == pytest.approx(expected["amount"], abs=0.15)
    assert found["city"] == pytest.approx(expected["city"], rel=0.1)


def test_a_column_of_too_many_values_expects_all_to_be_new() -> None:
    rows = table(2000)
    rows["city"] = [f"id-{place}" for place in range(len(rows))]
    reference = reference_of(rows)
    (city,) = (column for column in reference["columns"] if column["name"] == "city")
    assert (len(city["values"]), city["strange"]) == (MOST_VALUES, 1.0)


def test_too_few_rows_are_no_reference() -> None:
    assert reference_of(table(20)) == {"because": "20 rows of the holdout were answered, fewer than 50"}
    assert make_reference("no golden rows", answer) == {"because": "no golden rows"}


def test_more_rows_than_a_second_takes_are_passed_over() -> None:
    clock = [0.0]
    observed = Observer(reference_of(table(500)), lambda: clock[0])
    rows = table(observer.MOST_ROWS + 100, 2)
    ask(observed, rows, 1700)
    assert (observed.rows, observed.passed_over) == (observer.MOST_ROWS, 100)
    clock[0] += observer.SECOND
    ask(observed, rows.iloc[:10])
    told = observed.tell()
    assert (told["rows"], told["passed_over"]) == (observer.MOST_ROWS + 10, 100)
    assert all(sum(counts) == told["rows"] for counts in told["input"].values())


def test_a_value_of_another_kind_breaks_no_answer() -> None:
    observed = Observer(reference_of(table(500)))
    observed.note(1, {"amount": np.array(["much"], object), "hour": np.array([[3]])}, {})
    counted = observed.tell()["input"]
    assert {name: sum(counts) for name, counts in counted.items()} == {"amount": 0, "hour": 1, "is_new": 0, "city": 0}
