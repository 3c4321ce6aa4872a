"""Trees as one TreeEnsemble node, whichever library grew them; scikit-learn's are read here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..inputs import Array
from .graph import TREES, Building, NotExportable, Tensor

AT_MOST, LESS, MEMBER = 0, 1, 6
"""How a value is compared with the threshold of a split, or with its categories, as TreeEnsemble numbers it."""
SUM = 1
LEAF = -1


class Tree(NamedTuple):
    """One tree: arrays of its nodes, of which 0 is the root; ``left`` and ``right`` are LEAF at a leaf.

    ``values`` has a number for each node; only those of leaves count. A split with ``categories`` sends these to the
    left, all else to the right.
    """

    feature: Array
    threshold: Array
    missing_goes_left: Array
    left: Array
    right: Array
    values: Array
    categories: Mapping[int, Array] = MappingProxyType({})


def add_trees(
    building: Building, table: Tensor, trees: Sequence[tuple[Tree, int]], targets: int, mode: int, kind: str = "DOUBLE"
) -> str:
    """The sum of all trees, of shape (rows, targets), each with the target it adds to. ``kind``: of the numbers."""
    splits: dict[str, list[Any]] = {
        name: [] for name in ("feature", "threshold", "mode", "missing", "yes", "no", "is_yes", "is_no", "members")
    }
    leaves: list[tuple[int, float]] = []
    roots = []
    for tree, first in trees:
        roots.append(len(splits["feature"]))
        _add_tree(splits, leaves, tree, first, mode)
    dtype = np.float32 if kind == "FLOAT" else np.float64
    members = {"membership_values": building.tensor_of(np.array(splits["members"], dtype=dtype))}
    return building.node(
        "TreeEnsemble",
        table.name,
        domain=TREES,
        aggregate_function=SUM,
        post_transform=0,
        n_targets=targets,
        tree_roots=roots,
        nodes_featureids=splits["feature"],
        nodes_splits=building.tensor_of(np.array(splits["threshold"], dtype=dtype)),
        nodes_modes=building.tensor_of(np.array(splits["mode"], dtype=np.uint8)),
        nodes_missing_value_tracks_true=splits["missing"],
        nodes_truenodeids=splits["yes"],
        nodes_falsenodeids=splits["no"],
        nodes_trueleafs=splits["is_yes"],
        nodes_falseleafs=splits["is_no"],
        leaf_targetids=[target for target, _ in leaves],
        leaf_weights=building.tensor_of(np.array([weight for _, weight in leaves], dtype=dtype)),
        **(members if splits["members"] else {}),
    )


def _add_tree(
    splits: dict[str, list[Any]], leaves: list[tuple[int, float]], tree: Tree, target: int, mode: int
) -> None:
    """Appends the splits of a tree in the order of its nodes. A lone leaf becomes a split that has it twice."""
    inner = np.flatnonzero(tree.left != LEAF)
    base = len(splits["feature"])
    places = {int(node): base + place for place, node in enumerate(inner)}

    def child(node: int) -> tuple[int, int]:
        if node in places:
            return places[node], 0
        leaves.append((target, float(tree.values[node])))
        return len(leaves) - 1, 1

    for node in inner.tolist() or [0]:
        is_split = node in places
        yes, is_yes = child(int(tree.left[node]) if is_split else node)
        no, is_no = child(int(tree.right[node]) if is_split else node)
        row = {"yes": yes, "no": no, "is_yes": is_yes, "is_no": is_no, "mode": mode}
        if node in tree.categories:
            row["mode"] = MEMBER
            splits["members"] += [*tree.categories[node].tolist(), math.nan]
        row |= {"feature": int(tree.feature[node]) if is_split else 0, "missing": int(tree.missing_goes_left[node])}
        for name, value in {**row, "threshold": float(tree.threshold[node])}.items():
            splits[name].append(value)


def boosted_trees(model: Any) -> list[tuple[Tree, int]]:
    """The trees of a HistGradientBoosting model, each with the target that it adds to."""
    if getattr(model, "is_categorical_", None) is not None:
        raise NotExportable("it splits by categories")
    found = []
    for round_ in model._predictors:  # noqa: SLF001 - nothing public holds the trees
        for target, predictor in enumerate(round_):
            nodes = predictor.nodes
            is_leaf = nodes["is_leaf"].astype(bool)
            found.append(
                (
                    Tree(
                        feature=nodes["feature_idx"],
                        threshold=nodes["num_threshold"],
                        missing_goes_left=nodes["missing_go_to_left"],
                        left=np.where(is_leaf, LEAF, nodes["left"].astype(np.int64)),
                        right=np.where(is_leaf, LEAF, nodes["right"].astype(np.int64)),
                        values=nodes["value"],
                    ),
                    target,
                )
            )
    return found


def grown_trees(estimators: Sequence[Any], values: Any) -> list[tuple[Tree, int]]:
    """The trees of fitted DecisionTree estimators; ``values`` answers, for one, its leaves' values by target."""
    found = []
    for estimator in estimators:
        tree = estimator.tree_
        table = values(tree)
        missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count))
        for target in range(table.shape[1]):
            one = Tree(tree.feature, tree.threshold, missing, tree.children_left, tree.children_right, table[:, target])
            found.append((one, target))
    return found
