"""How far two distributions are apart, and how surprising that is if they are the same.

Kolmogorov and Smirnov's distance of numbers (its asymptotic p-value, on the safe side for values that occur often);
total variation of categories, with Pearson's test of homogeneity. Both lie between 0 and 1, whatever the number of
rows: that of a million rows with a negligible change is negligible too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlock.gate.data.summaries import NUMERIC, ColumnSummary

Array: TypeAlias = NDArray[np.float64]

_SMALLEST_SHARE = 1e-4  # of a bin in a population stability index, so that an empty one is not infinitely far


class Distance(NamedTuple):
    """A distance between 0 and 1, its p-value, what is usual by chance, and the population stability index."""

    value: float
    p_value: float
    by_chance: float
    psi: float
    measure: str


def distance(new: ColumnSummary, old: ColumnSummary, rows: int, old_rows: int) -> Distance | None:
    """Between two columns with so many values; None where they cannot be compared (times, texts of any kind)."""
    if not rows or not old_rows:
        return None
    if {new.kind, old.kind} <= NUMERIC and new.quantiles and old.quantiles:
        return _of_numbers(np.array(new.quantiles), np.array(old.quantiles), rows, old_rows)
    if new.categories and old.categories and not {new.kind, old.kind} & NUMERIC:
        names = sorted({*new.categories, *old.categories})
        counts, olds = [counts_of(one, names) for one in (new, old)]
        return of_counts(counts, olds)
    return None


def counts_of(column: ColumnSummary, names: Sequence[str]) -> Array:
    """How often each of the values occurs."""
    return np.array([column.categories.get(name, (0, None))[0] for name in names], dtype=np.float64)


def of_counts(counts: Array, olds: Array) -> Distance:
    """Between the shares of the same bins."""
    total, old_total = float(counts.sum()), float(olds.sum())
    if not total or not old_total:
        return Distance(0.0, 1.0, 0.0, 0.0, "total variation")
    shares, old_shares = counts / total, olds / old_total
    return Distance(
        value=total_variation(shares, old_shares),
        p_value=homogeneity(counts, olds),
        by_chance=usual_variation(counts, olds),
        psi=stability_index(shares, old_shares),
        measure="total variation",
    )


def total_variation(shares: Array, others: Array) -> float:
    """Half the sum of the differences: the share of rows that would have to move."""
    return float(np.abs(shares - others).sum() / 2.0)


def usual_variation(counts: Array, olds: Array) -> float:
    """The total variation to be expected between two samples of one distribution (mean of folded normals)."""
    total, old_total = counts.sum(), olds.sum()
    pooled = (counts + olds) / (total + old_total)
    deviation = np.sqrt(pooled * (1.0 - pooled) * (1.0 / total + 1.0 / old_total))
    return float(deviation.sum() * math.sqrt(2.0 / math.pi) / 2.0)


def stability_index(shares: Array, others: Array) -> float:
    """The population stability index: the sum of (p - q) ln(p / q)."""
    kept, other = np.maximum(shares, _SMALLEST_SHARE), np.maximum(others, _SMALLEST_SHARE)
    return float(((kept - other) * np.log(kept / other)).sum())


def homogeneity(counts: Array, olds: Array) -> float:
    """The p-value of Pearson's chi-squared test that both were drawn from the same bins; those rarer than 5 in
    expectation are put together, as the test asks for.
    """
    total, old_total = float(counts.sum()), float(olds.sum())
    smaller = min(total, old_total)
    is_common = (counts + olds) / (total + old_total) * smaller >= 5.0
    seen = np.append(counts[is_common], counts[~is_common].sum())
    old_seen = np.append(olds[is_common], olds[~is_common].sum())
    both = seen + old_seen
    seen, old_seen, both = seen[both > 0], old_seen[both > 0], both[both > 0]
    if both.size < 2:
        return 1.0
    expected, old_expected = [both * part / (total + old_total) for part in (total, old_total)]
    statistic = ((seen - expected) ** 2 / expected).sum() + ((old_seen - old_expected) ** 2 / old_expected).sum()
    return chi_squared_tail(float(statistic), both.size - 1)


def chi_squared_tail(statistic: float, freedom: int) -> float:
    """P(X >= statistic): the regularised upper incomplete gamma function Q(freedom / 2, statistic / 2), by its series
    (DLMF 8.11.4) below the mean and by Legendre's continued fraction (DLMF 8.9.2, modified Lentz) above.
    """
    shape, x = freedom / 2.0, statistic / 2.0
    if x <= 0.0:
        return 1.0
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1.0:
        term = total = 1.0 / shape
        step = shape
        while abs(term) > abs(total) * 1e-15:
            step += 1.0
            term *= x / step
            total += term
        return min(1.0, max(0.0, 1.0 - front * total))
    tiny = 1e-300
    b = x + 1.0 - shape
    c, d = 1.0 / tiny, 1.0 / b
    fraction, number = d, 0
    while abs(d * c - 1.0) > 1e-14:
        number += 1
        a = -number * (number - shape)
        b += 2.0
        d = 1.0 / (a * d + b or tiny)
        c = b + a / c or tiny
        fraction *= d * c
    return min(1.0, max(0.0, front * fraction))


def kolmogorov_tail(scaled: float) -> float:
    """P(K > scaled) of Kolmogorov's distribution: 2 sum (-1)^(k-1) exp(-2 k^2 scaled^2)."""
    if scaled < 0.2:  # there the series does not converge, and 1 is right to 12 digits
        return 1.0
    terms = ((-1.0) ** (k - 1) * math.exp(-2.0 * (k * scaled) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, 2.0 * math.fsum(terms)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: that any true hypothesis has one below alpha has probability alpha at most (Holm 1979)."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    ordered = sorted(p_values.items(), key=lambda item: (item[1], item[0]))
    for place, (name, p_value) in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - place) * p_value))
        adjusted[name] = highest
    return adjusted


def _of_numbers(quantiles: Array, olds: Array, rows: int, old_rows: int) -> Distance:
    points = np.union1d(quantiles, olds)
    shares, old_shares = [np.searchsorted(one, points, side="right") / one.size for one in (quantiles, olds)]
    value = float(np.abs(shares - old_shares).max())
    coarse = 1.0 / min(quantiles.size, olds.size)  # what the summary does not tell, to the benefit of the data
    scale = math.sqrt(rows * old_rows / (rows + old_rows))
    return Distance(
        value=value,
        p_value=kolmogorov_tail(max(0.0, value - coarse) * scale),
        by_chance=0.87 / scale,  # the mean of Kolmogorov's distribution, sqrt(pi / 2) ln 2
        psi=_index_of_numbers(quantiles, olds),
        measure="Kolmogorov-Smirnov",
    )


def _index_of_numbers(quantiles: Array, olds: Array) -> float:
    """The population stability index over the deciles of the older."""
    edges = np.unique(olds[np.linspace(0, olds.size - 1, 11).astype(int)[1:-1]])
    bins = edges.size + 1
    shares, old_shares = [
        np.bincount(np.searchsorted(edges, one, side="left"), minlength=bins) / one.size for one in (quantiles, olds)
    ]
    return stability_index(shares, old_shares)
