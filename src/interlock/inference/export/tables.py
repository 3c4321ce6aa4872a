"""Rows of the holdout and of golden requests as the arrays that a model is asked with."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..inputs import Array, Batch, Column
from ..protocol.tensors import FLOATS, INTEGERS
from .proving import Table

MOST_ROWS = 50_000


def read_holdout(path: Path, columns: Sequence[Column]) -> Table | None:
    """The columns of a CSV or Parquet file in the types of the signature; None where the file does not have them all.

    It is read with pandas: without it there is no table either.
    """
    if importlib.util.find_spec("pandas") is None or any(column.tail not in ((), (1,)) for column in columns):
        return None
    pandas: Any = importlib.import_module("pandas")
    if path.suffix == ".parquet":
        frame = pandas.read_parquet(path)
    else:
        frame = pandas.read_csv(path, keep_default_na=False, na_values=[""], nrows=MOST_ROWS)
    if len(frame) == 0 or not {column.name for column in columns} <= set(map(str, frame.columns)):
        return None
    frame = frame.head(MOST_ROWS)
    return {column.name: _typed(frame[column.name], column).reshape(-1, *column.tail) for column in columns}


def join_golden(batches: Sequence[Batch]) -> Table:
    """The rows of all golden requests."""
    names = list(batches[0].arrays)
    return {name: np.concatenate([batch.arrays[name] for batch in batches]) for name in names}


def _typed(series: Any, column: Column) -> Array:
    if column.datatype in INTEGERS and not series.isna().any():
        return np.asarray(series.to_numpy(dtype=INTEGERS[column.datatype]))
    if column.datatype in INTEGERS or column.datatype in FLOATS:
        kind = np.float32 if column.datatype == "FP32" else np.float64
        return np.asarray(series.to_numpy(dtype=kind, na_value=np.nan))
    found = np.empty(len(series), dtype=object)
    kind_of = bool if column.datatype == "BOOL" else str
    found[:] = [None if missing else kind_of(value) for value, missing in zip(series, series.isna(), strict=True)]
    return found.astype(bool) if column.datatype == "BOOL" and not series.isna().any() else found
