"""What every format does with a request's arrays before the model, and with its answers after it."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..inputs import Array, Batch, InvalidRequest

NUMBERS = "?bBhHiIlLqQfd"
"""The characters of numpy's types of numbers that the protocol can say, and of the one that must be widened."""
HALF = "e"

Frame = Callable[[Mapping[str, Array]], Any]


def arrange(batch: Batch, names: Sequence[str], width: int | None, frame: Frame | None) -> Any:
    """What an estimator is called with: the one array, or a table of named columns, made by ``frame`` where there is.

    One tensor of texts is handed over as it is (a text classifier); one of numbers gets two dimensions. ``names`` are
    the columns that the model remembers, ``width`` how many. InvalidRequest where the request does not fit them.
    """
    arrays = batch.arrays
    if len(arrays) == 1 and (len(names) != 1 or names[0] not in arrays):
        (array,) = arrays.values()
        if array.ndim == 1 and array.dtype != object:
            array = array.reshape(-1, 1)
        if array.ndim == 2 and width not in (None, array.shape[1]):
            raise InvalidRequest(f"{array.shape[1]} values a row, the model takes {width}")
        return array
    if wide := [name for name, array in arrays.items() if array.size != batch.rows]:
        raise InvalidRequest(f"of several inputs each is one column, {wide[0]!r} has more than one value a row")
    # In the order of the training, which the estimator insists on; of what it has not seen it wants nothing.
    names = names or list(arrays)
    if missing := [name for name in names if name not in arrays]:
        raise InvalidRequest(f"missing inputs: {', '.join(map(repr, missing[:10]))}")
    columns = {name: arrays[name].reshape(batch.rows) for name in names}
    return frame(columns) if frame is not None else np.column_stack(list(columns.values()))


def arrange_numbers(batch: Batch, names: Sequence[str], width: int) -> Array:
    """The request as one array of numbers, of shape (rows, ``width``). InvalidRequest where there are texts."""
    if texts := [name for name, array in batch.arrays.items() if array.dtype == object]:
        raise InvalidRequest(f"input {texts[0]!r}: the model takes numbers only")
    array: Array = arrange(batch, names, width, None)
    if array.ndim != 2 or array.shape[1] != width:
        raise InvalidRequest(f"the model takes {width} values a row")
    return array


def find_frame() -> Frame | None:
    """What makes a table of columns, where pandas is installed."""
    has_pandas = importlib.util.find_spec("pandas") is not None
    frame: Frame | None = importlib.import_module("pandas").DataFrame if has_pandas else None
    return frame


def is_wanted(name: str, batch: Batch) -> bool:
    """Whether the request asks for the output."""
    return batch.wanted is None or name in batch.wanted


def checked(answers: dict[str, Array], rows: int) -> dict[str, Array]:
    """The answers; ValueError where one does not have an entry for every row."""
    for name, array in answers.items():
        if array.ndim == 0 or len(array) != rows:
            raise ValueError(f"the model answered a {name} of shape {array.shape} for {rows} rows")
    return answers


def plain(answer: Any) -> Array:
    """An array of a kind that the protocol can say: texts and mixed things become texts."""
    array = np.ascontiguousarray(answer)
    kind = array.dtype.char
    if kind in NUMBERS:
        return array
    if kind == HALF:
        return array.astype(np.float32)
    return np.array([str(value) for value in array.ravel()], dtype=object).reshape(array.shape)


def decide(probability: Array) -> Array:
    """The class of each row, counted from 0: the likelier one; of two, the second where it is above one half.

    ``probability`` is of the second class, or has a column for each class.
    """
    chosen = probability > 0.5 if probability.ndim == 1 else probability.argmax(axis=1)
    return chosen.astype(np.int64)


def count_threads() -> int:
    """How many threads the model may use: the replica's cores, as whoever starts it says."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(said)) if said.isdigit() else 1
