"""Predictions and labels brought together: how right was each revision, as far as the labels have come.

Standard library only. Files are read as streams while others append to them, so a torn last line is passed over.
A label belongs to a prediction by the id of its request; where a request had several rows, row ``i`` (from 0) is
``ID/i``. The first label of an id counts, as the label log says, and of the same id predicted twice by one revision
(a retry) the first that was answered.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

LabelValue: TypeAlias = "bool | int | float | str"


@dataclass(frozen=True)
class Joined:
    """One revision. ``predictions`` counts rows, ``labelled`` those whose label is known.

    ``accuracy`` is the share that was predicted rightly of the labelled rows whose prediction was asked for (None
    without any). ``label_mean`` is None where labels are texts. ``auc`` is the chance that a positive row got a higher
    probability than a negative one, ties counted half (Mann-Whitney U / (positives * negatives)); None without
    probabilities or without both kinds.
    """

    revision: str
    predictions: int
    labelled: int
    accuracy: float | None
    label_mean: float | None
    auc: float | None


@dataclass
class _Tally:
    predictions: int = 0
    judged: int = 0
    correct: int = 0
    label_sum: float = 0.0
    are_numbers: bool = True
    seen: set[str] = field(default_factory=set)
    positives: array[float] = field(default_factory=lambda: array("d"))
    negatives: array[float] = field(default_factory=lambda: array("d"))


def join(predictions: Path, labels: Path) -> dict[str, Joined]:
    """Joins every ``*.jsonl`` of the folder ``predictions`` with the label log ``labels``; answers by revision.

    A folder or log that is not there holds nothing. Memory grows with the number of labels, not of predictions.
    """
    known = read_first_labels(labels)
    tallies: dict[str, _Tally] = {}
    for path in sorted(predictions.glob("*.jsonl")):
        for record in read_lines(path):
            is_copy = record.get("copied_to") == record.get("revision")  # an answer that nobody saw
            if record.get("status") == 200 and not is_copy:
                _count(tallies.setdefault(str(record.get("revision")), _Tally()), record, known)
    return {revision: _finish(revision, tally) for revision, tally in sorted(tallies.items())}


def read_first_labels(path: Path) -> dict[str, LabelValue]:
    """The label of each id; contradictory ones are left out."""
    known: dict[str, LabelValue] = {}
    for record in read_lines(path):
        identity, label = record.get("id"), record.get("label")
        if isinstance(identity, str) and isinstance(label, bool | int | float | str):
            known.setdefault(identity, label)
    return known


def read_lines(path: Path) -> Iterator[Mapping[str, object]]:
    """The records of a log, one at a time. Lines that are torn or no JSON object are passed over."""
    if not path.exists():
        return
    with path.open("rb") as reader:
        for line in reader:
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


def _count(tally: _Tally, record: Mapping[str, object], known: Mapping[str, LabelValue]) -> None:
    answers, chances = _output(record, "prediction"), _output(record, "probability")
    rows = max(len(answers), len(chances))  # a request may have asked for one of them only
    for row in range(rows):
        tally.predictions += 1
        identity = str(record.get("id")) if rows == 1 else f"{record.get('id')}/{row}"
        if identity not in known or identity in tally.seen:
            continue
        tally.seen.add(identity)
        label = known[identity]
        if len(answers) == rows:
            tally.judged += 1
            tally.correct += answers[row] == label
        if isinstance(label, str):
            tally.are_numbers = False
            continue
        tally.label_sum += label
        chance = chances[row] if len(chances) == rows else None
        if isinstance(chance, int | float) and label in (0, 1):
            (tally.positives if label else tally.negatives).append(chance)


def _output(record: Mapping[str, object], name: str) -> list[object]:
    values = record.get(name)
    return values if isinstance(values, list) else []


def _finish(revision: str, tally: _Tally) -> Joined:
    labelled = len(tally.seen)
    return Joined(
        revision=revision,
        predictions=tally.predictions,
        labelled=labelled,
        accuracy=tally.correct / tally.judged if tally.judged else None,
        label_mean=tally.label_sum / labelled if labelled and tally.are_numbers else None,
        auc=_area(tally.positives, tally.negatives),
    )


def _area(positives: array[float], negatives: array[float]) -> float | None:
    if not positives or not negatives:
        return None
    below = sorted(negatives)
    wins = sum(bisect_left(below, chance) + bisect_right(below, chance) for chance in positives) / 2
    return wins / (len(positives) * len(negatives))
