"""Requests that stable answered and whose copy a candidate was given, found again in both prediction logs.

The proxy's mark in a line says to whom the request was copied, and its id and the digest of its body belong to both
lines. A pair is settled once both sides have answered, or LATE_SECONDS after stable did: the proxy begins another
attempt after 3 s without an answer, so a copy without one is a failure. What failed at stable is settled only then,
because it may have been answered elsewhere. Copies are logged at once, stable's lines within a second.

Files are followed from where they end when an environment is asked for, for the first time or after a pause. What
stable answered before is left out, and copies are read from READ_BACK bytes earlier: no pair is torn by the beginning.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock.delivery.revision import PairsSeen

from .labelled import PAUSE_SECONDS, Following, forget_oldest

LATE_SECONDS = 5.0
ALONE_SECONDS = 30.0
"""After which a copy without its request is one: stable may take the proxy's whole time limit, and writes later."""
LOGGED_SECONDS = 1.5
"""After which a line is on the disk."""
READ_BACK = 1024 * 1024

Name = tuple[str, Any]


@dataclass
class _Pair:
    """What both sides said of one request, as far as it is known. ``at`` is when it was said, in wall seconds."""

    revision: str
    at: float
    original: dict[str, Any] | None = None
    copy: dict[str, Any] | None = None


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
        return {key: PairsSeen(epoch=pairing.epoch, **counts) for key, counts in pairing.counted.items()}


class _Pairing:
    """One environment: pairs that wait for a side or for their truth, and what is counted."""

    def __init__(self, predictions: Path, labels: Path, began: float) -> None:
        self.counted: dict[str, Counter[str]] = {}
        self.epoch = os.urandom(8).hex()
        self.asked = began
        self._began = began
        self._predictions = predictions
        self._labels = labels
        self._answers = Following(predictions.glob("*.jsonl"), READ_BACK)
        self._told = Following([labels])
        self._open: dict[Name, _Pair] = {}
        self._settled: dict[Name, None] = {}
        self._unlabelled: dict[str, tuple[str, Any, Any]] = {}
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
            self._give_up(now, tolerance)
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
        before = pair.copy if is_copy else pair.original
        counts["duplicated"] += before is not None
        if is_copy:
            pair.copy = before or record
        elif before is None or before.get("status") != 200:
            pair.original, pair.at = record, at
        if pair.copy is not None and pair.original is not None and pair.original.get("status") == 200:
            self._settle(name, pair, tolerance)

    def _give_up(self, now: float, tolerance: float) -> None:
        """Settles those of which nothing more can come."""
        over = [
            (name, pair)
            for name, pair in self._open.items()
            if now - pair.at > LOGGED_SECONDS + (ALONE_SECONDS if pair.original is None else LATE_SECONDS)
        ]
        for name, pair in over:
            self._settle(name, pair, tolerance)

    def _settle(self, name: Name, pair: _Pair, tolerance: float) -> None:
        self._open.pop(name)
        self._settled[name] = None
        forget_oldest(self._settled)
        counts, original, copy = self.counted[pair.revision], pair.original, pair.copy
        if original is None:
            # Copies from before it began have their request before it, too.
            counts["unmatched"] += pair.at >= self._began
            return
        if copy is not None and float(copy.get("time", 0.0)) - pair.at > LATE_SECONDS:
            copy = None
            counts["late"] += 1
        status, status_of_copy = original.get("status"), copy.get("status") if copy is not None else None
        has_failed = status_of_copy != 200 and (status == 200 or status_of_copy is None or status_of_copy >= 500)
        was_failure = not isinstance(status, int) or status >= 500
        counts["pairs"] += 1
        counts["unanswered"] += copy is None
        counts["failed"] += has_failed and not was_failure
        counts["recovered"] += was_failure and not has_failed
        counts["both_failed"] += was_failure and has_failed
        if copy is not None and status == status_of_copy == 200:
            self._compare(counts, original, copy, tolerance)
            self._await_truth(pair.revision, original, copy)

    def _compare(self, counts: Counter[str], original: dict[str, Any], copy: dict[str, Any], tolerance: float) -> None:
        for output in ("prediction", "probability"):
            one, other = original.get(output), copy.get(output)
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
            if identity in self._truths:
                self._judge(revision, *answers, self._truths[identity])
            else:
                self._unlabelled[identity] = (revision, *answers)
                forget_oldest(self._unlabelled)

    def _label(self, identity: str, truth: Any) -> None:
        if identity in self._truths:
            return
        self._truths[identity] = truth
        forget_oldest(self._truths)
        waiting = self._unlabelled.pop(identity, None)
        if waiting is not None:
            self._judge(*waiting, truth)

    def _judge(self, revision: str, answer: Any, answer_of_copy: Any, truth: Any) -> None:
        counts = self.counted[revision]
        is_wrong, is_copy_wrong = answer != truth, answer_of_copy != truth
        counts["labelled"] += 1
        counts["worse"] += is_copy_wrong and not is_wrong
        counts["better"] += is_wrong and not is_copy_wrong
        counts["both_wrong"] += is_wrong and is_copy_wrong


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
