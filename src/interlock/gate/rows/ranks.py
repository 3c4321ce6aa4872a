"""Scores brought in order once: how rows of one class stand among those of the other, on all rows and within slices.

The *placement* of a positive row is the share of negative rows below it, of a negative row the share of positive rows
above it; of equal scores half counts. Their means over either class are the AUC. They are kept as whole numbers, twice
the count, so that they are exact.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlock.gate.row_metrics import Array
from interlock.gate.rows.cutting import Parts

Placements: TypeAlias = tuple[Array, Array]
"""Those of the positive rows, and of the negative ones."""


class Ranked:
    """Rows of two classes (labels 1 and 0) in order of their scores."""

    def __init__(self, labels: Array, scores: Array) -> None:
        self.positive = (labels == 1.0).view(np.int8)
        self._order = np.argsort(scores)
        self._positive_in_order = self.positive[self._order]
        ranked = scores[self._order]
        is_new = ranked[1:] != ranked[:-1]
        self._group = None if is_new.all() else np.concatenate(([0], np.cumsum(is_new, dtype=np.int32)))

    def placements(self) -> Placements:
        """Those on all rows."""
        twice = np.empty(self.positive.size, dtype=np.int32)
        twice[self._order] = _twice_placed(self._positive_in_order, self._group)
        is_positive = self.positive.view(np.bool_)
        above, below = twice[is_positive], twice[~is_positive]
        return above / (2.0 * max(below.size, 1)), below / (2.0 * max(above.size, 1))

    def twice_placed(self, part: Parts) -> NDArray[np.int32]:
        """For each row twice the number of rows of the other class in its slice on the right side of it."""
        codes = part.codes.astype(np.int16)[self._order]
        twice = np.empty(codes.size, dtype=np.int32)
        for code in range(len(part.names)):
            at = np.flatnonzero(codes == code)
            group = None if self._group is None else self._group[at]
            twice[self._order[at]] = _twice_placed(self._positive_in_order[at], group)
        return twice


def _twice_placed(positive: NDArray[np.int8], group: NDArray[np.int32] | None) -> NDArray[np.int32]:
    """Of rows in order; ``group`` is the same number for rows of equal scores, None where no two are equal."""
    upto = np.cumsum(positive, dtype=np.int32)
    below = 2 * upto - positive
    ranks = np.arange(1, 2 * positive.size, 2, dtype=np.int32)
    is_like_next = np.zeros(positive.size + 1, dtype=np.int8)
    if group is not None:
        np.equal(group[1:], group[:-1], out=is_like_next[1:-1].view(np.bool_))
    turns = np.diff(is_like_next)
    begins, lasts = np.flatnonzero(turns == 1), np.flatnonzero(turns == -1)
    if begins.size:  # rows of equal scores share the mean of what they would have one after the other
        equal, each = np.flatnonzero(is_like_next[1:] | is_like_next[:-1]), lasts - begins + 1
        below[equal] = np.repeat(upto[begins] - positive[begins] + upto[lasts], each)
        ranks[equal] = np.repeat(begins + lasts + 1, each)
    return np.where(positive, ranks - below, 2 * int(positive.sum(dtype=np.int64)) - below)
