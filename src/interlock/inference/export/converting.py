"""An estimator and the signature of its golden requests become the bytes of a graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..formats.graphs import LIMITS
from ..inputs import Column
from .graph import Building, NotExportable
from .predicting import predict
from .preparing import matrix, prepare

Limits = Mapping[str, Mapping[str, Any]]


def convert(estimator: Any, columns: Sequence[Column], limits: Limits) -> bytes:
    """The graph that takes these columns and answers what ``Estimator`` does. NotExportable says why there is none."""
    building = Building()
    names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    known = [column for column in columns if column.name in names] if names else list(columns)
    if missing := set(names) - {column.name for column in known}:
        raise NotExportable(f"the golden requests have no input {min(missing)!r}")
    inputs = {column.name: building.input(column) for column in known}
    if not names:
        inputs = {"0": building.join(list(inputs.values()))} if len(inputs) > 1 else {"0": next(iter(inputs.values()))}
    else:
        inputs = {name: inputs[name] for name in names}
    *before, final = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    given: Mapping[str, Any] = inputs
    for step in before:
        given = prepare(building, step, given)
    scores = predict(building, final, matrix(building, given))
    if scores.prediction:
        outputs: dict[str, Any] = {"prediction": (scores.prediction, np.dtype(np.float64), ())}
    else:
        classes = np.asarray(final.classes_)
        if classes.dtype.kind not in "biuUO" or not all(isinstance(one, str | int | bool) for one in classes.tolist()):
            raise NotExportable("its classes are neither texts nor whole numbers")
        chosen = building.node("Gather", building.constant(classes), scores.likelier)
        tail = (scores.width,) if scores.width else ()
        outputs = {
            "prediction": (chosen, classes.dtype, ()),
            "probability": (scores.probability, np.dtype(np.float64), tail),
        }
    return building.finish(outputs, {LIMITS: json.dumps(limits)} if limits else {})
