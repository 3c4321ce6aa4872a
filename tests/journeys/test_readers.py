"""Given stages whose files are read by C++, by Rust and by child programs, when a file changes, then its reader runs.

The readers are real ones in an environment of the test's own project: none of them tells Python what it opens.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.app.local import Local
from interlock.edges.blobs import LocalBlobs
from interlock.run.run import Run
from interlock.vocabulary import Phase

BIN = Path(sys.executable).parent
PACKAGES = "pyarrow\npolars\nduckdb\nlightgbm\nxgboost-cpu\n"
READ = """\
import json
import sys

reader, path = sys.argv[1:]
if reader == "pyarrow":
    import pyarrow.parquet
    value = pyarrow.parquet.read_table(path)["x"].to_pylist()
elif reader == "mapped":
    import pyarrow.parquet
    value = pyarrow.parquet.read_table(path, memory_map=True)["x"].to_pylist()
elif reader == "dataset":
    import pyarrow.dataset
    value = sorted(pyarrow.dataset.dataset(path).to_table()["x"].to_pylist())
elif reader == "polars":
    import polars
    value = polars.scan_csv(path).collect()["x"].to_list()
elif reader == "duckdb":
    import duckdb
    value = [x for (x,) in duckdb.sql(f"select x from '{path}'").fetchall()]
elif reader == "lightgbm":
    import lightgbm
    value = lightgbm.Booster(model_file=path).predict([[1.0], [9.0]]).tolist()
elif reader == "xgboost":
    import xgboost
    booster = xgboost.Booster()
    booster.load_model(path)
    value = booster.predict(xgboost.DMatrix([[1.0], [9.0]])).tolist()
elif reader == "child":
    import subprocess
    value = subprocess.run(["cat", path], check=True, capture_output=True, text=True).stdout
json.dump(value, open(f"{reader}.json", "w"))
"""
MAKE = """\
import os
import sys

import numpy
import lightgbm
import pyarrow
import pyarrow.parquet
import xgboost

name, low, high = sys.argv[1], *map(float, sys.argv[2:])
os.makedirs(f"{name}/dataset")
xs = numpy.arange(40.0).reshape(-1, 1)
ys = numpy.where(xs[:, 0] < 5, low, high)
for path in ("pyarrow.parquet", "mapped.parquet", "duckdb.parquet", "dataset/a.parquet"):
    pyarrow.parquet.write_table(pyarrow.table({"x": [low, high]}), f"{name}/{path}")
for path in ("polars.csv", "child.txt", "shell.txt", "sorted.txt", "copied.txt"):
    open(f"{name}/{path}", "w").write(f"x\\n{low}\\n{high}\\n")
