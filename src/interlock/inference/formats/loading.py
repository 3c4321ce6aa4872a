"""Which loader makes a model of which file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..model import Model, Unloadable
from .boosters import load_lightgbm, load_xgboost
from .estimators import load_joblib, load_skops
from .graphs import load_onnx
from .mlflow_folder import MARK, load_mlflow
from .pickles import refusing_commands
from .plain_class import load_plain_class


class Format(NamedTuple):
    """How a model was saved: the endings of its file, the first the usual one, and what loads it."""

    suffixes: tuple[str, ...]
    load: Callable[[Path], Model]


FORMATS: Mapping[str, Format] = {
    "skops": Format((".skops",), load_skops),
    "joblib": Format((".joblib", ".pkl", ".pickle"), load_joblib),
    "onnx": Format((".onnx",), load_onnx),
    "xgboost": Format((".ubj", ".json", ".xgb"), load_xgboost),
    "lightgbm": Format((".txt", ".lgb"), load_lightgbm),
    "mlflow": Format((MARK,), load_mlflow),
    "python": Format((".py",), load_plain_class),
}


def load(copy: Path, format_name: str) -> Model:
    """The model in the private copy of a model's file or folder. Unloadable says why it cannot be loaded.

    A folder goes first on ``sys.path``: it may carry the modules that the model's classes come from.
    """
    sys.path.insert(0, str(copy if copy.is_dir() else copy.parent))
    file = find_model_file(copy, format_name)
    try:
        with refusing_commands():
            return FORMATS[format_name].load(file)
    except Unloadable as fault:
        raise Unloadable(f"{file.name} cannot be loaded: {fault}") from fault
    except Exception as fault:
        raise Unloadable(f"{file.name} cannot be loaded: {type(fault).__name__}: {fault}{_remedy(fault)}") from fault


def find_model_file(copy: Path, format_name: str) -> Path:
    """The one file of the format, or of several the one named ``model``."""
    if copy.is_file():
        return copy
    suffixes = FORMATS[format_name].suffixes
    files = sorted(path for path in copy.rglob("*") if path.name.endswith(suffixes) and path.is_file())
    chosen = [path for path in files if path.stem == "model"] if len(files) > 1 else files
    if len(chosen) == 1:
        return chosen[0]
    wanted = " or ".join(f"*{suffix}" for suffix in suffixes)
    if not files:
        raise Unloadable(f"the model's folder holds no {wanted}")
    names = ", ".join(str(path.relative_to(copy)) for path in files[:5])
    raise Unloadable(
        f"the model's folder holds {len(files)} files {wanted} ({names}): name one of them model{suffixes[0]}"
    )


def _remedy(fault: Exception) -> str:
    if isinstance(fault, ModuleNotFoundError):
        return "; a package belongs into the model's lock, classes of your own into a module in the model's folder"
    if isinstance(fault, AttributeError):
        return "; classes of your own belong in a module that lies in the model's folder"
    return ""
