"""Prediction logs joined with labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.inference.joined import Joined, join


def predicted(identity: str, *answers: Any, revision: str = "r1", chances: list[float] | None = None) -> dict[str, Any]:
    return {"id": identity, "revision": revision, "prediction": list(answers), "probability": chances, "status": 200}


def labelled(identity: str, label: Any) -> dict[str, Any]:
    return {"id": identity, "label": label, "time": 0.0}


def join_records(
    folder: Path, predictions: list[dict[str, Any]], labels: list[dict[str, Any]], torn: str = ""
) -> dict[str, Joined]:
    logs = folder / "predictions"
    logs.mkdir(exist_ok=True)
    (logs / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in predictions) + torn)
    (folder / "labels.jsonl").write_text("".join(json.dumps(record) + "\n" for record in labels) + torn)
    return join(logs, folder / "labels.jsonl")


def test_each_revision_is_judged_by_what_is_known(tmp_path: Path) -> None:
    predictions = [
        predicted("a", 1, chances=[0.9]),
        predicted("b", 0, chances=[0.4]),
        predicted("c", 1, chances=[0.6]),
        predicted("d", 0, chances=[0.1]),
        predicted("e", 1, revision="r2"),
        {"id": "f", "revision": "r2", "prediction": None, "probability": None, "status": 500},
    ]
    labels = [labelled("a", 1), labelled("b", 1), labelled("c", 0), labelled("e", 1), labelled("unknown", 1)]
    found = join_records(tmp_path, predictions, labels)
    # r1: of a, b, c only a is right; pairs (a, c) right and (b, c) wrong.
    assert found["r1"] == Joined("r1", 4, 3, pytest.approx(1 / 3), pytest.approx(2 / 3), 0.5)
    assert found["r2"] == Joined("r2", 1, 1, 1.0, 1.0, None)


def test_rows_of_one_request_have_numbers(tmp_path: Path) -> None:
    found = join_records(
        tmp_path, [predicted("a", 1, 0, 1)], [labelled("a/0", 1), labelled("a/2", 0), labelled("a", 1)]
    )
    assert (found["r1"].predictions, found["r1"].labelled, found["r1"].accuracy) == (3, 2, 0.5)


def test_an_answer_to_a_copy_is_none_that_was_served(tmp_path: Path) -> None:
    mark = {"copied_to": "r2", "request": "x", "asked": 7}
    predictions = [{**predicted("a", 1), **mark}, {**predicted("a", 0, revision="r2"), **mark}]
    found = join_records(tmp_path, predictions, [labelled("a", 1)])
    assert (found["r1"].predictions, found["r1"].accuracy) == (1, 1.0)
    assert "r2" not in found


def test_the_first_label_and_the_first_answer_count(tmp_path: Path) -> None:
    predictions = [predicted("a", 1), predicted("a", 0), predicted("a", 0, revision="r2")]
    found = join_records(tmp_path, predictions, [labelled("a", 1), labelled("a", 0)])
    assert (found["r1"].labelled, found["r1"].accuracy) == (1, 1.0)
    assert found["r2"].accuracy == 0.0


def test_texts_have_an_accuracy_and_no_mean(tmp_path: Path) -> None:
    found = join_records(tmp_path, [predicted("a", "late"), predicted("b", "early")], [labelled("a", "late")])
    assert found["r1"] == Joined("r1", 2, 1, 1.0, None, None)


@pytest.mark.parametrize("torn", ['{"id": "z", "revis', "\x00\x00", "[1]\n", "nonsense\n"])
def test_torn_lines_are_passed_over(tmp_path: Path, torn: str) -> None:
    assert join_records(tmp_path, [predicted("a", 1)], [labelled("a", 1)], torn)["r1"].accuracy == 1.0


def test_nothing_there_is_nothing_joined(tmp_path: Path) -> None:
    assert join(tmp_path / "no", tmp_path / "none.jsonl") == {}
    assert join_records(tmp_path, [predicted("a", 1)], [])["r1"] == Joined("r1", 1, 0, None, None, None)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7]), st.booleans()), min_size=1, max_size=20))
def test_auc_counts_the_pairs_in_the_right_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, bool]]
) -> None:
    predictions = [predicted(str(n), 1, chances=[chance]) for n, (chance, _) in enumerate(rows)]
    labels = [labelled(str(n), int(is_late)) for n, (_, is_late) in enumerate(rows)]
    found = join_records(tmp_path_factory.mktemp("auc"), predictions, labels)["r1"].auc
    pairs = [(one, other) for one, is_late in rows if is_late for other, was_late in rows if not was_late]
    if not pairs:
        assert found is None
    else:
        right = sum(1.0 if one > other else 0.5 if one == other else 0.0 for one, other in pairs)
        assert found == pytest.approx(right / len(pairs))


def test_a_revision_asked_for_probabilities_alone_has_an_auc_and_no_accuracy(tmp_path: Path) -> None:
    asked = [predicted(name, chances=[chance]) | {"prediction": None} for name, chance in (("a", 0.9), ("b", 0.2))]
    joined = join_records(tmp_path, asked, [labelled("a", 1), labelled("b", 0)])["r1"]
    assert (joined.predictions, joined.labelled, joined.accuracy, joined.auc) == (2, 2, None, 1.0)
