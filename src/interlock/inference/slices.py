"""Which rows of a request are in slices that are watched: values of its columns, named before the server began.

Of other columns and other values nothing is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray


class Slices:
    """The values that are ``watched``, as texts by column: ``AA``, ``7``, ``true``."""

    def __init__(self, watched: Mapping[str, Sequence[str]]) -> None:
        self.columns = {column: frozenset(values) for column, values in watched.items()}

    def of(self, rows: int, arrays: Mapping[str, NDArray[Any]]) -> dict[str, list[str | None]]:
        """By column the value of each row, None where that is not watched.

        A column without a watched value is left out, as is one that the request has not, or not with one value a row.
        """
        found: dict[str, list[str | None]] = {}
        for column, watched in self.columns.items():
            array = arrays.get(column)
            if array is None or array.size != rows:
                continue
            texts = map(text_of, array.ravel().tolist())
            values = [text if text in watched else None for text in texts]
            if values.count(None) < rows:
                found[column] = values
        return found


def text_of(value: object) -> str:
    """A value as it is written in a pipeline file; a number without a fraction as a whole one."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)
