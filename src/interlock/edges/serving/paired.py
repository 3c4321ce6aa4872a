"""Requests that stable answered and whose copy a candidate was given, found again in both prediction logs.

The proxy's mark in a line says to whom the request was copied, and its id and the digest of its body belong to both
lines. Answers are compared once both are there. Who failed is counted of every pair at one time after stable's answer:
were failures of one side known sooner than the other's, equal ones would look like harm. A copy has LATE_SECONDS, for
the proxy begins another attempt after 3 s. It is tried once, so the first attempt is what counts of stable: one that is
not in the log has failed, wherever the request was answered then. Copies are logged at once, stable's lines within a
second.

Files are followed from where they end when an environment is asked for, for the first time or after a pause. What
stable answered before is left out, and copies are read from READ_BACK bytes earlier: no pair is torn by the beginning.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from interlock.delivery.revision import PairsSeen

from .labelled import PAUSE_SECONDS, Following, forget_oldest, slices_of

LATE_SECONDS = 5.0
ALONE_SECONDS = 30.0
"""After which a copy without its request is one: stable may take the proxy's whole time limit, and writes later."""
LOGGED_SECONDS = 1.5
"""After which a line is on the disk."""
READ_BACK = 1024 * 1024

JUDGED = ("labelled", "worse", "better", "both_wrong")
"""What is counted of rows whose truth is known."""

Name = tuple[str, Any]


@dataclass
class _Pair:
    """What both sides said of one request, as far as it is known. ``at`` is when it was said, in wall seconds.

    ``attempts`` are stable's lines by the number of the attempt.
    """

    revision: str
    at: float
    attempts: dict[str, dict[str, Any]] = field(default_factory=dict)
    copy: dict[str, Any] | None = None
    is_compared: bool = False

    @property
    def answer(self) -> dict[str, Any] | None:
        """What stable answered, by whichever attempt."""
        return next((one for one in self.attempts.values() if one.get("status") == 200), None)

    @property
    def copy_in_time(self) -> dict[str, Any] | None:
        """What the copy was answered, unless that came too late."""
        is_late = self.copy is not None and float(self.copy.get("time", 0.0)) - self.at > LATE_SECONDS
        return None if is_late else self.copy


class _Row(NamedTuple):
    """What both sides answered for one row of a request, and the slices that it is in."""

    revision: str
    answer: Any
    answer_of_copy: Any
    slices: tuple[str, ...]


