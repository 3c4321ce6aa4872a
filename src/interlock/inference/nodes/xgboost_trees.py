"""The trees of an XGBoost booster, as it saves them in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..inputs import Array
from .boosted import Boosted, Link
from .graph import NotExportable
from .trees import LEAF, Tree

LINKS: Mapping[str, Link] = {
    "binary:logistic": Link.LOGISTIC,
    "reg:logistic": Link.LOGISTIC,
    "binary:hinge": Link.POSITIVE,
    "multi:softprob": Link.SOFTMAX,
    "multi:softmax": Link.LIKELIEST,
    "count:poisson": Link.EXPONENTIAL,
    "reg:gamma": Link.EXPONENTIAL,
    "reg:tweedie": Link.EXPONENTIAL,
    **dict.fromkeys(
        (
            "reg:squarederror",
            "reg:squaredlogerror",
            "reg:absoluteerror",
            "reg:pseudohubererror",
            "rank:pairwise",
            "rank:ndcg",
            "rank:map",
        ),
        Link.SAME,
    ),
}
"""By the name of the objective."""
CLASSIFIERS = frozenset({"binary:logistic", "multi:softprob"})


def read_xgboost(booster: Any) -> Boosted:
    """What a Booster answers with, up to its best iteration where it has one."""
    best = booster.attributes().get("best_iteration")
    learner = json.loads((booster[: int(best) + 1] if best is not None else booster).save_raw("json"))["learner"]
    name, kind = learner["objective"]["name"], learner["gradient_booster"]["name"]
    if kind != "gbtree":
        raise NotExportable(f"its booster is {kind}, not gbtree")
    if name not in LINKS:
        raise NotExportable(f"its objective is {name}")
    described = learner["learner_model_param"]
    targets = max(1, int(described["num_class"]))
    if int(described.get("num_target", "1")) > 1:
        raise NotExportable("it predicts several numbers a row")
    model = learner["gradient_booster"]["model"]
    trees = [(_read_tree(tree), target) for tree, target in zip(model["trees"], model["tree_info"], strict=True)]
    base = _margins(LINKS[name], described["base_score"], targets)
    return Boosted(_begun_at(trees, base), targets, LINKS[name], name in CLASSIFIERS, is_single=True)


def _read_tree(tree: Mapping[str, Any]) -> Tree:
    if any(tree["split_type"]):
        raise NotExportable("it splits by categories of pandas, which a request does not have")
    conditions = np.asarray(tree["split_conditions"], dtype=np.float32)
    return Tree(
        feature=np.asarray(tree["split_indices"], dtype=np.int64),
        threshold=conditions,
        missing_goes_left=np.asarray(tree["default_left"], dtype=np.int64),
        left=np.asarray(tree["left_children"], dtype=np.int64),
        right=np.asarray(tree["right_children"], dtype=np.int64),
        values=conditions,  # of a leaf it is the value
    )


def _margins(link: Link, written: str, targets: int) -> Array:
    """What the sum of each target begins with: the base score, before the objective's link is applied."""
    score = np.atleast_1d(np.asarray(json.loads(written), dtype=np.float64))
    if link is Link.LOGISTIC:
        score = np.log(score / (1.0 - score))
    elif link is Link.EXPONENTIAL:
        score = np.log(score)
    return np.asarray(np.broadcast_to(score.astype(np.float32), (targets,)))


def _begun_at(trees: list[tuple[Tree, int]], base: Array) -> list[tuple[Tree, int]]:
    """The base is added to the first tree of each target: sums are rounded at the same steps as XGBoost's then."""
    begun: set[int] = set()
    found = []
    for tree, target in trees:
        if target not in begun:
            begun.add(target)
            tree = tree._replace(values=np.where(tree.left == LEAF, tree.values + base[target], tree.values))  # noqa: PLW2901
        found.append((tree, target))
    return found
