"""Answers whose truth is known by now, counted while both are being written: prediction logs and labels, by request.

Files are followed from where they end when an environment is asked for, for the first time or after a pause: what was
predicted or labelled before would be compared with what comes now. What comes more than MOST requests after its
counterpart is not counted. Requests that were copied to a candidate are compared as pairs (``paired``), and not here.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from interlock.delivery.revision import CounterSeen
from interlock.pipeline.canaries.plan import slice_name

MOST = 200_000
"""How much of each kind is kept in memory until its counterpart comes, for each environment."""
READ_AT_ONCE = 8 * 2**20
PAUSE_SECONDS = 60.0
"""Where nobody asked for so long, counting begins anew."""
ALL = ""
"""Where all answers are counted, beside those in each slice."""


class Answered(NamedTuple):
    """What one row of a request was answered: the id that its label has, and the slices that the row is in."""

    identity: str
    value: Any
    slices: tuple[str, ...]


class Following:
    """Files of JSON lines, read from where they end now, or ``back`` bytes before; others from their beginning."""

    def __init__(self, paths: Iterable[Path], back: int = 0) -> None:
        self._offsets = {path: max(0, path.stat().st_size - back) for path in paths if path.exists()}
        self.is_at_end = True
        """Whether the last reading of each file since this was set came to its end."""

    def added(self, path: Path) -> Iterator[dict[str, Any]]:
        """The whole lines that were added; those that are torn or no JSON object are passed over."""
        try:
            with path.open("rb") as reader:
                reader.seek(self._offsets.get(path, 0))
                content = reader.read(READ_AT_ONCE)
        except OSError:  # not there yet, or gone
            return
        self.is_at_end = self.is_at_end and len(content) < READ_AT_ONCE
        whole = content[: content.rfind(b"\n") + 1]
        self._offsets[path] = self._offsets.get(path, 0) + len(whole)
        yield from filter(None, map(record_of, whole.splitlines()))


def record_of(line: bytes) -> dict[str, Any] | None:
    """The record of a log's line; None where it is no JSON object."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def forget_oldest(kept: dict[Any, Any]) -> None:
    """Keeps MOST of them, the newest."""
    while len(kept) > MOST:
        del kept[next(iter(kept))]


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
        return {revision: counter_of(join.epoch, counts) for revision, counts in join.counted.items()}


class _Join:
    """One environment: where each file was read to, and what waits for its counterpart."""

    def __init__(self, predictions: Path, labels: Path) -> None:
        self.counted: dict[str, dict[str, tuple[int, int]]] = {}
        self.epoch = os.urandom(8).hex()
        self.asked = 0.0
        self._predictions = predictions
        self._labels = labels
        self._following = Following((*predictions.glob("*.jsonl"), labels))
        self._answers: dict[str, dict[str, Answered]] = {}
        self._truths: dict[str, Any] = {}

    def read(self) -> None:
        """What was added since. The first label of an id counts, and the first answer of a revision."""
        for path in sorted(self._predictions.glob("*.jsonl")):
            for record in self._following.added(path):
                for answered in answers_of(record):
                    self._answer(str(record.get("revision")), answered)
        for record in self._following.added(self._labels):
            if not record.get("is_contradictory"):
                self._label(str(record.get("id")), record.get("label"))

    def _answer(self, revision: str, answered: Answered) -> None:
        given = self._answers.setdefault(answered.identity, {})
        if revision in given:
            return
        given[revision] = answered
        if answered.identity in self._truths:
            self._count(revision, answered, self._truths[answered.identity])
        forget_oldest(self._answers)

    def _label(self, identity: str, truth: Any) -> None:
        if identity in self._truths:
            return
        self._truths[identity] = truth
        for revision, answered in self._answers.get(identity, {}).items():
            self._count(revision, answered, truth)
        forget_oldest(self._truths)

    def _count(self, revision: str, answered: Answered, truth: Any) -> None:
        counts = self.counted.setdefault(revision, {})
        for place in (ALL, *answered.slices):
            judged, wrong = counts.get(place, (0, 0))
            counts[place] = judged + 1, wrong + (answered.value != truth)


def counter_of(epoch: str, counts: Mapping[str, tuple[int, int]]) -> CounterSeen:
    """Answers that were judged, and how many of them were wrong: of all, and in each slice."""
    judged, wrong = counts[ALL]
    slices = {name: both for name, both in counts.items() if name != ALL}
    return CounterSeen(epoch=epoch, requests=judged, errors=wrong, slices=slices)


def answers_of(record: Mapping[str, Any]) -> Iterator[Answered]:
    """Each row's answer with the id that its label has; none of what failed, nor of what is judged in pairs."""
    is_judged = record.get("status") == 200 and "copied_to" not in record
    answers = record.get("prediction") if is_judged else None
    for row, answer in enumerate(answers if isinstance(answers, list) else ()):
        identity = str(record.get("id")) if len(answers or ()) == 1 else f"{record.get('id')}/{row}"
        yield Answered(identity, answer, slices_of(record, row))


def slices_of(record: Mapping[str, Any], row: int) -> tuple[str, ...]:
    """The slices that a row of a request is in; none where its line does not say."""
    told = record.get("slices")
    columns = told.items() if isinstance(told, dict) else ()
    return tuple(
        slice_name(column, values[row])
        for column, values in columns
        if isinstance(values, list) and row < len(values) and isinstance(values[row], str)
    )
