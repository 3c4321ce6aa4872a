"""Transformers of scikit-learn as nodes: columns are encoded, filled, scaled and put side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..nodes.graph import TREES, Building, NotExportable, Tensor

Given = Mapping[str, Tensor]
"""Columns by name; those without names are named by their place."""


def prepare(building: Building, step: Any, given: Given) -> Given:
    """What the transformer makes of the columns. NotExportable where it is of a kind that is not known here."""
    kind = type(step).__name__
    if step is None or step == "passthrough":
        return given
    if kind not in TRANSFORMERS or not type(step).__module__.startswith("sklearn."):
        raise NotExportable(f"{type(step).__module__}.{kind} is not known")
    return TRANSFORMERS[kind](building, step, given)


def matrix(building: Building, given: Given) -> Tensor:
    """All columns side by side."""
    return building.join(list(given.values()))


def _whole(tensor: Tensor) -> Given:
    return {"0": tensor}


def _prepare_pipeline(building: Building, step: Any, given: Given) -> Given:
    for _, inner in step.steps:
        given = prepare(building, inner, given)
    return given


def _prepare_columns(building: Building, step: Any, given: Given) -> Given:
    names = [str(name) for name in getattr(step, "feature_names_in_", given)]
    parts: list[Tensor] = []
    for _, inner, columns in step.transformers_:
        if isinstance(inner, str) and inner == "drop":
            continue
        chosen = _choose(building, given, names, columns)
        if chosen:
            parts.append(matrix(building, prepare(building, inner, chosen)))
    if not parts:
        raise NotExportable("no column is used")
    return _whole(building.join(parts))


def _choose(building: Building, given: Given, names: Sequence[str], columns: Any) -> Given:
    places = np.atleast_1d(np.asarray(range(len(names))[columns] if isinstance(columns, slice) else columns))
    if places.dtype == bool:
        places = np.flatnonzero(places)
    if list(given) == ["0"] and given["0"].width > 1:
        if not all(isinstance(place, int | np.integer) for place in places.tolist()):
            raise NotExportable("columns are chosen by names that the request does not have")
        return _whole(building.pick(given["0"], [int(place) for place in places])) if len(places) else {}
    wanted = [names[place] if isinstance(place, int) else str(place) for place in places.tolist()]
    if missing := [name for name in wanted if name not in given]:
        raise NotExportable(f"the golden requests have no input {missing[0]!r}")
    return {name: given[name] for name in wanted}


def _split(building: Building, given: Given) -> list[Tensor]:
    """Each column by itself."""
    return [
        one if one.width == 1 else building.pick(one, [place]) for one in given.values() for place in range(one.width)
    ]


def _encode_one_hot(building: Building, step: Any, given: Given) -> Given:
    if step.handle_unknown != "ignore":
        raise NotExportable(f"an encoder answers unknown categories with {step.handle_unknown!r}, not with ignore")
    if getattr(step, "drop_idx_", None) is not None or step.min_frequency or step.max_categories:
        raise NotExportable("an encoder drops or merges categories")
    parts = []
    for column, categories in zip(_split(building, given), step.categories_, strict=True):
        if column.is_text:
            codes = building.constant(np.arange(len(categories), dtype=np.int64).reshape(1, -1))
            hits = building.node("Equal", _codes(building, column, categories), codes)
        else:
            values = np.asarray(categories, dtype=np.float64)
            if np.isnan(values).any():
                raise NotExportable("an encoder has a missing number as a category")
            hits = building.node("Equal", column.name, building.constant(values.reshape(1, -1)))
        parts.append(Tensor(building.cast(hits, "DOUBLE"), len(categories)))
    return _whole(building.join(parts))


def _encode_ordinal(building: Building, step: Any, given: Given) -> Given:
    if step.handle_unknown != "use_encoded_value" or step.min_frequency or step.max_categories:
        raise NotExportable("an encoder answers unknown categories with an error, or merges categories")
    parts = []
    for column, categories in zip(_split(building, given), step.categories_, strict=True):
        if not column.is_text:
            raise NotExportable("an OrdinalEncoder encodes numbers")
        codes = _codes(building, column, categories)
        unknown = building.node("Less", codes, building.constant(np.array(0)))
        value = building.constant(np.array(float(step.unknown_value)))
        parts.append(Tensor(building.node("Where", unknown, value, building.cast(codes, "DOUBLE")), 1))
    return _whole(building.join(parts))


def _codes(building: Building, column: Tensor, categories: Any) -> str:
    """The place of each text among the categories, -1 where it is none of them; a missing text never is."""
    texts = {str(text): code for code, text in enumerate(categories) if isinstance(text, str)}
    if any(text is None for text in categories) or "" in texts:
        raise NotExportable("an encoder has a missing or empty text as a category")
    keys, values = list(texts), list(texts.values())
    return building.node(
        "LabelEncoder", column.name, domain=TREES, keys_strings=keys, values_int64s=values, default_int64=-1
    )


def _fill(building: Building, step: Any, given: Given) -> Given:
    table = matrix(building, given)
    fills = np.asarray(step.statistics_)
    if (
        fills.dtype.kind not in "fiu"
        or np.isnan(fills.astype(float)).any()
        or step.missing_values == step.missing_values
    ):
        raise NotExportable("a SimpleImputer fills no numbers, has an empty column, or another mark than NaN")
    missing = building.node("IsNaN", table.name)
    filled = Tensor(
        building.node("Where", missing, building.constant(fills.astype(np.float64)), table.name), table.width
    )
    indicator = step.indicator_
    if indicator is None:
        return _whole(filled)
    marks = building.pick(Tensor(building.cast(missing, "DOUBLE"), table.width), indicator.features_)
    return _whole(building.join([filled, marks]))


def _scale(building: Building, step: Any, given: Given) -> Given:
    table = matrix(building, given)
    name = table.name
    if step.mean_ is not None and step.with_mean:
        name = building.node("Sub", name, building.constant(np.asarray(step.mean_, dtype=np.float64)))
    if step.scale_ is not None:
        name = building.node("Div", name, building.constant(np.asarray(step.scale_, dtype=np.float64)))
    return _whole(Tensor(name, table.width))


def _scale_between(building: Building, step: Any, given: Given) -> Given:
    table = matrix(building, given)
    name = building.node("Mul", table.name, building.constant(np.asarray(step.scale_, dtype=np.float64)))
    name = building.node("Add", name, building.constant(np.asarray(step.min_, dtype=np.float64)))
    if step.clip:
        raise NotExportable("a MinMaxScaler clips")
    return _whole(Tensor(name, table.width))


def _call_nothing(building: Building, step: Any, given: Given) -> Given:  # noqa: ARG001 - one shape for all
    if step.func is not None:
        raise NotExportable("a FunctionTransformer calls a function of its own")
    return given


TRANSFORMERS: Mapping[str, Callable[[Building, Any, Given], Given]] = {
    "Pipeline": _prepare_pipeline,
    "ColumnTransformer": _prepare_columns,
    "OneHotEncoder": _encode_one_hot,
    "OrdinalEncoder": _encode_ordinal,
    "SimpleImputer": _fill,
    "StandardScaler": _scale,
    "MinMaxScaler": _scale_between,
    "FunctionTransformer": _call_nothing,
}
"""By the name of the class, all of scikit-learn."""
