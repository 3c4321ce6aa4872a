"""Whether categories are the old ones under other names: permuted codes, or written otherwise.

What is compared of a category is its share of the rows, and the label within it: two cells, which a new name takes
along.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from interlock.gate.data.distances import Array, of_counts, total_variation
from interlock.gate.data.summaries import ColumnSummary

COMMON = 0.01
"""The share of rows from which a category is asked about on its own."""

MOST = 30
"""Columns with more common categories are not asked about: there sorting alone explains too much."""

LEFT = 0.1
"""The share of the variation that may be left when the names are undone, beside what chance leaves: any two lists of
shares that are sorted look alike, so that much must be explained.
"""

_MOSTLY = 0.8  # of the rows with new names must be explained by the way they are written


def why_coded_anew(new: ColumnSummary, old: ColumnSummary, least: float, surprising: float) -> str:
    """What seems to have been done to the names; empty where nothing explains the change, or there is none.

    ``least``: the total variation that is let be; ``surprising``: the p-value that rules chance out.
    """
    if not new.categories or not old.categories or "number" in (new.kind, old.kind):
        return ""
    names = sorted({*_common(new), *_common(old)})
    if not 1 < len(names) <= MOST:
        return ""
    if all(name in one.categories for name in names for one in (new, old)):
        return _permuted(new, old, names, least, surprising)
    if new.kind != "text" or old.kind != "text":
        return ""  # whole numbers may well go on to others: months, weeks, versions
    return _written_otherwise(new, old, least) or _renamed(new, old, least)


def _common(column: ColumnSummary) -> list[str]:
    total = sum(count for count, _ in column.categories.values())
    return [name for name, (count, _) in column.categories.items() if count >= COMMON * total]


def _permuted(new: ColumnSummary, old: ColumnSummary, names: list[str], least: float, surprising: float) -> str:
    counts, olds = _cells(new, names), _cells(old, names)
    apart = of_counts(counts.ravel(), olds.ravel())
    if apart.value < least + 2.0 * apart.by_chance or apart.p_value >= surprising:
        return ""
    shares, old_shares = counts / counts.sum(), olds / olds.sum()
    match = best_match(shares, old_shares)
    left = total_variation(shares.ravel(), old_shares[match].ravel())
    if left > LEFT * apart.value + apart.by_chance:
        return ""
    moved = {names[one]: names[other] for one, other in enumerate(match) if one != other}
    return f"seems coded anew: {_told(moved)} (of {apart.value:.1%} that moved, {left:.1%} are left)"


def _written_otherwise(new: ColumnSummary, old: ColumnSummary, least: float) -> str:
    plain = {_plain(name): name for name in old.categories}
    unseen = {name: count for name, (count, _) in new.categories.items() if name not in old.categories}
    known = {name: plain[_plain(name)] for name in unseen if _plain(name) in plain}
    rows, explained = sum(unseen.values()), sum(unseen[name] for name in known)
    total = sum(count for count, _ in new.categories.values())
    if rows < least * total or explained < _MOSTLY * rows:
        return ""
    return f"is written otherwise: {_told(known)} in {explained / total:.1%} of the rows"


def _renamed(new: ColumnSummary, old: ColumnSummary, least: float) -> str:
    """All names are other ones, and their shares and labels the same."""
    names, olds = _common(new), _common(old)
    if set(new.categories) & set(old.categories) or len(names) != len(olds):
        return ""
    counts, old_counts = _cells(new, names), _cells(old, olds)
    shares, old_shares = counts / counts.sum(), old_counts / old_counts.sum()
    match = best_match(shares, old_shares)
    left = total_variation(shares.ravel(), old_shares[match].ravel())
    if left > least:
        return ""
    return f"has other names for all: {_told({names[one]: olds[other] for one, other in enumerate(match)})}"


def best_match(shares: Array, olds: Array) -> list[int]:
    """For each row of ``shares`` the row of ``olds`` that is its like: the largest first, then pairs are exchanged
    while that brings them nearer.
    """
    cost = np.abs(shares[:, None, :] - olds[None, :, :]).sum(axis=2)
    match = [0] * len(shares)
    free = set(range(len(olds)))
    for one in sorted(range(len(shares)), key=lambda row: (-float(shares[row].sum()), row)):
        match[one] = min(free, key=lambda other: (float(cost[one, other]), other))
        free.discard(match[one])
    is_better = True
    while is_better:
        is_better = False
        for one in range(len(match)):
            for other in range(one):
                now = cost[one, match[one]] + cost[other, match[other]]
                if cost[one, match[other]] + cost[other, match[one]] < now - 1e-12:
                    match[one], match[other] = match[other], match[one]
                    is_better = True
    return match


def _cells(column: ColumnSummary, names: list[str]) -> Array:
    """Rows of each category with a high label and with a low one."""
    found = [column.categories[name] for name in names]
    counts = np.array([count for count, _ in found], dtype=np.float64)
    means = np.array([0.5 if mean is None else mean for _, mean in found])
    return np.stack([counts * means, counts * (1.0 - means)], axis=1)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _told(moved: Mapping[str, str], most: int = 3) -> str:
    first = ", ".join(f"{name} is as {other} was" for name, other in list(moved.items())[:most])
    return first + (f" and {len(moved) - most} more" if len(moved) > most else "")
