"""Whether a served model answers a row alike: what the probe asks of a model, and the verdict over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from interlock.gate.judgement import Checked, GateResult
from interlock.gate.serving.consistency import is_served_as_predicted, judge_serving
from interlock.pipeline.checks.resolution import serving_checks
from interlock.pipeline.checks.serving import ServingChecksSpec
from interlock.probes.consistency import measure_consistency, read_outputs, rows_in
from interlock.probes.offline import compare_offline, read_holdout
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
    ("inputs", "sliced", "verdict", "because"),
    [
        (["hour", "carrier"], ("carrier",), Verdict.PASS, "carrier is an input"),
        (["hour", "carrier"], ("carrier", "hour"), Verdict.PASS, "carrier, hour are inputs"),
        (
            ["hour", "carrier"],
            ("hour", "carier"),
            Verdict.FAIL,
            "an input carier to slice live answers by; write one of these: hour, carrier",
        ),
        (["rows"], ("carrier",), Verdict.FAIL, "an input carrier"),
        ([], ("carrier",), None, ""),
        (None, ("carrier",), None, ""),
        (["hour"], (), None, ""),
    ],
)
def test_live_slices_are_of_inputs(
    inputs: Json, sliced: tuple[str, ...], verdict: Verdict | None, because: str
) -> None:
    checked = judge_serving((), {"candidate": {"inputs": inputs}}, "flights", sliced=sliced)
    assert [result.verdict for result in checked.results] == ([verdict] if verdict else [])
    assert all(because in result.because for result in checked.results)
    assert [result.gate for result in checked.objections] == (["slices of flights"] if verdict is Verdict.FAIL else [])


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
    left_out = ("target", "row_order", "nulls", "offline")
    assert set(checked.left_out) == {f"{name} of flights" for name in left_out}


# --- what was predicted offline ---

HOLDOUT = {"id": "abcd", "x": ["1", "2.50", "", "4"], "carrier": ["AA", "BB", "AA", ""], "late": "0101"}


def column(name: str, datatype: str, value: object) -> dict[str, Any]:
    return {"name": name, "shape": [1], "datatype": datatype, "data": [value]}


def golden(*rows: tuple[object, object]) -> list[dict[str, Any]]:
    return [{"inputs": [column("x", "FP64", x), column("carrier", "BYTES", carrier)]} for x, carrier in rows]


def asked_offline(
    tmp_path: Path,
    predictions: str,
    requests: list[dict[str, Any]] | None = None,
    *,
    holdout: Mapping[str, Any] = HOLDOUT,
    is_broken: bool = False,
) -> dict[str, Any]:
    """The probe beside a model that answers twice x (0 for nothing), and 1 more for AA."""
    pd.DataFrame({name: list(cells) for name, cells in holdout.items()}).to_csv(tmp_path / "h.csv", index=False)
    (tmp_path / "p.csv").write_text(predictions)

    def ask(request: dict[str, Any]) -> dict[str, list[Any]] | None:
        x, carrier = (tensor["data"] for tensor in request["inputs"])
        assert request["inputs"][0]["shape"] == [len(x)]
        served = [2.0 * (one or 0.0) + (name == "AA") for one, name in zip(x, carrier, strict=True)]
        return None if is_broken else {"prediction": served, "probability": [one / 10 for one in served]}

    settings = {"predictions": str(tmp_path / "p.csv"), "holdout": {"path": str(tmp_path / "h.csv"), "id": "id"}}
    rows = read_holdout(settings, golden((1.0, "AA"), (None, "AA")) if requests is None else requests)
    return compare_offline(rows, ask)


RIGHT = "id,prediction,probability\na,3,0.3\nb,5.0,0.5\nc,1,0.1\nd,8,0.8\n"


@pytest.mark.parametrize(
    ("predictions", "asked", "worst", "where"),
    [
        (RIGHT, 4, 0.0, ""),
        (RIGHT.replace("0.8", "0.79"), 4, 0.01, "id d: probability 0.79 offline, 0.8 as served"),
        (RIGHT.replace("c,1,", "c,5,"), 4, 0.8, "id c: prediction 5 offline, 1 as served"),
        (RIGHT.replace("c,1,", "c,none,"), 4, 1.0, "id c: prediction none offline, 1 as served"),
        ("id,prediction\na,3.0004\n", 1, 0.0004 / 3.0004, "id a: prediction 3.0004 offline, 3 as served"),
        ("id,prediction\na,2.9996\nz,7\n", 1, 0.0004 / 3.0, "id a: prediction 2.9996 offline, 3 as served"),
        ("id,prediction\na,3\na,4\nb,5\n", 1, 0.0, ""),  # a is given twice: which is meant?
    ],
)
def test_predictions_are_compared_with_what_is_served(
    tmp_path: Path, predictions: str, asked: int, worst: float, where: str
) -> None:
    found = asked_offline(tmp_path, predictions)
    assert (found["asked"], found["where"]) == (asked, where)
    assert found["worst"] == pytest.approx(worst)
    verdict = Verdict.FAIL if worst > 1e-4 else Verdict.PASS
    assert judged({"offline": found}) == {"offline": verdict}
    assert judged({"offline": found}, offline={"tolerance": 1.0}) == {"offline": Verdict.PASS}


def test_a_number_that_was_rounded_when_it_was_written_is_the_same(tmp_path: Path) -> None:
    third = {**HOLDOUT, "x": ["0.33333", "2.5", "", "4"]}
    requests = golden((0.33333, "AA"))
    rounded = asked_offline(tmp_path, "id,prediction\na,1.667\n", requests, holdout=third)
    assert rounded == {"asked": 1, "worst": 0.0, "where": ""}
    assert asked_offline(tmp_path, "id,prediction\na,1.668\n", requests, holdout=third)["worst"] > 1e-4
    assert asked_offline(tmp_path, "id,prediction\na,1.67\n", requests, holdout=third)["worst"] > 1e-4


@pytest.mark.parametrize(
    ("requests", "because"),
    [
        (golden((1.0, "AA"), (60.0, "BB")), "golden row 1 is no row of the holdout"),
        (golden((1.0, "BB")), "golden row 0 is no row of the holdout"),
        ([{"inputs": [column("y", "FP64", 1.0)]}], "the holdout has no column y"),
        (REQUESTS, "the inputs of the golden requests are no columns"),
    ],
)
def test_rows_that_cannot_be_asked_for_sure_are_not(
    tmp_path: Path, requests: list[dict[str, Any]], because: str
) -> None:
    found = asked_offline(tmp_path, RIGHT, requests)
    assert because in found["because"]
    assert judged({"offline": found}) == {}
    assert judged({"offline": found}, offline={}) == {"offline": Verdict.UNDECIDED}


def test_without_rows_or_answers_nothing_is_compared(tmp_path: Path) -> None:
    assert asked_offline(tmp_path, RIGHT, is_broken=True) == {"because": "no row was answered"}
    assert asked_offline(tmp_path, "id,prediction\nz,1\n") == {"because": "no row was answered"}
    assert asked_offline(tmp_path, "key,prediction\na,1\n") == {"because": "predictions or holdout have no id"}
    assert "the rows cannot be read" in asked_offline(tmp_path, "")["because"]


def test_a_large_holdout_is_asked_here_and_there(tmp_path: Path) -> None:
    rows = range(1001)
    holdout = {"id": rows, "x": rows, "carrier": ["AA"] * 1001}
    predictions = "id,prediction\n" + "".join(f"{row},{2 * row + 1}\n" for row in rows)
    found = asked_offline(tmp_path, predictions, golden((7, "AA")), holdout=holdout)
    assert (found["asked"], found["worst"]) == (167, 0.0)


def test_truth_values_whole_numbers_and_classes_are_compared_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("id,paid,seats\n1,True,30\n2,false,NA\n3,,7.0\n")
    (tmp_path / "p.csv").write_text("id,prediction\n1,late\n2,True\n3,1\n")
    seen: list[dict[str, Any]] = []

    def ask(request: dict[str, Any]) -> dict[str, list[Any]]:
        seen.append(request)
        return {"prediction": ["late", True, False]}

    requests = [{"inputs": [column("paid", "BOOL", True), column("seats", "INT64", 30)]}]
    settings = {"predictions": str(tmp_path / "p.csv"), "holdout": {"path": str(tmp_path / "h.csv"), "id": "id"}}
    found = compare_offline(read_holdout(settings, requests), ask)
    assert [tensor["data"] for tensor in seen[0]["inputs"]] == [[True, False, None], [30, None, 7]]
    assert found == {"asked": 3, "worst": 1.0, "where": "id 3: prediction 1 offline, False as served"}


@pytest.mark.parametrize(
    ("gate", "verdict", "is_shown"),
    [
        ("offline of flights", Verdict.PASS, True),
        ("offline of flights", Verdict.FAIL, False),
        ("offline of flights", Verdict.UNDECIDED, False),
        ("offline of flights, as in production", Verdict.PASS, False),
        ("nulls of flights", Verdict.PASS, False),
    ],
)
def test_only_a_check_that_passed_shows_that_a_model_is_served_as_predicted(
    gate: str, verdict: Verdict, is_shown: bool
) -> None:
    checked = Checked(results=(GateResult(gate=gate, verdict=verdict, because="so"),), left_out={})
    assert is_served_as_predicted(checked, "flights") is is_shown
    assert not is_served_as_predicted(None, "flights")
