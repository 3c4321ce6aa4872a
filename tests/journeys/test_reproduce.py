"""Given a model, when it is made again, then it is the same bytes, or the stage that differs and the cause are told."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interlock.cli.demo.dataset import Sizes, make_data
from interlock.cli.demo.repository import EXAMPLES
from interlock.control.rows import read_state, write_state
from interlock.delivery.environment import Environment
from interlock.delivery.revision import Revision
from interlock.edges.store import SqlStore
from interlock.gate.judgement import Judgement
from interlock.registry.version import ModelVersion
from interlock.run.run import Run
from interlock.vocabulary import Digest, Kind

PIPELINE = """
version: 1
checks: [dependencies]
stages:
  features: {cmd: "cp data/train.csv features.csv", deps: [data/train.csv], outs: [features.csv]}
  train: {cmd: python train.py, deps: [features.csv], outs: [model/], resources: {cpu: 2}}
  evaluate: {cmd: "wc -c model/* | tail -1 > size", deps: [model/], outs: [size]}
"""
SEEDED = """
import pathlib, random

random.seed(7)
pathlib.Path("model").mkdir()
pathlib.Path("model/weights").write_text(str(random.random()))
"""
UNSEEDED = SEEDED.replace("random.seed(7)\n", "")
CLOCK = """
import pathlib, time

pathlib.Path("model").mkdir()
pathlib.Path("model/weights").write_text(f"{time.time():.7f}")
"""
THREADS = """
import os, pathlib, time
from concurrent.futures import ThreadPoolExecutor

order = []


def part(number):
    time.sleep(os.urandom(1)[0] / 5000)
    order.append(number)


with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
    list(pool.map(part, range(16)))
pathlib.Path("model").mkdir()
pathlib.Path("model/weights").write_text(str(order))
"""
CORES = """
import os, pathlib

pathlib.Path("model").mkdir()
pathlib.Path("model/weights").write_text(str(len(os.sched_getaffinity(0))))
"""
FOREST = """
import pathlib

import skops.io
from sklearn.ensemble import RandomForestClassifier

import helper

