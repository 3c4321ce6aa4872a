"""Given a pipeline that ran, when one thing is edited, then what it reaches runs, nothing else does, and each says why.

Seven edits, each in three ways: with an empty cache (``first``), with the results of before (``cached``), and with
results that are remembered and no longer kept (``evicted``). What came out is compared with a clean run's.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from interlock.app.local import Local
from interlock.edges.blobs import LocalBlobs
from interlock.run.run import Run
from interlock.vocabulary import Phase

BIN = Path(sys.executable).parent
PIPELINE = """\
version: 1
checks: []
stages:
  features: {cmd: python src/features.py, deps: [data/rows.csv], params: [scale], outs: [features.txt]}
  train: {cmd: python src/train.py, deps: [features.txt], params: [train], outs: [model/]}
  evaluate: {cmd: python src/evaluate.py, deps: [model/], params: [], metrics: [metrics.json]}
"""
FILES = {
    "interlock.yaml": PIPELINE,
    "params.yaml": "scale: 2\ntrain: {depth: 3}\nserving: {replicas: 2}\n",
    "data/rows.csv": "1\n2\n3\n",
    "src/helper.py": "LIMIT = 100\n\n\ndef scale(x, by):\n    return min(x * by, LIMIT)\n",
    "src/features.py": """\
import helper
import yaml_lite

by = yaml_lite.read("params.yaml")["scale"]
rows = [helper.scale(int(line), by) for line in open("data/rows.csv")]
open("features.txt", "w").write(repr(rows))
""",
    "src/yaml_lite.py": """\
def read(path):
    return {line.split(":")[0].strip(): int(line.split(":")[1]) for line in open(path) if line.rstrip()[-1:].isdigit()}
""",
    "src/train.py": """\
import os

import six
import yaml_lite

os.mkdir("model")
depth = yaml_lite.read("params.yaml")["depth"]
open("model/weights", "w").write(f"{open('features.txt').read()} {depth} {six.__version__}")
""",
    "src/evaluate.py": """\
import json

json.dump({"length": len(open("model/weights").read()), "sum": sum(map(ord, open("model/weights").read()))},
          open("metrics.json", "w"))
