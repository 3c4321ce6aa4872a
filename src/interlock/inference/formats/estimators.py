"""Estimators of scikit-learn, or what behaves as one: saved by skops, joblib or pickle."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..inputs import Array, Batch, Signature
from ..model import Model
from .arranging import arrange, checked, find_frame, is_wanted, plain


def load_skops(file: Path) -> Model:
    """The estimator in a skops archive."""
    skops = importlib.import_module("skops.io")
    # Trusted as a whole: the digest of these bytes was just checked against the one that a trusted run has signed.
    return Estimator(skops.load(file, trusted=skops.get_untrusted_types(file=file)))


def load_joblib(file: Path) -> Model:
    """The estimator in a file of joblib or pickle."""
    return Estimator(importlib.import_module("joblib").load(file))


class Estimator:
    """An object with ``predict``, and perhaps ``predict_proba``. ``names`` are the columns that it remembers."""

    signature = Signature()  # it remembers names at most, never types

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self._transformers, self._final = _take_apart(estimator)
        self.names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
        self._width = getattr(estimator, "n_features_in_", None)
        self._frame = find_frame()
        self._outputs: dict[str, Callable[[Any], Array]] = {"prediction": self._predict}
        if hasattr(estimator, "predict_proba"):
            self._outputs["probability"] = self._estimate

    @property
    def outputs(self) -> frozenset[str]:
        """The names of what it can answer."""
        return frozenset(self._outputs)

    def answer(self, batch: Batch) -> dict[str, Array]:
        """The wanted outputs by name, one entry for every row."""
        argument = arrange(batch, self.names, self._width, self._frame)
        for transformer in self._transformers:
            argument = transformer.transform(argument)
        answers = {}
        for name, output in self._outputs.items():
            if is_wanted(name, batch):
                answers[name] = output(argument)
        return checked(answers, batch.rows)

    def _predict(self, argument: Any) -> Array:
        return plain(self._final.predict(argument))

    def _estimate(self, argument: Any) -> Array:
        probability = plain(self._final.predict_proba(argument))
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
