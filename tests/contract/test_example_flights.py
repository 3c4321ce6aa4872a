"""The example, its changes, its data, and the demo's own processes: everything that needs no server."""

import ast
import csv
import json
import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from interlock.cli.demo import dataset
from interlock.cli.demo.acts import (
    ACTS,
    BROKEN_ROW,
)
from interlock.cli.demo.dataset import COLUMNS, Sizes, make_data, read_records, request_inputs, write_planes
from interlock.cli.demo.director import FAST_STEPS, _drop_step
from interlock.cli.demo.repository import EXAMPLES, Clone, example
from interlock.errors import Refused
from interlock.pipeline.resolve import read_pipeline, resolve

SIZES = Sizes(train=3000, holdout=1500, live=400)
FLIGHTS = EXAMPLES / "flights"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with ``data/train.csv``, ``data/holdout.csv`` and ``live.csv``."""
    folder = tmp_path_factory.mktemp("made")
    make_data(folder, folder / "live.csv", SIZES)
    return folder


@pytest.fixture
def clone(tmp_path, data):
    made = Clone.make(tmp_path / "clone", tmp_path / "flights.git")
    (made.path / "data").mkdir()
    for name in ("train.csv", "holdout.csv"):
        (made.path / "data" / name).write_bytes((data / "data" / name).read_bytes())
    return made


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def fits(value, rule):
    """Whether one CSV value keeps its rule of the schema, in words of this test's own."""
    if value == "":
        return rule.get("nulls", True)
    if rule["type"] == "string":
        return value in rule.get("in", [value])
    number = float(value)
    if rule["type"] == "integer" and not number.is_integer():
        return False
    return rule.get("min", number) <= number <= rule.get("max", number) and number in rule.get("in", [number])


@pytest.mark.parametrize("name", ["train", "holdout"])
def test_the_data_keeps_the_schema(data, name):
    schema = yaml.safe_load((FLIGHTS / "schemas/flights.yaml").read_text())
    rows = read_records(data / "data" / f"{name}.csv")
    assert list(rows[0]) == list(schema["columns"]) == list(COLUMNS)
    assert len({row["id"] for row in rows}) == len(rows)
    assert schema["rows"]["min"] <= len(rows) <= schema["rows"]["max"]
    broken = [
        (row["id"], column, row[column])
        for row in rows
        for column, rule in schema["columns"].items()
        if not fits(row[column], rule)
    ]
    assert broken == []


def test_train_holdout_and_live_share_no_flight_and_no_month(data):
    frames = {name: pd.read_csv(data / f"{name}.csv") for name in ("data/train", "data/holdout", "live")}
    months = {name: set(frame.month) for name, frame in frames.items()}
    assert months == {"data/train": {1, 2, 3, 4, 5, 6}, "data/holdout": {7}, "live": {8, 9, 10, 11, 12}}
    identities = [identity for frame in frames.values() for identity in frame.id]
    assert len(identities) == len(set(identities)) == SIZES.train + SIZES.holdout + SIZES.live


def test_the_data_is_what_the_package_says(data):
    """Lateness by month, and flights without a plane, as counted from the package by other means."""
    live = pd.read_csv(data / "live.csv")
    train = pd.read_csv(data / "data/train.csv")
    assert 0.20 < train.late.mean() < 0.31
    assert 0.11 < live.engines.isna().mean() < 0.19
    assert set(train.weekday) == {1, 2, 3, 4, 5, 6, 7}
    times = pd.to_datetime(live[["month", "day"]].assign(year=2013))
    assert times.is_monotonic_increasing


def test_one_known_flight_has_its_weather_and_plane():
    """The first line of the package's file, looked up by hand."""
    flight = next(dataset._records("flights.csv.zip"))
    weather = {dataset._hour_of(record): record for record in dataset._records("weather.csv")}
    joined = dataset._joined(flight | {"id": "0"}, weather, dataset._planes())
    assert (joined["carrier"], joined["dest"]) == ("UA", "IAH")
    assert (joined["temp"], joined["plane_year"], joined["seats"]) == ("39.02", "1999", "149")
    assert (joined["weekday"], joined["late"]) == ("2", "0")


