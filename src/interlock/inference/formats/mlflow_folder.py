"""Folders of MLflow, known by the file ``MLmodel``.

A model of scikit-learn, XGBoost, LightGBM or ONNX is loaded as its own file says, without MLflow: that is faster, and
has probabilities. Any other is asked through MLflow itself, where the model's environment has it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..inputs import Array, Batch, Column, Signature
from ..model import Model, Unloadable
from ..protocol.tensors import FLOATS, INTEGERS
from .arranging import arrange, checked, find_frame, is_wanted, plain
from .boosters import load_lightgbm, load_xgboost
from .estimators import load_joblib, load_skops
from .graphs import load_onnx

MARK = "MLmodel"
DATATYPES = {
    "double": "FP64",
    "float": "FP32",
    "long": "INT64",
    "integer": "INT32",
    "boolean": "BOOL",
    "string": "BYTES",
}
"""Types of columns of a signature, and the protocol's."""

FLAVOURS: Mapping[str, Callable[[Path], Model] | None] = {
    "sklearn": None,
    "xgboost": load_xgboost,
    "lightgbm": load_lightgbm,
    "onnx": load_onnx,
}
"""What loads a flavour's file where its ending does not tell otherwise."""

ENDINGS = {".skops": load_skops, ".pkl": load_joblib, ".pickle": load_joblib, ".joblib": load_joblib}


def load_mlflow(file: Path) -> Model:
    """The model of the folder that the file ``MLmodel`` describes."""
    if importlib.util.find_spec("yaml") is None:
        raise Unloadable("it is read with PyYAML, which this environment does not have")
    described = importlib.import_module("yaml").safe_load(file.read_text(encoding="utf-8"))
    flavours = described.get("flavors") if isinstance(described, dict) else None
    if not isinstance(flavours, dict):
        raise Unloadable("it names no flavors")
    loaded = _load_flavour(file.parent, flavours) or _load_any(file.parent, flavours)
    signature = _read_signature(described.get("signature"))
    return Described(loaded, signature) if signature.columns else loaded


def _load_flavour(folder: Path, flavours: Mapping[str, Any]) -> Model | None:
    """The model of the first flavour that needs no MLflow; None where there is none."""
    for name, usual in FLAVOURS.items():
        told = flavours.get(name)
        if not isinstance(told, dict):
            continue
        place = told.get("pickled_model") or told.get("data")
        if not isinstance(place, str):
            continue
        path = (folder / place).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            raise Unloadable(f"its flavor {name} is kept in {place}, which is no file of the folder")
        load = ENDINGS.get(path.suffix, usual)
        if load is not None:
            _show_code(folder, told)
            return load(path)
    return None


def _show_code(folder: Path, told: Mapping[str, Any]) -> None:
    """The modules that were saved beside the model can be imported."""
    if isinstance(code := told.get("code"), str):
        sys.path.insert(0, str(folder / code))


def _load_any(folder: Path, flavours: Mapping[str, Any]) -> Model:
    if "python_function" not in flavours:
        raise Unloadable(f"none of its flavors can be served: {', '.join(map(str, flavours))}")
    if importlib.util.find_spec("mlflow") is None:
        module = str(flavours["python_function"].get("loader_module"))
        raise Unloadable(f"it is loaded by {module}, but mlflow is not in the model's lock: add mlflow-skinny")
    return Function(importlib.import_module("mlflow.pyfunc").load_model(str(folder)))


class Function:
    """A ``python_function``: a table goes in, predictions come out."""

    outputs = frozenset({"prediction"})
    signature = Signature()

    def __init__(self, function: Any) -> None:
        self._function = function
        self._frame = find_frame()

    def answer(self, batch: Batch) -> dict[str, Array]:
        """The prediction, one entry for every row."""
        wanted = [name for name in self.outputs if is_wanted(name, batch)]
        table = arrange(batch, (), None, self._frame)
        return checked({name: plain(self._function.predict(table)) for name in wanted}, batch.rows)


class Described:
    """A model whose folder tells the types of its columns."""

    def __init__(self, model: Model, signature: Signature) -> None:
        self.model = model
        self.signature = signature

    @property
    def outputs(self) -> frozenset[str]:
        """The names of what it can answer."""
        return self.model.outputs

    def answer(self, batch: Batch) -> dict[str, Array]:
        """The wanted outputs by name, one entry for every row."""
        return self.model.answer(batch)


def _read_signature(told: object) -> Signature:
    """The columns, or the one named tensor; without columns where the folder tells none, or what cannot be said."""
    inputs = json.loads(told["inputs"]) if isinstance(told, dict) and isinstance(told.get("inputs"), str) else []
    columns = []
    for entry in inputs:
        tensor = entry.get("tensor-spec") or {}
        shape, dtype = tensor.get("shape", [-1]), tensor.get("dtype")
        numbers = {**INTEGERS, **FLOATS}.items()
        names = {str(known): datatype for datatype, known in numbers} if dtype else DATATYPES
        datatype = names.get(str(dtype or entry.get("type")))
        if not entry.get("name") or datatype is None or any(size < 1 for size in shape[1:]):
            return Signature()
        columns.append(Column(str(entry["name"]), datatype, tuple(shape[1:])))
    return Signature(columns)
