"""Whether a served model answers a row alike: what the probe asks of a model, and the verdict over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from interlock.gate.serving.consistency import judge_serving
from interlock.pipeline.checks.resolution import serving_checks
from interlock.pipeline.checks.serving import ServingChecksSpec
from interlock.probes.consistency import measure_consistency, read_outputs, rows_in
from interlock.vocabulary import Json, Verdict

Table = list[list[float | None]]
Model = Callable[[Table], list[Any]]

ROWS: Table = [[1.0, 2.0], [3.0, 5.0], [8.0, 13.0]]
REQUESTS: list[dict[str, Any]] = [
    {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": row}]} for row in ROWS
]


def served(model: Model, requests: list[dict[str, Any]] = REQUESTS) -> dict[str, Any]:
    """What the probe measures of a model that takes rows and answers a value for each, or raises ValueError."""

    def ask(request: dict[str, Any]) -> dict[str, list[Any]] | None:
        data, rows = request["inputs"][0]["data"], request["inputs"][0]["shape"][0]
        width = len(data) // rows
        try:
            return {"prediction": model([data[at : at + width] for at in range(0, len(data), width)])}
        except ValueError:
            return None

    return measure_consistency(requests, ask)


def filled(table: Table, value: float) -> list[float]:
    return [sum(value if one is None else one for one in row) for row in table]


def strict(table: Table) -> list[float]:
    if any(one is None for row in table for one in row):
        raise ValueError("input contains NaN")
    return filled(table, 0.0)


def mean_of_batch(table: Table) -> list[float]:
    there = [one for row in table for one in row if one is not None]
    return filled(table, sum(there) / len(there))


def ranks(table: Table) -> list[int]:
    sums = filled(table, 0.0)
    return [sorted(sums).index(one) for one in sums]


def by_place(table: Table) -> list[str]:
    return [f"row {place}" for place in range(len(table))]


def one_at_a_time(table: Table) -> list[float]:
    if len(table) > 1:
        raise ValueError("one row, please")
    return filled(table, 0.0)


def judged(
    found: Mapping[str, Any], inputs: tuple[str, ...] = (), labels: tuple[str, ...] = (), **written: object
) -> dict[str, Verdict]:
    report: Json = json.loads(json.dumps({"candidate": {"consistency": found, "inputs": inputs}}))
    checked = judge_serving(serving_checks(ServingChecksSpec.model_validate(written)), report, "flights", labels)
    return {result.gate.partition(" ")[0]: result.verdict for result in checked.results}


@pytest.mark.parametrize(
    ("model", "failing", "passing"),
    [
        (lambda table: filled(table, 0.5), set(), {"row_by_row", "row_order", "nulls"}),
        (strict, set(), {"row_by_row", "row_order"}),
        (mean_of_batch, {"nulls"}, {"row_by_row", "row_order"}),
        (ranks, {"row_by_row"}, {"row_order", "nulls"}),
        (by_place, {"row_by_row", "row_order", "nulls"}, set()),
        (lambda table: [[one, 0.5] for one in filled(table, 0.0)], set(), {"row_by_row", "row_order", "nulls"}),
        (one_at_a_time, set(), set()),
    ],
)
def test_models_and_their_faults(model: Model, failing: set[str], passing: set[str]) -> None:
    verdicts = judged(served(model))
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.FAIL} == failing
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.PASS} == passing


@pytest.mark.parametrize(
    ("inputs", "labels", "written", "verdicts"),
    [
        (("hour", "late"), ("late",), {}, {"target": Verdict.FAIL}),
        (("hour", "late"), ("late",), {"target": {"ignore": ["late"]}}, {"target": Verdict.PASS}),
        (("hour", "minute"), ("late",), {}, {"target": Verdict.PASS}),
        ((), ("late",), {}, {}),
        ((), ("late",), {"target": {}}, {"target": Verdict.UNDECIDED}),
        (("hour",), (), {"target": {}}, {"target": Verdict.UNDECIDED}),
    ],
)
def test_the_label_is_no_input(
    inputs: tuple[str, ...], labels: tuple[str, ...], written: Mapping[str, Any], verdicts: Mapping[str, Verdict]
) -> None:
    assert judged({}, inputs, labels, **written) == verdicts


def test_the_tolerance_is_the_file_s() -> None:
    found = served(lambda table: [one + 0.01 * len(table) for one in filled(table, 0.0)])
    assert judged(found)["row_by_row"] is Verdict.FAIL
    assert judged(found, row_by_row={"tolerance": 0.1})["row_by_row"] is Verdict.PASS
    assert "row_by_row" not in judged(found, row_by_row="off")


def test_golden_requests_of_several_rows_are_taken_apart() -> None:
    whole = [{"inputs": [{"name": "x", "shape": [3, 2], "datatype": "FP64", "data": ROWS}]}]
    assert served(mean_of_batch, whole) == served(mean_of_batch)


@pytest.mark.parametrize(
    "requests",
    [[], [REQUESTS[0], {"inputs": [{"name": "y", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}]}]],
)
def test_rows_that_cannot_be_put_together_are_not_asked(requests: list[dict[str, Any]]) -> None:
    assert served(strict, requests) == {}


def test_a_model_that_refuses_rows_now_and_then_is_compared_where_it_answers() -> None:
    def moody(table: Table) -> list[float]:
        if table == [[3.0, 5.0]] or (len(table) == 3 and table[0] == [8.0, 13.0]):
            raise ValueError("not now")
        return filled(table, 0.0)

    found = served(moody)
    assert found["row_by_row"]["asked"] == 2
    assert "row_order" not in found


def test_one_golden_row_has_no_order_and_texts_no_nulls() -> None:
    request = {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["AA"]}]}
    assert set(served(lambda table: ["late"] * len(table), [request])) == {"row_by_row"}


def test_outputs_are_read_row_by_row() -> None:
    content = json.dumps({"outputs": [{"name": "p", "data": [1, 2, 3, 4]}, {"name": "q", "data": ["a", "b"]}]}).encode()
    assert read_outputs(content, 2) == {"p": [[1, 2], [3, 4]], "q": ["a", "b"]}
    assert read_outputs(content, 3) is None
    assert read_outputs(b'{"outputs": []}', 2) is None
    assert rows_in(REQUESTS[0]) == 1


@pytest.mark.parametrize(
    "report",
    [
        None,
        {},
        {"candidate": None},
        {"candidate": {}},
        {"candidate": {"consistency": None}},
        {"candidate": {"consistency": {"row_by_row": 3}}},
        {"candidate": {"consistency": {"row_by_row": {"asked": 0, "worst": 0.0, "where": ""}}}},
        {"candidate": {"consistency": {"row_by_row": {"asked": 1, "worst": -1.0, "where": ""}}}},
    ],
)
def test_without_a_measurement_nothing_passes(report: Json) -> None:
    checks = serving_checks(ServingChecksSpec.model_validate({"row_by_row": {}}))
    checked = judge_serving(checks, report, "flights")
    assert [(result.gate, result.verdict) for result in checked.results] == [
        ("row_by_row of flights", Verdict.UNDECIDED)
    ]
    assert set(checked.left_out) == {"target of flights", "row_order of flights", "nulls of flights"}
