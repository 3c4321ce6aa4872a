"""The trees of a LightGBM booster, as it saves them in text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..inputs import Array
from .boosted import Boosted, Link
from .graph import NotExportable
from .trees import LEAF, Tree

LINKS: Mapping[str, Link] = {
    "binary": Link.LOGISTIC,
    "multiclassova": Link.LOGISTIC,
    "multiclass": Link.SOFTMAX,
    "cross_entropy": Link.LOGISTIC,
    "poisson": Link.EXPONENTIAL,
    "gamma": Link.EXPONENTIAL,
    "tweedie": Link.EXPONENTIAL,
    **dict.fromkeys(
        ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", ""), Link.SAME
    ),
}
"""By the name of the objective; an objective of one's own has none."""
CLASSIFIERS = frozenset({"binary", "multiclass", "multiclassova"})

BY_CATEGORY, MISSING_GOES_LEFT = 1, 2
ZERO_IS_MISSING, NAN_IS_MISSING = 1, 2
"""Bits of a ``decision_type``, and what its third and fourth bit say."""
WORD = 32

ZERO = float(np.float32(1e-35))
"""What is no further from 0 than this LightGBM takes for 0."""


def read_lightgbm(booster: Any) -> Boosted:
    """What a Booster answers with, up to its best iteration where it has one."""
    head, *parts = booster.model_to_string().split("\nTree=")
    header = _fields(head)
    name, *settings = header.get("objective", "").split(" ")
    if name not in LINKS or "sqrt" in settings:
        raise NotExportable(f"its objective is {header['objective']}")
    if "average_output" in head.split("\n"):
        raise NotExportable("its trees are averaged")
    targets = int(header["num_tree_per_iteration"])
    slopes = [float(one.partition(":")[2]) for one in settings if one.startswith("sigmoid:")]
    trees = [(_read_tree(_fields(part.split("\n\n")[0])), place % targets) for place, part in enumerate(parts)]
    return Boosted(trees, targets, LINKS[name], name in CLASSIFIERS, is_single=False, slope=(*slopes, 1.0)[0])


def _fields(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.split("\n") if "=" in line)


def _numbers(fields: Mapping[str, str], name: str, dtype: Any) -> Array:
    return np.array(fields.get(name, "").split(), dtype=dtype)


def _read_tree(fields: Mapping[str, str]) -> Tree:
    """Its splits come first, then its leaves, which it counts from -1 down."""
    if fields.get("is_linear", "0") != "0":
        raise NotExportable("its leaves hold linear models")
    threshold, decision = _numbers(fields, "threshold", np.float64), _numbers(fields, "decision_type", np.int64)
    leaves = _numbers(fields, "leaf_value", np.float64)
    splits = len(threshold)
    missing = decision >> 2
    if (missing == ZERO_IS_MISSING).any():
        raise NotExportable("it takes zero for missing")
    is_category = (decision & BY_CATEGORY) > 0
    # What is missing counts as 0 where the training saw nothing missing.
    goes_left = np.where(missing == NAN_IS_MISSING, (decision & MISSING_GOES_LEFT) > 0, threshold >= 0.0)
    none = np.zeros(len(leaves))

    def with_leaves(values: Array) -> Array:
        return np.concatenate([values, none.astype(values.dtype)])

    def child(name: str) -> Array:
        found = _numbers(fields, name, np.int64)
        return np.concatenate([np.where(found < 0, splits + ~found, found), np.full(len(leaves), LEAF)])

    return Tree(
        feature=with_leaves(_numbers(fields, "split_feature", np.int64)),
        threshold=with_leaves(_beside_zero(threshold)),
        missing_goes_left=with_leaves(goes_left & ~is_category),
        left=child("left_child"),
        right=child("right_child"),
        values=np.concatenate([np.zeros(splits), leaves]),
        categories={
            int(node): _categories(fields, int(threshold[node])) for node in np.flatnonzero(is_category).tolist()
        },
    )


def _beside_zero(threshold: Array) -> Array:
    """Thresholds so near to 0 as ones that all numbers which are taken for 0 are on the side of."""
    moved = np.where(threshold >= 0.0, ZERO, np.nextafter(-ZERO, -np.inf))
    return np.where(np.abs(threshold) <= ZERO, moved, threshold)


def _categories(fields: Mapping[str, str], place: int) -> Array:
    """The categories that go left at a split: the bits that are set in its words."""
    bounds, words = _numbers(fields, "cat_boundaries", np.int64), _numbers(fields, "cat_threshold", np.uint64)
    chosen = words[bounds[place] : bounds[place + 1]]
    bits = (chosen[:, None] >> np.arange(WORD, dtype=np.uint64)) & np.uint64(1)
    return np.flatnonzero(bits.ravel())