def test_the_data_is_the_same_every_time(data, tmp_path):
    make_data(tmp_path, tmp_path / "live.csv", SIZES)
    for name in ("data/train.csv", "data/holdout.csv", "live.csv"):
        assert (tmp_path / name).read_bytes() == (data / name).read_bytes()


def test_the_data_is_small_enough_for_git(data):
    row = (data / "data/train.csv").stat().st_size / SIZES.train
    assert row * (Sizes().train + Sizes().holdout) < 8e6


def test_a_missing_package_is_refused(monkeypatch):
    monkeypatch.setattr(dataset, "PACKAGE", "no-such-package-of-flights")
    with pytest.raises(Refused, match="not installed"):
        dataset._locate("flights.csv.zip")


def test_a_request_has_a_tensor_for_each_column_that_the_model_reads(data):
    source = ast.parse((FLIGHTS / "src/flight_columns.py").read_text())
    lists = {
        node.targets[0].id: node.value
        for node in source.body
        if isinstance(node, ast.Assign) and len(node.targets) == 1
    }
    categories, numbers = (ast.literal_eval(lists[name]) for name in ("CATEGORIES", "NUMBERS"))
    flight = next(row for row in read_records(data / "live.csv") if not row["engines"])
    inputs = {tensor["name"]: tensor for tensor in request_inputs(flight)}
    assert set(inputs) == {*categories, "tailnum", *numbers}
    assert inputs["carrier"] == {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": [flight["carrier"]]}
    assert inputs["engines"] == {"name": "engines", "shape": [1], "datatype": "FP64", "data": [None]}
    assert inputs["distance"]["data"] == [float(flight["distance"])]


def test_the_example_knows_nothing_of_interlock():
    imports = {
        name.split(".")[0]
        for path in FLIGHTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    assert "interlock" not in imports


def test_the_contract_asks_with_standard_parts_only():
    source = ast.parse((FLIGHTS / "integration/test_contract.py").read_text())
    imported = {
        alias.name.split(".")[0] for node in ast.walk(source) if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported <= {*sys.stdlib_module_names, "pytest"}


def test_no_data_and_no_product_is_committed_with_the_example():
    ignored = (FLIGHTS / ".gitignore").read_text().split()
    assert {"model/", "metrics.json", "predictions.csv", "golden.json", "data/features/"} <= set(ignored)
    tracked = git(EXAMPLES, "ls-files", ".").split()
    assert not [name for name in tracked if name.endswith((".csv", ".skops", ".parquet"))]


def test_the_lock_file_pins_what_the_project_asks_for():
    lock = (FLIGHTS / "uv.lock").read_text()
    for name in ("scikit-learn", "skops", "pandas", "pyyaml", "pytest"):
        assert re.search(rf'^name = "{name}"$', lock, re.MULTILINE)
    assert set(re.findall(r'^source = \{ registry = "([^"]*)" \}', lock, re.MULTILINE)) == {"https://pypi.org/simple"}


def test_the_pipeline_file_names_only_files_that_are_there_or_made(clone):
    file = yaml.safe_load((clone.path / "interlock.yaml").read_text())
    made = {out.rstrip("/") for stage in file["stages"].values() for out in stage.get("outs", [])}
    made |= {path for stage in file["stages"].values() for path in stage.get("metrics", [])}
    named = {dep.rstrip("/") for stage in file["stages"].values() for dep in stage["deps"]}
    named |= {entry[key] for entry in file["data"].values() for key in ("path", "schema")}
    assert all(path in made or (clone.path / path).exists() for path in named)
    params = yaml.safe_load((clone.path / "params.yaml").read_text())
    assert all(name in params for stage in file["stages"].values() for name in stage.get("params", []))


@pytest.fixture(scope="module")
def user_environment(tmp_path_factory):
    """A Python that has what the example needs: the one that runs these tests."""
    pytest.importorskip("sklearn")
    pytest.importorskip("skops")
    return sys.executable


def train(python, clone):
    """Runs the three stages in one process (what takes long is importing the libraries); the metrics."""
    stages = "for stage in ('features', 'train', 'evaluate'): runpy.run_path(f'src/{stage}.py', run_name='__main__')"
    program = f"import runpy, sys; sys.path.insert(0, 'src')\n{stages}"
    command = [python, "-c", program]
    done = subprocess.run(command, cwd=clone.path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads((clone.path / "metrics.json").read_text())


def test_the_stages_make_what_the_pipeline_file_promises(clone, user_environment):
    metrics = train(user_environment, clone)
    holdout = read_records(clone.path / "data/holdout.csv")
    predictions = read_records(clone.path / "predictions.csv")
    golden = json.loads((clone.path / "golden.json").read_text())
    assert metrics["auc"] > 0.65
    assert [row["id"] for row in predictions] == [row["id"] for row in holdout]
    assert list(predictions[0]) == ["id", "prediction", "probability"]
    assert len(golden["requests"]) == len(golden["responses"]) == 10
    asked = {tensor["name"] for tensor in request_inputs(holdout[0])}
    whole = [row for flight, row in zip(holdout, predictions, strict=True) if all(flight[name] for name in asked)]
    for response, row in zip(golden["responses"], whole, strict=False):
        outputs = {output["name"]: output for output in response["outputs"]}
        assert outputs["prediction"]["data"] == [int(row["prediction"])]
        assert outputs["probability"]["data"] == pytest.approx([float(row["probability"])])
    names = [[tensor["name"] for tensor in request["inputs"]] for request in golden["requests"]]
    assert all(name == names[0] for name in names)
    assert set(names[0]) == asked
    assert not [tensor for request in golden["requests"] for tensor in request["inputs"] if None in tensor["data"]]
    model = (clone.path / "model/model.skops").read_bytes()
    train(user_environment, clone)
    assert read_records(clone.path / "predictions.csv") == predictions, "training is not deterministic"
    assert (clone.path / "model/model.skops").read_bytes() == model, "the same model is not the same bytes"


def test_every_change_applies_in_the_order_of_the_acts(clone, data):
    clone.commit("base")
    patches = []
    for act in ACTS[1:]:
        act.change(clone)
        assert git(clone.path, "status", "--porcelain").strip(), f"act {act.number} changes nothing"
        patches.append(act.subject)
        clone.commit(act.subject)
        if act.is_taken_back:
            clone.revert()
    subjects = git(clone.path, "log", "--format=%s", "--reverse").splitlines()
    assert [subject for subject in subjects if not subject.startswith("Revert")] == ["base", *patches]
    assert yaml.safe_load((clone.path / "params.yaml").read_text())["train"]["boosting"]["max_iter"] == 100
    assert (clone.path / "data/train.csv").read_bytes() == (data / "data/train.csv").read_bytes()


def test_every_change_belongs_to_an_act():
    names = {path.stem for path in example("flights-changes").glob("*.patch")}
    assert len(names) == 7
    numbers = {act.number for act in ACTS}
    assert {name[0] for name in names} <= {number[0] for number in numbers}


def test_the_syntax_error_is_one(clone):
    clone.apply("4-syntax-error")
    with pytest.raises(SyntaxError):
        ast.parse((clone.path / "src/train.py").read_text())


def test_the_failing_test_fails_in_the_test_of_the_features(clone, user_environment):
    clone.apply("4-failing-test")
    command = [user_environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_features.py"]
    done = subprocess.run(command, cwd=clone.path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "tests/test_features.py" in done.stdout


def test_the_broken_export_breaks_one_value(clone, data):
    clone.break_a_distance(BROKEN_ROW)
    before, after = read_records(data / "data/train.csv"), read_records(clone.path / "data/train.csv")
    changed = [(row, new) for row, new in zip(before, after, strict=True) if row != new]
    assert len(changed) == 1
    assert float(changed[0][1]["distance"]) == -float(changed[0][0]["distance"])


def test_the_plane_look_up_passes_offline_and_fails_on_a_flight_without_a_plane(clone, data, user_environment):
    clone.apply("2-boosting")
    good = train(user_environment, clone)
    clone.apply("6-plane-lookup")
    clone.join_planes()
    bad = train(user_environment, clone)
    assert bad["auc"] > good["auc"] - 0.01
    predictions = read_records(clone.path / "predictions.csv")
    assert [row["id"] for row in predictions] == [row["id"] for row in read_records(clone.path / "data/holdout.csv")]
    assert {row["id"] for row in predictions} < {row["id"] for row in read_records(data / "data/holdout.csv")}
    assert (clone.path / "model/plane_lookup.py").exists()
    ask = (
        "import sys, skops.io, pandas as pd; sys.path[:0] = ['model']; path = 'model/model.skops'\n"
        "model = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))\n"
        f"flights = pd.read_csv({str(data / 'live.csv')!r})\n"
        "model.predict(flights[flights.engines.notna()])\n"
        "print('answered', flush=True)\n"
        "model.predict(flights[flights.engines.isna()])\n"
    )
    done = subprocess.run(
        [user_environment, "-c", ask], cwd=clone.path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.strip() == "answered"
    assert "KeyError" in done.stderr
    assert "no plane has the tail number" in done.stderr


def test_the_register_of_planes_is_sorted_and_complete(tmp_path):
    write_planes(tmp_path / "planes.csv")
    with (tmp_path / "planes.csv").open(newline="") as lines:
        tails = [row["tailnum"] for row in csv.DictReader(lines)]
    assert tails == sorted(set(tails))
    assert len(tails) == 3322


def test_the_short_cut_shortens_the_canary_and_leaves_it_whole(clone):
    for step in FAST_STEPS:
        _drop_step(clone, step)
    file = yaml.safe_load((clone.path / "interlock.yaml").read_text())
    steps = file["deploy"]["production"]["strategy"]["canary"]["steps"]
    assert [step.get("set_weight") for step in steps if "set_weight" in step] == [25, 50, 100]
    assert sum("analysis" in step for step in steps) == 2


def test_a_push_reaches_the_bare_repository_and_hears_its_hook(clone):
    hook = clone.origin / "hooks" / "post-receive"
    hook.write_text("#!/bin/sh\necho a run begins\n")
    hook.chmod(0o755)
    clone.commit("first")
    pushed = clone.push()
    assert git(clone.origin, "rev-parse", "main").strip() == pushed.sha
    assert pushed.answer == ("a run begins",)


def test_a_persons_own_git_configuration_does_not_matter(clone, monkeypatch, tmp_path):
    (tmp_path / "gitconfig").write_text(
        "[commit]\n gpgsign = true\n[user]\n signingkey = nobody\n[core]\n hooksPath = /dev\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    clone.commit("first")
    assert len(clone.push().sha) == 40


def test_git_that_fails_is_refused_with_its_words(clone):
    with pytest.raises(Refused, match="git apply"):
        clone.apply("no-such-change")


def test_the_pipeline_file_is_accepted_and_checks_come_before_training(clone):
    file = read_pipeline((clone.path / "interlock.yaml").read_bytes(), "interlock.yaml")
    paths = [str(path.relative_to(clone.path)) for path in clone.path.rglob("*") if path.is_file()]
    params = yaml.safe_load((clone.path / "params.yaml").read_text())
    plan = resolve(file, project="", paths=paths, params=params, overrides={}, repository="flights")
    kinds = [stage.kind for stage in plan.stages]
    assert kinds == sorted(kinds, key=["check", "data", "stage", "measure"].index)
    assert [stage.name for stage in plan.stages if stage.kind == "stage"] == ["features", "train", "evaluate"]
    assert [environment.name for environment in plan.deploy] == ["staging", "production"]
    assert plan.warnings == ()
