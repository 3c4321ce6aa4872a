"""A graph of ONNX, built node by node. Everything is computed in double precision, as scikit-learn does."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..inputs import Array, Column

OPSET, TREES_OPSET, IR = 21, 5, 10
TREES = "ai.onnx.ml"
ROWS = "rows"
KINDS = {"BYTES": "STRING", "BOOL": "BOOL", "FP32": "FLOAT"}
"""ONNX's types of inputs that are not computed with as they come."""


class NotExportable(Exception):
    """No graph can be made of the model; the text tells why."""


class Tensor(NamedTuple):
    """A value in the graph, of shape (rows, ``width``): numbers in double precision, or texts."""

    name: str
    width: int
    is_text: bool = False


class Scores(NamedTuple):
    """What an estimator says of each row: of a classifier the ``probability`` of each class (or of the second of two),
    and the number of the ``likelier`` class; else the prediction. ``dtype`` is of the probability, else the prediction.
    """

    prediction: str = ""
    probability: str = ""
    likelier: str = ""
    width: int = 0
    dtype: np.dtype[Any] = np.dtype(np.float64)


class Building:
    """The nodes and constants of a graph so far."""

    def __init__(self) -> None:
        self._onnx = importlib.import_module("onnx")
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []

    def node(self, operation: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node; answers the name of its one output."""
        name = f"n{len(self._nodes)}"
        made = self._onnx.helper.make_node(operation, list(inputs), [name], domain=domain, **attributes)
        self._nodes.append(made)
        return name

    def constant(self, values: Any) -> str:
        """Adds a constant: an array, texts among them as objects."""
        name = f"c{len(self._constants)}"
        array = np.asarray(values)
        if array.dtype.kind in "UO":
            texts = [str(value).encode() for value in array.ravel()]
            kind = self._onnx.TensorProto.STRING
            self._constants.append(self._onnx.helper.make_tensor(name, kind, array.shape, texts))
        else:
            self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def tensor_of(self, array: Array) -> Any:
        """An array as the value of an attribute."""
        return self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), "")

    def cast(self, name: str, to: str) -> str:
        """The value in another type, as ONNX names it: ``DOUBLE``."""
        return self.node("Cast", name, to=getattr(self._onnx.TensorProto, to))

    def input(self, column: Column) -> Tensor:
        """Declares an input; answers it as numbers in double precision, or texts.

        Of whole numbers some may be missing, which whole numbers cannot say: they come in double precision.
        """
        kind = KINDS.get(column.datatype, "DOUBLE")
        shape = [ROWS, *column.tail]
        of_kind = getattr(self._onnx.TensorProto, kind)
        self._inputs.append(self._onnx.helper.make_tensor_value_info(column.name, of_kind, shape))
        name = column.name
        if not column.tail:
            name = self.node("Unsqueeze", name, self.constant(np.array([1])))
        elif len(column.tail) > 1:
            raise NotExportable(f"the input {column.name} has more than two dimensions")
        if kind == "STRING":
            return Tensor(name, (column.tail or (1,))[0], is_text=True)
        return Tensor(name if kind == "DOUBLE" else self.cast(name, "DOUBLE"), (column.tail or (1,))[0])

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Numbers side by side."""
        if texts := [part for part in parts if part.is_text]:
            raise NotExportable(f"texts are used as numbers ({len(texts)} columns)")
        if len(parts) == 1:
            return parts[0]
        width = sum(part.width for part in parts)
        return Tensor(self.node("Concat", *(part.name for part in parts), axis=1), width)

    def pick(self, of: Tensor, places: Sequence[int]) -> Tensor:
        """Some of the columns, by their places."""
        index = self.constant(np.array(list(places), dtype=np.int64))
        return Tensor(self.node("Gather", of.name, index, axis=1), len(places), of.is_text)

    def finish(
        self, outputs: Mapping[str, tuple[str, np.dtype[Any], tuple[int, ...]]], notes: Mapping[str, str]
    ) -> bytes:
        """The file. ``outputs`` are, by name, the value, its type and its shape without the rows."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        described = []
        for name, (value, dtype, tail) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name]))
            kind = kinds.STRING if dtype.kind in "UO" else helper.np_dtype_to_tensor_dtype(dtype)
            described.append(helper.make_tensor_value_info(name, kind, [ROWS, *tail]))
        graph = helper.make_graph(self._nodes, "exported", self._inputs, described, self._constants)
        sets = [helper.make_opsetid("", OPSET), helper.make_opsetid(TREES, TREES_OPSET)]
        model = helper.make_model(graph, ir_version=IR, opset_imports=sets, producer_name="interlock")
        helper.set_model_props(model, dict(notes))
        self._onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content
