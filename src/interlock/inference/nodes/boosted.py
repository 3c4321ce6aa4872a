"""What there is to know of a booster, and the nodes that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from .graph import Building, NotExportable, Scores, Tensor
from .trees import AT_MOST, LESS, Tree, add_trees


class Link(Enum):
    """What an objective makes of the sum of the trees."""

    SAME = "same"
    EXPONENTIAL = "exponential"
    LOGISTIC = "logistic"
    """Of each target by itself."""
    SOFTMAX = "softmax"
    LIKELIEST = "likeliest"
    """The number of the target that is the largest."""
    POSITIVE = "positive"
    """Whether it is above 0."""


class Boosted(NamedTuple):
    """Trees, each with the target it adds to. ``slope`` is multiplied with their sum before the ``link``.

    ``is_single``: they are computed in single precision, go left below a threshold, and not at it.
    """

    trees: Sequence[tuple[Tree, int]]
    targets: int
    link: Link
    is_classifier: bool
    is_single: bool
    slope: float = 1.0


def add_boosted(building: Building, boosted: Boosted, table: Tensor) -> Scores:
    """The nodes of a booster. Sums are made as precisely as the library makes them, what is done with them doubly."""
    if not boosted.trees:
        raise NotExportable("it has no trees")
    table = _whole_categories(building, boosted, table)
    kind = "FLOAT" if boosted.is_single else "DOUBLE"
    if boosted.is_single:
        table = Tensor(building.cast(table.name, kind), table.width)
    total = add_trees(building, table, boosted.trees, boosted.targets, LESS if boosted.is_single else AT_MOST, kind)
    if boosted.targets == 1:
        total = building.node("Squeeze", total, building.constant(np.array([1])))
    answer = _linked(building, boosted, total, kind)
    if boosted.link in (Link.LIKELIEST, Link.POSITIVE):
        return Scores(prediction=answer, dtype=np.dtype(np.int64))
    dtype = np.dtype(np.float32 if boosted.is_single else np.float64)
    width = boosted.targets if boosted.targets > 1 else 0
    if not boosted.is_classifier:
        return Scores(prediction=answer, width=width, dtype=dtype)
    if width:
        likelier = building.node("ArgMax", answer, axis=1, keepdims=0)
    else:
        half = building.constant(np.array(0.5, dtype=dtype))
        likelier = building.cast(building.node("Greater", answer, half), "INT64")
    return Scores(probability=answer, likelier=likelier, width=width, dtype=dtype)


def _linked(building: Building, boosted: Boosted, total: str, kind: str) -> str:
    if boosted.link is Link.LIKELIEST:
        return building.node("ArgMax", total, axis=1, keepdims=0)
    if boosted.link is Link.POSITIVE:
        zero = np.array(0.0, dtype=np.float32 if boosted.is_single else np.float64)
        return building.cast(building.node("Greater", total, building.constant(zero)), "INT64")
    if boosted.link is Link.SAME:
        return total
    doubled = building.cast(total, "DOUBLE") if boosted.is_single else total
    if boosted.slope != 1.0:
        doubled = building.node("Mul", doubled, building.constant(np.array(boosted.slope)))
    if boosted.link is Link.SOFTMAX:
        answer = building.node("Softmax", doubled, axis=1)
    else:
        answer = building.node("Exp" if boosted.link is Link.EXPONENTIAL else "Sigmoid", doubled)
    return building.cast(answer, kind) if boosted.is_single else answer


def _whole_categories(building: Building, boosted: Boosted, table: Tensor) -> Tensor:
    """The table with its columns of categories cut to whole numbers, as LightGBM does: what is none stays none."""
    splits = ((tree, node) for tree, _ in boosted.trees for node in tree.categories)
    features = sorted({int(tree.feature[node]) for tree, node in splits})
    if not features:
        return table
    is_category = np.isin(np.arange(table.width), features).reshape(1, -1)
    whole = building.cast(building.cast(table.name, "INT64"), "DOUBLE")
    chosen = building.node("Where", building.constant(is_category), whole, table.name)
    return Tensor(chosen, table.width)
