"""The model itself: its bytes checked, loaded from a private copy of exactly those bytes, and asked.

The bytes are hashed while they are copied, each file opened once: what is loaded is what was hashed, whatever happens
to the original meanwhile. A model is loaded as code is: whoever can choose its bytes can run anything here. That is why
the digest is checked first, and why all this runs in a sandbox.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from .inputs import Array, Batch, InvalidRequest

FOLDER_CONTEXT = "interlock artifact folder 1"
"""Keeps digests of folders apart from those of files; the artifact store uses the same."""

SUFFIXES = {"skops": (".skops",), "joblib": (".joblib", ".pkl", ".pickle")}


class DigestDiffers(Exception):
    """The bytes are not the ones that were admitted."""


class Unloadable(Exception):
    """The bytes are right, and still no model can be made of them here."""


@contextmanager
def copy_checked(model: Path, digest: str) -> Iterator[Path]:
    """A private copy of a model's file or folder, whose digest is ``digest``; it is gone afterwards.

    DigestDiffers where the digest is another, or where there is nothing that has one.
    """
    with tempfile.TemporaryDirectory(prefix="interlock-model-") as private:
        target = Path(private) / (model.resolve().name or "model")
        try:
            found = _copy_folder(model, target) if model.is_dir() else _copy_file(model, target)[0]
        except (OSError, UnicodeEncodeError) as fault:
            raise DigestDiffers(f"{model} cannot be read: {fault}") from fault
        if found != digest:
            raise DigestDiffers(f"{model} has the digest {found}, not the admitted {digest}")
        yield target


def _copy_file(source: Path, target: Path) -> tuple[str, bool]:
    """Copies; answers the digest of what was copied, and whether its owner may execute it."""
    hasher = blake3()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(1 << 20):
            hasher.update(chunk)
            writer.write(chunk)
        is_executable = bool(os.fstat(reader.fileno()).st_mode & stat.S_IXUSR)
    target.chmod(0o700 if is_executable else 0o600)
    return f"blake3:{hasher.hexdigest()}", is_executable


def _copy_folder(source: Path, target: Path) -> str:
    """Copies every file; answers the digest of their manifest, by which the artifact store knows the folder."""
    files = {}
    for path in source.rglob("*"):
        if path.is_file():
            name = path.relative_to(source).as_posix()
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            files[name] = _copy_file(path, target / name)
    manifest = json.dumps({"files": files}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"blake3:{blake3(manifest.encode(), derive_key_context=FOLDER_CONTEXT).hexdigest()}"


def load(copy: Path, format_name: str) -> Any:
    """The estimator in the private copy of a model's file or folder. Unloadable says why it cannot be loaded.

    A folder goes first on ``sys.path``: it may carry the modules that the model's classes come from.
    """
    sys.path.insert(0, str(copy if copy.is_dir() else copy.parent))
    file = find_model_file(copy, format_name)
    try:
        return _LOADERS[format_name](file)
    except Exception as fault:
        remedy = ""
        if isinstance(fault, AttributeError | ModuleNotFoundError):
            remedy = "; classes of your own belong in a module that lies in the model's folder"
        raise Unloadable(f"{file.name} cannot be loaded: {type(fault).__name__}: {fault}{remedy}") from fault


def find_model_file(copy: Path, format_name: str) -> Path:
    """The one file of the format, or of several the one named ``model``."""
    if copy.is_file():
        return copy
    files = sorted(path for path in copy.rglob("*") if path.suffix in SUFFIXES[format_name] and path.is_file())
    chosen = [path for path in files if path.stem == "model"] if len(files) > 1 else files
    if len(chosen) == 1:
        return chosen[0]
    wanted = " or ".join(f"*{suffix}" for suffix in SUFFIXES[format_name])
    if not files:
        raise Unloadable(f"the model's folder holds no {wanted}")
    names = ", ".join(str(path.relative_to(copy)) for path in files[:5])
    raise Unloadable(
        f"the model's folder holds {len(files)} files {wanted} ({names}): name one of them model{wanted[1:7]}"
    )


def _load_skops(file: Path) -> Any:
    skops = importlib.import_module("skops.io")
    # Trusted as a whole: the digest of these bytes was just checked against the one that a trusted run has signed.
    return skops.load(file, trusted=skops.get_untrusted_types(file=file))


def _load_joblib(file: Path) -> Any:
    return importlib.import_module("joblib").load(file)


_LOADERS: Mapping[str, Callable[[Path], Any]] = {"skops": _load_skops, "joblib": _load_joblib}


class Model:
    """An estimator, asked with the arrays of a request. Whatever its own code raises is let through."""

    def __init__(self, estimator: Any) -> None:
        self._transformers, self._final = _take_apart(estimator)
        self._names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
        self._width = getattr(estimator, "n_features_in_", None)
        has_pandas = importlib.util.find_spec("pandas") is not None
        self._frame = importlib.import_module("pandas").DataFrame if has_pandas else None
        self._outputs: dict[str, Callable[[Any], Array]] = {"prediction": self._predict}
        if hasattr(estimator, "predict_proba"):
            self._outputs["probability"] = self._estimate

    @property
    def outputs(self) -> frozenset[str]:
        """The names of what it can answer."""
        return frozenset(self._outputs)

    def answer(self, batch: Batch) -> dict[str, Array]:
        """The wanted outputs by name, one entry for every row. ValueError where the model gave another number."""
        argument = self._arrange(batch)
        for transformer in self._transformers:
            argument = transformer.transform(argument)
        answers = {
            name: output(argument)
            for name, output in self._outputs.items()
            if batch.wanted is None or name in batch.wanted
        }
        for name, array in answers.items():
            if array.ndim == 0 or len(array) != batch.rows:
                raise ValueError(f"the model answered a {name} of shape {array.shape} for {batch.rows} rows")
        return answers

    def _arrange(self, batch: Batch) -> Any:
        """What the estimator is called with: a table of named columns, or the one array.

        One tensor of texts is handed over as it is (a text classifier); one of numbers gets two dimensions.
        """
        arrays = batch.arrays
        if len(arrays) == 1 and self._names != list(arrays):
            (array,) = arrays.values()
            if array.ndim == 1 and array.dtype != object:
                array = array.reshape(-1, 1)
            if array.ndim == 2 and self._width not in (None, array.shape[1]):
                raise InvalidRequest(f"{array.shape[1]} values a row, the model takes {self._width}")
            return array
        if wide := [name for name, array in arrays.items() if array.size != batch.rows]:
            raise InvalidRequest(f"of several inputs each is one column, {wide[0]!r} has more than one value a row")
        # In the order of the training, which the estimator insists on; of what it has not seen it wants nothing.
        names = self._names or list(arrays)
        if missing := [name for name in names if name not in arrays]:
            raise InvalidRequest(f"missing inputs: {', '.join(map(repr, missing[:10]))}")
        columns = {name: arrays[name].reshape(batch.rows) for name in names}
        return self._frame(columns) if self._frame is not None else np.column_stack(list(columns.values()))

    def _predict(self, argument: Any) -> Array:
        return _plain(self._final.predict(argument))

    def _estimate(self, argument: Any) -> Array:
        probability = _plain(self._final.predict_proba(argument))
        if probability.ndim == 2 and probability.shape[1] == 2:
            # Two classes: the probability of the second says it all.
            return np.ascontiguousarray(probability[:, 1])
        return probability


def _take_apart(estimator: Any) -> tuple[list[Any], Any]:
    """What prepares the input, and what predicts.

    A scikit-learn pipeline prepares its input anew for each output, which is most of the time; here that is done once.
    """
    if (type(estimator).__module__, type(estimator).__name__) != ("sklearn.pipeline", "Pipeline"):
        return [], estimator
    *before, (_, final) = estimator.steps
    return [step for _, step in before if step is not None and step != "passthrough"], final


def _plain(answer: Any) -> Array:
    """An array of a kind that the protocol can say: texts and mixed things become texts."""
    array = np.ascontiguousarray(answer)
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        return array.astype(np.float32) if array.dtype == np.float16 else array
    return np.array([str(value) for value in array.ravel()], dtype=object).reshape(array.shape)
