"""Summaries of tables, as the data probe made them: read strictly, or not at all."""

from __future__ import annotations

import json
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interlock.vocabulary import Json

Count: TypeAlias = Annotated[int, Field(ge=0)]
Share: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
Kind: TypeAlias = Literal["integer", "number", "boolean", "datetime", "text", "empty"]

NUMERIC: frozenset[str] = frozenset({"integer", "number"})


class Measured(BaseModel):
    """A part of a summary: finite numbers, and nothing that was not agreed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Told(Measured):
    """How much one column tells of the label, and the measure that this is of."""

    strength: Share
    measure: str


class ColumnSummary(Measured):
    """One column. ``quantiles``: evenly spaced from the smallest to the largest value (seconds since 1970 of times).

    ``categories``: count of each value, and the mean rank of its rows' label (0 to 1). ``hours``: counts by hour of the
    day, UTC. ``association``: rank correlation with the label.
    """

    kind: Kind
    nulls: Count
    distinct: Count
    quantiles: tuple[float, ...] = ()
    categories: dict[str, tuple[Count, Share | None]] = {}
    hours: tuple[Count, ...] = ()
    association: float | None = None
    told: Told | None = None


class LabelSummary(Measured):
    """The label: ``classes`` with their counts, or a ``quantity``. ``rows`` have one."""

    name: str
    kind: Literal["classes", "quantity"]
    rows: Annotated[int, Field(gt=0)]
    classes: dict[str, Count]


class Repeated(Measured):
    """Rows that repeat an earlier one, and how many likes a row would have if columns were independent."""

    rows: Count
    by_chance: Annotated[float, Field(ge=0.0)]


class Shared(Measured):
    """Of ``rows`` of a holdout, how many are in training data: ``exact``, or nearly. ``usual_...``: of as many training
    rows, how many are there twice.
    """

    rows: Annotated[int, Field(gt=0)]
    exact: Count
    near: Count
    usual_rows: Annotated[int, Field(gt=0)]
    usual_exact: Count
    usual_near: Count


class TableSummary(Measured):
    """One table. ``shared`` is of a holdout, by the name of the dataset it is compared with."""

    rows: Annotated[int, Field(gt=0)]
    label: LabelSummary | None
    columns: dict[str, ColumnSummary]
    repeated: Repeated | None
    shared: dict[str, Shared]

    def filled(self, column: str) -> int:
        """How many rows have a value in the column."""
        return max(0, self.rows - self.columns[column].nulls)


def read_summary(report: Json, dataset: str) -> tuple[TableSummary | None, str]:
    """The summary of one dataset in a report of the data probe, or why there is none."""
    one = report.get(dataset) if isinstance(report, dict) else None
    raw = one.get("summary") if isinstance(one, dict) else None
    if raw is None:
        return None, f"there is no summary of {dataset}"
    try:
        return TableSummary.model_validate_json(json.dumps(raw)), ""
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return None, f"the summary of {dataset} is not of the agreed shape: {place}: {first['msg']}"
