"""Tables as they are on disk: every cell as text, so that nothing is guessed before it is checked."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

Found = dict[str, Any]
"""One problem: message, path, line (from 1, or None) and is_warning."""

MISSING = frozenset({"", "NA", "N/A", "NULL", "null", "None", "<NA>"})
"""What stands for no value in a column of numbers, truth values or times; in a column of text only the empty cell."""


def found(message: str, path: str | None = None, line: int | None = None, *, is_warning: bool = False) -> Found:
    """One problem."""
    return {"message": message, "path": path, "line": line, "is_warning": is_warning}


class UnreadableTable(Exception):
    """The file is no table; ``problem`` says why and where."""

    def __init__(self, message: str, path: str, line: int | None = None) -> None:
        self.problem = found(message, path, line)
        super().__init__(message)


class Table(NamedTuple):
    """One data file: ``cells`` holds text, ``lines`` the line of each row's start (empty where rows have no lines)."""

    path: str
    cells: pd.DataFrame
    lines: list[int]

    def line(self, row: int) -> int | None:
        """The line of the file on which row number ``row`` (from 0) starts."""
        return self.lines[row] if self.lines else None


def read_table(path: str) -> Table:
    """Reads a CSV (also .csv.gz) or Parquet file. UnreadableTable where it is no proper table."""
    if not Path(path).is_file():
        raise UnreadableTable("there is no such file", path)
    if path.endswith(".parquet"):
        return Table(path, _parquet_cells(path), [])
    try:
        raw = pd.read_csv(path, header=None, dtype=object, keep_default_na=False, encoding="utf-8")
    except pd.errors.EmptyDataError:
        raise UnreadableTable("the file is empty", path) from None
    except UnicodeDecodeError as error:
        raise UnreadableTable(f"is not UTF-8 text: {error.reason} at byte {error.start}", path) from None
    except (pd.errors.ParserError, OSError, EOFError) as error:
        reason = " ".join(str(error).removeprefix("Error tokenizing data. C error: ").split())
        raise UnreadableTable(f"is not a readable CSV file: {reason}", path) from None
    header = [str(name) for name in raw.iloc[0]]
    _check_header(header, path)
    cells = raw.iloc[1:].reset_index(drop=True)
    cells.columns = pd.Index(header)
    if cells.empty:
        raise UnreadableTable("the file has a header but no rows", path)
    return Table(path, cells, _starts_of_rows(path, len(header), len(cells)))


def _parquet_cells(path: str) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except ImportError:
        raise UnreadableTable("Parquet cannot be read here, for pyarrow is not installed; write CSV", path) from None
    except (ValueError, OSError) as error:
        raise UnreadableTable(f"is not a readable Parquet file: {error}", path) from None
    _check_header([str(name) for name in frame.columns], path)
    if frame.empty:
        raise UnreadableTable("the file has no rows", path)
    return frame.astype(object).map(lambda value: "" if pd.isna(value) else str(value)).reset_index(drop=True)


def _check_header(header: list[str], path: str) -> None:
    for position, name in enumerate(header, start=1):
        if not name.strip():
            raise UnreadableTable(f"column number {position} has no name", path, 1)
        if name in header[: position - 1]:
            raise UnreadableTable(f"the column name {name} is given twice", path, 1)


def _starts_of_rows(path: str, columns: int, rows: int) -> list[int]:
    """The line on which each row starts. A row that ends early is refused: the file may be torn."""
    opening = gzip.open if path.endswith(".gz") else open
    starts: list[int] = []
    with opening(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        begins = 1
        try:
            for record in reader:
                if record:  # an empty line is no row
                    starts.append(begins)
                    if len(record) < columns:
                        raise UnreadableTable(f"the row has {len(record)} of {columns} columns", path, begins)
                begins = reader.line_num + 1
        except csv.Error as error:
            raise UnreadableTable(f"is not a readable CSV file: {error}", path, reader.line_num) from None
    starts = starts[1:]
    if len(starts) != rows:
        raise UnreadableTable("the rows of the file cannot be told apart; check its quotes", path)
    return starts
