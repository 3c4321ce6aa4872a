"""Rows that occur twice: in one table, or in training data and holdout; also those that are only nearly the same.

A row's digest is the sum of its cells' digests (modulo 2^64), so that the digest of a row without one column is a
subtraction: rows that differ in one column only are found by sorting once for each column, never by comparing pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import blake3
import numpy as np
import pandas as pd

from .columns import Array, Column

STEPS = 1000
"""Numbers are nearly the same where they round to the same of so many steps between the 5th and the 95th percentile."""

MOST_ROWS = 20_000
"""Rows of each table for which the like is looked for, evenly spaced; it is looked for in all of the other."""


def repeated_rows(columns: Mapping[str, Column]) -> dict[str, Any]:
    """How many rows repeat an earlier one, and how many rows like a row there would be by chance.

    ``by_chance``: the rows times the probability that two rows agree, if columns were independent.
    """
    rows = next(iter(columns.values())).codes.size
    total = _total([_exact(name, column) for name, column in columns.items()])
    agreement = 1.0
    for column in columns.values():
        shares = np.bincount(column.codes + 1) / rows
        agreement *= float(shares @ shares)
    return {"rows": int(rows - np.unique(total).size), "by_chance": rows * agreement}


def shared_rows(
    holdout: Mapping[str, Column], training: Mapping[str, Column], label: str | None
) -> dict[str, Any] | None:
    """Rows of the holdout that are in the training data: ``exact``, and ``near`` in all features but one at most.

    Beside them stands how many of as many training rows have such a like among the other training rows: what is usual
    in this data. None where the tables have no column in common.
    """
    common = [name for name in holdout if name in training]
    if not common:
        return None
    ours = _total([_exact(name, holdout[name]) for name in common])
    theirs = _total([_exact(name, training[name]) for name in common])
    asked, among = _some(ours.size), _some(theirs.size)
    exact, usual = _with_like([ours], [theirs], asked, among)
    features = [name for name in common if name != label]
    steps = {name: _step(training[name]) for name in features}
    parts = [_rounded(name, holdout[name], steps[name]) for name in features]
    others = [_rounded(name, training[name], steps[name]) for name in features]
    near, near_usual = _with_like(_without_each(parts), _without_each(others), asked, among)
    return {
        "rows": int(asked.size),
        "exact": int(exact.sum()),
        "near": int((near | exact).sum()),
        "usual_rows": int(among.size),
        "usual_exact": int(usual.sum()),
        "usual_near": int((near_usual | usual).sum()),
    }


def _with_like(ours: Sequence[Array], theirs: Sequence[Array], asked: Array, among: Array) -> tuple[Array, Array]:
    """Which of the rows ``asked`` have a like in ``theirs`` by any of the digests, and which of ``among`` another."""
    found, usual = np.zeros(asked.size, dtype=bool), np.zeros(among.size, dtype=bool)
    for digest, others in zip(ours, theirs, strict=True):
        ordered = np.sort(others)
        found |= _count(ordered, digest[asked]) > 0
        usual |= _count(ordered, others[among]) > 1
    return found, usual


def _count(ordered: Array, wanted: Array) -> Array:
    count: Array = np.searchsorted(ordered, wanted, side="right") - np.searchsorted(ordered, wanted, side="left")
    return count


def _without_each(parts: Sequence[Array]) -> list[Array]:
    total = _total(parts)
    return [total - part for part in parts] if len(parts) > 1 else [total for _ in parts]


def _some(rows: int) -> Array:
    return np.unique(np.linspace(0, rows - 1, min(rows, MOST_ROWS)).astype(int))


def _exact(name: str, column: Column) -> Array:
    """The digest of each cell: numbers as numbers, whatever else as its text."""
    if column.numbers is not None:
        return _mix(name, column.numbers.view(np.uint64), column.is_there)
    texts = np.append(column.values.astype(object), "")
    return _mix(name, pd.util.hash_array(texts)[column.codes], column.is_there)


def _rounded(name: str, column: Column, step: float) -> Array:
    if column.numbers is None or step <= 0.0:
        return _exact(name, column)
    rounded = np.floor(np.where(column.is_there, column.numbers, 0.0) / step + 0.5) + 0.0
    return _mix(name, rounded.view(np.uint64), column.is_there)


def _step(column: Column) -> float:
    """What numbers are rounded to; 0 where they are not rounded."""
    if column.kind not in ("number", "datetime") or column.numbers is None:
        return 0.0
    low, high = np.quantile(column.numbers[column.is_there], (0.05, 0.95))
    return float(high - low) / STEPS


def _mix(name: str, values: Array, there: Array) -> Array:
    """Digests of cells (splitmix64), another for the same value in another column."""
    salt = np.uint64(int.from_bytes(blake3.blake3(name.encode()).digest(length=8), "little"))
    mixed = np.where(there, values, np.uint64(0x5851F42D4C957F2D)) + salt
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    digests: Array = mixed ^ (mixed >> np.uint64(31))
    return digests


def _total(parts: Sequence[Array]) -> Array:
    total = np.zeros_like(parts[0])
    for part in parts:
        total += part
    return total