quiet = {"objective": "regression", "min_data_in_leaf": 1, "verbose": -1, "num_threads": 1}
lightgbm.train(quiet, lightgbm.Dataset(xs, ys), 3).save_model(f"{name}/lightgbm.txt")
xgboost.train({"nthread": 1}, xgboost.DMatrix(xs, ys), 3).save_model(f"{name}/xgboost.json")
"""
PLACES = {
    **{name: f"{name}.parquet" for name in ("pyarrow", "mapped", "duckdb")},
    "dataset": "dataset",
    "polars": "polars.csv",
    "child": "child.txt",
    "lightgbm": "lightgbm.txt",
    "xgboost": "xgboost.json",
}
SHELL = {
    "shell": ("shell.txt", "cat data/shell.txt | tr x y > shell.json"),
    "sorted": ("sorted.txt", "sort -n data/sorted.txt | tail -n 1 > sorted.json"),
    "copied": ("copied.txt", "cp data/copied.txt copied.json"),
}
EVERY = {*PLACES, *SHELL}


def stages() -> dict[str, dict[str, object]]:
    """Nothing that is read is declared."""
    own = {name: f"python read.py {name} data/{place}" for name, place in PLACES.items()}
    commands = own | {name: command for name, (_, command) in SHELL.items()}
    return {name: {"cmd": command, "deps": [], "outs": [f"{name}.json"]} for name, command in commands.items()}


class World:
    """The project, its state folder, and two versions of everything that is read."""

    def __init__(self, folder: Path, environments: Path) -> None:
        self.state, self.folder = folder / "state", folder / "readers"
        self.state.mkdir()
        (self.state / "environments").symlink_to(environments)
        (self.folder / "data").mkdir(parents=True)
        (self.folder / "read.py").write_text(READ)
        lock = [BIN / "uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "-", "-o"]
        subprocess.run([*lock, self.folder / "requirements.txt"], input=PACKAGES, text=True, check=True, cwd=folder)
        self.local = Local(self.state)
        self.blobs = LocalBlobs(self.state / "artifacts")
        self.versions = folder / "versions"
        self._make_versions(folder / "maker")
        self.put(EVERY, "one")
        self.write(stages())

    def _make_versions(self, maker: Path) -> None:
        """The files that are read, written by the same packages."""
        maker.mkdir()
        (maker / "make.py").write_text(MAKE)
        shutil.copy(self.folder / "requirements.txt", maker)
        made = {"one": {"cmd": "python make.py one 1 2", "outs": ["one"]}, "two": {"cmd": "python make.py two 3 4"}}
        made["two"] |= {"outs": ["two"], "deps": []}
        (maker / "interlock.yaml").write_text(json.dumps({"version": 1, "checks": [], "stages": made}))
        run = self.local.run(maker, (), lambda _: None)
        assert run.phase is Phase.SUCCEEDED, run.because
        self.versions.mkdir()
        for name in made:
            self.blobs.materialise(run.stages[name].products[name], str(self.versions / name))

    def write(self, stages: dict[str, dict[str, object]]) -> None:
        whole = {"version": 1, "checks": [], "stages": stages}
        (self.folder / "interlock.yaml").write_text(json.dumps(whole))

    def put(self, readers: set[str], version: str) -> None:
        """What these readers read, in this version."""
        for reader in readers:
            place = PLACES.get(reader) or SHELL[reader][0]
            shutil.rmtree(self.folder / "data" / place, ignore_errors=True)
            made = self.versions / version / place
            (shutil.copytree if made.is_dir() else shutil.copy)(made, self.folder / "data" / place)

    def run(self) -> Run:
        run = self.local.run(self.folder, (), lambda _: None)
        assert run.phase is Phase.SUCCEEDED, run.because
        return run

    def outputs(self, run: Run) -> dict[str, bytes]:
        return {name: self.blobs.read(run.stages[name].products[f"{name}.json"]) for name in EVERY}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, built_environments: Path) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("readers"), built_environments)
    yield made
    made.local.close()


def executed(run: Run) -> set[str]:
    return {name for name, stage_run in run.stages.items() if stage_run.attempt}


def test_no_reader_is_stale_and_none_reads_again_for_nothing(world: World) -> None:
    first = world.run()
    assert executed(first) == EVERY
    one = world.outputs(first)
    assert executed(world.run()) == set()

    half = {"pyarrow", "dataset", "lightgbm", "child", "sorted"}
    world.put(half, "two")
    second = world.run()
    assert executed(second) == half
    for name in half:
        place = PLACES.get(name) or SHELL[name][0]
        told = f"data/{place}/a.parquet" if name == "dataset" else f"data/{place}"
        assert second.stages[name].differences == (f"{told} changed",)

    world.put(EVERY - half, "two")
    third = world.run()
    assert executed(third) == EVERY - half
    two = world.outputs(third)
    assert [name for name in EVERY if one[name] == two[name]] == [], "every reader saw the other version"
    assert json.loads(two["duckdb"]) == json.loads(two["pyarrow"]) == [3.0, 4.0]
    assert two["shell"] == b"y\n3.0\n4.0\n"

    world.put(EVERY, "one")
    back = world.run()
    assert executed(back) == set()
    assert world.outputs(back) == one


def test_a_strict_stage_is_told_what_to_declare_whoever_reads(world: World) -> None:
    """Each reader alone fails for want of its file, in its own words, and the file is named."""
    for name, stage in stages().items():
        place = PLACES.get(name) or SHELL[name][0]
        missing = {"cmd": str(stage["cmd"]).replace("data/", "$DATA/"), "env": {"DATA": "data"}, "inputs": "strict"}
        world.write({name: {**stage, **missing}})
        run = world.local.run(world.folder, (), lambda _: None)
        if name in ("shell", "sorted"):  # the pipeline's last program ends well, as a shell has it: a warning
            assert any(f"add data/{place} to deps of stage {name}" in str(one) for one in run.stages[name].problems)
            continue
        assert run.phase is Phase.FAILED, name
        told = f"data/{place}/a.parquet" if name == "dataset" else f"data/{place}"
        assert f"add {told} to deps of stage {name}" in run.stages[name].because, run.stages[name].because
    world.write(stages())
