"""The summary of one table, and of a holdout beside the training data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .columns import Column, read_column, summarise_column
from .rows import repeated_rows, shared_rows
from .telling import how_much_is_told, read_label

MOST_CLASSES_SHOWN = 1000


def summarise(datasets: list[dict[str, Any]], tables: dict[str, pd.DataFrame], holdout: str | None) -> dict[str, Any]:
    """By dataset: ``rows``, ``label``, ``columns``, ``repeated`` and, of the holdout, ``shared`` by training dataset.

    ``tables`` are the cells of every dataset that is as it should be. What training data is: what has the holdout's
    label too.
    """
    read = {name: {str(column): read_column(cells[column]) for column in cells} for name, cells in tables.items()}
    summaries = {
        dataset["name"]: _summarise_one(read[dataset["name"]], dataset.get("id"), dataset.get("label"))
        for dataset in datasets
        if dataset["name"] in read
    }
    apart = next((one for one in datasets if one["name"] == holdout and one["name"] in read), None)
    if apart is not None:
        for other in datasets:
            name = other["name"]
            if name != holdout and name in read and (apart["label"] is None or apart["label"] in read[name]):
                identifiers = {apart.get("id"), other.get("id")}
                ours = _without(read[apart["name"]], identifiers)
                shared = shared_rows(ours, _without(read[name], identifiers), apart["label"])
                summaries[apart["name"]]["shared"] |= {name: shared} if shared else {}
    return summaries


def _summarise_one(columns: dict[str, Column], identifier: str | None, label: str | None) -> dict[str, Any]:
    features = _without(columns, {identifier})
    labels = columns.get(label) if label else None
    summary: dict[str, Any] = {
        "rows": next(iter(columns.values())).codes.size,
        "label": None,
        "columns": {},
        "repeated": repeated_rows(features) if features else None,
        "shared": {},
    }
    asked = None
    if labels is not None and labels.is_there.any():
        asked = read_label(labels)
        summary["label"] = {"name": label, "kind": "quantity", "rows": int(asked.rows.sum()), "classes": {}}
        if not asked.is_quantity and asked.distinct <= MOST_CLASSES_SHOWN:
            counts = np.bincount(asked.codes, minlength=asked.distinct).tolist()
            classes = {labels.name(code): count for code, count in enumerate(counts)}
            summary["label"] |= {"kind": "classes", "classes": classes}
    for name, column in features.items():
        is_label = name == label
        found = summarise_column(column, None if is_label else labels)
        found["told"] = None if asked is None or is_label else how_much_is_told(column, asked)
        summary["columns"][name] = found
    return summary


def _without(columns: dict[str, Column], names: set[Any]) -> dict[str, Column]:
    return {name: column for name, column in columns.items() if name not in names}
