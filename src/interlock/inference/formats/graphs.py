"""ONNX: a graph of arithmetic, run by onnxruntime. Names, types and shapes of inputs are in the file."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..inputs import Array, Batch, Column, InvalidRequest, Signature
from ..model import Model, Unloadable
from ..protocol.tensors import FLOATS, INTEGERS
from .arranging import checked, count_threads, plain

NUMBERS = {
    "float": "FP32",
    "double": "FP64",
    **{f"{'u' * (name[0] == 'U')}int{dtype.itemsize * 8}": name for name, dtype in INTEGERS.items()},
}
"""ONNX's names of element types, and the protocol's."""

DATATYPES = {**{f"tensor({name})": datatype for name, datatype in NUMBERS.items()}, "tensor(string)": "BYTES"}
DATATYPES["tensor(bool)"] = "BOOL"

TYPES: Mapping[str, Any] = {**INTEGERS, **FLOATS}

LIMITS = "interlock.limits"
"""Of an exported model: what its original refused, by input, as ``{"is_missing_refused": bool, "most": number}``."""

WHOLE = "interlock.whole"
"""Of an exported model: inputs of whole numbers, of which some may be missing, by their datatype in the protocol."""

MOST_SEVERE_ONLY = 4
"""What onnxruntime prints: nothing but what ends the process."""


def load_onnx(file: Path) -> Model:
    """The graph in an ONNX file; data outside of it must lie in the same folder."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = count_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = MOST_SEVERE_ONLY
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return Graph(session, runtime.RunOptions())


class Wanted:
    """One input of a graph; in ``shape`` a length that may vary is a name. An array of ``dtype`` whose rows have the
    shape ``tail`` is just what it takes.
    """

    def __init__(self, name: str, datatype: str, shape: Sequence[int | str | None]) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = list(shape)
        has_fixed_rows = bool(shape) and type(shape[0]) is int
        self.tail = None if has_fixed_rows else tuple(shape[1:])
        self.dtype: Any = TYPES.get(datatype)


class Graph:
    """One onnxruntime session. A missing text is the empty text; other missing values only numbers with fractions have.

    ``options`` are those of every run: without them each makes its own. Unloadable where an input or output is of a
    kind that the protocol cannot say.
    """

    def __init__(self, session: Any, options: Any) -> None:
        self._session = session
        self._options = options
        self._names = [node.name for node in session.get_outputs()]
        for node in (*session.get_inputs(), *session.get_outputs()):
            if node.type not in DATATYPES:
                hint = ": convert it with zipmap=False" if node.type.startswith("seq(map(") else ""
                raise Unloadable(f"{node.name} is a {node.type}, which the protocol cannot say{hint}")
        notes = session.get_modelmeta().custom_metadata_map
        self._limits, self._whole = (json.loads(notes.get(name, "{}")) for name in (LIMITS, WHOLE))
        self._inputs = {node.name: Wanted(node.name, DATATYPES[node.type], node.shape) for node in session.get_inputs()}
        if scalars := [name for name, wanted in self._inputs.items() if not wanted.shape]:
            raise Unloadable(f"the input {scalars[0]} has no dimension of rows")

    @property
    def outputs(self) -> frozenset[str]:
        """The names that the file gives them."""
        return frozenset(self._names)

    @property
    def signature(self) -> Signature:
        """As the file says; unknown where a length beside the number of rows is."""
        columns = []
        for name, wanted in self._inputs.items():
            tail = tuple(size for size in wanted.shape[1:] if type(size) is int and size > 0)
            if len(tail) != len(wanted.shape) - 1:
                return Signature()
            columns.append(Column(name, self._whole.get(name, wanted.datatype), tail))
        return Signature(columns)

    def answer(self, batch: Batch) -> dict[str, Array]:
        """The wanted outputs by name, one entry for every row."""
        if not self._inputs.keys() <= batch.arrays.keys():
            missing = [name for name in self._inputs if name not in batch.arrays]
            raise InvalidRequest(f"missing inputs: {', '.join(map(repr, missing[:10]))}")
        for name, limit in self._limits.items():
            _require_within(name, batch.arrays[name], limit)
        given = {name: _fitted(batch.arrays[name], wanted) for name, wanted in self._inputs.items()}
        names = self._names if batch.wanted is None else [name for name in self._names if name in batch.wanted]
        answers = self._session.run(names, given, self._options) if names else []
        return checked({name: plain(answer) for name, answer in zip(names, answers, strict=True)}, batch.rows)


def _require_within(name: str, array: Array, limit: Mapping[str, Any]) -> None:
    numbers = array.astype(np.float64, copy=False)
    if limit["is_missing_refused"] and np.isnan(numbers).any():
        raise InvalidRequest(f"input {name!r}: a value is missing, and the model takes none that is")
    if limit["most"] is not None and (np.abs(numbers) > limit["most"]).any():
        raise InvalidRequest(f"input {name!r}: a value is larger than the model takes")


def _fitted(array: Array, wanted: Wanted) -> Array:
    """The array in the type and rank of the graph's input."""
    # numpy takes None for the type of fractions.
    if wanted.dtype is not None and array.dtype == wanted.dtype and array.shape[1:] == wanted.tail:
        return array
    if array.ndim == 1 and len(wanted.shape) == 2:
        array = array.reshape(-1, 1)
    if array.ndim != len(wanted.shape) or any(
        type(size) is int and size != found for size, found in zip(wanted.shape, array.shape, strict=True)
    ):
        raise InvalidRequest(f"input {wanted.name!r}: shape {list(array.shape)}, the model takes {wanted.shape}")
    datatype = wanted.datatype
    if (array.dtype == object) != (datatype == "BYTES"):
        raise InvalidRequest(f"input {wanted.name!r}: every value must be a {datatype}")
    if datatype == "BYTES":
        return np.array(["" if value is None else value for value in array.flat], dtype=object).reshape(array.shape)
    if datatype == "BOOL":
        return array.astype(bool)
    if array.dtype.kind == "f" and datatype in INTEGERS:
        raise InvalidRequest(f"input {wanted.name!r}: every value must be an {datatype}, none may be missing")
    return array.astype(TYPES[datatype], copy=False)
