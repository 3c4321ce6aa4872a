"""Models of every format, made by their own libraries, loaded and served: the answers are the libraries' own."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from interlock.edges.blobs import LocalBlobs
from interlock.inference.formats import FORMATS, load
from interlock.inference.formats.pickles import is_command
from interlock.inference.inputs import Batch, InvalidRequest, Signature
from interlock.inference.model import Model, Unloadable
from interlock.system.sockets import http_over

SOURCE = Path(__file__).resolve().parents[2] / "src"

MAKE_MODELS = '''
import json, pathlib, sys, warnings
warnings.simplefilter("ignore")
import joblib, lightgbm, numpy as np, pandas as pd, skops.io, xgboost
from onnx import TensorProto, helper, save
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

root = pathlib.Path(sys.argv[1])
random = np.random.default_rng(7)
X = random.normal(size=(200, 3))
y = (X[:, 0] + X[:, 1] ** 2 > 0.7).astype(int)
three = np.digitize(X[:, 0], [-0.5, 0.5])
named = pd.DataFrame(X, columns=["a", "b", "c"])
holes = X[:8].copy()
holes[0, 1] = holes[3] = np.nan

def folder(name):
    (root / name).mkdir()
    return root / name

def number(value):
    return None if value != value else float(value)

def golden(name, asked, **outputs):
    """One request with all rows, and what the library answers."""
    values = np.asarray(asked)
    if isinstance(asked, pd.DataFrame):
        inputs = [{"name": column, "datatype": "FP64" if asked[column].dtype.kind == "f" else "BYTES",
                   "shape": [len(asked)], "data": [v if isinstance(v, str) else number(v) for v in asked[column]]}
                  for column in asked]
    else:
        inputs = [{"name": "x", "datatype": "FP32", "shape": list(values.shape),
                   "data": [number(value) for value in values.ravel()]}]
    answers = [{"name": key, "data": np.ravel(value).tolist()} for key, value in outputs.items()]
    (root / (name + ".json")).write_text(json.dumps({"requests": [{"inputs": inputs}],
                                                     "responses": [{"outputs": answers}]}))

line = LogisticRegression().fit(X, y)
single = X.astype(np.float32)
onnx = to_onnx(line, single[:1], options={"zipmap": False})
onnx.graph.input[0].name = "x"
onnx.graph.node[0].input[0] = "x"
(folder("onnx-numbers") / "any-name.onnx").write_bytes(onnx.SerializeToString())
golden("onnx-numbers", single[:8], label=line.predict(single[:8]), probabilities=line.predict_proba(single[:8]))
(root / "zipmap.onnx").write_bytes(to_onnx(line, single[:1]).SerializeToString())

carriers = named.assign(carrier=random.choice(["UA", "AA"], len(named)))
table = make_pipeline(ColumnTransformer([("one", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
                                         ("more", StandardScaler(), ["a", "b"])]), LogisticRegression())
table.fit(carriers, y)
types = [("carrier", StringTensorType([None, 1])), *((name, FloatTensorType([None, 1])) for name in "ab")]
(root / "table.onnx").write_bytes(to_onnx(table, initial_types=types, options={"zipmap": False}).SerializeToString())
golden("table", carriers.head(8), label=table.predict(carriers.head(8)))

def whole(name, kind, shape):
    node = helper.make_node("Identity", ["x"], ["y"])
    made = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", kind, shape)],
                             [helper.make_tensor_value_info("y", kind, shape)])
    save(helper.make_model(made, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), root / name)

whole("any-width.onnx", TensorProto.DOUBLE, ["rows", "width"])
whole("one-row.onnx", TensorProto.INT64, [1, 2])
whole("texts.onnx", TensorProto.STRING, ["rows"])
whole("flags.onnx", TensorProto.BOOL, ["rows", 1])
whole("half.onnx", TensorProto.FLOAT16, ["rows", 1])
whole("scalar.onnx", TensorProto.FLOAT, [])

boosted = xgboost.XGBClassifier(n_estimators=9).fit(named, y)
boosted.save_model(folder("xgboost-binary") / "model.ubj")
asked = pd.DataFrame(holes, columns=["a", "b", "c"])
golden("xgboost-binary", asked, prediction=boosted.predict(asked), probability=boosted.predict_proba(asked)[:, 1])
more = xgboost.XGBClassifier(n_estimators=5).fit(X, three)
(folder("xgboost-three") / "metrics.json").write_text("{}")
more.save_model(root / "xgboost-three" / "model.json")
golden("xgboost-three", holes, prediction=more.predict(holes), probability=more.predict_proba(holes))
early = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=2)
early.fit(X[:100], X[:100, 0] ** 2, eval_set=[(X[100:], X[100:, 0] ** 2)], verbose=False)
assert early.best_iteration < 59
early.save_model(root / "early.ubj")
golden("early", holes, prediction=early.predict(holes))
softmax = xgboost.train({"objective": "multi:softmax", "num_class": 3}, xgboost.DMatrix(X, three), 4)
softmax.save_model(root / "softmax.ubj")
golden("softmax", holes, prediction=softmax.predict(xgboost.DMatrix(holes)).astype(int))
kinds = named.assign(kind=pd.Categorical(carriers.carrier))
xgboost.XGBClassifier(n_estimators=2, enable_categorical=True).fit(kinds, y).save_model(root / "kinds.ubj")

quiet = {"n_estimators": 9, "verbose": -1, "min_child_samples": 5}
light = lightgbm.LGBMClassifier(**quiet).fit(named, y)
light.booster_.save_model(folder("lightgbm-binary") / "model.txt")
golden("lightgbm-binary", asked, prediction=light.predict(asked), probability=light.predict_proba(asked)[:, 1])
lots = lightgbm.LGBMClassifier(**quiet).fit(X, three)
lots.booster_.save_model(root / "three.lgb")
golden("three", holes, prediction=lots.predict(holes), probability=lots.predict_proba(holes))
rate = lightgbm.LGBMRegressor(**quiet).fit(X, X[:, 0])
rate.booster_.save_model(root / "rate.txt")
golden("rate", holes, prediction=rate.predict(holes))
lightgbm.LGBMClassifier(**quiet).fit(kinds, y).booster_.save_model(root / "kinds.txt")

# As MLflow 3.17 lays its folders out.
def mlflow_folder(name, flavors, columns):
    described = {"flavors": {**flavors, "python_function": {"loader_module": "mlflow." + next(iter(flavors), "other")}},
                 "signature": {"inputs": json.dumps([{"type": kind, "name": column, "required": True}
                                                     for column, kind in columns.items()])} if columns else None}
    (folder(name) / "MLmodel").write_text(json.dumps(described))
    return root / name

numbers = dict.fromkeys("abc", "double")
skops.io.dump(LogisticRegression().fit(named, y), mlflow_folder(
    "mlflow-sklearn", {"sklearn": {"pickled_model": "model.skops", "code": None}}, numbers) / "model.skops")
remembered = LogisticRegression().fit(named, y)
golden("mlflow-sklearn", named.head(8), prediction=remembered.predict(named.head(8)),
       probability=remembered.predict_proba(named.head(8))[:, 1])
boosted.save_model(mlflow_folder("mlflow-xgboost", {"xgboost": {"data": "model.ubj"}}, {}) / "model.ubj")
golden("mlflow-xgboost", asked, probability=boosted.predict_proba(asked)[:, 1])
mlflow_folder("mlflow-other", {}, {})
mlflow_folder("mlflow-away", {"onnx": {"data": "../table.onnx"}}, {})
(folder("mlflow-unknown") / "MLmodel").write_text(json.dumps({"flavors": {"spark": {"model_data": "sparkml"}}}))

plain = folder("python")
(plain / "model.py").write_text("""
import json, pathlib
import numpy as np

