"""Rows as arrays: labels, and what both sides predicted for the very same rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlock.gate.measurements import BaselineRows, Cell, Rows
from interlock.gate.row_metrics import LOG_LOSS_OF_MANY, Array, RowMetric
from interlock.pipeline.plan import is_row_loss

Column: TypeAlias = NDArray[np.generic]
"""One value for each row: numbers, or objects where there is text. NaN and None are missing values."""


class Predictions(NamedTuple):
    """What one side predicted, one value for each row; NaN where it predicted nothing.

    ``right`` is what was given to the class that the label is, of more than two classes.
    """

    prediction: Array
    probability: Array | None = None
    losses: Mapping[str, Array] = {}
    right: Array | None = None

    def form_of(self, metric: RowMetric) -> RowMetric:
        """The metric as these predictions have it: of log_loss, that of many classes where they are told apart."""
        return LOG_LOSS_OF_MANY if metric.name == LOG_LOSS_OF_MANY.name and self.right is not None else metric

    def values(self, metric: RowMetric) -> Array | None:
        """What the metric is made of; None where this side does not have it."""
        if is_row_loss(metric.name):
            return self.losses.get(metric.name)
        if metric.is_of_probability:
            return self.probability if metric.is_binary else self.right
        return self.prediction


class RowArrays(NamedTuple):
    """Labels, predictions of both sides, and the columns by which rows are told apart. ``name`` is production's, and
    ``is_asked`` whether its server was asked for them now.
    """

    labels: Array
    candidate: Predictions
    production: Predictions
    name: str
    columns: Mapping[str, Column]
    is_asked: bool = False


def candidate_of(rows: Rows) -> Predictions:
    """The candidate's predictions."""
    return _side(rows)


def arrays_of(rows: Rows, baseline: BaselineRows) -> RowArrays:
    """The rows of a report as arrays."""
    return RowArrays(
        labels=np.array(rows.labels),
        candidate=candidate_of(rows),
        production=_side(baseline),
        name=baseline.name,
        columns=columns_of(rows),
        is_asked=baseline.is_asked,
    )


def columns_of(rows: Rows) -> dict[str, Column]:
    """The columns by which rows are told apart."""
    return {name: _column(cells) for name, cells in rows.columns.items() if not is_row_loss(name)}


def _side(rows: Rows | BaselineRows) -> Predictions:
    losses = {name: cells for name, cells in rows.columns.items() if is_row_loss(name)}
    return Predictions(
        np.array(rows.prediction, dtype=np.float64),
        None if rows.probability is None else np.array(rows.probability, dtype=np.float64),
        {name: np.array([_number(cell) for cell in cells]) for name, cells in losses.items()},
        None if rows.right is None else np.array(rows.right, dtype=np.float64),
    )


def _number(cell: Cell) -> float:
    return cell if isinstance(cell, float) else np.nan


def _column(cells: tuple[Cell, ...]) -> Column:
    if any(isinstance(cell, str) for cell in cells):
        return np.array(cells, dtype=object)
    return np.array(cells, dtype=np.float64)
