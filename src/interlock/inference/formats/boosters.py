"""XGBoost and LightGBM in their own files, which hold trees and no code.

Both are asked as their own scikit-learn classes would answer: of a classifier the class, counted from 0, and its
probability; of anything else the number that the file's objective gives.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..inputs import Array, Batch, Column, Signature
from ..model import Model, Unloadable
from .arranging import arrange_numbers, checked, count_threads, decide, is_wanted, plain

HEADER_LINES = 40
CLASSES = frozenset({"multi:softmax", "binary:hinge"})
"""Objectives of XGBoost that answer a class and no probability."""


class Booster:
    """Trees that take numbers. ``names`` are its columns where they are more than numbered, ``width`` how many.

    ``ask`` answers, for an array of (rows, width), probabilities where ``is_classifier``, else the predictions;
    ``held`` is the library's own Booster.
    """

    def __init__(
        self, held: Any, names: list[str], width: int, *, is_classifier: bool, ask: Callable[[Array], Any]
    ) -> None:
        self.held = held
        self.names = names
        self._width = width
        self._is_classifier = is_classifier
        self._ask = ask

    @property
    def outputs(self) -> frozenset[str]:
        """The names of what it can answer."""
        return frozenset({"prediction", "probability"} if self._is_classifier else {"prediction"})

    @property
    def signature(self) -> Signature:
        """Its columns, where they have names."""
        return Signature(Column(name, "FP64") for name in self.names)

    def answer(self, batch: Batch) -> dict[str, Array]:
        """The wanted outputs by name, one entry for every row."""
        answer = plain(self._ask(arrange_numbers(batch, self.names, self._width)))
        found = {"prediction": decide(answer), "probability": answer} if self._is_classifier else {"prediction": answer}
        return checked({name: array for name, array in found.items() if is_wanted(name, batch)}, batch.rows)


def load_xgboost(file: Path) -> Model:
    """A booster that XGBoost saved as JSON or UBJSON, used up to its best iteration where it has one."""
    xgboost = importlib.import_module("xgboost")
    booster = xgboost.Booster({"nthread": count_threads()}, model_file=str(file))
    if "c" in (booster.feature_types or ()):
        raise Unloadable("it was trained on categories, whose names the file does not hold: save it with joblib")
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    best = booster.attributes().get("best_iteration")
    rounds = (0, int(best) + 1 if best is not None else 0)

    def ask(table: Array) -> Any:
        answer = booster.inplace_predict(table, iteration_range=rounds, validate_features=False)
        return answer.astype(np.int64) if objective in CLASSES else answer

    is_classifier = objective in ("binary:logistic", "multi:softprob")
    return Booster(booster, booster.feature_names or [], booster.num_features(), is_classifier=is_classifier, ask=ask)


def load_lightgbm(file: Path) -> Model:
    """A booster that LightGBM saved as text."""
    lightgbm = importlib.import_module("lightgbm")
    text = file.read_text(encoding="utf-8")
    if text.rpartition("pandas_categorical:")[2].strip() not in ("null", "[]", ""):
        raise Unloadable("it was trained on categories of pandas: save it with joblib")
    booster = lightgbm.Booster(model_str=text)
    header = dict(line.split("=", 1) for line in text.split("\n", HEADER_LINES)[:HEADER_LINES] if "=" in line)
    objective = header.get("objective", "").split(" ")[0]
    names = booster.feature_name()
    is_numbered = names == [f"Column_{index}" for index in range(len(names))]
    threads = count_threads()

    def ask(table: Array) -> Any:
        return booster.predict(table, num_threads=threads)

    is_classifier = objective in ("binary", "multiclass", "multiclassova")
    width = booster.num_feature()
    return Booster(booster, [] if is_numbered else names, width, is_classifier=is_classifier, ask=ask)
