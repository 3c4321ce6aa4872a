"""The checks of a served model as they are written."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from interlock.pipeline.checks.data import Switch
from interlock.pipeline.rules.values import Section, Text


class ConsistencySpec(Section):
    """The same row has the same answer, whatever stands beside it: else what was measured is not what is served."""

    tolerance: Annotated[float, Field(ge=0.0)] = 1e-4
    """The most that two answers for one row may differ, of what is above 1 in proportion. A text must be the same."""


class TargetSpec(Section):
    """The label is among the inputs: the model copies it, and nobody will know it when it is asked."""

    ignore: list[Text] = []
    """Labels that may be inputs: what was known of them before."""


class ServingChecksSpec(Section):
    """What the served model is asked with its golden requests. Each is `off`, or a mapping of its limits."""

    target: Switch[TargetSpec] | None = None
    """No label of a dataset is an input of the golden requests. Asked unless `off`."""
    row_by_row: Switch[ConsistencySpec] | None = None
    """A row alone is answered as among others: nothing is filled or scaled by what came along. Asked unless `off`."""
    row_order: Switch[ConsistencySpec] | None = None
    """Rows in another order have the same answers. Asked unless `off`."""
    nulls: Switch[ConsistencySpec] | None = None
    """A row with an empty value, tried for each number, is answered alone as among others. Asked unless `off`."""
    offline: Switch[ConsistencySpec] | None = None
    """Rows of the holdout are answered as they were predicted offline. Asked unless `off`."""