class PairedAnswers:
    """All environments of one data-plane folder; ``now`` in wall seconds. Counters begin anew with each of these."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now
        self._pairings: dict[str, _Pairing] = {}

    def observe(self, environment: str, tolerance: float) -> dict[str, PairsSeen]:
        """By revision key what became of the requests of ``model/environment`` that were copied to it; see the port."""
        pairing, now = self._pairings.get(environment), self._now()
        if pairing is None or not 0.0 <= now - pairing.asked <= PAUSE_SECONDS:
            predictions = self._folder / "predictions" / environment.replace("/", ".")
            labels = self._folder / "labels" / f"{environment}.jsonl"
            pairing = self._pairings[environment] = _Pairing(predictions, labels, now)
        pairing.read(now, tolerance)
        return {
            key: PairsSeen(epoch=pairing.epoch, slices=pairing.sliced.get(key, {}), **counts)
            for key, counts in pairing.counted.items()
        }


class _Pairing:
    """One environment: pairs that wait for a side or for their truth, and what is counted."""

    def __init__(self, predictions: Path, labels: Path, began: float) -> None:
        self.counted: dict[str, Counter[str]] = {}
        self.sliced: dict[str, dict[str, tuple[int, int, int, int]]] = {}
        self.epoch = os.urandom(8).hex()
        self.asked = began
        self._began = began
        self._predictions = predictions
        self._labels = labels
        self._answers = Following(predictions.glob("*.jsonl"), READ_BACK)
        self._told = Following([labels])
        self._open: dict[Name, _Pair] = {}
        self._settled: dict[Name, None] = {}
        self._unlabelled: dict[str, _Row] = {}
        self._truths: dict[str, Any] = {}

    def read(self, now: float, tolerance: float) -> None:
        """What was added since, at ``now``."""
        self.asked = now
        self._answers.is_at_end = True
        for path in sorted(self._predictions.glob("*.jsonl")):
            for record in self._answers.added(path):
                if isinstance(record.get("copied_to"), str):
                    self._answer(record, tolerance)
        if self._answers.is_at_end:
            self._settle_old(now)
        for record in self._told.added(self._labels):
            if not record.get("is_contradictory"):
                self._label(str(record.get("id")), record.get("label"))

    def _answer(self, record: dict[str, Any], tolerance: float) -> None:
        revision, at = record["copied_to"], float(record.get("time", 0.0))
        is_copy = record.get("revision") == revision
        if not is_copy and at < self._began:
            return
        name: Name = (str(record.get("request")), record.get("asked"))
        counts = self.counted.setdefault(revision, Counter())
        if name in self._settled:
            counts["late" if is_copy else "duplicated"] += 1
            return
        pair = self._open.setdefault(name, _Pair(revision, at))
        attempt = str(record.get("attempt"))
        counts["duplicated"] += pair.copy is not None if is_copy else attempt in pair.attempts
        if is_copy:
            pair.copy = pair.copy or record
        else:
            pair.at = pair.at if pair.attempts else at
            pair.attempts.setdefault(attempt, record)
        self._compare(pair, tolerance)

    def _settle_old(self, now: float) -> None:
        """Counts who failed, of those of which nothing more can come."""
        over = [
            (name, pair)
            for name, pair in self._open.items()
            if now - pair.at > LOGGED_SECONDS + (LATE_SECONDS if pair.attempts else ALONE_SECONDS)
        ]
        for name, pair in over:
            del self._open[name]
            self._settled[name] = None
            forget_oldest(self._settled)
            self._settle(self.counted[pair.revision], pair)

    def _settle(self, counts: Counter[str], pair: _Pair) -> None:
        if not pair.attempts:
            # Copies from before it began have their request before it, too.
            counts["unmatched"] += pair.at >= self._began
            return
        copy, first = pair.copy_in_time, pair.attempts.get("1", {})
        status, status_of_copy = first.get("status", 500), copy.get("status", 500) if copy is not None else 500
        has_failed = status_of_copy >= 500 or (status_of_copy != 200 and pair.answer is not None)
        was_failure = status >= 500
        counts["pairs"] += 1
        counts["late"] += copy is not pair.copy
        counts["unanswered"] += copy is None
        counts["failed"] += has_failed and not was_failure
        counts["recovered"] += was_failure and not has_failed
        counts["both_failed"] += was_failure and has_failed

    def _compare(self, pair: _Pair, tolerance: float) -> None:
        """What both answered, once."""
        answer, copy = pair.answer, pair.copy_in_time
        if pair.is_compared or answer is None or copy is None or copy.get("status") != 200:
            return
        pair.is_compared = True
        self._await_truth(pair.revision, answer, copy)
        counts = self.counted[pair.revision]
        for output in ("prediction", "probability"):
            one, other = answer.get(output), copy.get(output)
            if isinstance(one, list) and isinstance(other, list):
                counts["compared"] += 1
                counts["unequal"] += not _is_equal(one, other, tolerance)
                return

    def _await_truth(self, revision: str, original: dict[str, Any], copy: dict[str, Any]) -> None:
        one, other = original.get("prediction"), copy.get("prediction")
        if not isinstance(one, list) or not isinstance(other, list) or len(one) != len(other):
            return
        for row, answers in enumerate(zip(one, other, strict=True)):
            identity = str(original.get("id")) if len(one) == 1 else f"{original.get('id')}/{row}"
            # The candidate's line is newer: it says the slices that are judged.
            waiting = _Row(revision, *answers, slices_of(copy, row))
            if identity in self._truths:
                self._judge(waiting, self._truths[identity])
            else:
                self._unlabelled[identity] = waiting
                forget_oldest(self._unlabelled)

    def _label(self, identity: str, truth: Any) -> None:
        if identity in self._truths:
            return
        self._truths[identity] = truth
        forget_oldest(self._truths)
        waiting = self._unlabelled.pop(identity, None)
        if waiting is not None:
            self._judge(waiting, truth)

    def _judge(self, row: _Row, truth: Any) -> None:
        is_wrong, is_copy_wrong = row.answer != truth, row.answer_of_copy != truth
        found = (1, is_copy_wrong and not is_wrong, is_wrong and not is_copy_wrong, is_wrong and is_copy_wrong)
        self.counted[row.revision].update(dict(zip(JUDGED, found, strict=True)))
        sliced = self.sliced.setdefault(row.revision, {})
        for name in row.slices:
            labelled, worse, better, both = map(sum, zip(sliced.get(name, (0, 0, 0, 0)), found, strict=True))
            sliced[name] = labelled, worse, better, both


def _is_equal(one: Sequence[Any], other: Sequence[Any], tolerance: float) -> bool:
    """Whether two outputs say the same, row by row; a number that is none says nothing, and is equal to itself."""
    return len(one) == len(other) and all(_is_same(*both, tolerance) for both in zip(one, other, strict=True))


def _is_same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return _is_equal(one, other, tolerance)
    if _is_number(one) and _is_number(other):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
