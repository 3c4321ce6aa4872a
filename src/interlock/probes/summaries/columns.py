"""Columns as they are meant: what kind each is, its values, and its summary.

A kind is told by every value that is there: ``integer``, ``number``, ``boolean``, ``datetime`` (ISO 8601), else
``text``; ``empty`` where there is none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..data_table import MISSING

Array = np.ndarray[Any, Any]

GRID = 257
"""Quantiles of a summary: a distance between distribution functions is told to within 1/256."""

MOST_CATEGORIES = 200
"""Columns with more distinct values than this are summarised without a count of each."""

LONGEST_CATEGORY = 100

_NULLS = frozenset({*MISSING, "nan", "NaN", "NAN"})
_TRUTHS = frozenset({"true", "false"})
_GLANCE = 50  # values that are tried before a whole column is read as times


class Column(NamedTuple):
    """One column. ``numbers``: float64, NaN where there is none; of times the seconds since 1970; None of texts.

    ``codes`` count the distinct values from 0 in their order, -1 where there is none; ``values`` are these.
    """

    kind: str
    numbers: Array | None
    codes: Array
    values: Array

    @property
    def distinct(self) -> int:
        """How many values there are."""
        return len(self.values)

    def name(self, code: int) -> str:
        """The value of this code as a text."""
        value = self.values[code]
        return str(value) if self.numbers is None else _name_of(float(value))

    @property
    def is_there(self) -> Array:
        """Which rows have a value."""
        there: Array = self.codes >= 0
        return there


def read_column(cells: pd.Series) -> Column:
    """The column whose cells are texts."""
    codes, uniques = pd.factorize(cells, sort=False)
    texts = np.array([str(text).strip() for text in uniques], dtype=object)
    is_null = np.array([text in _NULLS for text in texts], dtype=bool)
    texts = texts[~is_null]
    place = np.where(is_null, -1, np.cumsum(~is_null) - 1)
    kind, values = _kind_of(texts)
    if values is None:
        names, merged = np.unique(texts.astype(str), return_inverse=True)
        return Column(kind, None, _through(merged, place)[codes], names)
    distinct, merged = np.unique(values, return_inverse=True)
    numbers = np.append(values, np.nan)[np.where(place < 0, len(values), place)][codes]
    return Column(kind, numbers, _through(merged, place)[codes], distinct)


def summarise_column(column: Column, label: Column | None) -> dict[str, Any]:
    """The summary, beside that of the label where it is not the label itself.

    ``quantiles``: GRID of them, from the smallest to the largest value. ``categories``: count and mean of the target by
    value. ``hours``: how many times lie in each hour of the day (UTC). ``association``: rank correlation with the
    target.
    """
    there = column.is_there
    counts = np.bincount(column.codes[there], minlength=column.distinct)
    summary: dict[str, Any] = {
        "kind": column.kind,
        "nulls": int((~there).sum()),
        "distinct": column.distinct,
        "quantiles": [],
        "categories": {},
        "hours": [],
        "association": None,
    }
    if column.numbers is not None and there.any():
        ordered = np.sort(column.numbers[there])
        place = np.ceil(np.linspace(0.0, 1.0, GRID) * ordered.size).astype(int) - 1
        summary["quantiles"] = [float(value) for value in ordered[np.clip(place, 0, None)]]
        if column.kind == "datetime":
            hours = (ordered // 3600 % 24).astype(int)
            summary["hours"] = np.bincount(hours, minlength=24).tolist()
        elif label is not None:
            summary["association"] = rank_correlation(column.codes, label.codes)
    if 0 < column.distinct <= MOST_CATEGORIES and column.kind != "datetime":
        means = _means_by_code(column.codes, None if label is None else target_of(label), column.distinct)
        summary["categories"] = {
            column.name(code)[:LONGEST_CATEGORY]: [int(count), mean]
            for code, (count, mean) in enumerate(zip(counts, means, strict=True))
        }
    return summary


def rank_correlation(codes: Array, others: Array) -> float | None:
    """Spearman's, of values that are given as codes in their order: Pearson's correlation of mid-ranks over the rows
    that have both; None where one does not vary.
    """
    both = (codes >= 0) & (others >= 0)
    if both.sum() < 2:
        return None
    ranks, other_ranks = ranks_of(codes[both]), ranks_of(others[both])
    ranks, other_ranks = ranks - ranks.mean(), other_ranks - other_ranks.mean()
    scale = float(np.sqrt((ranks @ ranks) * (other_ranks @ other_ranks)))
    return float(ranks @ other_ranks) / scale if scale > 0.0 else None


def ranks_of(codes: Array) -> Array:
    """Mid-ranks from 1 of values given as codes in their order; equal ones share the mean of theirs."""
    counts = np.bincount(codes)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2.0)[codes]
    return ranks


def codes_of(values: Array) -> Array:
    """The place of each value among the distinct ones, from 0."""
    codes: Array = np.unique(values, return_inverse=True)[1]
    return codes


def target_of(label: Column) -> Array:
    """The label of each row as a rank from 0 to 1: a number in its own order, classes in that of their names; NaN where
    there is none.
    """
    target = np.full(label.codes.size, np.nan)
    there = label.is_there
    if there.any():
        ranks = ranks_of(label.codes[there])
        spread = ranks.max() - ranks.min()
        target[there] = (ranks - ranks.min()) / spread if spread else 0.5
    return target


def _kind_of(texts: Array) -> tuple[str, Array | None]:
    if not texts.size:
        return "empty", None
    numbers = pd.to_numeric(pd.Series(texts), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isfinite(numbers).all():
        return ("integer" if (numbers % 1 == 0).all() else "number"), numbers + 0.0
    if {text.lower() for text in texts[:3]} <= _TRUTHS and {text.lower() for text in texts} <= _TRUTHS:
        return "boolean", None
    times = None if _times(texts[:_GLANCE]) is None else _times(texts)
    return ("text", None) if times is None else ("datetime", times)


def _times(texts: Array) -> Array | None:
    times = pd.to_datetime(pd.Series(texts), format="ISO8601", errors="coerce", utc=True)
    if times.isna().any():
        return None
    seconds: Array = (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=np.float64)
    return seconds


def _through(merged: Array, place: Array) -> Array:
    """The code of each distinct cell: ``place`` is where its text is among those that are values, -1 for none."""
    if not merged.size:
        return np.full(place.size, -1)
    codes: Array = np.where(place < 0, -1, merged.reshape(-1)[np.clip(place, 0, None)])
    return codes


def _name_of(value: float) -> str:
    return str(int(value)) if value % 1 == 0 and abs(value) < 2**63 else repr(float(value))


def _means_by_code(codes: Array, target: Array | None, count: int) -> list[float | None]:
    if target is None:
        return [None] * count
    both = (codes >= 0) & np.isfinite(target)
    rows = np.bincount(codes[both], minlength=count)
    sums = np.bincount(codes[both], weights=target[both], minlength=count)
    return [float(total) / int(number) if number else None for total, number in zip(sums, rows, strict=True)]
