"""Answers whose truth comes late: joined on disk, by when requests came, exactly once whoever reads."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from interlock.delivery.revision import LateLabels
from interlock.edges.serving import late
from interlock.edges.serving.late import LateAnswers

ENVIRONMENT = "flights/production"
R1, R2, R3 = (f"flights.production.r{number}" for number in (1, 2, 3))
DELAY = 100.0
LATE = LateLabels(rollout=7, delay=DELAY, revisions=(R1, R2))
NOTHING = {R1: (0, 0), R2: (0, 0)}


class Logs:
    """What model servers and the label endpoint write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.predictions = folder / "predictions" / "flights.production"
        self.labels = folder / "labels" / "flights" / "production.jsonl"
        self.predictions.mkdir(parents=True)
        self.labels.parent.mkdir(parents=True)
        self.now = 1000.0
        self.answers = self.another()

    def another(self) -> LateAnswers:
        """Another process begins to look."""
        return LateAnswers(self.folder, lambda: self.now)

    def predict(self, identity: str, revision: str, *values: int, process: int = 1, **more: object) -> None:
        record = {"id": identity, "time": self.now, "revision": revision, "prediction": list(values), "status": 200}
        record |= more
        self.write(self.predictions / f"{revision}-{process}.jsonl", json.dumps(record) + "\n")

    def label(self, identity: str, truth: int, is_contradictory: bool = False) -> None:
        record = {"id": identity, "label": truth, "time": 0.0, "is_contradictory": is_contradictory}
        self.write(self.labels, json.dumps(record) + "\n")

    def write(self, path: Path, text: str) -> None:
        with path.open("a") as log:
            log.write(text)

    def counted(self, asked: LateLabels = LATE) -> dict[str, tuple[int, int]]:
        return {key: (seen.errors, seen.requests) for key, seen in self.answers.observe(ENVIRONMENT, asked).items()}


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    logs = Logs(tmp_path)
    assert logs.counted() == NOTHING
    return logs


def test_an_answer_counts_once_its_request_is_old_enough_and_its_label_is_there(logs: Logs) -> None:
    logs.predict("soon", R1, 1)
    logs.predict("late", R1, 0)
    logs.predict("never", R1, 1)
    logs.label("soon", 1)
    logs.now += DELAY - 1.0
    logs.predict("young", R2, 1)
    logs.label("young", 1)
    assert logs.counted() == NOTHING
    logs.now += 1.0
    assert logs.counted() == {R1: (0, 1), R2: (0, 0)}
    logs.label("late", 1)  # later than it was said to come
    assert logs.counted() == {R1: (1, 2), R2: (0, 0)}
    logs.now += DELAY
    assert logs.counted() == {R1: (1, 2), R2: (0, 1)}


def test_duplicates_contradictions_rows_and_retries_count_once(logs: Logs) -> None:
    logs.predict("a", R2, 1, 0)
    logs.predict("a", R2, 0, 0)  # a retry: the first answer was the one
    for row, truth in (("a/0", 1), ("a/0", 1), ("a/1", 1)):
        logs.label(row, truth)
    logs.label("a/0", 0, is_contradictory=True)
    logs.label("a/1", 0)
    logs.now += DELAY
    assert logs.counted() == {R1: (0, 0), R2: (1, 2)}


def test_whoever_looks_next_goes_on_where_the_last_one_was(logs: Logs) -> None:
    for number in range(4):
        logs.predict(str(number), R1, 1)
        logs.label(str(number), number % 2)
    logs.now += DELAY
    first, rival = logs.answers, logs.another()
    before = first.observe(ENVIRONMENT, LATE)
    logs.predict("later", R1, 1, process=2)  # a replica that was started again writes another file
    logs.label("later", 1)
    logs.now += DELAY
    for answers in (rival, first, logs.another()):
        after = answers.observe(ENVIRONMENT, LATE)
        assert (after[R1].errors, after[R1].requests) == (2, 5)
        assert after[R1].epoch == before[R1].epoch


