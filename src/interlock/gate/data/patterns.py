"""Changes that look like a certain mistake: columns exchanged, a unit changed, categories coded anew, hours shifted.

A pattern is told only where three things hold: the distance is above ``max`` and twice what chance makes; chance
is ruled out (p below 1e-4 over all columns); and undoing the mistake leaves a quarter of the distance at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from interlock.gate.data.coding import why_coded_anew
from interlock.gate.data.distances import Array, Distance, distance, of_counts
from interlock.gate.data.scales import why_rescaled
from interlock.gate.data.subject import Answer, CannotTell, Finding, Pair, Subject, listed, pairs, references, too_small
from interlock.gate.data.summaries import ColumnSummary
from interlock.pipeline.plan import CheckPlan
from interlock.vocabulary import Json, Verdict

Explain: TypeAlias = Callable[[Sequence[Pair], float], dict[str, str]]
"""From pairs of columns and the smallest distance to what is told, by column."""

SURPRISING = 1e-4
LEFT = 0.25
"""The share of the distance that may be left when the mistake is undone."""

_HOURS = 24
SUMMER_TIME = (0, 1, 23)
"""Shifts that are let be: one hour, for a schedule in local time moves so against UTC twice a year."""

_FEWEST_VALUES = 10  # of a column whose unit can be told by how its values are spread
_FEWEST_HOURS, _LATE_HOUR = 8, 13  # a column of whole numbers is one of hours with so many of them, some after noon


def swapped_columns(check: CheckPlan, subject: Subject) -> Answer:
    """No two columns have each other's values."""
    return _look_for(check, subject, _swapped, "no two columns are exchanged")


def units(check: CheckPlan, subject: Subject) -> Answer:
    """No column is the old one in another unit."""
    return _look_for(check, subject, _rescaled, "no unit changed")


def categories(check: CheckPlan, subject: Subject) -> Answer:
    """No column has its categories under other names."""
    return _look_for(check, subject, _coded_anew, "no categories are coded anew")


def time_shift(check: CheckPlan, subject: Subject) -> Answer:
    """No column's hours of the day are the old ones, some hours later."""
    return _look_for(check, subject, _shifted, "no hours are shifted")


def _look_for(check: CheckPlan, subject: Subject, explain: Explain, nothing: str) -> Answer:
    others = references(subject)
    if not others:
        return CannotTell(subject.no_accepted)
    small = too_small(subject.table, *others.values())
    if small:
        return CannotTell(small)
    evidence: dict[str, Json] = {"max": check.limits["max"], "compared_with": list(others)}
    found: list[str] = []
    for told, other in others.items():
        columns = [pair for pair in pairs(check, subject.table, other) if pair.rows and pair.old_rows]
        explained = explain(columns, check.limits["max"])
        found += [f"{said} (against {told})" for said in dict.fromkeys(explained.values())]
        evidence[told] = {**explained}
    if found:
        return Finding(Verdict.FAIL, listed(found), evidence)
    return Finding(Verdict.PASS, f"{nothing}, against {' and '.join(others)}", evidence)


def has_moved(apart: Distance | None, least: float, tests: int) -> bool:
    """Whether a distance is worth an explanation."""
    if apart is None or apart.value < max(least, 2.0 * apart.by_chance):
        return False
    return apart.p_value * tests < SURPRISING


def _is_explained(left: float, apart: Distance) -> bool:
    return left <= LEFT * apart.value + apart.by_chance


def _swapped(columns: Sequence[Pair], least: float) -> dict[str, str]:
    apart = {pair.column: distance(pair.new, pair.old, pair.rows, pair.old_rows) for pair in columns}
    moved = [pair for pair in columns if has_moved(apart[pair.column], least, len(columns))]
    found: dict[str, str] = {}
    for place, one in enumerate(moved):
        for other in moved[place + 1 :]:
            here = distance(one.new, other.old, one.rows, other.old_rows)
            there = distance(other.new, one.old, other.rows, one.old_rows)
            ones, others = apart[one.column], apart[other.column]
            if here is None or there is None or ones is None or others is None:
                continue
            if _is_explained(here.value, ones) and _is_explained(there.value, others):
                said = f"{one.column} and {other.column} seem exchanged: each is as the other was"
                found |= {one.column: said, other.column: said}
    return found


def _rescaled(columns: Sequence[Pair], least: float) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in columns:
        apart = distance(pair.new, pair.old, pair.rows, pair.old_rows)
        is_spread = min(pair.new.distinct, pair.old.distinct) >= _FEWEST_VALUES
        if is_spread and pair.new.quantiles and has_moved(apart, least, len(columns)):
            why = why_rescaled(
                np.array(pair.new.quantiles), np.array(pair.old.quantiles), min(pair.rows, pair.old_rows)
            )
            found |= {pair.column: f"{pair.column} {why}"} if why else {}
    return found


def _coded_anew(columns: Sequence[Pair], least: float) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in columns:
        if hours_of(pair.new) is None or hours_of(pair.old) is None:
            why = why_coded_anew(pair.new, pair.old, least, SURPRISING / len(columns))
            found |= {pair.column: f"{pair.column} {why}"} if why else {}
    return found


def _shifted(columns: Sequence[Pair], least: float) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in columns:
        new, old = hours_of(pair.new), hours_of(pair.old)
        if new is None or old is None:
            continue
        apart = of_counts(new, old)
        turned = [of_counts(new, np.roll(old, hours)).value for hours in range(_HOURS)]
        best = int(np.argmin(turned))
        if best not in SUMMER_TIME and has_moved(apart, least, len(columns)) and _is_explained(turned[best], apart):
            hours = best if best <= _HOURS // 2 else best - _HOURS
            found[pair.column] = f"{pair.column} seems shifted by {hours:+d} hours"
    return found


def hours_of(column: ColumnSummary) -> Array | None:
    """Counts by hour of the day: of times, or of whole numbers that can be nothing else; None of others."""
    if len(column.hours) == _HOURS and any(column.hours):
        return np.array(column.hours, dtype=np.float64)
    if column.kind != "integer" or not _FEWEST_HOURS <= len(column.categories) <= _HOURS:
        return None
    counts = np.zeros(_HOURS)
    for name, (count, _) in column.categories.items():
        if not name.isdigit() or int(name) >= _HOURS:
            return None
        counts[int(name)] = count
    return counts if counts[_LATE_HOUR:].sum() else None
