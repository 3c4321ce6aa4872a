"""Given a working tree and no server, when it is run again after an edit, then just what the edit reaches runs."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


class Tree:
    """A copy of the small repository outside git, with its own state folder."""

    def __init__(self, folder: Path, files: Path, environments: Path, command: Path) -> None:
        self.folder = folder / "small"
        self.state = folder / "state"
        self.command = command
        self.state.mkdir()
        (self.state / "environments").symlink_to(environments)
        shutil.copytree(files, self.folder)

    def run(self, *arguments: str, code: int = 3) -> dict[str, dict[str, object]]:
        done = subprocess.run(
            [self.command, "run", "--json", "--state", str(self.state), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        stages: dict[str, dict[str, object]] = answer["stages"]
        return stages

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new))


def executed(stages: dict[str, dict[str, object]]) -> set[str]:
    return {name for name, stage in stages.items() if stage["attempt"]}


@pytest.fixture
def tree(tmp_path: Path, small_files: Path, built_environments: Path) -> Tree:
    return Tree(tmp_path, small_files, built_environments, Path(sys.executable).parent / "interlock")


def test_every_edit_reaches_just_what_depends_on_it(tree: Tree) -> None:
    # without a server nobody knows what is in production, so the gate against it is undecided: exit code 3
    assert "train" in executed(tree.run())
    assert executed(tree.run()) == set()
    assert executed(tree.run("-S", "train.c=0.5")) == {"train", "evaluate", "served", "measurements"}

    tree.edit("helper.py", "# both columns, as they are", "# said otherwise")
    assert executed(tree.run()) & {"train", "evaluate"} == set()

    tree.edit("helper.py", 'float(row["x"])', '2 * float(row["x"])')
    stages = tree.run()
    assert {"train", "evaluate"} <= executed(stages)
    assert stages["train"]["differences"] == ["helper.py: function read changed"]

    tree.edit("params.yaml", "depth: 3", "depth: 4")
    assert executed(tree.run()) == set()

    lines = (tree.folder / "data" / "train.csv").read_text().splitlines(keepends=True)
    (tree.folder / "data" / "train.csv").write_text("".join([*lines[:5], "4,0.5,0.25,1\n", *lines[6:]]))
    stages = tree.run()
    assert {"data", "train", "evaluate"} <= executed(stages)
    assert stages["train"]["differences"] == ["data/train.csv changed"]


def test_five_lines_are_enough_for_a_plain_repository(tree: Tree) -> None:
    (tree.folder / "interlock.yaml").write_text(
        textwrap.dedent(
            """\
            version: 1
            stages:
              train: {cmd: python train.py && python evaluate.py, outs: [model/], metrics: [metrics.json]}
            model: model/
            gates: [{metric: accuracy, min: 0.8}]
            """
        )
    )
    stages = tree.run(code=0)
    assert {"syntax", "imports", "dependencies", "unit", "train"} <= executed(stages)
    assert all(stage["phase"] == "succeeded" for stage in stages.values())


def test_a_run_without_namespaces_says_so_and_shares_no_results_with_others(tree: Tree) -> None:
    (tree.folder / "interlock.yaml").write_text(
        "version: 1\nchecks: []\nstages:\n  look: {cmd: 'ls / > seen.txt', outs: [seen.txt]}\n"
    )
    first = tree.run(code=0)["look"]
    assert str(first["sandbox"]).startswith("namespace")
    lower = tree.run("--sandbox", "none", code=0)["look"]
    assert lower["attempt"] == 1
    assert str(lower["sandbox"]).startswith("none")
    assert lower["products"] != first["products"]
    again = tree.run("--sandbox", "none", code=0)["look"]
    assert again["attempt"] == 1, "what it read elsewhere may have changed"
    assert again["differences"] == ["it runs without namespaces, and what it reads outside its folder cannot be seen"]
    assert executed(tree.run(code=0)) == set()