class Smaller:
    def predict(self, values):
        raise RuntimeError

class Model:
    outputs = ["prediction", "length"]
    def load(self, folder):
        self.weights = json.loads(pathlib.Path(folder, "weights.json").read_text())
    def preprocess(self, inputs):
        return np.column_stack([inputs[name] for name in self.weights])
    def predict(self, table):
        return table @ list(self.weights.values())
    def postprocess(self, answer):
        return {"prediction": ["long" if one > 1 else "short" for one in answer], "length": answer}
""")
(plain / "weights.json").write_text(json.dumps({"a": 1.0, "c": 2.0}))
weighed = named.a + 2 * named.c
golden("python", named.head(8), prediction=["long" if one > 1 else "short" for one in weighed[:8]], length=weighed[:8])
(root / "bare.py").write_text("class Doubled:\\n    def predict(self, inputs):\\n        return inputs['x'] * 2\\n")
(root / "two.py").write_text("class A:\\n    def predict(self, x): ...\\nclass B:\\n    def predict(self, x): ...\\n")
(root / "none.py").write_text("class A: ...\\n")
(root / "broken.py").write_text("import not_there\\n")
'''


def child_environment() -> dict[str, str]:
    # Libraries compiled once for all these processes: without bytecode each would take seconds to import them.
    bytecode = Path(tempfile.gettempdir()) / f"interlock-bytecode-{os.getuid()}"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(SOURCE), "PYTHONPYCACHEPREFIX": str(bytecode), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-c", MAKE_MODELS, str(root)], check=True, env=child_environment())
    return root


@pytest.fixture
def load_one(models: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads as the server does, and leaves Python's path as it was."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", sys.modules)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return lambda name, kind: load(models / name, kind)


@contextmanager
def serving(model: Path, kind: str, golden: Path, folder: Path) -> Iterator[Any]:
    """A real model server that has answered the golden request as the library does; yields what asks it."""
    digest = LocalBlobs(folder / "blobs").put(str(model))
    line = [sys.executable, "-m", "interlock.inference", "--name", "m", "--model", str(model), "--digest", str(digest)]
    line += ["--format", kind, "--golden", str(golden), "--socket", "s"]
    process = subprocess.Popen(line, cwd=folder, env=child_environment(), stderr=subprocess.PIPE, text=True)

    def ask(method: str, path: str, body: Any = None) -> Any:
        sent = None if body is None else json.dumps(body).encode()
        answer = http_over(folder, "s", method, path, body=sent, timeout=30)
        return answer.status, json.loads(answer.body)

    def is_listening() -> bool:
        try:
            return bool(ask("GET", "/v2/health/live")[0] == 200)
        except OSError:  # its socket is there a moment before it listens
            return False

    try:
        while not is_listening():
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
        yield ask
    finally:
        process.terminate()
        process.communicate(timeout=20)


SERVED = [
    ("onnx-numbers", "onnx", [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]),
    ("xgboost-binary", "xgboost", [{"name": name, "datatype": "FP64", "shape": [-1]} for name in "abc"]),
    ("lightgbm-binary", "lightgbm", [{"name": name, "datatype": "FP64", "shape": [-1]} for name in "abc"]),
    ("mlflow-sklearn", "mlflow", [{"name": name, "datatype": "FP64", "shape": [-1]} for name in "abc"]),
    ("python", "python", [{"name": name, "datatype": "FP64", "shape": [-1]} for name in "abc"]),
]


@pytest.mark.parametrize(("name", "kind", "inputs"), SERVED, ids=[name for name, *_ in SERVED])
def test_is_served_with_the_answers_of_its_own_library(
    models: Path, tmp_path: Path, name: str, kind: str, inputs: list[Any]
) -> None:
    golden = json.loads((models / f"{name}.json").read_text())
    (request,), (response,) = golden["requests"], golden["responses"]
    with serving(models / name, kind, models / f"{name}.json", tmp_path) as ask:
        assert ask("GET", "/v2/models/m")[1]["inputs"] == inputs
        status, answer = ask("POST", "/v2/models/m/infer", request)
        assert status == 200, answer
        found = {output["name"]: output["data"] for output in answer["outputs"]}
        assert found.keys() == {output["name"] for output in response["outputs"]}
        for output in response["outputs"]:
            is_text = isinstance(output["data"][0], str)
            expected = output["data"] if is_text else pytest.approx(output["data"], abs=1e-6)
            assert found[output["name"]] == expected
        first = response["outputs"][0]["name"]
        asked = {**request, "outputs": [{"name": first}]}
        assert [one["name"] for one in ask("POST", "/v2/models/m/infer", asked)[1]["outputs"]] == [first]
        wrong = {"inputs": [{"name": "z", "datatype": "FP64", "shape": [1], "data": [1.0]}]}
        assert ask("POST", "/v2/models/m/infer", wrong)[0] == 400


@pytest.mark.parametrize(
    ("name", "golden", "kind"),
    [
        ("table.onnx", "table", "onnx"),
        ("xgboost-three", "xgboost-three", "xgboost"),
        ("early.ubj", "early", "xgboost"),
        ("softmax.ubj", "softmax", "xgboost"),
        ("three.lgb", "three", "lightgbm"),
        ("rate.txt", "rate", "lightgbm"),
        ("mlflow-xgboost", "mlflow-xgboost", "mlflow"),
    ],
)
def test_answers_as_its_own_library_does(load_one: Any, models: Path, name: str, golden: str, kind: str) -> None:
    document = json.loads((models / f"{golden}.json").read_text())
    model = load_one(name, kind)
    answer = model.answer(read(document["requests"][0], model))
    for output in document["responses"][0]["outputs"]:
        assert answer[output["name"]].ravel() == pytest.approx(np.array(output["data"]), abs=1e-6)


def read(request: dict[str, Any], model: Model) -> Batch:
    signature = model.signature if model.signature.columns else Signature.from_golden([request])
    return signature.read(request)


def batch(*wanted: str, **arrays: Any) -> Batch:
    found = {name: np.asarray(array) for name, array in arrays.items()}
    rows = {len(array) for array in found.values()}
    return Batch(rows=rows.pop(), arrays=found, wanted=frozenset(wanted) or None)


class TestGraphs:
    def test_names_types_and_shapes_are_known_from_the_file(self, load_one: Any) -> None:
        columns = load_one("table.onnx", "onnx").signature.columns
        assert [(column.name, column.datatype, column.tail) for column in columns.values()] == [
            ("carrier", "BYTES", (1,)),
            ("a", "FP32", (1,)),
            ("b", "FP32", (1,)),
        ]

    def test_a_width_that_is_open_makes_no_signature(self, load_one: Any) -> None:
        model = load_one("any-width.onnx", "onnx")
        assert not model.signature.columns
        assert model.answer(batch(x=[[1, 2, 3]]))["y"].tolist() == [[1.0, 2.0, 3.0]]
        assert model.answer(batch("none", x=[[1, 2, 3]])) == {}

    @pytest.mark.parametrize(
        ("name", "array", "reason"),
        [
            ("one-row.onnx", [[1, 2], [3, 4]], "shape"),
            ("one-row.onnx", [[1.0, np.nan]], "missing"),
            ("one-row.onnx", [[[1, 2]]], "shape"),
            ("any-width.onnx", [["a"]], "must be a FP64"),
            ("texts.onnx", [1.0], "must be a BYTES"),
            ("flags.onnx", [[True], [None]], "must be a BOOL"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, load_one: Any, name: str, array: Any, reason: str) -> None:
        values = np.array(array, dtype=object if isinstance(np.ravel(array)[0], str) else None)
        with pytest.raises(InvalidRequest, match=reason):
            load_one(name, "onnx").answer(batch(x=values))

    def test_another_name_is_refused(self, load_one: Any) -> None:
        with pytest.raises(InvalidRequest, match="missing inputs: 'x'"):
            load_one("one-row.onnx", "onnx").answer(batch(z=[[1, 2]]))

    def test_a_missing_text_is_empty_and_a_column_may_be_flat(self, load_one: Any) -> None:
        texts = np.array(["a", None], dtype=object)
        assert load_one("texts.onnx", "onnx").answer(batch(x=texts))["y"].tolist() == ["a", ""]
        assert load_one("flags.onnx", "onnx").answer(batch(x=[True, False]))["y"].tolist() == [[True], [False]]

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("zipmap.onnx", "zipmap=False"), ("half.onnx", "float16"), ("scalar.onnx", "no dimension of rows")],
    )
    def test_what_the_protocol_cannot_say_is_not_loaded(self, load_one: Any, name: str, reason: str) -> None:
        with pytest.raises(Unloadable, match=reason):
            load_one(name, "onnx")


class TestBoosters:
    @pytest.mark.parametrize(("name", "kind"), [("kinds.ubj", "xgboost"), ("kinds.txt", "lightgbm")])
    def test_categories_of_pandas_are_not_in_the_file(self, load_one: Any, name: str, kind: str) -> None:
        with pytest.raises(Unloadable, match="save it with joblib"):
            load_one(name, kind)

    def test_takes_its_numbers_only(self, load_one: Any) -> None:
        model = load_one("rate.txt", "lightgbm")
        for wrong in (batch(x=[[1.0, 2.0]]), batch(x=np.array([["a", "b", "c"]], dtype=object)), batch(a=[1], b=[2])):
            with pytest.raises(InvalidRequest):
                model.answer(wrong)

    def test_no_file_of_its_kind(self, load_one: Any, models: Path) -> None:
        with pytest.raises(Unloadable, match=r"weights.json cannot be loaded: XGBoostError"):
            load_one("python/weights.json", "xgboost")


class TestPlainClass:
    @pytest.mark.parametrize("name", ["bare.py", "blake3-0123"])
    def test_only_predict_must_be_there_under_any_name(self, load_one: Any, models: Path, name: str) -> None:
        shutil.copyfile(models / "bare.py", models / "blake3-0123")  # as the copies of replicas are named
        model = load_one(name, "python")
        assert model.outputs == {"prediction"}
        assert model.answer(batch(x=[1.0, 2.0]))["prediction"].tolist() == [2.0, 4.0]

    def test_outputs_are_those_that_it_tells(self, load_one: Any) -> None:
        assert load_one("python", "python").outputs == {"prediction", "length"}

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("two.py", "2 classes have the method predict: name one Model"),
            ("none.py", "no class has the method predict"),
            ("broken.py", "ModuleNotFoundError: No module named 'not_there'; a package belongs into the model's lock"),
        ],
    )
    def test_what_is_no_such_class_is_told(self, load_one: Any, name: str, reason: str) -> None:
        with pytest.raises(Unloadable, match=reason):
            load_one(name, "python")


class TestMlflow:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("mlflow-other", "loaded by mlflow.other, but mlflow is not in the model's lock"),
            ("mlflow-away", "which is no file of the folder"),
            ("mlflow-unknown", "none of its flavors can be served: spark"),
        ],
    )
    def test_what_it_cannot_load_is_told(self, load_one: Any, name: str, reason: str) -> None:
        with pytest.raises(Unloadable, match=reason):
            load_one(name, "mlflow")


class Command:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


class TestPickles:
    @pytest.mark.parametrize("dump", [pickle.dump, joblib.dump])
    def test_a_command_in_a_pickle_is_not_run(self, tmp_path: Path, dump: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", [*sys.path])
        file, mark = tmp_path / "model.pkl", tmp_path / "mark"
        with file.open("wb") as opened:
            dump({"weights": np.zeros(9), "more": Command(mark)}, opened)
        with pytest.raises(Unloadable, match=r"it names posix.mkdir, for which a model has no use"):
            load(file, "joblib")
        assert not mark.exists()
        pickle.loads(file.read_bytes()) if dump is pickle.dump else joblib.load(file)  # what it would have done
        assert mark.exists()

    @pytest.mark.parametrize(
        ("module", "name", "expected"),
        [
            ("os", "system", True), ("posix", "system", True), ("builtins", "eval", True), ("_io", "open", True),
            ("subprocess", "Popen", True), ("sklearn.utils", "os.system", True), ("sklearn.utils", "os", True),
            ("os.path", "join", True), ("builtins", "list", False), ("builtins", "getattr", False),
            ("sklearn.linear_model._base", "LinearRegression", False), ("numpy._core.multiarray", "scalar", False),
            ("pathlib", "PosixPath", False), ("code_of_mine", "Model", False), ("planes", "open", False),
        ],
    )  # fmt: skip
    def test_names_that_reach_the_machine(self, module: str, name: str, expected: bool) -> None:
        assert is_command(module, name) is expected


def test_every_format_has_an_ending_of_its_own() -> None:
    endings = [suffix for kind in FORMATS.values() for suffix in kind.suffixes]
    assert len(endings) == len(set(endings))
