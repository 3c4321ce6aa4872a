"""At which values of its inputs a model of trees changes its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..inputs import Array, Column
from .trees import LEAF, Tree, boosted_trees, grown_trees


def find_splits(estimator: Any, columns: Sequence[Column]) -> Mapping[str, Array]:
    """The thresholds of all splits on a column that reaches the trees as it is, sorted, by its name.

    Empty for a model without trees. A column is known by the name of the feature, which scikit-learn makes of it; what
    is scaled or encoded before has a name too, and thresholds that are of no use: they do no harm.
    """
    *before, final = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    trees = _trees_of(final)
    if not trees:
        return {}
    names = _features(before, estimator)
    known = {column.name for column in columns if column.datatype.startswith("FP") and column.tail in ((), (1,))}
    found: dict[str, list[Array]] = {}
    for tree, _ in trees:
        inner = np.asarray(tree.left) != LEAF
        for feature in np.unique(np.asarray(tree.feature)[inner]):
            name = names[feature] if feature < len(names) else ""
            if name in known:
                here = inner & (np.asarray(tree.feature) == feature)
                found.setdefault(name, []).append(np.asarray(tree.threshold, dtype=np.float64)[here])
    return {name: np.unique(np.concatenate(parts)) for name, parts in found.items()}


def _trees_of(final: Any) -> list[tuple[Tree, int]]:
    if hasattr(final, "_predictors"):
        return boosted_trees(final)
    estimators = getattr(final, "estimators_", [final])
    if all(hasattr(one, "tree_") for one in estimators):
        return grown_trees(estimators, lambda tree: np.zeros((tree.node_count, 1)))
    return []


def _features(before: Sequence[Any], estimator: Any) -> list[str]:
    if not before:
        return [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    try:
        names = estimator[:-1].get_feature_names_out()
    except (AttributeError, ValueError):  # some step does not tell
        return []
    return [str(name).rpartition("__")[2] for name in names]
