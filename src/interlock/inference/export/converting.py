"""A model and the signature of its golden requests become the bytes of a graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..formats.boosters import Booster
from ..formats.estimators import Estimator
from ..formats.graphs import LIMITS, WHOLE
from ..formats.mlflow_folder import Described
from ..inputs import Column
from ..model import Model
from ..nodes.boosted import Boosted, add_boosted
from ..nodes.graph import Building, NotExportable, Scores, Tensor
from ..nodes.lightgbm_trees import read_lightgbm
from ..nodes.xgboost_trees import read_xgboost
from ..protocol.tensors import INTEGERS
from .predicting import predict
from .preparing import matrix, prepare

NUMBER = np.dtype(np.int64)
"""Of the class that a booster chooses, counted from 0."""

Limits = Mapping[str, Mapping[str, Any]]

Source: TypeAlias = Estimator | Booster
"""What a graph can be made of."""


def source_of(model: Model) -> Source:
    """The estimator or booster, without what is around it. NotExportable where there is neither."""
    inner = model.model if isinstance(model, Described) else model
    if not isinstance(inner, Estimator | Booster):
        raise NotExportable("it is no model of scikit-learn, XGBoost or LightGBM")
    return inner


def takes_whole(names: Sequence[str], columns: Sequence[Column]) -> bool:
    """Whether the inputs side by side are the model's row, and not columns by the names that it remembers."""
    return not names or (len(columns) == 1 and (len(names) != 1 or names[0] != columns[0].name))


def used_columns(source: Source, columns: Sequence[Column]) -> list[Column]:
    """The inputs that the model looks at."""
    if takes_whole(source.names, columns):
        return list(columns)
    return [column for column in columns if column.name in source.names]


def steps_of(estimator: Any) -> list[Any]:
    """What prepares the rows, and at last what predicts."""
    return [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]


def read_booster(source: Booster) -> Boosted:
    """The trees of a booster, whichever library's."""
    is_xgboost = type(source.held).__module__.startswith("xgboost.")
    return read_xgboost(source.held) if is_xgboost else read_lightgbm(source.held)


def convert(source: Source, columns: Sequence[Column], limits: Limits) -> bytes:
    """The graph that takes these columns and answers what the model does. NotExportable says why there is none."""
    building = Building()
    given = _declare(building, source.names, columns)
    if isinstance(source, Booster):
        scores = add_boosted(building, read_booster(source), matrix(building, given))
        outputs = _outputs(scores, scores.likelier)
    else:
        *before, final = steps_of(source.estimator)
        for step in before:
            given = prepare(building, step, given)
        scores = predict(building, final, matrix(building, given))
        outputs = _outputs(scores) if scores.prediction else _classified(building, final, scores)
    notes = {LIMITS: limits, WHOLE: {one.name: one.datatype for one in columns if one.datatype in INTEGERS}}
    return building.finish(outputs, {name: json.dumps(note) for name, note in notes.items() if note})


def _declare(building: Building, names: Sequence[str], columns: Sequence[Column]) -> Mapping[str, Tensor]:
    """The inputs by the names that the model knows them by; those without names as one."""
    if missing := set(names) - {column.name for column in columns} if not takes_whole(names, columns) else ():
        raise NotExportable(f"the golden requests have no input {min(missing)!r}")
    inputs = {column.name: building.input(column) for column in columns}
    if not takes_whole(names, columns):
        return {name: inputs[name] for name in names}
    return {"0": building.join(list(inputs.values())) if len(inputs) > 1 else next(iter(inputs.values()))}


def _classified(building: Building, final: Any, scores: Scores) -> dict[str, Any]:
    classes = np.asarray(final.classes_)
    if classes.dtype.kind not in "biuUO" or not all(isinstance(one, str | int | bool) for one in classes.tolist()):
        raise NotExportable("its classes are neither texts nor whole numbers")
    return _outputs(scores, building.node("Gather", building.constant(classes), scores.likelier), classes.dtype)


def _outputs(scores: Scores, chosen: str = "", of_chosen: np.dtype[Any] = NUMBER) -> dict[str, Any]:
    """By name the value, its type, and its shape without the rows."""
    tail = (scores.width,) if scores.width else ()
    if scores.prediction:
        return {"prediction": (scores.prediction, scores.dtype, tail)}
    return {"prediction": (chosen, of_chosen, ()), "probability": (scores.probability, scores.dtype, tail)}
