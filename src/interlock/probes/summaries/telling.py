"""How much a single column tells of the label, in 0.5 to 1 for two classes and in 0 to 1 for others.

A column's values are learned on one half of the rows and asked on the other, and the other way round, so that a column
in which every value is another tells nothing. Which half a row is in depends on its place alone, in no regular order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .columns import Array, Column, codes_of, rank_correlation, target_of

MOST_CLASSES = 20
"""A label of numbers with more distinct values is a quantity."""

_BINS = 64
_EXACT = 200  # distinct numbers that are told apart one by one


class Label(NamedTuple):
    """The label of the rows that have one (``rows``): ``codes`` of its values, and ``target``, their ranks."""

    rows: Array
    codes: Array
    distinct: int
    is_quantity: bool
    target: Array


def read_label(column: Column) -> Label:
    """The label as it is asked about."""
    rows, distinct = column.is_there, column.distinct
    is_quantity = column.numbers is not None and distinct > MOST_CLASSES
    return Label(rows, column.codes[rows], distinct, is_quantity, target_of(column)[rows])


def how_much_is_told(column: Column, label: Label) -> dict[str, Any] | None:
    """``strength`` and the ``measure`` that it is of; None where nothing can be told."""
    binned = _bin(column)[label.rows]
    fold = _fold(binned.size)
    ordered = None if column.numbers is None else column.codes[label.rows]
    if label.is_quantity:
        return _about_quantity(ordered, binned, label, fold)
    if label.distinct == 2:
        return _about_two(ordered, binned, label.codes, fold)
    return _about_several(binned, label.codes, label.distinct, fold) if label.distinct > 2 else None


def _about_two(ordered: Array | None, binned: Array, classes: Array, fold: Array) -> dict[str, Any] | None:
    found = [area for side in (0, 1) if (area := _area_across(binned, classes, fold == side)) is not None]
    if len(found) < 2:
        return None
    strength = sum(found) / 2.0
    if ordered is not None:
        there = ordered >= 0
        area = area_under_curve(classes[there], ordered[there])
        # Rows without a value are told as well as by a coin, so that a column of a few values is no leak.
        share = float(there.mean())
        strength = max(strength, 0.5 if area is None else 0.5 + share * (max(area, 1.0 - area) - 0.5))
    return {"strength": strength, "measure": "AUC"}


def _area_across(codes: Array, classes: Array, asked: Array) -> float | None:
    """The AUC on the rows ``asked`` of the rates that the others have by code, drawn a little to their mean."""
    size = int(codes.max()) + 1
    learned = ~asked
    base = float(classes[learned].mean()) if learned.any() else 0.0
    rows = np.bincount(codes[learned], minlength=size)
    hits = np.bincount(codes[learned], weights=classes[learned].astype(float), minlength=size)
    rates = (hits + base) / (rows + 1.0)
    return area_under_curve(classes[asked], codes_of(rates)[codes[asked]])


def area_under_curve(classes: Array, scores: Array) -> float | None:
    """The chance that a row of class 1 has a higher score than one of class 0, ties counting half. ``scores`` are codes
    in their order.
    """
    positives = np.bincount(scores[classes == 1], minlength=int(scores.max(initial=0)) + 1)
    negatives = np.bincount(scores[classes != 1], minlength=positives.size)
    pairs = int(positives.sum()) * int(negatives.sum())
    below = np.cumsum(negatives) - negatives / 2.0
    return float(positives @ below) / pairs if pairs else None


def _about_several(codes: Array, classes: Array, count: int, fold: Array) -> dict[str, Any] | None:
    """How much fewer mistakes than always guessing the most frequent class (Goodman and Kruskal's lambda)."""
    size = int(codes.max()) + 1
    right = 0
    for side in (0, 1):
        asked, learned = fold == side, fold != side
        table = np.bincount(codes[learned] * count + classes[learned], minlength=size * count).reshape(size, count)
        usual = int(np.bincount(classes[learned], minlength=count).argmax())
        guesses = np.where(table.sum(axis=1) > 0, table.argmax(axis=1), usual)
        right += int((guesses[codes[asked]] == classes[asked]).sum())
    base = float(np.bincount(classes).max()) / classes.size
    if base >= 1.0:
        return None
    return {"strength": max(0.0, (right / classes.size - base) / (1.0 - base)), "measure": "lambda"}


def _about_quantity(ordered: Array | None, binned: Array, label: Label, fold: Array) -> dict[str, Any] | None:
    size = int(binned.max()) + 1
    guesses = np.empty(binned.size)
    for side in (0, 1):
        asked, learned = fold == side, fold != side
        rows = np.bincount(binned[learned], minlength=size)
        sums = np.bincount(binned[learned], weights=label.target[learned], minlength=size)
        guesses[asked] = ((sums + 0.5) / (rows + 1.0))[binned[asked]]
    found = [rank_correlation(codes_of(guesses), label.codes)]
    if ordered is not None and (straight := rank_correlation(ordered, label.codes)) is not None:
        found.append(straight * float((ordered >= 0).mean()))
    strengths = [abs(one) for one in found if one is not None]
    return {"strength": max(strengths), "measure": "rank correlation"} if strengths else None


def _bin(column: Column) -> Array:
    """Codes from 0 for every row; no value is a code of its own, and many numbers share one of 64 bins."""
    if column.numbers is None or column.distinct <= _EXACT:
        codes: Array = column.codes + 1
        return codes
    there = column.is_there
    edges = np.unique(np.quantile(column.numbers[there], np.linspace(0.0, 1.0, _BINS + 1)[1:-1]))
    binned: Array = np.where(there, np.searchsorted(edges, column.numbers, side="right") + 1, 0)
    return binned


def _fold(rows: int) -> Array:
    """0 or 1 for each row: a bit of its number, mixed by a multiplication (Knuth's golden ratio hash)."""
    fold: Array = ((np.arange(rows, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) & np.uint64(1)
    return fold
