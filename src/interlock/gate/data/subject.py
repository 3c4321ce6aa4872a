"""What a check is asked about, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from interlock.gate.data.summaries import ColumnSummary, TableSummary
from interlock.pipeline.plan import CheckPlan
from interlock.vocabulary import Json, Verdict

SMALLEST_TABLE = 200
"""Rows below which nothing is said of distributions and of what tells the label."""


class Subject(NamedTuple):
    """One dataset. ``accepted``: its like in the run that made the model in production, or None, for the reason
    ``no_accepted``; ``training``: other datasets of this run, by name, where it is the holdout; ``now`` in seconds.
    """

    name: str
    table: TableSummary
    accepted: TableSummary | None
    no_accepted: str
    training: Mapping[str, TableSummary]
    now: float


class Finding(NamedTuple):
    """A verdict, its reason and every number that led to it."""

    verdict: Verdict
    because: str
    evidence: dict[str, Json] = {}


class CannotTell(NamedTuple):
    """There is nothing to decide with, and why."""

    because: str


Answer: TypeAlias = Finding | CannotTell


class Pair(NamedTuple):
    """A column beside its like in another table, ``told`` as what that is."""

    column: str
    new: ColumnSummary
    old: ColumnSummary
    rows: int
    old_rows: int


def references(subject: Subject) -> dict[str, TableSummary]:
    """The tables that the dataset is compared with, by how they are told: accepted data, and training data."""
    found = {} if subject.accepted is None else {"the accepted data": subject.accepted}
    return found | {f"the dataset {name}": table for name, table in subject.training.items()}


def pairs(check: CheckPlan, new: TableSummary, old: TableSummary) -> list[Pair]:
    """The columns that both tables have, but for those that are ignored."""
    return [
        Pair(name, column, old.columns[name], new.filled(name), old.filled(name))
        for name, column in new.columns.items()
        if name in old.columns and name not in check.ignore
    ]


def too_small(*tables: TableSummary) -> str:
    """Why tables are not compared; empty where they may be."""
    rows = min(table.rows for table in tables)
    return f"{rows} rows are too few: {SMALLEST_TABLE} at least" if rows < SMALLEST_TABLE else ""


def listed(told: list[str], most: int = 3) -> str:
    """The first of several findings, and how many more there are."""
    more = f"; and {len(told) - most} more" if len(told) > most else ""
    return "; ".join(told[:most]) + more
