"""Slices of a live metric: parts of the requests, by the value of a column, in which alone a candidate may do harm."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from interlock.pipeline.canaries.plan import ACCURACY, slice_name
from interlock.pipeline.document import Path, Problem
from interlock.pipeline.rules.values import Section, Text, said, wrong

MOST_SLICES = 20
"""Of one metric. They share a fifth of its evidence: the more there are, the later each is found."""

LONGEST_NAME = 256


def _text_of(value: Any) -> Any:
    """The value as replicas log it."""
    if isinstance(value, float):
        raise wrong(f"{said(value)} has a fraction", "slice by texts, whole numbers, or true and false")
    return said(value) if isinstance(value, bool) else str(int(value)) if isinstance(value, int) else value


_WRITTEN = [{"type": kind} for kind in ("string", "integer", "boolean")]
SliceValue: TypeAlias = Annotated[
    str, BeforeValidator(_text_of), StringConstraints(min_length=1), WithJsonSchema({"oneOf": _WRITTEN})
]


class LiveSliceSpec(Section):
    """A column of the requests, and which of its values are watched."""

    column: Text
    """The column: an input of the model with one value for each row."""
    values: Annotated[list[SliceValue], Field(min_length=1)]
    """Its values, each of which is a slice: texts, whole numbers, `true` or `false`. They are written into the
    prediction log, and no other ones are."""


def check_slices(
    metric: str, slices: Sequence[LiveSliceSpec] | None, labels: Collection[str], place: Path
) -> Iterator[Problem]:
    """They cut answers with labels by what was asked, are few enough to be told apart, and each is given once.

    ``labels`` are the columns that are known to be the truth.
    """
    if slices is None:
        return
    if metric != ACCURACY:
        problem = f"{metric} has no slices: what a request asked is known of labelled answers alone"
        yield Problem(place, problem, "remove them, or give them to {metric: accuracy, source: labels}", at_key=True)
        return
    for index, one in enumerate(slices):
        if one.column in labels:
            problem = f"{one.column} is a label, which no request asks"
            yield Problem((*place, index, "column"), problem, "name an input of the model")
    names = [slice_name(one.column, value) for one in slices for value in one.values]
    if any(len(name) > LONGEST_NAME for name in names):
        problem = f"a column and its value have more than {LONGEST_NAME} characters"
        yield Problem(place, problem, "slice by what is shorter", at_key=True)
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield Problem(place, f"the slice {twice} is given twice", "remove one", at_key=True)
    if len(names) > MOST_SLICES:
        problem = f"there are {len(names)} slices, which share the evidence: at most {MOST_SLICES} can be judged"
        yield Problem(place, problem, "name the values that matter most", at_key=True)
