"""Models of scikit-learn as ONNX: the same answers as the original's, or a reason why there is no graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from interlock.edges.blobs import LocalBlobs
from interlock.inference.export.boundaries import find_splits
from interlock.inference.export.converting import convert, used_columns
from interlock.inference.export.proving import Proof, find_limits, made_rows, prove
from interlock.inference.formats import load
from interlock.inference.formats.estimators import Estimator
from interlock.inference.inputs import Column
from interlock.inference.nodes.graph import NotExportable

SOURCE = Path(__file__).resolve().parents[2] / "src"
RANDOM = np.random.default_rng(5)
ROWS = 90
TABLE = pd.DataFrame(
    {
        "carrier": RANDOM.choice(["UA", "AA", "DL"], ROWS).astype(object),
        "hour": RANDOM.integers(5, 23, ROWS).astype(float),
        "seats": np.where(RANDOM.random(ROWS) < 0.1, np.nan, RANDOM.normal(150, 40, ROWS).round(2)),
        "wind": RANDOM.normal(9, 4, ROWS).round(2),
    }
)
LATE = ((TABLE.hour > 15) ^ (RANDOM.random(ROWS) < 0.2)).astype(int)
DAY = pd.Series(np.where(TABLE.hour < 10, "morning", np.where(TABLE.hour < 17, "noon", "night")))
COLUMNS = [Column("carrier", "BYTES"), *(Column(name, "FP64") for name in ("hour", "seats", "wind"))]
NUMBERS = ["hour", "seats", "wind"]
ARRAYS = {column.name: TABLE[column.name].to_numpy() for column in COLUMNS}


def encoded(*before: Any) -> ColumnTransformer:
    one_hot = OneHotEncoder(handle_unknown="ignore")
    numbers = make_pipeline(*before) if before else "passthrough"
    return ColumnTransformer([("texts", one_hot, ["carrier", "hour"]), ("numbers", numbers, NUMBERS)])


def coded() -> ColumnTransformer:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return ColumnTransformer([("texts", codes, ["carrier"]), ("numbers", "passthrough", NUMBERS)])


def filled() -> tuple[Any, ...]:
    return SimpleImputer(add_indicator=True), StandardScaler()


MODELS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: make_pipeline(encoded(*filled()), LogisticRegression()).fit(TABLE, LATE),
    "three texts": lambda: make_pipeline(encoded(*filled()), LogisticRegression()).fit(TABLE, DAY),
    "linear": lambda: make_pipeline(encoded(SimpleImputer(), MinMaxScaler()), LinearRegression()).fit(TABLE, LATE),
    "boosting": lambda: make_pipeline(coded(), HistGradientBoostingClassifier(max_iter=6)).fit(TABLE, LATE),
    "boosting of three": lambda: make_pipeline(coded(), HistGradientBoostingClassifier(max_iter=3)).fit(TABLE, DAY),
    "boosted counts": lambda: HistGradientBoostingRegressor(loss="poisson", max_iter=4).fit(TABLE[NUMBERS], LATE),
    "forest": lambda: make_pipeline(coded(), RandomForestClassifier(8, random_state=1)).fit(TABLE, LATE),
    "forest of three": lambda: RandomForestClassifier(5, random_state=1).fit(TABLE[NUMBERS], DAY),
    "extra trees": lambda: ExtraTreesRegressor(5, random_state=1).fit(TABLE[["hour", "wind"]], LATE),
    "stump": lambda: DecisionTreeClassifier(max_depth=1).fit(TABLE[["wind"]], LATE),
    "lone leaf": lambda: HistGradientBoostingRegressor(max_iter=2).fit(TABLE[["wind"]], np.ones(ROWS)),
}


def proven(estimator: Any, folder: Path, columns: list[Column] = COLUMNS) -> tuple[Proof, Any]:
    """The export as the program does it, in this process."""
    original = Estimator(estimator)
    used = used_columns(original, columns)
    table = {column.name: ARRAYS[column.name] for column in used}
    base = {name: array[:6] for name, array in table.items()}
    limits = find_limits(original, {name: array[-1:] for name, array in table.items()}, used)
    (folder / "model.onnx").write_bytes(convert(original, used, limits))
    graph = load(folder / "model.onnx", "onnx")
    assert list(graph.signature.columns.values()) == used
    assert graph.outputs == original.outputs
    return prove(original, graph, iter([table, *made_rows(base, used, find_splits(original, used))])), graph


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_answers_as_its_original_on_every_row(name: str, tmp_path: Path) -> None:
    proof, _ = proven(MODELS[name](), tmp_path)
    assert proof.because is None
    assert proof.largest < 1e-12
    assert proof.rows > ROWS + 90


def test_splits_are_found_and_lie_between_the_made_rows() -> None:
    splits = find_splits(Estimator(MODELS["boosting"]()), COLUMNS)
    assert {("hour", 0), ("seats", 0)} <= set(splits) <= {(name, 0) for name in NUMBERS}
    rows = list(made_rows({name: array[:1] for name, array in ARRAYS.items()}, COLUMNS, splits))
    hours = np.concatenate([np.ravel(table["hour"]) for table in rows])
    for threshold in splits["hour", 0]:
        assert {threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)} <= set(hours.tolist())


def test_a_split_that_single_precision_moves_is_noticed(tmp_path: Path) -> None:
    """The proof is of use: a graph that is only nearly right is told apart from the original."""
    estimator = MODELS["boosting"]()
    _, graph = proven(estimator, tmp_path)
    for round_ in estimator.steps[-1][1]._predictors:
        for predictor in round_:
            predictor.nodes["num_threshold"] = predictor.nodes["num_threshold"].astype(np.float32)
    base = {name: array[:6] for name, array in ARRAYS.items()}
    original = Estimator(estimator)
    found = prove(original, graph, iter(made_rows(base, COLUMNS, find_splits(original, COLUMNS))))
    assert found.because is not None
    assert " is " in found.because
    assert "for carrier=" in found.because


def test_what_the_original_refuses_the_graph_refuses(tmp_path: Path) -> None:
    """Linear models take no missing number; the column that is filled before takes one."""
    columns = ColumnTransformer([("filled", SimpleImputer(), ["seats"]), ("as it is", "passthrough", ["wind"])])
    proof, graph = proven(make_pipeline(columns, LinearRegression()).fit(TABLE, LATE), tmp_path)
    assert proof.because is None
    assert graph._limits["wind"]["is_missing_refused"]
    assert not graph._limits.get("seats", {"is_missing_refused": False})["is_missing_refused"]


class Own(LinearRegression):
    pass


@pytest.mark.parametrize(
    ("make", "because"),
    [
        (lambda: GradientBoostingClassifier(n_estimators=2).fit(TABLE[["wind"]], LATE), "Classifier is not known"),
        (lambda: Own().fit(TABLE[["wind"]], LATE), "Own is not known"),
        (lambda: make_pipeline(FunctionTransformer(np.log1p), LinearRegression()).fit(TABLE[["hour"]], LATE),
         "calls a function of its own"),
        (lambda: make_pipeline(ColumnTransformer([("one", OneHotEncoder(), ["carrier"])]), LogisticRegression())
         .fit(TABLE, LATE), "unknown categories with 'error'"),
        (lambda: LinearRegression().fit(TABLE[["wind"]], np.column_stack([LATE, LATE])), "several numbers a row"),
        (lambda: LogisticRegression().fit(TABLE[["wind"]].rename(columns={"wind": "gust"}), LATE), "no input 'gust'"),
    ],
)  # fmt: skip
def test_why_there_is_no_graph(make: Callable[[], Any], because: str) -> None:
    original = Estimator(make())
    with pytest.raises(NotExportable, match=because):
        convert(original, used_columns(original, COLUMNS), {})


def requests_of(table: pd.DataFrame) -> dict[str, Any]:
    def tensor(name: str, value: Any) -> dict[str, Any]:
        kind = "BYTES" if name == "carrier" else "FP64"
        return {"name": name, "datatype": kind, "shape": [1], "data": [None if pd.isna(value) else value]}

    rows = [[tensor(name, row[name]) for name in table] for _, row in table.iterrows()]
    return {"requests": [{"inputs": inputs} for inputs in rows]}


def test_the_program_leaves_a_model_that_is_served(tmp_path: Path) -> None:
    joblib.dump(MODELS["boosting"](), tmp_path / "m.joblib")
    (tmp_path / "golden.json").write_text(json.dumps(requests_of(TABLE.head(5))))
    TABLE.to_csv(tmp_path / "holdout.csv", index=False)
    blobs = LocalBlobs(tmp_path / "blobs")
    digest = blobs.put(str(tmp_path / "m.joblib"))
    command = [sys.executable, "-m", "interlock.inference.export", "--model", "m.joblib", "--format", "joblib"]
    command += ["--digest", str(digest), "--holdout", "holdout.csv", "--out", "out", "--report", "report.json"]
    command += ["--golden", "golden.json"]
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert "as ONNX it gives the same answers to " in report["because"]
    assert report["is_exported"] is True
    assert report["digest"] == blobs.put(str(tmp_path / "out"))
    assert report["holdout_rows"] == ROWS
    assert (tmp_path / "out/original/m.joblib").read_bytes() == (tmp_path / "m.joblib").read_bytes()
    assert report["microseconds_a_row"]["exported"] < report["microseconds_a_row"]["original"]


def measured(folder: Path, because: str | None = None) -> dict[str, Any]:
    """What the probe of served models reports of a boosting, beside itself as it was before its export."""
    model = MODELS["boosting"]()
    (folder / "model").mkdir()
    joblib.dump(model, folder / "model/model.joblib")
    (folder / "golden.json").write_text(json.dumps(requests_of(TABLE.head(5))))
    keys = [f"r{row}" for row in range(ROWS)]
    TABLE.assign(key=keys).to_csv(folder / "holdout.csv", index=False)
    pd.DataFrame({"id": keys, "prediction": model.predict(TABLE)}).to_csv(folder / "predictions.csv", index=False)
    digest = str(LocalBlobs(folder / "blobs").put(str(folder / "model")))
    itself = {"name": "late", "path": "model", "format": "joblib"}
    settings = {
        "model": {**itself, "golden": "golden.json", "rate": None, "holdout": "holdout.csv"},
        "digest": digest,
        "python": sys.executable,
        "inference_folder": str(SOURCE / "interlock" / "inference"),
        "baseline": {**itself, "name": "late v1", "python": sys.executable, "digest": digest},
        "export": {"out": "out", "python": sys.executable, "serving": sys.executable, "because": because},
        "offline": {"predictions": "predictions.csv", "holdout": {"path": "holdout.csv", "id": "key"}},
        "lives": 1,
        "pairs": 100,
        "is_pressed": False,
        "is_loaded": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "interlock.probes", "served", "settings.json", "report.json"]
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert (found["passed"], found["problems"]) == (True, []), found["because"]
    return found


def test_what_is_exported_is_what_is_measured_as_served(tmp_path: Path) -> None:
    found = measured(tmp_path)
    assert found["because"].endswith(found["report"]["export"]["because"])
    assert found["report"]["export"]["digest"] == LocalBlobs(tmp_path / "blobs").put(str(tmp_path / "out"))
    ours, theirs = found["report"]["candidate"], found["report"]["baseline"]
    exported, original = (float(np.median(side["lives"][0]["latency_ms"])) for side in (ours, theirs))
    assert exported < original  # the graph is faster than what it was made of
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert ours["model_size_mb"] == pytest.approx(sum(file.stat().st_size for file in files) / 2**20)
    assert ours["consistency"]["offline"] == {"asked": ROWS, "worst": 0.0, "where": ""}


def test_what_cannot_be_exported_is_measured_as_it_is(tmp_path: Path) -> None:
    found = measured(tmp_path, because="no ONNX is made of it: its lock has no skl2onnx")
    assert found["report"]["export"] == {
        "is_exported": False,
        "because": "no ONNX is made of it: its lock has no skl2onnx",
    }
    assert found["report"]["candidate"]["model_size_mb"] == found["report"]["baseline"]["model_size_mb"]
    assert (tmp_path / "out/original/model.joblib").read_bytes() == (tmp_path / "model/model.joblib").read_bytes()