def test_what_was_there_before_the_rollout_and_others_revisions_do_not_count(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.predict("old", R1, 0)
    logs.label("labelled before", 1)
    assert logs.counted() == NOTHING
    logs.label("old", 1)
    for identity, revision in (("labelled before", R1), ("another's", R3), ("new", R1)):
        logs.predict(identity, revision, 1)
    logs.label("another's", 0)
    logs.label("new", 1)
    logs.now += DELAY
    assert logs.counted() == {R1: (0, 1), R2: (0, 0)}


def test_a_line_that_is_being_written_is_read_when_it_is_whole(logs: Logs) -> None:
    logs.predict("a", R1, 1)
    logs.write(logs.labels, "[1]\nnonsense\n" + '{"id": "a", "la')
    logs.now += DELAY
    assert logs.counted() == NOTHING
    logs.write(logs.labels, 'bel": 1}\n')
    assert logs.counted() == {R1: (0, 1), R2: (0, 0)}


def test_what_is_behind_says_nothing_until_it_has_read_all(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "MOST_LINES", 4)
    for number in range(6):
        logs.predict(str(number), R1, 1)
        logs.label(str(number), 1)
    logs.now += DELAY
    assert [logs.counted(), logs.counted()] == [{}, {R1: (0, 6), R2: (0, 0)}]


def test_a_new_rollout_takes_the_place_of_the_one_before(logs: Logs) -> None:
    logs.predict("a", R1, 1)
    logs.label("a", 1)
    logs.now += DELAY
    before = logs.answers.observe(ENVIRONMENT, LATE)[R1]
    again = LATE._replace(rollout=10)
    assert logs.counted(again) == NOTHING
    assert [path.name for path in (logs.folder / "joins").iterdir()] == ["flights.production.10.db"]
    assert logs.answers.observe(ENVIRONMENT, again)[R1].epoch != before.epoch
    assert logs.counted() == NOTHING  # asked by one who slept: begun anew, so that nothing counts twice
    assert len(list((logs.folder / "joins").iterdir())) == 2


def test_a_join_that_cannot_be_used_is_no_evidence(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "BUSY_SECONDS", 0.01)
    logs.predict("a", R1, 1)
    logs.label("a", 1)
    logs.now += DELAY
    with sqlite3.connect(logs.folder / "joins" / "flights.production.7.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert logs.counted() == {}
        other.execute("ROLLBACK")
    other.close()
    assert logs.counted() == {R1: (0, 1), R2: (0, 0)}
    (logs.folder / "joins" / "flights.production.7.db").write_text("broken" * 1000)
    assert logs.counted() == {}


def test_what_is_in_a_slice_is_counted_there_too_by_the_same_rules(logs: Logs) -> None:
    logs.predict("a", R2, 1, 0, slices={"carrier": ["AA", "UA"], "origin": ["EWR", "EWR"]})
    logs.predict("a", R2, 0, 0, slices={"carrier": ["UA", "UA"]})  # a retry: the first answer was the one
    logs.predict("b", R1, 1, slices={"carrier": ["AA"]})
    logs.predict("c", R1, 1)  # it does not say
    logs.label("a/0", 1)
    logs.label("a/0", 0, is_contradictory=True)
    logs.label("c", 0)
    logs.now += DELAY
    assert logs.counted() == {R1: (1, 1), R2: (0, 1)}
    for answers in (logs.another(), logs.answers):
        assert answers.observe(ENVIRONMENT, LATE)[R2].slices == {"carrier=AA": (1, 0), "origin=EWR": (1, 0)}
    logs.label("a/1", 1)
    logs.label("b", 0)
    seen = logs.answers.observe(ENVIRONMENT, LATE)
    assert seen[R1].slices == {"carrier=AA": (1, 1)}
    assert seen[R2].slices == {"carrier=AA": (1, 0), "carrier=UA": (1, 1), "origin=EWR": (2, 1)}


def test_a_join_of_an_earlier_release_goes_on(logs: Logs) -> None:
    logs.predict("a", R1, 1)
    logs.now += DELAY
    before = logs.answers.observe(ENVIRONMENT, LATE)[R1]
    with sqlite3.connect(logs.folder / "joins" / "flights.production.7.db") as join:
        join.execute("DROP TABLE sliced")
        join.execute("DROP TABLE counted_in")
    join.close()
    logs.label("a", 1)
    after = logs.answers.observe(ENVIRONMENT, LATE)[R1]
    assert (after.requests, after.slices, after.epoch) == (1, {}, before.epoch)
