"""The formats of models, and the Python environments that a plan needs for them."""

from __future__ import annotations

import pytest

from interlock.inference.formats import FORMATS
from interlock.pipeline.models.formats import (
    ENDINGS,
    LATER_ENDINGS,
    LATER_FORMATS,
    MODEL_FORMATS,
    SHARED_ENDINGS,
    format_of,
    serving_purpose,
)
from interlock.pipeline.plan import ModelPlan, Plan, StagePlan


@pytest.mark.parametrize(
    ("path", "named", "expected"),
    [
        ("model/", None, "skops"),
        ("model.skops", None, "skops"),
        ("m.JOBLIB", None, "joblib"),
        ("m.pkl", None, "joblib"),
        ("m.onnx", None, "onnx"),
        ("m.ubj", None, "xgboost"),
        ("m.lgb", None, "lightgbm"),
        ("serve/model.py", None, "python"),
        ("m.onnx", "python", "python"),
        ("model/", "mlflow", "mlflow"),
    ],
)
def test_the_format_is_the_one_named_or_the_one_of_the_ending(path: str, named: str | None, expected: str) -> None:
    assert format_of(path, named) == expected


def test_what_can_be_planned_is_what_the_model_server_loads() -> None:
    assert set(MODEL_FORMATS) == set(FORMATS)
    assert not set(MODEL_FORMATS) & set(LATER_FORMATS)
    for endings in (ENDINGS, SHARED_ENDINGS):
        assert all(ending in FORMATS[kind].suffixes for ending, kind in endings.items())
    assert not {*ENDINGS, *SHARED_ENDINGS} & set(LATER_ENDINGS)


def test_a_format_with_needs_of_its_own_has_an_environment_of_its_own() -> None:
    assert [serving_purpose(kind) for kind in ("skops", "onnx", "mlflow")] == ["serve", "serve-onnx", "serve-mlflow"]


def test_a_plan_knows_the_environments_of_its_stages() -> None:
    stages = (StagePlan(name="train", kind="stage"), StagePlan(name="served", kind="measure", builtin="served"))
    assert Plan(stages=stages).purposes == ("build", "serve")
    plan = Plan(stages=stages, model=ModelPlan(name="m", path="m.onnx", format="onnx"))
    assert plan.purposes == ("build", "serve-onnx")
    assert [plan.purpose_of(stage) for stage in stages] == ["build", "serve-onnx"]
