"""What a model version's inputs and outputs looked like when it was made, as far as it is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from interlock.vocabulary import Stored

MISSING, STRANGE, FIRST = 0, 1, 2
"""Places in the counts of a column: no value; one outside of all that was seen; its first bin."""


class ColumnReference(Stored):
    """A column (``input.NAME`` or ``output.NAME``). ``strange`` is the share of strange values that is expected."""

    name: str
    is_number: bool
    strange: float
    counts: tuple[int, ...]

    @property
    def missing(self) -> float:
        """The share of missing values."""
        return self.counts[MISSING] / max(1, sum(self.counts))

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of each bin among all values that are in one."""
        inside = self.counts[FIRST:]
        whole = max(1, sum(inside))
        return tuple(count / whole for count in inside)


class Reference(Stored):
    """All columns, of so many ``rows``."""

    rows: int
    columns: tuple[ColumnReference, ...] = ()


def read_reference(document: Mapping[str, Any]) -> Reference:
    """The reference of a version's artifact (see ``probes.offline.reference``)."""
    columns = tuple(
        ColumnReference(
            name=f"{column['side']}.{column['name']}",
            is_number=column["kind"] == "number",
            strange=column["strange"],
            counts=column["counts"],
        )
        for column in document["columns"]
    )
    return Reference(rows=document["rows"], columns=columns)


def highest_share(share: float, rows: int, alpha: float) -> float:
    """What the true share is at most, with a chance of error of ``alpha``, where ``rows`` rows had this one.

    Chernoff's bound: the largest p with rows * kl(share, p) <= ln(1 / alpha).
    """
    budget = math.log(1.0 / alpha) / max(1, rows)
    low, high = share, 1.0
    for _ in range(40):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _divergence(share, middle) <= budget else (low, middle)
    return high


def most_apart(bins: int, rows: int, alpha: float) -> float:
    """How far (total variation) the shares of ``bins`` bins in ``rows`` rows may be from the true ones by chance.

    P(sum of |found - true| >= x) <= 2^bins exp(-rows x^2 / 2) (Weissman et al., HP Laboratories HPL-2003-97).
    """
    return min(1.0, math.sqrt((bins * math.log(2.0) + math.log(1.0 / alpha)) / (2.0 * max(1, rows))))


def _divergence(one: float, other: float) -> float:
    """kl(one, other) of two Bernoulli shares, where ``one`` is at most ``other``."""
    if other >= 1.0:
        return 0.0 if one >= 1.0 else math.inf
    first = one * math.log(one / other) if one > 0.0 else 0.0
    rest = (1.0 - one) * math.log((1.0 - one) / (1.0 - other)) if one < 1.0 else 0.0
    return first + rest
