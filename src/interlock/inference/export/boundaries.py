"""At which values of its inputs a model of trees changes its answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..formats.boosters import Booster
from ..inputs import Array, Column
from ..nodes.trees import LEAF, Tree, boosted_trees, grown_trees
from ..protocol.tensors import FLOATS, INTEGERS
from .converting import Source, read_booster, steps_of, takes_whole
from .predicting import LIBRARIES, boosted_of
from .proving import Splits

Places = Sequence[tuple[str, int] | None]
"""Where each feature comes from: an input, and the place in its row; None where it is made of something."""


def find_splits(source: Source, columns: Sequence[Column]) -> Splits:
    """The thresholds and categories of all splits on what reaches the trees as it is, sorted.

    Empty for a model without trees. Behind a step that prepares columns, one is known by the name of the feature, which
    scikit-learn makes of it; what is scaled or encoded before has a name too, and thresholds that are of no use: they
    do no harm.
    """
    if isinstance(source, Booster):
        trees, places = read_booster(source).trees, _places(source.names, columns)
    else:
        *before, final = steps_of(source.estimator)
        trees = _trees_of(final)
        places = _prepared(source.estimator, columns) if before and trees else _places(source.names, columns)
    numbers = {one.name for one in columns if one.datatype in FLOATS or one.datatype in INTEGERS}
    found: dict[tuple[str, int], list[Array]] = {}
    for tree, _ in trees:
        inner = np.asarray(tree.left) != LEAF
        for feature in np.unique(np.asarray(tree.feature)[inner]):
            place = places[feature] if feature < len(places) else None
            if place is not None and place[0] in numbers:
                here = inner & (np.asarray(tree.feature) == feature)
                found.setdefault(place, []).append(_values(tree, here))
    return {place: np.unique(np.concatenate(parts)) for place, parts in found.items()}


def _values(tree: Tree, here: Array) -> Array:
    of_categories = [tree.categories[node] for node in np.flatnonzero(here).tolist() if node in tree.categories]
    if of_categories:
        return np.concatenate(of_categories).astype(np.float64)
    return np.asarray(tree.threshold, dtype=np.float64)[here]


def _trees_of(final: Any) -> Sequence[tuple[Tree, int]]:
    library = type(final).__module__.partition(".")[0]
    if library != "sklearn" and type(final).__name__ in LIBRARIES.get(library, {}):
        return boosted_of(final).trees
    if hasattr(final, "_predictors"):
        return boosted_trees(final)
    estimators = getattr(final, "estimators_", [final])
    if all(hasattr(one, "tree_") for one in estimators):
        return grown_trees(estimators, lambda tree: np.zeros((tree.node_count, 1)))
    return []


def _places(names: Sequence[str], columns: Sequence[Column]) -> Places:
    if not takes_whole(names, columns):
        return [(name, 0) for name in names]
    return [(column.name, place) for column in columns for place in range(math.prod(column.tail))]


def _prepared(estimator: Any, columns: Sequence[Column]) -> Places:
    single = {column.name for column in columns if math.prod(column.tail) == 1}
    try:
        names = [str(name).rpartition("__")[2] for name in estimator[:-1].get_feature_names_out()]
    except (AttributeError, ValueError):  # some step does not tell
        return []
    return [(name, 0) if name in single else None for name in names]
