"""Prediction logs and labels are joined while both are being written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interlock.edges.serving import labelled
from interlock.edges.serving.labelled import LabelledAnswers

ENVIRONMENT = "flights/production"
R1, R2 = "flights.production.r1", "flights.production.r2"


class Logs:
    """What model servers and the label endpoint write."""

    def __init__(self, folder: Path) -> None:
        self.predictions = folder / "predictions" / "flights.production"
        self.labels = folder / "labels" / "flights" / "production.jsonl"
        self.predictions.mkdir(parents=True)
        self.labels.parent.mkdir(parents=True)
        self.now = 100.0
        self.answers = LabelledAnswers(folder, lambda: self.now)

    def predict(self, identity: str, revision: str, *values: int | str, status: int = 200, **more: object) -> None:
        record = {"id": identity, "revision": revision, "prediction": list(values), "status": status, **more}
        self.write(self.predictions / f"{revision}-7.jsonl", json.dumps(record) + "\n")

    def label(self, identity: str, truth: int | str, is_contradictory: bool = False) -> None:
        record = {"id": identity, "label": truth, "time": 0.0, "is_contradictory": is_contradictory}
        self.write(self.labels, json.dumps(record) + "\n")

    def write(self, path: Path, text: str) -> None:
        with path.open("a") as log:
            log.write(text)

    def counted(self) -> dict[str, tuple[int, int]]:
        return {key: (seen.errors, seen.requests) for key, seen in self.answers.observe(ENVIRONMENT).items()}


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    logs = Logs(tmp_path)
    assert logs.counted() == {}
    return logs


def test_an_answer_counts_once_its_label_is_there_whichever_came_first(logs: Logs) -> None:
    logs.predict("a", R1, 1)
    assert logs.counted() == {}
    logs.label("a", 1)
    logs.label("b", 1)
    assert logs.counted() == {R1: (0, 1)}
    logs.predict("b", R2, 0)
    assert logs.counted() == {R1: (0, 1), R2: (1, 1)}
    logs.predict("a", R2, 1)  # the same request, answered by both
    assert logs.counted() == {R1: (0, 1), R2: (1, 2)}


def test_rows_retries_and_contradictions_count_as_the_label_log_says(logs: Logs) -> None:
    logs.predict("a", R1, 1, 0, 1)
    for row, truth in enumerate((1, 1, 1)):
        logs.label(f"a/{row}", truth)
    assert logs.counted() == {R1: (1, 3)}
    logs.predict("a", R1, 0, 0, 0)  # a retry: the first answer was the one
    logs.label("a/0", 0, is_contradictory=True)
    logs.label("a/1", 0)
    assert logs.counted() == {R1: (1, 3)}


def test_what_failed_and_what_is_torn_is_passed_over(logs: Logs) -> None:
    logs.predict("a", R1, 1, status=500)
    logs.label("a", 1)
    logs.write(logs.labels, "[1]\nnonsense\n" + '{"id": "b", "la')
    logs.predict("b", R1, 1)
    assert logs.counted() == {}
    logs.write(logs.labels, 'bel": 1}\n')
    assert logs.counted() == {R1: (0, 1)}


def test_requests_that_were_copied_are_compared_as_pairs_and_not_here(logs: Logs) -> None:
    for revision in (R1, R2):
        record = {"id": "a", "revision": revision, "prediction": [1], "status": 200, "copied_to": R2}
        logs.write(logs.predictions / f"{revision}-7.jsonl", json.dumps(record) + "\n")
    logs.label("a", 1)
    assert logs.counted() == {}


def test_what_was_written_before_it_was_asked_for_is_not_counted(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.predict("old", R1, 0)
    assert logs.counted() == {}
    logs.label("old", 1)
    logs.predict("new", R1, 1)
    logs.label("new", 1)
    assert logs.counted() == {R1: (0, 1)}
    epochs = {seen.epoch for seen in logs.answers.observe(ENVIRONMENT).values()}
    assert {seen.epoch for seen in LabelledAnswers(tmp_path).observe(ENVIRONMENT).values()} == set()
    assert len(epochs) == 1


def test_after_a_pause_counting_begins_anew(logs: Logs) -> None:
    logs.predict("a", R1, 1)
    logs.label("a", 1)
    before = logs.answers.observe(ENVIRONMENT)[R1]
    logs.now += labelled.PAUSE_SECONDS + 1.0
    logs.predict("b", R1, 0)
    logs.label("b", 1)
    assert logs.counted() == {}
    logs.predict("c", R1, 0)
    logs.label("c", 1)
    after = logs.answers.observe(ENVIRONMENT)[R1]
    assert (after.errors, after.requests) == (1, 1)
    assert after.epoch != before.epoch


def test_memory_is_bounded_and_the_oldest_is_forgotten(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "MOST", 3)
    for number in range(6):
        logs.predict(str(number), R1, 1)
    logs.counted()
    for number in range(6):
        logs.label(str(number), 1)
    assert logs.counted() == {R1: (0, 3)}


def test_what_is_in_a_slice_is_counted_there_too_by_the_same_rules(logs: Logs) -> None:
    logs.predict("a", R1, 1, 0, 1, slices={"carrier": ["AA", "UA", None], "origin": [None, "EWR", None]})
    for row, truth in enumerate((1, 1, 1)):
        logs.label(f"a/{row}", truth)
    logs.label("b", 0)
    logs.predict("b", R1, 1, slices={"carrier": ["AA"]})
    logs.predict("b", R1, 0, slices={"carrier": ["UA"]})  # a retry: the first answer was the one
    logs.label("b", 1, is_contradictory=True)
    logs.predict("c", R1, 1, status=500, slices={"carrier": ["AA"]})
    logs.predict("b", R2, 0)  # it does not say
    logs.label("c", 1)
    assert logs.counted() == {R1: (2, 4), R2: (0, 1)}
    seen = logs.answers.observe(ENVIRONMENT)
    assert seen[R1].slices == {"carrier=AA": (2, 1), "carrier=UA": (1, 1), "origin=EWR": (1, 1)}
    assert seen[R2].slices == {}
    assert seen[R1].within("origin=EWR").errors == 1
    logs.now += labelled.PAUSE_SECONDS + 1.0
    assert logs.counted() == {}


@pytest.mark.parametrize(
    "told", ["AA", ["AA"], {"carrier": "AA"}, {"carrier": []}, {"carrier": [7]}, {"carrier": None}]
)
def test_slices_that_a_line_does_not_say_as_agreed_are_none(logs: Logs, told: object) -> None:
    logs.predict("a", R1, 1, slices=told)
    logs.label("a", 1)
    assert logs.counted() == {R1: (0, 1)}
    assert logs.answers.observe(ENVIRONMENT)[R1].slices == {}