""",
    "README.md": "# Seven edits\n",
}
STAGES = ("features", "train", "evaluate")


class Edit(NamedTuple):
    """What is done to the project, and the stages that have to run with the reason of each."""

    name: str
    make: Callable[[Path], None]
    reasons: dict[str, str] = {}


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(project: Path) -> None:
        text = (project / name).read_text()
        assert old in text
        (project / name).write_text(text.replace(old, new))

    return edit


def touch(project: Path) -> None:
    os.utime(project / "data" / "rows.csv")


def comment(project: Path) -> None:
    replace("src/helper.py", "def scale", "# grows\ndef scale")(project)
    replace("src/train.py", "import six\n", "import six  # for its version\n")(project)


def upgrade(project: Path) -> None:
    (project / "requirements.txt").write_bytes((project / "later.txt").read_bytes())


EDITS = [
    Edit("no change", lambda project: None),
    Edit(
        "hyperparameter",
        replace("params.yaml", "depth: 3", "depth: 4"),
        {"train": "parameter train.depth: 3 -> 4", "evaluate": "model (from train) changed"},
    ),
    Edit("touch data", touch),
    Edit("comment", comment),
    Edit(
        "data value",
        replace("data/rows.csv", "2\n", "7\n"),
        {
            "features": "data/rows.csv changed",
            "train": "features.txt (from features) changed",
            "evaluate": "model (from train) changed",
        },
    ),
    Edit(
        "helper module",
        replace("src/helper.py", "x * by", "x * by + 1"),
        {
            "features": "src/helper.py: function scale changed",
            "train": "features.txt (from features) changed",
            "evaluate": "model (from train) changed",
        },
    ),
    Edit(
        "package version",
        upgrade,
        {
            "features": "six 1.16.0 -> 1.17.0",
            "train": "six 1.16.0 -> 1.17.0",
            "evaluate": "model (from train) changed; six 1.16.0 -> 1.17.0",
        },
    ),
]


class Project:
    """A working tree with a state folder."""

    def __init__(self, folder: Path, files: Path, environments: Path) -> None:
        self.folder = folder / "seven"
        self.state = folder / "state"
        self.state.mkdir(parents=True)
        (self.state / "environments").symlink_to(environments)
        shutil.copytree(files, self.folder)
        self.local = Local(self.state)

    def run(self) -> Run:
        run = self.local.run(self.folder, (), lambda _: None)
        assert run.phase is Phase.SUCCEEDED, run.because
        return run

    def planned(self) -> dict[str, str]:
        """The reason of each stage that a plan says has to run."""
        stages = self.local.plan(self.folder, None, ()).stages
        return {stage.name: lookup.because for stage, lookup in stages if lookup and lookup.hit is None}

    def evict(self) -> None:
        removed, _ = LocalBlobs(self.state / "artifacts").collect(lambda _digest: False, time.time() + 60)
        assert removed


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "seven"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, version in (("requirements.txt", "1.16.0"), ("later.txt", "1.17.0")):
        compile_ = [BIN / "uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "-", "-o", name]
        subprocess.run(compile_, input=f"six=={version}\n", text=True, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def project_at(files: Path, built_environments: Path) -> Iterator[Callable[[Path], Project]]:
    """Makes projects below a folder; all are closed at the end."""
    made: list[Project] = []

    def make(folder: Path) -> Project:
        made.append(Project(folder, files, built_environments))
        return made[-1]

    yield make
    for project in made:
        project.local.close()


def executed(run: Run) -> dict[str, str]:
    return {name: "; ".join(run.stages[name].differences) for name in STAGES if run.stages[name].attempt}


def outputs(run: Run) -> dict[str, str]:
    return {path: digest for stage_run in run.stages.values() for path, digest in stage_run.products.items()}


@pytest.fixture(scope="module")
def before(project_at: Callable[[Path], Project], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that ran once."""
    project = project_at(tmp_path_factory.mktemp("before"))
    assert set(executed(project.run())) == set(STAGES)
    return project


@pytest.mark.parametrize("edit", EDITS, ids=[edit.name for edit in EDITS])
def test_an_edit_reaches_what_it_has_to_and_says_why(
    edit: Edit, before: Project, files: Path, project_at: Callable[[Path], Project], tmp_path: Path
) -> None:
    clean = project_at(tmp_path)
    edit.make(clean.folder)
    assert set(clean.planned()) == {"features"}
    first = clean.run()
    truth = outputs(first)
    assert set(executed(first)) == set(STAGES)
    assert first.stages["features"].because.startswith("finished")
    assert executed(clean.run()) == {}, "what ran once is reused"

    shutil.rmtree(before.folder)
    shutil.copytree(files, before.folder)
    assert executed(before.run()) == {}, "what was edited is as it was"
    edit.make(before.folder)
    assert before.planned().items() <= edit.reasons.items()
    cached = before.run()
    assert executed(cached) == edit.reasons
    assert outputs(cached) == truth
    for name in set(STAGES) - set(edit.reasons):
        assert cached.stages[name].because.startswith("reused from run ")

    clean.evict()
    lost = f"evicted: what it made in run {first.number} is not kept any more"
    assert clean.planned() == {"features": lost}
    evicted = clean.run()
    assert executed(evicted) == dict.fromkeys(STAGES, lost)
    assert outputs(evicted) == truth


def test_what_alone_was_evicted_is_made_again_alone(project_at: Callable[[Path], Project], tmp_path: Path) -> None:
    project = project_at(tmp_path)
    first = project.run()
    (weights,) = LocalBlobs(project.state / "artifacts").files(first.stages["train"].products["model"]).values()
    digits = weights.removeprefix("blake3:")
    (project.state / "artifacts" / "files" / digits[:2] / digits[2:]).unlink()
    again = project.run()
    assert executed(again) == {"train": "evicted: what it made in run 1 is not kept any more"}
    assert outputs(again) == outputs(first)