x, y = helper.read("features.csv")
model = RandomForestClassifier(n_estimators=3).fit(x, y)
pathlib.Path("model").mkdir()
skops.io.dump(model, "model/model.skops")
"""


class Tree:
    """A copy of the small repository's files, with a pipeline of three stages and its own state folder."""

    def __init__(self, folder: Path, files: Path, environments: Path) -> None:
        self.folder = folder / "small"
        self.state = folder / "state"
        self.state.mkdir()
        (self.state / "environments").symlink_to(environments)
        shutil.copytree(files, self.folder)
        (self.folder / "interlock.yaml").write_text(PIPELINE)

    def interlock(self, *arguments: str, code: int = 0, cores: str = "") -> dict[str, Any]:
        pinned = ["taskset", "-c", cores] if cores else []
        done = subprocess.run(
            [*pinned, Path(sys.executable).parent / "interlock", *arguments, "--json", "--state", str(self.state)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return answer | {"said": done.stderr}

    def train(self, source: str) -> None:
        (self.folder / "train.py").write_text(textwrap.dedent(source).lstrip())

    def edit(self, old: str, new: str) -> None:
        path = self.folder / "interlock.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def store(self) -> SqlStore:
        return SqlStore(f"sqlite:///{self.state / 'interlock.db'}")


@pytest.fixture
def tree(tmp_path: Path, small_files: Path, built_environments: Path) -> Tree:
    return Tree(tmp_path, small_files, built_environments)


def test_a_seeded_model_is_made_again_bit_by_bit_and_nothing_is_reused_or_remembered(tree: Tree) -> None:
    tree.train(SEEDED)
    made = tree.interlock("run")
    for number in (2, 3):
        found = tree.interlock("reproduce", "run/1")
        assert (found["result"], found["run"], found["executions"]) == ("identical", number, 1)
        assert found["products"] == {
            path: digest for stage in made["stages"].values() for path, digest in stage["products"].items()
        }
    store = tree.store()
    try:
        again = read_state(store.rows(Kind.RUN)[1], Run)
        assert all(stage.attempt and stage.reused is None for stage in again.stages.values())
        assert {stage.because for stage in again.stages.values()} != {""}
        assert store.rows(Kind.VERSION) == []
    finally:
        store.close()
    stages = tree.interlock("run")["stages"]
    assert {stage["because"] for stage in stages.values()} == {"unchanged since run 1"}


def test_a_model_is_made_again_of_the_data_that_it_was_made_of(tree: Tree) -> None:
    tree.train(SEEDED)
    with (tree.folder / ".gitignore").open("a") as ignored:
        ignored.write("data/\n")
    made = tree.interlock("run")
    assert set(made["stages"]["fetch"]["products"]) == {"data/train.csv"}
    (tree.folder / "data/train.csv").write_text("id,x,y,late\n1,2,3,0\n")
    found = tree.interlock("reproduce", "run/1")
    assert (found["result"], found["executions"]) == ("identical", 1)
    for held in (tree.state / "artifacts").rglob("*"):
        held.chmod(0o700)
    shutil.rmtree(tree.state / "artifacts")
    refused = tree.interlock("reproduce", "run/1", code=2)
    assert "data that it used is not kept any more: data/train.csv" in json.dumps(refused)


@pytest.mark.parametrize(
    ("source", "cause", "said", "suspects"),
    [
        (
            UNSEEDED,
            "chance",
            "unseeded randomness: executed 2 times",
            ["train.py:4 random.random() without random.seed()"],
        ),
        (CLOCK, "chance", "the time of day", ["train.py:4 time.time() depends on when it runs"]),
        (
            THREADS,
            "threads",
            "on one core with one thread the same one twice",
            ["train.py:8 os.urandom() cannot be seeded"],
        ),
        (FOREST, "chance", "unseeded randomness", ["train.py:9 RandomForestClassifier() without random_state"]),
    ],
    ids=["unseeded", "clock", "threads", "forest"],
)
def test_the_first_stage_that_differs_is_named_with_the_cause(
    tree: Tree, source: str, cause: str, said: str, suspects: list[str]
) -> None:
    tree.train(source)
    tree.interlock("run")
    found = tree.interlock("reproduce", "run/1", code=1)
    assert (found["result"], found["stage"], found["cause"]) == ("different", "train", cause)
    assert found["files"] == ["model/model.skops" if source == FOREST else "model/weights"]
    assert said in found["because"]
    assert [f"{one['path']}:{one['line']} {one['what']}" for one in found["suspects"]] == suspects
    assert "train is executed on one core, with one thread, to find out why" in found["said"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one core")
def test_what_changed_since_is_the_cause_where_the_stage_itself_is_deterministic(tree: Tree) -> None:
    tree.train(CORES)
    tree.interlock("run", cores="0")
    found = tree.interlock("reproduce", "run/1", code=1)
    assert (found["stage"], found["cause"], found["executions"]) == ("train", "conditions", 2)
    assert found["because"].endswith("what has changed since: cores 1 -> 2")


def test_a_skops_archive_that_holds_the_same_is_not_another_model(tree: Tree) -> None:
    tree.train(FOREST.replace("n_estimators=3", "n_estimators=3, random_state=1"))
    tree.interlock("run")
    found = tree.interlock("reproduce", "run/1")
    assert (found["result"], found["files"]) == ("rewritten", ["model/model.skops"])
    assert "dates and memory addresses" in found["because"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("run/9", "there is no run 9"),
        ("small/4", "there is no model version small/4"),
        ("small", "no version of small is registered"),
        ("small@production", "nothing is stable in small/production"),
        ("@production", "not a model version"),
        ("small@", "not a model version"),
    ],
)
def test_what_is_not_there_is_refused(tree: Tree, name: str, said: str) -> None:
    found = tree.interlock("reproduce", name, code=2)
    assert said in json.dumps(found)


def test_a_run_that_made_nothing_cannot_be_reproduced(tree: Tree) -> None:
    tree.train("raise SystemExit(3)\n")
    tree.interlock("run", code=1)
    assert "train did not succeed in it" in json.dumps(tree.interlock("reproduce", "run/1", code=2))


def version_of(run: Run, number: int, made: Callable[[str], Digest]) -> ModelVersion:
    digest = run.product("model/")
    assert digest is not None
    assert run.lock is not None
    return ModelVersion(
        model="small",
        number=number,
        digest=digest,
        lock=run.lock,
        format="skops",
        judgement=Judgement(results=()),
        repository="small",
        ref="refs/heads/main",
        commit=run.commit.sha,
        run=run.key,
        plan=run.plan_digest,
        serving=made("serving"),
        signature=made("signature"),
        provenance=made("provenance"),
        is_trusted=True,
        made=1.0,
    )


def test_a_version_is_named_by_its_number_its_environment_or_its_model_alone(tree: Tree) -> None:
    tree.train(SEEDED)
    tree.interlock("run")
    tree.train(SEEDED.replace("(7)", "(8)"))
    tree.interlock("run")
    store = tree.store()

    def made(name: str) -> Digest:
        return Digest(f"blake3:{name.encode().hex():0<64}")

    def save(kind: Kind, key: str, state: ModelVersion | Environment) -> None:
        store.save(write_state(kind, key, state, expected=0, phase="registered", because="a test", identity=key))

    try:
        runs = [read_state(row, Run) for row in store.rows(Kind.RUN)]
        versions = [version_of(run, number, made) for number, run in enumerate(runs, start=1)]
        for version in versions:
            save(Kind.VERSION, version.key, version)
        assert tree.interlock("reproduce", "small")["original"] == 2
        stable = Revision(
            model="small",
            environment="production",
            number=1,
            version=1,
            model_digest=versions[0].digest,
            lock=versions[0].lock,
            format="skops",
            replicas=1,
        )
        save(Kind.ENVIRONMENT, "small/production", Environment(model="small", name="production", stable=stable))
        for name, original in (("small", 1), ("small@production", 1), ("small@2", 2), ("small/2", 2)):
            found = tree.interlock("reproduce", name)
            assert (found["of"], found["original"], found["result"]) == (f"small v{original}", original, "identical")
        assert len(store.rows(Kind.VERSION)) == 2
        assert store.rows(Kind.RELEASE) == []
    finally:
        store.close()


def test_a_stage_that_checks_its_determinism_fails_where_two_executions_differ(tree: Tree) -> None:
    tree.train(UNSEEDED)
    tree.interlock("run")
    tree.edit("outs: [model/],", "outs: [model/], determinism: check,")
    failed = tree.interlock("run", code=1)["stages"]
    assert failed["train"]["phase"] == "failed"
    assert "it is not deterministic: executed twice, it made different model/weights" in failed["train"]["because"]
    assert failed["train"]["problems"][0]["path"] == "model/weights"
    assert failed["train"]["differences"] == ["run 1 did not check that it is deterministic"]
    assert failed["evaluate"]["phase"] == "skipped"

    tree.train(SEEDED)
    checked = tree.interlock("run")["stages"]["train"]
    assert checked["because"].endswith("executed again, it made the same")
    assert tree.interlock("run")["stages"]["train"]["because"] == "unchanged since run 3"
    tree.edit(", determinism: check", "")
    assert tree.interlock("run")["stages"]["train"]["because"] == "reused from run 3"


def test_the_flights_model_is_bit_identical_twice(tree: Tree) -> None:
    shutil.rmtree(tree.folder)
    shutil.copytree(EXAMPLES / "flights", tree.folder)
    make_data(tree.folder, tree.folder.parent / "live.csv", Sizes(train=3000, holdout=1500, live=400))
    # nobody knows what is in production, so a gate is undecided: the model is made all the same
    made = tree.interlock("run", code=3)
    found = tree.interlock("reproduce", "run/1")
    assert found["result"] == "identical"
    assert found["products"]["model"] == made["stages"]["train"]["products"]["model"]
    assert set(found["products"]) == {"data/features", "model", "metrics.json", "predictions.csv", "golden.json"}
