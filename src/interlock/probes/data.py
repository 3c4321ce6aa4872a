"""Validates a project's datasets: schemas, identifiers, labels, and that a holdout shares nothing with its training.

Settings: ``{"data": [{"name", "path", "schema_path", "id", "label", "disjoint_from"}], "holdout": name}``; of a
dataset the last four, and the holdout, may be null.
"""

from __future__ import annotations

from typing import Any

import blake3
import numpy as np
import pandas as pd

from .data_check import check_table
from .data_schema import NO_RULES, read_schema
from .data_table import Found, Table, UnreadableTable, found, read_table
from .summaries import summarise


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Reads and checks every dataset. The report holds by name rows, columns, the digest of the rows, and, where every
    rule is kept, the ``summary`` that gates judge.
    """
    problems: list[Found] = []
    tables: dict[str, Table] = {}
    report: dict[str, Any] = {}
    for dataset in settings["data"]:
        try:
            table = read_table(dataset["path"])
        except UnreadableTable as error:
            problems.append(error.problem)
            continue
        tables[dataset["name"]] = table
        problems += _check(dataset, table)
        report[dataset["name"]] = {
            "rows": len(table.cells),
            "columns": [str(name) for name in table.cells.columns],
            "digest": _digest(table.cells),
        }
    for dataset in settings["data"]:
        if dataset.get("disjoint_from") and dataset["name"] in tables:
            problems += _check_disjoint(dataset, tables, settings["data"])
    if not problems:
        cells = {name: table.cells for name, table in tables.items()}
        for name, summary in summarise(settings["data"], cells, settings.get("holdout")).items():
            report[name]["summary"] = summary
    return {
        "passed": not problems,
        "because": _summary(problems, tables, len(settings["data"])),
        "problems": problems,
        "report": report,
    }


def _check(dataset: dict[str, Any], table: Table) -> list[Found]:
    rules, problems = NO_RULES, list[Found]()
    if dataset.get("schema_path"):
        rules, problems = read_schema(dataset["schema_path"])
    return problems or check_table(table, rules, dataset.get("id"), dataset.get("label"))


def _summary(problems: list[Found], tables: dict[str, Table], datasets: int) -> str:
    if problems:
        first = problems[0]
        place = ":".join(str(part) for part in (first["path"], first["line"]) if part is not None)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems, the first"
        return f"{count}: {place}: {first['message']}"
    rows = sum(len(table.cells) for table in tables.values())
    return f"{datasets} dataset{'' if datasets == 1 else 's'} with {rows} rows: every rule is kept"


def _digest(cells: pd.DataFrame) -> str:
    digest = blake3.blake3("\x1f".join(cells.columns).encode())
    digest.update(pd.util.hash_pandas_object(cells, index=False).to_numpy().tobytes())
    return f"blake3:{digest.hexdigest()}"


def _check_disjoint(dataset: dict[str, Any], tables: dict[str, Table], datasets: list[dict[str, Any]]) -> list[Found]:
    """Neither an id nor a whole row (identifiers aside) may be in both datasets."""
    other = next((one for one in datasets if one["name"] == dataset["disjoint_from"]), None)
    if other is None:
        return [found(f"disjoint_from names {dataset['disjoint_from']}, which is no dataset", dataset["path"])]
    if other["name"] not in tables:
        return []  # it could not be read, and that has been said
    table, against = tables[dataset["name"]], tables[other["name"]]
    identifiers = {name for name in (dataset.get("id"), other.get("id")) if name}
    problems = []
    for name in sorted(identifiers & set(table.cells.columns) & set(against.cells.columns)):
        example = _shared(table.cells[[name]], against.cells[[name]])
        said = f"shares {name} {table.cells[name].iloc[example[1]]}" if example else ""
        problems += _describe_shared(table, against, example, said)
    common = [name for name in table.cells.columns if name in against.cells.columns and name not in identifiers]
    if common:
        example = _shared(table.cells[common], against.cells[common])
        problems += _describe_shared(table, against, example, "shares a whole row")
    return problems


def _shared(cells: pd.DataFrame, others: pd.DataFrame) -> tuple[int, int, int] | None:
    """How many rows of ``cells`` are in ``others`` too, with one example's row in both; None if there is none."""
    ours, theirs = _canonical(cells, others)
    digests, wanted = _row_digests(ours), _row_digests(theirs)
    hits = np.flatnonzero(np.isin(digests, wanted))
    if not hits.size:
        return None
    row = int(hits[0])
    return int(hits.size), row, int(np.flatnonzero(wanted == digests[row])[0])


def _row_digests(cells: pd.DataFrame) -> np.ndarray[Any, Any]:
    digests: np.ndarray[Any, Any] = pd.util.hash_pandas_object(cells, index=False).to_numpy()
    return digests


def _canonical(cells: pd.DataFrame, others: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables with numbers as numbers, so that 1 and 1.0 are the same; a column is numbers in both or in none."""
    ours, theirs = {}, {}
    for name in cells.columns:
        pair = [pd.to_numeric(one[name], errors="coerce") for one in (cells, others)]
        is_numeric = all(
            bool((values.notna() | (one[name] == "")).all()) for values, one in zip(pair, (cells, others), strict=True)
        )
        if is_numeric and all(values.dtype.kind in "if" for values in pair):
            is_exact = all(values.dtype.kind == "i" for values in pair)
            ours[name], theirs[name] = pair if is_exact else [values.astype(float) for values in pair]
        else:
            ours[name], theirs[name] = cells[name], others[name]
    return pd.DataFrame(ours), pd.DataFrame(theirs)


def _describe_shared(table: Table, other: Table, shared: tuple[int, int, int] | None, said: str) -> list[Found]:
    if shared is None:
        return []
    count, row, there = shared
    line = other.line(there)
    place = other.path if line is None else f"{other.path}:{line}"
    message = f"{said} with {place} ({count} rows in all are in both)"
    return [found(message, table.path, table.line(row))]
