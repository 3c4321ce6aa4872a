"""Checks a table against its rules (by Pandera, all at once) and names every offending cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from .data_schema import ColumnRule, TableRule
from .data_table import MISSING, Found, Table, found

SHOWN = 20
"""Problems shown of one column; the rest is counted."""

_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_TYPE_PROBLEMS = {
    "integer": "is not an integer",
    "number": "is not a finite number",
    "boolean": "is not true or false",
    "datetime": "is not an ISO 8601 time",
}
_REPEATED = "occurs more than once, and must be unique"
_NULL = "is empty, and nulls is false"


def check_table(table: Table, rules: TableRule, id_column: str | None, label: str | None) -> list[Found]:
    """Every problem of the table. The ``id`` column must be unique, it and the label must be there without nulls."""
    columns = dict(rules.columns)
    if id_column:
        columns[id_column] = replace(columns.get(id_column, ColumnRule()), may_be_null=False, is_unique=True)
    if label:
        columns[label] = replace(columns.get(label, ColumnRule()), may_be_null=False)
    problems = _count_problems(table, rules)
    if not columns:
        return problems
    typed, wrong = {}, {}
    for name in table.cells.columns:
        rule = columns.get(name)
        values = table.cells[name] if rule is None else None
        if rule is not None:
            values, wrong[name] = _typed(table.cells[name], rule.type)
        typed[name] = values
    schema = pa.DataFrameSchema(
        {name: _pandera_column(rule) for name, rule in columns.items()}, strict=not rules.are_others_allowed
    )
    offences = {name: _wrong_cells(rows, columns[name].type) for name, rows in wrong.items()}
    try:
        schema.validate(pd.DataFrame(typed), lazy=True)
    except pa.errors.SchemaErrors as errors:
        problems += _collect(table, errors.failure_cases, offences)
    for name, cells in offences.items():
        problems += _describe(table, name, cells)
    return problems


def _count_problems(table: Table, rules: TableRule) -> list[Found]:
    rows = len(table.cells)
    if rules.fewest_rows is not None and rows < rules.fewest_rows:
        return [found(f"{rows} rows are below rows min {rules.fewest_rows}", table.path)]
    if rules.most_rows is not None and rows > rules.most_rows:
        return [found(f"{rows} rows are above rows max {rules.most_rows}", table.path)]
    return []


def _typed(text: pd.Series, type_: str) -> tuple[pd.Series, pd.Series]:
    """The column's values (null where there is none) and which cells are not of the type."""
    if type_ == "string":
        return text.where(text != "", None), pd.Series(data=False, index=text.index)
    stripped = text.str.strip()
    is_null = stripped.isin(MISSING)
    values = _PARSERS[type_](stripped[~is_null])
    wrong = values.isna().reindex(text.index, fill_value=False)
    return values.reindex(text.index), wrong


def _numbers(text: pd.Series) -> pd.Series:
    values = pd.to_numeric(text, errors="coerce")
    return values.where(np.isfinite(values.astype(float)))


def _integers(text: pd.Series) -> pd.Series:
    values = _numbers(text)
    if pd.api.types.is_integer_dtype(values.dtype):
        return values.astype("Int64")  # exact, also where an identifier has more than 15 digits
    return values.where(values.astype(float) % 1 == 0)


def _truths(text: pd.Series) -> pd.Series:
    return text.str.lower().map(_TRUTHS).astype("boolean")


def _times(text: pd.Series) -> pd.Series:
    return pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)


_PARSERS: dict[str, Callable[[pd.Series], pd.Series]] = {
    "integer": _integers,
    "number": _numbers,
    "boolean": _truths,
    "datetime": _times,
}


def _pandera_column(rule: ColumnRule) -> pa.Column:
    checks = []
    if rule.minimum is not None:
        checks.append(pa.Check.ge(rule.minimum, error=f"is below min {rule.minimum:g}"))
    if rule.maximum is not None:
        checks.append(pa.Check.le(rule.maximum, error=f"is above max {rule.maximum:g}"))
    if rule.allowed is not None:
        listed = ", ".join(str(value) for value in rule.allowed[:10]) + (", ..." if len(rule.allowed) > 10 else "")
        checks.append(pa.Check.isin(list(rule.allowed), error=f"is not one of {listed}"))
    if rule.pattern is not None:
        checks.append(pa.Check.str_matches(rf"(?:{rule.pattern})\Z", error=f"does not match pattern {rule.pattern}"))
    return pa.Column(
        None,
        checks,
        nullable=rule.may_be_null,
        unique=rule.is_unique,
        report_duplicates="exclude_first",
    )


def _wrong_cells(wrong: pd.Series, type_: str) -> dict[int, str]:
    return dict.fromkeys(np.flatnonzero(wrong.to_numpy()).tolist(), _TYPE_PROBLEMS.get(type_, ""))


def _collect(table: Table, failures: pd.DataFrame, offences: dict[str, dict[int, str]]) -> list[Found]:
    """Adds Pandera's failure cases to the offending cells by column; answers the problems of whole columns."""
    problems = []
    whole = {"not_nullable": _NULL, "field_uniqueness": _REPEATED}
    for column, check, case, row in zip(
        failures["column"], failures["check"], failures["failure_case"], failures["index"], strict=True
    ):
        if check == "column_in_dataframe":
            problems.append(found(f"column {case} is missing", table.path, 1 if table.lines else None))
        elif check == "column_in_schema":
            message = f"column {case} is not in the schema (other_columns: allow lets it be)"
            problems.append(found(message, table.path, 1 if table.lines else None))
        else:
            offences[str(column)].setdefault(int(row), whole.get(str(check), str(check)))
    return problems


def _describe(table: Table, name: str, cells: dict[int, str]) -> list[Found]:
    problems = []
    for row in sorted(cells)[:SHOWN]:
        value: Any = table.cells[name].iloc[row]
        shown = value if len(value) <= 60 else value[:60] + "..."
        said = f"{shown} {cells[row]}" if value else cells[row]
        place = "" if table.lines else f" (row {row + 1})"
        problems.append(found(f"column {name}: {said}{place}", table.path, table.line(row)))
    if len(cells) > SHOWN:
        problems.append(found(f"column {name}: {len(cells) - SHOWN} more problems are not shown", table.path))
    return problems
