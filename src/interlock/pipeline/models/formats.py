"""The formats of models: how the path tells one, and which Python environment serves it."""

from __future__ import annotations

from typing import Literal, get_args

ModelFormat = Literal["skops", "joblib", "onnx", "xgboost", "lightgbm", "mlflow", "python"]

MODEL_FORMATS: tuple[ModelFormat, ...] = get_args(ModelFormat)

LATER_FORMATS = ("pickle", "catboost", "torch", "tensorflow", "keras", "safetensors")

LATER_ENDINGS = (".cbm", ".pt", ".pth", ".h5", ".keras", ".safetensors")

ENDINGS: dict[str, ModelFormat] = {
    ".skops": "skops",
    ".joblib": "joblib",
    ".pkl": "joblib",
    ".pickle": "joblib",
    ".onnx": "onnx",
    ".ubj": "xgboost",
    ".lgb": "lightgbm",
    ".py": "python",
}

SHARED_ENDINGS: dict[str, ModelFormat] = {".json": "xgboost", ".txt": "lightgbm"}
"""Endings that many kinds of file have: what a model with one of them is, has to be said."""

MORE_NEEDED: frozenset[ModelFormat] = frozenset({"onnx", "mlflow"})
"""Formats that are served with more packages than the model server needs for every model."""


EXPORTABLE: frozenset[ModelFormat] = frozenset({"skops", "joblib", "xgboost", "lightgbm", "mlflow"})
"""Formats of models that may become ONNX, where that is proven to answer the same."""

SERVED_MODEL = ".interlock/served"
"""Where the stage ``served`` leaves what was served: ``original``, and ``model.onnx`` where it was exported."""


def format_of(path: str, named: str | None) -> ModelFormat:
    """The format of a model: the one that is named, else the one of the path's ending, else skops."""
    for known in MODEL_FORMATS:
        if named == known:
            return known
    return next((found for ending, found in ENDINGS.items() if path.lower().endswith(ending)), "skops")


def serving_purpose(model_format: str) -> str:
    """The purpose of the Python environment that serves a model of the format: ``serve``, or ``serve-onnx``."""
    return f"serve-{model_format}" if model_format in MORE_NEEDED else "serve"
