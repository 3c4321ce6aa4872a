"""Requests and their copies are found again in both prediction logs, and nothing that is missing is made up."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from interlock.edges.serving import labelled, paired
from interlock.edges.serving.paired import ALONE_SECONDS, LATE_SECONDS, LOGGED_SECONDS, PairedAnswers

ENVIRONMENT = "flights/production"
R1, R2 = "flights.production.r1", "flights.production.r2"
LONG = LATE_SECONDS + LOGGED_SECONDS + 1.0


class Logs:
    """What two model servers and the label endpoint write."""

    def __init__(self, folder: Path, tolerance: float = 1e-6) -> None:
        self.folder, self.tolerance = folder, tolerance
        self.predictions = folder / "predictions" / "flights.production"
        self.labels = folder / "labels" / "flights" / "production.jsonl"
        self.predictions.mkdir(parents=True, exist_ok=True)
        self.labels.parent.mkdir(parents=True, exist_ok=True)
        self.now = 1000.0
        self.answers = PairedAnswers(folder, lambda: self.now)

    def stable(self, request: str, *values: Any, **other: Any) -> None:
        self.answer(R1, request, *values, **other)

    def copy(self, request: str, *values: Any, **other: Any) -> None:
        self.answer(R2, request, *values, **other)

    def answer(
        self, revision: str, request: str, *values: Any, status: int = 200, asked: int = 7, **other: Any
    ) -> None:
        prediction = list(values) if status == 200 else None
        record = {"id": request, "copied_to": R2, "request": request, "asked": asked, "time": self.now, "attempt": "1"}
        record |= {"revision": revision, "prediction": prediction, "status": status, **other}
        self.write(self.predictions / f"{revision}-7.jsonl", json.dumps(record) + "\n")

    def label(self, identity: str, truth: Any, is_contradictory: bool = False) -> None:
        record = {"id": identity, "label": truth, "time": 0.0, "is_contradictory": is_contradictory}
        self.write(self.labels, json.dumps(record) + "\n")

    def write(self, path: Path, text: str) -> None:
        with path.open("a") as log:
            log.write(text)

    def counted(self) -> dict[str, int]:
        """What is not 0, of the candidate; nothing else is counted."""
        found = self.answers.observe(ENVIRONMENT, self.tolerance)
        assert set(found) <= {R2}
        return (
            {name: count for name, count in found[R2].model_dump(exclude={"epoch"}).items() if count} if found else {}
        )


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    logs = Logs(tmp_path)
    assert logs.counted() == {}
    return logs


def test_a_pair_counts_once_both_have_answered_whoever_was_first(logs: Logs) -> None:
    logs.stable("a", 1)
    assert logs.counted() == {}
    logs.copy("a", 1)
    logs.copy("b", 0)
    assert logs.counted() == {"compared": 1}
    logs.stable("b", 1)
    assert logs.counted() == {"compared": 2, "unequal": 1}
    logs.now += LONG
    assert logs.counted() == {"pairs": 2, "compared": 2, "unequal": 1}


@pytest.mark.parametrize(
    ("stable", "copy", "tolerance", "is_equal"),
    [
        ([1], [1], 1e-6, True),
        ([1], [1.0], 1e-6, True),
        (["late"], ["late"], 0.5, True),
        (["late"], ["early"], 0.5, False),
        ([100.0], [100.9], 0.01, True),
        ([100.0], [101.2], 0.01, False),
        ([0.0], [0.009], 0.01, True),
        ([1, 2], [1, 3], 0.01, False),
        ([1, 2], [1], 0.01, False),
        ([[1.0, 2.0]], [[1.0, 2.00001]], 1e-3, True),
        ([[1.0, 2.0]], [[1.0, 2.1]], 1e-3, False),
        ([True], [1], 1e-6, True),
        ([None], [None], 1e-6, True),
        ([None], [1.0], 1e-6, False),
    ],
)
def test_answers_are_equal_within_the_tolerance(
    tmp_path: Path, stable: list[Any], copy: list[Any], tolerance: float, is_equal: bool
) -> None:
    logs = Logs(tmp_path, tolerance)
    logs.counted()
    logs.stable("a", *stable)
    logs.copy("a", *copy)
    assert logs.counted() == {"compared": 1} | ({} if is_equal else {"unequal": 1})


def test_probabilities_are_compared_where_there_are_no_predictions_and_nothing_where_there_is_neither(
    logs: Logs,
) -> None:
    logs.stable("a", prediction=None, probability=[0.5])
    logs.copy("a", prediction=None, probability=[0.9])
    logs.stable("b", prediction=None)
    logs.copy("b", prediction=None)
    assert logs.counted() == {"compared": 1, "unequal": 1}


@pytest.mark.parametrize(
    ("stable", "copy", "counts"),
    [
        (200, 500, {"failed": 1}),
        (200, 400, {"failed": 1}),  # it refuses what stable answers
        (200, 503, {"failed": 1}),
        (200, None, {"failed": 1, "unanswered": 1}),
        (400, 400, {}),
        (400, 200, {}),
        (400, 500, {"failed": 1}),
        (400, None, {"failed": 1, "unanswered": 1}),
        (500, 200, {"recovered": 1}),
        (500, 400, {"recovered": 1}),
        (500, 500, {"both_failed": 1}),
        (500, None, {"both_failed": 1, "unanswered": 1}),
    ],
)
def test_who_failed(logs: Logs, stable: int, copy: int | None, counts: dict[str, int]) -> None:
    logs.stable("a", 1, status=stable)
    if copy is not None:
        logs.copy("a", 1, status=copy)
    logs.counted()
    logs.now += LONG
    assert logs.counted() == {"pairs": 1, **counts}
    logs.now += LONG
    assert logs.counted() == {"pairs": 1, **counts}


@pytest.mark.parametrize("first", [503, None])
def test_the_first_attempt_is_what_counts_of_stable_and_any_answer_is_compared(logs: Logs, first: int | None) -> None:
    if first is not None:
        logs.stable("a", status=first, attempt="1")
    logs.copy("a", 1)
    assert logs.counted() == {}
    logs.stable("a", 1, attempt="2")
    assert logs.counted() == {"compared": 1}
    logs.now += LONG
    assert logs.counted() == {"pairs": 1, "compared": 1, "recovered": 1}


def test_failures_of_both_sides_are_counted_at_one_time(logs: Logs) -> None:
    """Also where one is known at once, and the other only after a while."""
    for request, stable, copy in (("a", 200, 500), ("b", 500, 200), ("c", 200, None), ("d", 500, 500), ("e", 200, 200)):
        logs.stable(request, 1, status=stable)
        if copy is not None:
            logs.copy(request, 1, status=copy)
    for _ in range(6):
        assert logs.counted() == {"compared": 1}
        logs.now += 1.0
    logs.now += 1.0
    told = {"pairs": 5, "failed": 2, "unanswered": 1, "recovered": 1, "both_failed": 1, "compared": 1}
    assert logs.counted() == told


def test_a_copy_that_is_not_answered_in_time_failed_and_a_later_answer_is_told(logs: Logs) -> None:
    logs.stable("a", 1)
    logs.now += LATE_SECONDS
    assert logs.counted() == {}
    logs.now += LOGGED_SECONDS + 0.1
    assert logs.counted() == {"pairs": 1, "failed": 1, "unanswered": 1}
    logs.copy("a", 1)
    assert logs.counted() == {"pairs": 1, "failed": 1, "unanswered": 1, "late": 1}


def test_lateness_goes_by_when_it_was_answered_not_by_when_it_was_read(logs: Logs) -> None:
    for request, after in (("a", LATE_SECONDS - 0.1), ("b", LATE_SECONDS + 0.1)):
        began = logs.now
        logs.stable(request, 1)
        logs.now += after
        logs.copy(request, 1)
        logs.now = began + 20.0
    assert logs.counted() == {"pairs": 2, "compared": 1, "failed": 1, "unanswered": 1, "late": 1}


def test_copies_without_their_request_and_second_answers_are_told_and_no_evidence(logs: Logs) -> None:
    logs.copy("lost", 1)
    logs.stable("a", 1)
    logs.copy("a", 1)
    logs.copy("a", 0)
    logs.stable("a", 0)
    assert logs.counted() == {"compared": 1, "duplicated": 2}
    logs.now += LONG
    assert logs.counted() == {"pairs": 1, "compared": 1, "duplicated": 2}
    logs.stable("a", 1)
    logs.copy("a", 1)
    logs.now += ALONE_SECONDS
    assert logs.counted() == {"pairs": 1, "compared": 1, "duplicated": 3, "late": 1, "unmatched": 1}


def test_one_id_of_two_requests_makes_two_pairs(logs: Logs) -> None:
    logs.stable("1", 1, asked=7)
    logs.copy("1", 0, asked=8)
    logs.stable("1", 0, asked=8)
    logs.copy("1", 1, asked=7)
    assert logs.counted() == {"compared": 2}


def test_what_was_not_copied_is_no_pair_and_what_is_torn_is_passed_over(logs: Logs) -> None:
    for revision in (R1, R2):
        record = {"id": "a", "revision": revision, "prediction": [1], "status": 200, "time": logs.now}
        logs.write(logs.predictions / f"{revision}-7.jsonl", json.dumps(record) + "\n[1]\nnonsense\n")
    logs.now += LONG
    assert logs.counted() == {}


def test_pairs_get_their_truth_whenever_it_comes(logs: Logs) -> None:
    logs.label("early", 1)
    for request, one, other in (("early", 1, 0), ("a", 0, 1), ("b", 0, 0), ("c", 1, 1), ("unlabelled", 1, 0)):
        logs.stable(request, one)
        logs.copy(request, other)
    logs.stable("rows", 1, 0)
    logs.copy("rows", 0, 0)
    logs.counted()
    for request in ("a", "b", "c", "rows/0", "rows/1", "unknown"):
        logs.label(request, 1)
    logs.label("a", 0, is_contradictory=True)
    logs.label("b", 0)
    assert logs.counted() == {
        "compared": 6,
        "unequal": 4,
        "labelled": 6,
        "worse": 2,
        "better": 1,
        "both_wrong": 2,
    }


def test_rows_are_counted_in_the_slices_that_the_copys_line_says(logs: Logs) -> None:
    logs.label("early", 1)
    logs.stable("early", 1)  # an older revision, that does not say
    logs.copy("early", 0, slices={"carrier": ["AA"]})
    logs.stable("rows", 1, 0, 1, slices={"carrier": ["UA", "UA", "UA"]})
    logs.copy("rows", 0, 0, 1, slices={"carrier": ["AA", None, "AA"], "origin": ["EWR", "EWR", None]})
    logs.counted()
    for request in ("rows/0", "rows/1", "rows/2"):
        logs.label(request, 1)
    logs.label("rows/2", 0, is_contradictory=True)
    counted = logs.counted()
    assert counted["slices"] == {"carrier=AA": (3, 2, 0, 0), "origin=EWR": (2, 1, 0, 1)}
    assert [counted[name] for name in ("labelled", "worse", "both_wrong")] == [4, 2, 1]


def test_the_beginning_tears_no_pair(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.copy("answered before, logged after", 1)
    logs.copy("all before", 1)
    logs.stable("all before", 0)
    logs.now += 0.5
    assert logs.counted() == {}
    logs.answer(R1, "answered before, logged after", 1, time=logs.now - 0.3)
    logs.copy("in time", 1)
    logs.now += 0.1
    logs.stable("in time", 1)
    logs.now += LONG + ALONE_SECONDS
    assert logs.counted() == {"pairs": 1, "compared": 1}


def test_a_copy_that_was_answered_before_the_beginning_is_found(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.copy("a", 1)
    logs.now += 0.2
    assert logs.counted() == {}
    logs.now += 0.2
    logs.stable("a", 1)
    assert logs.counted() == {"compared": 1}


def test_after_a_pause_counting_begins_anew(logs: Logs) -> None:
    logs.stable("a", 1)
    logs.copy("a", 1)
    before = logs.answers.observe(ENVIRONMENT, 0.0)[R2]
    logs.now += paired.PAUSE_SECONDS + 1.0
    assert logs.counted() == {}
    logs.stable("b", 1)
    logs.copy("b", 0)
    after = logs.answers.observe(ENVIRONMENT, 0.0)[R2]
    assert (after.compared, after.unequal) == (1, 1)
    assert after.epoch != before.epoch


def test_nothing_is_given_up_while_a_part_of_a_log_is_unread(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "READ_AT_ONCE", 1500)
    for number in range(30):
        logs.stable(str(number), 1)
        logs.copy(str(number), 1)
    logs.now += LONG
    for _ in range(30):
        assert "failed" not in logs.counted()
    logs.now += 1.0
    assert logs.counted() == {"pairs": 30, "compared": 30}


def test_memory_is_bounded(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "MOST", 3)
    for number in range(8):
        logs.stable(str(number), 1)
        logs.copy(str(number), 1)
    logs.counted()
    for number in range(8):
        logs.label(str(number), 1)
    assert logs.counted() == {"compared": 8, "labelled": 3}


@pytest.mark.parametrize("seed", range(20))
def test_in_whatever_order_lines_come_the_same_is_counted(tmp_path: Path, seed: int) -> None:
    """Counted beside it from what was answered, without logs, files and times."""
    chance, logs = random.Random(seed), Logs(tmp_path)
    logs.counted()
    expected: Counter[str] = Counter()
    lines: list[Any] = []
    for number in range(60):
        name, stable_is_right, copy_is_right = str(number), chance.random() < 0.7, chance.random() < 0.7
        fate = chance.choice(["both", "both", "both", "copy fails", "copy silent", "stable lost"])
        if fate != "stable lost":
            lines.append((R1, name, int(stable_is_right), 200))
            expected["pairs"] += 1
        else:
            expected["unmatched"] += 1
        if fate != "copy silent":
            lines.append((R2, name, int(copy_is_right), 500 if fate == "copy fails" else 200))
        expected["failed"] += fate.startswith("copy")
        expected["unanswered"] += fate == "copy silent"
        if fate == "both":
            expected["compared"] += 1
            expected["unequal"] += stable_is_right != copy_is_right
            expected["labelled"] += 1
            expected["worse"] += stable_is_right and not copy_is_right
            expected["better"] += copy_is_right and not stable_is_right
            expected["both_wrong"] += not copy_is_right and not stable_is_right
        lines.append(name)
    chance.shuffle(lines)
    for line in lines:
        if isinstance(line, str):
            logs.label(line, 1)
        else:
            logs.answer(line[0], line[1], line[2], status=line[3])
        if chance.random() < 0.3:
            logs.counted()
    logs.counted()
    logs.now += LONG
    logs.counted()
    logs.now += ALONE_SECONDS
    assert logs.counted() == {name: count for name, count in expected.items() if count}
