"""Estimators as nodes: linear models, and trees of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..nodes.boosted import Boosted, add_boosted
from ..nodes.graph import Building, NotExportable, Scores, Tensor
from ..nodes.lightgbm_trees import read_lightgbm
from ..nodes.trees import AT_MOST, add_trees, boosted_trees, grown_trees
from ..nodes.xgboost_trees import read_xgboost


def predict(building: Building, model: Any, table: Tensor) -> Scores:
    """The nodes of the last step. NotExportable where it is of a kind that is not known here."""
    kind, module = type(model).__name__, type(model).__module__
    known = LIBRARIES.get(module.partition(".")[0], {}).get(kind)
    if known is None:
        raise NotExportable(f"{module}.{kind} is not known")
    return known(building, model, table)


def _line(building: Building, model: Any, table: Tensor) -> str:
    weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64)).T
    product = building.node("MatMul", table.name, building.constant(weights))
    return building.node(
        "Add", product, building.constant(np.atleast_1d(np.asarray(model.intercept_, dtype=np.float64)))
    )


def _flat(building: Building, name: str) -> str:
    return building.node("Squeeze", name, building.constant(np.array([1])))


def _choose_by_score(building: Building, score: str, classes: int) -> Scores:
    """Probabilities of raw scores: of two classes one score, its logistic function; of more the soft maximum."""
    if classes == 2:
        flat = _flat(building, score)
        likelier = building.cast(building.node("Greater", flat, building.constant(np.array(0.0))), "INT64")
        return Scores(probability=building.node("Sigmoid", flat), likelier=likelier)
    likelier = building.node("ArgMax", score, axis=1, keepdims=0)
    return Scores(probability=building.node("Softmax", score, axis=1), likelier=likelier, width=classes)


def _choose_by_probability(building: Building, probability: str, classes: int) -> Scores:
    """Of two classes ``probability`` is of the second alone."""
    if classes != 2:
        likelier = building.node("ArgMax", probability, axis=1, keepdims=0)
        return Scores(probability=probability, likelier=likelier, width=classes)
    flat = _flat(building, probability)
    likelier = building.cast(building.node("Greater", flat, building.constant(np.array(0.5))), "INT64")
    return Scores(probability=flat, likelier=likelier)


def _logistic(building: Building, model: Any, table: Tensor) -> Scores:
    if getattr(model, "multi_class", "auto") == "ovr" and len(model.classes_) > 2:
        raise NotExportable("it fits each class against the rest")
    return _choose_by_score(building, _line(building, model, table), len(model.classes_))


def _linear(building: Building, model: Any, table: Tensor) -> Scores:
    if np.ndim(model.coef_) != 1:
        raise NotExportable("it predicts several numbers a row")
    return Scores(prediction=_flat(building, _line(building, model, table)))


def _boosted(building: Building, model: Any, table: Tensor) -> str:
    base = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(1, -1)  # noqa: SLF001 - nothing public is
    score = add_trees(building, table, boosted_trees(model), base.shape[1], AT_MOST)
    return building.node("Add", score, building.constant(base))


def _boosted_classifier(building: Building, model: Any, table: Tensor) -> Scores:
    return _choose_by_score(building, _boosted(building, model, table), len(model.classes_))


def _boosted_regressor(building: Building, model: Any, table: Tensor) -> Scores:
    if model.loss in ("gamma", "poisson"):
        return Scores(prediction=building.node("Exp", _flat(building, _boosted(building, model, table))))
    return Scores(prediction=_flat(building, _boosted(building, model, table)))


def _in_single_precision(building: Building, table: Tensor) -> Tensor:
    """The values as scikit-learn's trees see them: rounded to single precision, then compared exactly."""
    return Tensor(building.cast(building.cast(table.name, "FLOAT"), "DOUBLE"), table.width)


def _forest_of(model: Any) -> list[Any]:
    return list(model.estimators_) if hasattr(model, "estimators_") else [model]


def _grown_classifier(building: Building, model: Any, table: Tensor) -> Scores:
    if model.n_outputs_ != 1:
        raise NotExportable("it predicts several classes a row")
    forest = _forest_of(model)

    classes = len(model.classes_)

    def shares(tree: Any) -> Any:
        counts = tree.value[:, 0, :]
        found = counts / counts.sum(axis=1, keepdims=True)
        return found[:, 1:] if classes == 2 else found

    targets = 1 if classes == 2 else classes
    total = add_trees(building, _in_single_precision(building, table), grown_trees(forest, shares), targets, AT_MOST)
    mean = building.node("Div", total, building.constant(np.array(float(len(forest)))))
    return _choose_by_probability(building, mean, classes)


def _grown_regressor(building: Building, model: Any, table: Tensor) -> Scores:
    if model.n_outputs_ != 1:
        raise NotExportable("it predicts several numbers a row")
    forest = _forest_of(model)
    trees = grown_trees(forest, lambda tree: tree.value[:, :, 0])
    total = add_trees(building, _in_single_precision(building, table), trees, 1, AT_MOST)
    return Scores(
        prediction=_flat(building, building.node("Div", total, building.constant(np.array(float(len(forest))))))
    )


def boosted_of(model: Any) -> Boosted:
    """What a scikit-learn class of XGBoost or LightGBM holds. NotExportable says why that cannot be read."""
    if type(model).__module__.startswith("xgboost."):
        if model.missing == model.missing:
            raise NotExportable(f"it takes {model.missing} for missing")
        found = read_xgboost(model.get_booster())
    else:
        if model.booster_.pandas_categorical:
            raise NotExportable("it splits by categories of pandas, which a request does not have")
        found = read_lightgbm(model.booster_)
    return found._replace(is_classifier=hasattr(model, "classes_"))


def _add_boosted_of(building: Building, model: Any, table: Tensor) -> Scores:
    return add_boosted(building, boosted_of(model), table)


ESTIMATORS: Mapping[str, Callable[[Building, Any, Tensor], Scores]] = {
    "LogisticRegression": _logistic,
    "LinearRegression": _linear,
    "Ridge": _linear,
    "Lasso": _linear,
    "ElasticNet": _linear,
    "HistGradientBoostingClassifier": _boosted_classifier,
    "HistGradientBoostingRegressor": _boosted_regressor,
    "DecisionTreeClassifier": _grown_classifier,
    "RandomForestClassifier": _grown_classifier,
    "ExtraTreesClassifier": _grown_classifier,
    "DecisionTreeRegressor": _grown_regressor,
    "RandomForestRegressor": _grown_regressor,
    "ExtraTreesRegressor": _grown_regressor,
}
"""By the name of the class, all of scikit-learn."""

LIBRARIES: Mapping[str, Mapping[str, Callable[[Building, Any, Tensor], Scores]]] = {
    "sklearn": ESTIMATORS,
    "xgboost": dict.fromkeys(("XGBClassifier", "XGBRegressor"), _add_boosted_of),
    "lightgbm": dict.fromkeys(("LGBMClassifier", "LGBMRegressor"), _add_boosted_of),
}
