"""Models of XGBoost and LightGBM as ONNX: the libraries' own answers, or a reason why there is no graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import pandas as pd
import pytest
import xgboost
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from interlock.edges.blobs import LocalBlobs
from interlock.inference.export.boundaries import find_splits
from interlock.inference.export.converting import convert, source_of, used_columns
from interlock.inference.export.proving import Proof, find_limits, made_rows, prove
from interlock.inference.formats import load
from interlock.inference.formats.estimators import Estimator
from interlock.inference.inputs import Batch, Column
from interlock.inference.model import Model
from interlock.inference.nodes.graph import NotExportable

SOURCE = Path(__file__).resolve().parents[2] / "src"
RANDOM = np.random.default_rng(11)
ROWS = 400
NUMBERS = RANDOM.normal(size=(ROWS, 3))
NUMBERS[RANDOM.random((ROWS, 3)) < 0.1] = np.nan
KINDS = RANDOM.integers(0, 70, ROWS).astype(float)
MIXED = np.column_stack([NUMBERS, KINDS])
SEEN = np.nan_to_num(NUMBERS)
TWO = (SEEN[:, 0] + SEEN[:, 1] ** 2 > 0.7).astype(int)
ODD = ((KINDS % 3 == 0) ^ (RANDOM.random(ROWS) < 0.2)).astype(int)
THREE = np.digitize(SEEN[:, 0], [-0.5, 0.5])
NAMED = pd.DataFrame(NUMBERS, columns=["a", "b", "c"])
CATEGORIES = NAMED.assign(kind=pd.Categorical(np.where(KINDS > 30, "x", "y")))
WHOLE = Column("x", "FP64", (3,))
QUIET: dict[str, Any] = {"verbose": -1, "min_child_samples": 5}


def x(fitted: Any, folder: Path) -> Model:
    fitted.save_model(folder / "m.ubj")
    return load(folder / "m.ubj", "xgboost")


def light(fitted: Any, folder: Path) -> Model:
    (fitted.booster_ if hasattr(fitted, "booster_") else fitted).save_model(folder / "m.lgb")
    return load(folder / "m.lgb", "lightgbm")


def stopped_early() -> Any:
    model = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=2)
    model.fit(NUMBERS[:200], SEEN[:200, 0] ** 2, eval_set=[(NUMBERS[200:], SEEN[200:, 0] ** 2)], verbose=False)
    assert model.best_iteration < 57
    return model


def boosted(kind: Any, rounds: int, **more: Any) -> Any:
    return kind(n_estimators=rounds, **(QUIET if kind.__module__.startswith("lightgbm") else {}), **more)


XC, XR, LC, LR = xgboost.XGBClassifier, xgboost.XGBRegressor, lightgbm.LGBMClassifier, lightgbm.LGBMRegressor
MODELS: dict[str, tuple[Callable[[Path], Model], float]] = {
    "xgboost two": (lambda at: x(boosted(XC, 40).fit(NUMBERS, TWO), at), 2e-7),
    "xgboost three": (lambda at: x(boosted(XC, 9).fit(NUMBERS, THREE), at), 2e-7),
    "xgboost number": (lambda at: x(boosted(XR, 40).fit(NUMBERS, 900 * SEEN[:, 0]), at), 0.0),
    "xgboost count": (lambda at: x(boosted(XR, 9, objective="count:poisson").fit(NUMBERS, THREE), at), 2e-7),
    "xgboost share": (lambda at: x(boosted(XR, 9, objective="reg:logistic").fit(NUMBERS, TWO), at), 2e-7),
    "xgboost hinge": (lambda at: x(boosted(XC, 9, objective="binary:hinge").fit(NUMBERS, TWO), at), 0.0),
    "xgboost softmax": (
        lambda at: x(
            xgboost.train({"objective": "multi:softmax", "num_class": 3}, xgboost.DMatrix(NUMBERS, THREE), 4), at
        ),
        0.0,
    ),
    "xgboost forest": (lambda at: x(boosted(XC, 3, num_parallel_tree=4).fit(NUMBERS, TWO), at), 2e-7),
    "xgboost lone leaf": (lambda at: x(boosted(XR, 2).fit(NUMBERS, np.ones(ROWS)), at), 0.0),
    "xgboost stopped early": (lambda at: x(stopped_early(), at), 0.0),
    "lightgbm two": (lambda at: light(boosted(LC, 40).fit(NUMBERS, TWO), at), 1e-15),
    "lightgbm three": (lambda at: light(boosted(LC, 9).fit(NUMBERS, THREE), at), 1e-10),
    "lightgbm each": (
        lambda at: light(boosted(LC, 9, objective="multiclassova", sigmoid=2.0).fit(NUMBERS, THREE), at),
        1e-15,
    ),
    "lightgbm number": (lambda at: light(boosted(LR, 40).fit(NUMBERS, SEEN[:, 0]), at), 1e-15),
    "lightgbm count": (lambda at: light(boosted(LR, 9, objective="poisson").fit(NUMBERS, THREE), at), 1e-15),
    "lightgbm nothing missing": (lambda at: light(boosted(LC, 40).fit(SEEN, TWO), at), 1e-15),
    "lightgbm lone leaf": (lambda at: light(boosted(LR, 2).fit(NUMBERS, np.ones(ROWS)), at), 1e-15),
    "lightgbm categories": (
        lambda at: light(boosted(LC, 40).fit(MIXED, ODD, categorical_feature=[3]), at),
        1e-15,
    ),
    "xgboost in a pickle": (lambda _: Estimator(boosted(XC, 9).fit(NUMBERS, THREE)), 2e-7),
    "xgboost of a pipeline": (
        lambda _: Estimator(make_pipeline(StandardScaler(), boosted(XR, 9)).fit(NUMBERS, TWO)),
        0.0,
    ),
    "lightgbm in a pickle": (lambda _: Estimator(boosted(LC, 9).fit(NUMBERS, np.array(["a", "b", "c"])[THREE])), 1e-10),
}  # fmt: skip


def proven(model: Model, folder: Path, columns: list[Column], table: dict[str, Any]) -> tuple[Proof, Model]:
    """The export as the program does it, in this process."""
    source = source_of(model)
    used = used_columns(source, columns)
    base = {name: array[:12] for name, array in table.items()}
    limits = find_limits(model, {name: array[-1:] for name, array in table.items()}, used)
    (folder / "model.onnx").write_bytes(convert(source, used, limits))
    graph = load(folder / "model.onnx", "onnx")
    assert list(graph.signature.columns.values()) == used
    return prove(model, graph, iter([table, *made_rows(base, used, find_splits(source, used))])), graph


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("name", MODELS)
def test_a_graph_answers_as_the_library_on_every_row(name: str, tmp_path: Path) -> None:
    make, most = MODELS[name]
    model = make(tmp_path)
    width = 4 if "categories" in name else 3
    table = {"x": MIXED[:, :width]}
    proof, graph = proven(model, tmp_path, [Column("x", "FP64", (width,))], table)
    assert proof.because is None
    assert proof.largest <= most
    batch = Batch(20, {"x": table["x"][:20]}, None)
    ours, own = graph.answer(batch), model.answer(batch)
    assert {name: array.dtype for name, array in ours.items()} == {name: array.dtype for name, array in own.items()}


@pytest.mark.parametrize(
    ("fitted", "save"), [(boosted(XC, 9), x), (boosted(LC, 9), light)], ids=["xgboost", "lightgbm"]
)
def test_columns_may_come_by_name_in_any_order_as_whole_numbers_too(fitted: Any, save: Any, tmp_path: Path) -> None:
    kinds = NAMED.assign(kind=KINDS.astype(np.int64))
    model = save(fitted.fit(kinds, ODD), tmp_path)
    kind_of = {"kind": "INT64", "a": "FP32"}
    columns = [Column(name, kind_of.get(name, "FP64")) for name in reversed(list(kinds))]
    table = {one.name: kinds[one.name].to_numpy(dtype=np.float32 if one.name == "a" else None) for one in columns}
    proof, graph = proven(model, tmp_path, columns, table)
    assert proof.because is None
    missing = {**{name: array[:1] for name, array in table.items()}, "kind": np.array([np.nan])}
    assert graph.answer(Batch(1, missing, None)).keys() == {"prediction", "probability"}


def test_what_lightgbm_takes_for_zero_is_looked_at(tmp_path: Path) -> None:
    """It splits beside 0, and takes each number as near to 0 as that for 0 itself: at the split, not as it says."""
    splits = find_splits(source_of(MODELS["lightgbm two"][0](tmp_path)), [WHOLE])
    assert any(abs(one) == np.float32(1e-35) for thresholds in splits.values() for one in thresholds)


def test_a_comparison_that_is_wrong_by_one_value_is_noticed(tmp_path: Path) -> None:
    """The proof is of use: XGBoost goes left below a threshold, and this graph also at it."""
    model = x(boosted(XC, 9).fit(NUMBERS, TWO), tmp_path)
    splits = find_splits(source_of(model), [WHOLE])
    right, _ = proven(model, tmp_path, [WHOLE], {"x": NUMBERS})
    assert right.because is None
    (tmp_path / "model.onnx").write_bytes(graph_with(tmp_path / "model.onnx", lambda modes: bytes(len(modes))))
    wrong = load(tmp_path / "model.onnx", "onnx")
    found = prove(model, wrong, iter(made_rows({"x": NUMBERS[:12]}, [WHOLE], splits)))
    assert found.because is not None
    assert " for x=" in found.because


def graph_with(file: Path, modes: Callable[[bytes], bytes]) -> bytes:
    """The graph with other comparisons in its trees."""
    loaded = onnx.load(file)
    for node in loaded.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_modes":
                attribute.t.raw_data = modes(attribute.t.raw_data)
    content: bytes = loaded.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("make", "because"),
    [
        (lambda at: x(boosted(XC, 2, booster="dart").fit(NUMBERS, TWO), at), "its booster is dart"),
        (lambda at: x(boosted(XR, 2, objective="reg:quantileerror", quantile_alpha=0.5).fit(NUMBERS, TWO), at),
         "its objective is reg:quantileerror"),
        (lambda at: x(boosted(XR, 2).fit(NUMBERS, np.column_stack([TWO, ODD])), at), "several numbers a row"),
        (lambda _: Estimator(boosted(XC, 2, enable_categorical=True).fit(CATEGORIES, ODD)), "categories of pandas"),
        (lambda _: Estimator(boosted(XC, 2, missing=0.0).fit(NUMBERS, ODD)), "it takes 0.0 for missing"),
        (lambda _: Estimator(boosted(LC, 2).fit(CATEGORIES, ODD)), "categories of pandas"),
        (lambda at: light(boosted(LC, 2, zero_as_missing=True).fit(NUMBERS, TWO), at), "it takes zero for missing"),
        (lambda at: light(boosted(LR, 2, linear_tree=True).fit(SEEN, TWO), at), "its leaves hold linear models"),
        (lambda at: light(boosted(LR, 2, reg_sqrt=True).fit(SEEN, TWO), at), "its objective is regression sqrt"),
        (lambda at: light(boosted(LC, 2, boosting_type="rf", subsample=0.5, subsample_freq=1).fit(SEEN, TWO), at),
         "its trees are averaged"),
    ],
)  # fmt: skip
def test_why_there_is_no_graph(make: Callable[[Path], Model], because: str, tmp_path: Path) -> None:
    source = source_of(make(tmp_path))
    with pytest.raises(NotExportable, match=because):
        convert(source, [Column(name, "FP64") for name in source.names] or [WHOLE], {})


def request_of(row: Any) -> dict[str, Any]:
    values = [None if np.isnan(value) else value for value in row]
    return {
        "inputs": [
            {"name": name, "datatype": "FP64", "shape": [1], "data": [v]} for name, v in zip("abc", values, strict=True)
        ]
    }


def mlflow_folder(at: Path, flavors: dict[str, Any], *, has_signature: bool) -> Path:
    at.mkdir()
    columns = [{"type": "double", "name": name, "required": True} for name in "abc"]
    described = {"flavors": flavors, "signature": {"inputs": json.dumps(columns)} if has_signature else None}
    (at / "MLmodel").write_text(json.dumps(described))
    return at


def saved(kind: str, folder: Path) -> tuple[str, Path]:
    """A model as its own library lays it down, and the format that says so."""
    if kind == "xgboost":
        boosted(XC, 9).fit(NAMED, TWO).save_model(folder / "m.ubj")
        return "xgboost", folder / "m.ubj"
    at = mlflow_folder(folder / "m", {"lightgbm": {"data": "model.lgb"}}, has_signature=True)
    boosted(LC, 40).fit(NAMED, TWO).booster_.save_model(at / "model.lgb")
    return "mlflow", at


def test_an_estimator_in_a_folder_of_mlflow_is_taken_out_of_it(tmp_path: Path) -> None:
    at = mlflow_folder(tmp_path / "m", {"sklearn": {"pickled_model": "model.pkl", "code": None}}, has_signature=True)
    joblib.dump(boosted(XC, 9).fit(NAMED, TWO), at / "model.pkl")
    columns = [Column(name, "FP64") for name in NAMED]
    table = {name: NAMED[name].to_numpy() for name in NAMED}
    proof, _ = proven(load(at, "mlflow"), tmp_path, columns, table)
    assert proof.because is None


@pytest.mark.parametrize("kind", ["xgboost", "mlflow of lightgbm"])
def test_the_program_leaves_a_model_that_is_served(kind: str, tmp_path: Path) -> None:
    kept, model = saved(kind, tmp_path)
    (tmp_path / "golden.json").write_text(json.dumps({"requests": [request_of(row) for row in NUMBERS[:20]]}))
    NAMED.to_csv(tmp_path / "holdout.csv", index=False)
    blobs = LocalBlobs(tmp_path / "blobs")
    digest = blobs.put(str(model))
    command = [sys.executable, "-m", "interlock.inference.export", "--model", str(model), "--format", kept]
    command += ["--digest", str(digest), "--holdout", "holdout.csv", "--out", "out", "--report", "report.json"]
    command += ["--golden", "golden.json"]
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["is_exported"] is True, report["because"]
    assert report["digest"] == blobs.put(str(tmp_path / "out"))
    assert report["holdout_rows"] == ROWS
    assert report["largest_difference"] <= 2e-7
    library = "lightgbm" if "lightgbm" in kind else "xgboost-cpu"
    assert report["packages"].keys() >= {library, "onnx", "onnxruntime"}
    for key in ("microseconds_a_row", "microseconds_of_64_rows"):
        assert report[key]["exported"] < report[key]["original"]
    assert load(tmp_path / "out/model.onnx", "onnx").outputs == {"prediction", "probability"}
