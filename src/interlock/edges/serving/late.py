"""Answers whose truth comes late, joined on disk: what waits for hours outlives memory and the control plane.

For each rollout one SQLite file keeps where each log was read to, and what of it was joined; both are saved in one
transaction, so that whoever reads next, after a kill or beside another one, counts nothing twice and leaves nothing
out. Logs are followed from where they ended when the rollout was first looked at. A prediction is read once it is as
old as its label may be late, so that both sides are compared by when requests came, not by when labels did; a label
that comes later still counts when it comes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from interlock.delivery.revision import CounterSeen, LateLabels

from .labelled import ALL, Answered, answers_of, counter_of, record_of

FOLDER = "joins"
BUSY_SECONDS = 1.0
MOST_LINES = 20_000
"""Lines of one log that are read at one look. What is behind with more says nothing in that look."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS epoch (name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS place (path TEXT PRIMARY KEY, offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS truth (id TEXT PRIMARY KEY, label TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answer
    (id TEXT, revision TEXT, value TEXT NOT NULL, PRIMARY KEY (id, revision)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sliced (id TEXT, revision TEXT, slice TEXT, PRIMARY KEY (id, revision, slice)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted (revision TEXT PRIMARY KEY, judged INTEGER NOT NULL, wrong INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS counted_in
    (revision TEXT, slice TEXT, judged INTEGER NOT NULL, wrong INTEGER NOT NULL, PRIMARY KEY (revision, slice));
"""
"""Made where they are not there yet: an earlier release began joins without slices."""

NEW_TRUTH = "INSERT OR IGNORE INTO truth VALUES (?, ?)"
NEW_ANSWER = "INSERT OR IGNORE INTO answer VALUES (?, ?, ?)"
COUNT_IN = """
INSERT INTO counted_in SELECT revision, slice, 1, ? FROM sliced WHERE id = ? AND revision = ?
    ON CONFLICT (revision, slice) DO UPDATE SET judged = judged + 1, wrong = wrong + excluded.wrong
"""
ALL_COUNTED = """
SELECT revision, ?, judged, wrong FROM counted UNION ALL SELECT revision, slice, judged, wrong FROM counted_in
"""


class LateAnswers:
    """All rollouts of one data-plane folder; ``now`` in wall seconds, as prediction logs have it."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now

    def observe(self, environment: str, late: LateLabels) -> dict[str, CounterSeen]:
        """By revision how many answers are old enough and have a label, and how many of them were wrong.

        Empty where the logs are not read to their end yet, or the join cannot be written.
        """
        logs = sorted((self._folder / "predictions" / environment.replace("/", ".")).glob("*.jsonl"))
        labels = self._folder / "labels" / f"{environment}.jsonl"
        try:
            with closing(self._open(environment, late, [*logs, labels])) as database:
                join = _Join(database, late, self._now())
                database.execute("BEGIN IMMEDIATE")
                is_behind = [join.follow(labels, join.label), *(join.follow(log, join.answer) for log in logs)]
                database.execute("COMMIT")
                return {} if any(is_behind) else join.counters()
        except (sqlite3.Error, OSError):  # no evidence in this look; a rollout that never gets any is not promoted
            return {}

    def _open(self, environment: str, late: LateLabels, logs: Iterable[Path]) -> sqlite3.Connection:
        """The rollout's join. One that begins replaces those of earlier rollouts, and passes over what was logged."""
        folder, name = self._folder / FOLDER, environment.replace("/", ".")
        folder.mkdir(exist_ok=True)
        database = sqlite3.connect(folder / f"{name}.{late.rollout}.db", timeout=BUSY_SECONDS, isolation_level=None)
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.split(";"):
            database.execute(statement)
        if not database.execute("SELECT 1 FROM epoch").fetchone():
            database.execute("INSERT INTO epoch VALUES (?)", [os.urandom(8).hex()])
            database.executemany("INSERT INTO counted VALUES (?, 0, 0)", [[revision] for revision in late.revisions])
            ends = [(str(path), path.stat().st_size) for path in logs if path.exists()]
            database.executemany("INSERT INTO place VALUES (?, ?)", ends)
            for earlier in folder.glob(f"{name}.*.db"):
                if int(earlier.suffixes[-2][1:]) < late.rollout:
                    earlier.unlink()
        database.execute("COMMIT")
        return database


class _Join:
    """One look at the logs of one rollout."""

    def __init__(self, database: sqlite3.Connection, late: LateLabels, now: float) -> None:
        self._database = database
        self._late = late
        self._now = now

    def follow(self, path: Path, take: Callable[[dict[str, Any]], bool]) -> bool:
        """Takes what was added, up to the first record that is not yet to be; whether there may be more."""
        known = self._database.execute("SELECT offset FROM place WHERE path = ?", [str(path)]).fetchone()
        before = offset = known[0] if known else 0
        is_behind = False
        for count, line in enumerate(_whole_lines(path, offset)):
            record = record_of(line)
            is_behind = count >= MOST_LINES
            if is_behind or (record is not None and not take(record)):
                break
            offset += len(line)
        if offset != before:
            self._database.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", [str(path), offset])
        return is_behind

    def label(self, record: dict[str, Any]) -> bool:
        """The first label of an id counts."""
        identity, truth = str(record.get("id")), record.get("label")
        is_first = not record.get("is_contradictory") and self._is_new(NEW_TRUTH, identity, json.dumps(truth))
        if is_first:
            found = self._database.execute("SELECT revision, value FROM answer WHERE id = ?", [identity])
            for revision, value in found.fetchall():
                self._count(identity, revision, json.loads(value) != truth)
        return True

    def answer(self, record: dict[str, Any]) -> bool:
        """The first answer of a revision counts. False where the request is too young."""
        moment, revision = record.get("time"), str(record.get("revision"))
        if isinstance(moment, int | float) and moment + self._late.delay > self._now:
            return False
        for answered in answers_of(record) if revision in self._late.revisions else ():
            self._answer(revision, answered)
        return True

    def _answer(self, revision: str, answered: Answered) -> None:
        identity = answered.identity
        if not self._is_new(NEW_ANSWER, identity, revision, json.dumps(answered.value)):
            return
        slices = [(identity, revision, name) for name in answered.slices]
        self._database.executemany("INSERT OR IGNORE INTO sliced VALUES (?, ?, ?)", slices)
        label = self._database.execute("SELECT label FROM truth WHERE id = ?", [identity]).fetchone()
        if label is not None:
            self._count(identity, revision, answered.value != json.loads(label[0]))

    def counters(self) -> dict[str, CounterSeen]:
        """All that was counted."""
        (epoch,) = self._database.execute("SELECT name FROM epoch").fetchone()
        counted: dict[str, dict[str, tuple[int, int]]] = {}
        for revision, name, judged, wrong in self._database.execute(ALL_COUNTED, [ALL]):
            counted.setdefault(revision, {})[name] = judged, wrong
        return {revision: counter_of(epoch, counts) for revision, counts in counted.items()}

    def _is_new(self, statement: str, *values: str) -> bool:
        return self._database.execute(statement, values).rowcount > 0

    def _count(self, identity: str, revision: str, is_wrong: bool) -> None:
        self._database.execute(
            "UPDATE counted SET judged = judged + 1, wrong = wrong + ? WHERE revision = ?", [is_wrong, revision]
        )
        self._database.execute(COUNT_IN, [is_wrong, identity, revision])


def _whole_lines(path: Path, offset: int) -> Iterator[bytes]:
    """The lines from there on; not one that is being written."""
    try:
        with path.open("rb") as reader:
            reader.seek(offset)
            for line in reader:
                if line.endswith(b"\n"):
                    yield line
    except FileNotFoundError:
        return
