"""Answers whose truth is known by now, counted while both are being written: prediction logs and labels, by request.

Files are followed from where they end when an environment is asked for, for the first time or after a pause: what was
predicted or labelled before would be compared with what comes now. What comes more than MOST requests after its
counterpart is not counted. Requests that were copied to a candidate are compared as pairs (``paired``), and not here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from interlock.delivery.revision import CounterSeen

from .following import Following, forget_oldest

PAUSE_SECONDS = 60.0
"""Where nobody asked for so long, counting begins anew."""


class LabelledAnswers:
    """All environments of one data-plane folder; ``now`` is monotonic. Counters begin anew with each of these."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._now = now
        self._joins: dict[str, _Join] = {}

    def observe(self, environment: str) -> dict[str, CounterSeen]:
        """By revision key how many answers of ``model/environment`` have a label now, and how many were wrong."""
        join, now = self._joins.get(environment), self._now()
        if join is None or now - join.asked > PAUSE_SECONDS:
            predictions = self._folder / "predictions" / environment.replace("/", ".")
            join = self._joins[environment] = _Join(predictions, self._folder / "labels" / f"{environment}.jsonl")
        join.asked = now
        join.read()
        return {
            revision: CounterSeen(epoch=join.epoch, requests=judged, errors=wrong)
            for revision, (judged, wrong) in join.counted.items()
        }


class _Join:
    """One environment: where each file was read to, and what waits for its counterpart."""

    def __init__(self, predictions: Path, labels: Path) -> None:
        self.counted: dict[str, tuple[int, int]] = {}
        self.epoch = os.urandom(8).hex()
        self.asked = 0.0
        self._predictions = predictions
        self._labels = labels
        self._following = Following((*predictions.glob("*.jsonl"), labels))
        self._answers: dict[str, dict[str, Any]] = {}
        self._truths: dict[str, Any] = {}

    def read(self) -> None:
        """What was added since. The first label of an id counts, and the first answer of a revision."""
        for path in sorted(self._predictions.glob("*.jsonl")):
            for record in self._following.added(path):
                for identity, answer in answers_of(record):
                    self._answer(identity, str(record.get("revision")), answer)
        for record in self._following.added(self._labels):
            if not record.get("is_contradictory"):
                self._label(str(record.get("id")), record.get("label"))

    def _answer(self, identity: str, revision: str, answer: Any) -> None:
        given = self._answers.setdefault(identity, {})
        if revision in given:
            return
        given[revision] = answer
        if identity in self._truths:
            self._count(revision, answer, self._truths[identity])
        forget_oldest(self._answers)

    def _label(self, identity: str, truth: Any) -> None:
        if identity in self._truths:
            return
        self._truths[identity] = truth
        for revision, answer in self._answers.get(identity, {}).items():
            self._count(revision, answer, truth)
        forget_oldest(self._truths)

    def _count(self, revision: str, answer: Any, truth: Any) -> None:
        judged, wrong = self.counted.get(revision, (0, 0))
        self.counted[revision] = judged + 1, wrong + (answer != truth)


def answers_of(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each row's answer with the id that its label has; none of what failed, nor of what is judged in pairs."""
    is_judged = record.get("status") == 200 and "copied_to" not in record
    answers = record.get("prediction") if is_judged else None
    for row, answer in enumerate(answers if isinstance(answers, list) else ()):
        yield str(record.get("id")) if len(answers or ()) == 1 else f"{record.get('id')}/{row}", answer
