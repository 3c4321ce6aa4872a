"""Rows as arrays: labels, and what both sides predicted for the very same rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlock.gate.measurements import BaselineRows, Cell, Rows
from interlock.gate.row_metrics import Array, RowMetric
from interlock.pipeline.plan import is_row_loss

Column: TypeAlias = NDArray[np.generic]
"""One value for each row: numbers, or objects where there is text. NaN and None are missing values."""


class Predictions(NamedTuple):
    """What one side predicted, one value for each row; NaN where it predicted nothing."""

    prediction: Array
    probability: Array | None = None
    losses: Mapping[str, Array] = {}

    def values(self, metric: RowMetric) -> Array | None:
        """What the metric is made of; None where this side does not have it."""
        if is_row_loss(metric.name):
            return self.losses.get(metric.name)
        return self.probability if metric.is_of_probability else self.prediction


class RowArrays(NamedTuple):
    """Labels, predictions of both sides, and the columns by which rows are told apart. ``name`` is production's."""

    labels: Array
    candidate: Predictions
    production: Predictions
    name: str
    columns: Mapping[str, Column]


def candidate_of(rows: Rows) -> Predictions:
    """The candidate's predictions."""
    return _side(rows.prediction, rows.probability, rows.columns)


def arrays_of(rows: Rows, baseline: BaselineRows) -> RowArrays:
    """The rows of a report as arrays."""
    return RowArrays(
        labels=np.array(rows.labels),
        candidate=candidate_of(rows),
        production=_side(baseline.prediction, baseline.probability, baseline.columns),
        name=baseline.name,
        columns=columns_of(rows),
    )


def columns_of(rows: Rows) -> dict[str, Column]:
    """The columns by which rows are told apart."""
    return {name: _column(cells) for name, cells in rows.columns.items() if not is_row_loss(name)}


def _side(
    prediction: tuple[float | None, ...],
    probability: tuple[float | None, ...] | None,
    columns: Mapping[str, tuple[Cell, ...]],
) -> Predictions:
    losses = {name: cells for name, cells in columns.items() if is_row_loss(name)}
    return Predictions(
        np.array(prediction, dtype=np.float64),
        None if probability is None else np.array(probability, dtype=np.float64),
        {name: np.array([_number(cell) for cell in cells]) for name, cells in losses.items()},
    )


def _number(cell: Cell) -> float:
    return cell if isinstance(cell, float) else np.nan


def _column(cells: tuple[Cell, ...]) -> Column:
    if any(isinstance(cell, str) for cell in cells):
        return np.array(cells, dtype=object)
    return np.array(cells, dtype=np.float64)
