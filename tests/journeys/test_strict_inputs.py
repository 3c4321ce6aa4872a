"""Given a stage with strict inputs, when it reads what it does not declare, then it fails with the line to add."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.app.local import Local
from interlock.edges.blobs import LocalBlobs
from interlock.errors import Refused
from interlock.run.run import Run
from interlock.vocabulary import Phase

FILES = {
    "src/train.py": """
        import os
        import helper
        rows = open("data/train.csv").read()
        local = os.path.exists("configs/local.yaml")
        try:
            import fast as way
        except ImportError:
            import slow as way
        os.mkdir("model")
        open("model/weights", "w").write(f"{helper.scale(len(rows))} {local} {way.NAME}")
        """,
    "src/helper.py": "import common\n\n\ndef scale(x):\n    return x * common.FACTOR\n",
    "src/common.py": "FACTOR = 2\n",
    "src/slow.py": "NAME = 'slow'\n",
    "configs/base.yaml": "depth: 3\n",
    "data/train.csv": "1\n2\n",
    "params.yaml": "train: {depth: 3}\n",
    "requirements.txt": "",
}
WHOLE = ["data/train.csv", "src/helper.py", "src/common.py", "src/slow.py"]


class Project:
    """A working tree whose one stage trains."""

    def __init__(self, folder: Path, environments: Path) -> None:
        self.folder, self.state = folder / "strict", folder / "state"
        self.state.mkdir()
        (self.state / "environments").symlink_to(environments)
        for name, text in FILES.items():
            self.write(name, textwrap.dedent(text).lstrip("\n"))
        self.local = Local(self.state)
        self.blobs = LocalBlobs(self.state / "artifacts")
        self.stage()

    def stage(self, inputs: str = "auto", deps: list[str] | None = None, **more: object) -> None:
        train = {"cmd": "python src/train.py", "outs": ["model/"], "inputs": inputs, "deps": deps or [], **more}
        whole = {"version": 1, "checks": [], "stages": {"train": train}}
        self.write("interlock.yaml", json.dumps(whole))

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self) -> Run:
        return self.local.run(self.folder, (), lambda _: None)

    def model(self) -> str:
        """What the run made, which must succeed."""
        run = self.run()
        assert run.phase is Phase.SUCCEEDED, run.because
        files = self.blobs.files(run.stages["train"].products["model"])
        return self.blobs.read(files["weights"]).decode()

    def why(self) -> str:
        """Why the stage runs; empty where it is reused."""
        (_, lookup), *_ = self.local.plan(self.folder, None, ()).stages
        assert lookup is not None
        return "" if lookup.hit else lookup.because


@pytest.fixture
def project(tmp_path: Path, built_environments: Path) -> Iterator[Project]:
    made = Project(tmp_path, built_environments)
    yield made
    made.local.close()


# --- auto: what was not found counts as well ---


@pytest.mark.parametrize(
    ("path", "text", "model"),
    [
        ("configs/local.yaml", "depth: 4\n", "8 True slow"),
        ("src/fast.py", "NAME = 'fast'\n", "8 False fast"),
    ],
)
def test_what_a_stage_did_not_find_is_seen_when_it_comes(project: Project, path: str, text: str, model: str) -> None:
    assert project.model() == "8 False slow"
    assert project.why() == ""
    project.write("docs/index.md", "# How to\n")
    project.write("tests/test_it.py", "def test_it(): pass\n")
    project.write("README.md", "# Read me\n")
    assert project.why() == ""
    project.write(path, text)
    assert project.why() == f"{path} is new"
    assert project.model() == model
    (project.folder / path).unlink()
    assert project.why() == ""
    assert project.model() == "8 False slow"


def test_what_could_be_imported_another_time_counts(project: Project) -> None:
    project.write("src/fast.py", "NAME = 'fast'\n")
    assert project.model() == "8 False fast"
    project.write("src/slow.py", "NAME = 'slower'\n")  # not read by then: which is imported, a clock might decide
    assert project.why() == "src/slow.py: constant NAME changed"


# --- strict ---


def test_an_undeclared_read_fails_with_the_line_to_add_until_all_is_declared(project: Project) -> None:
    project.stage("strict")
    run = project.run()
    train = run.stages["train"]
    assert run.phase is Phase.FAILED
    assert "No module named 'helper'" in train.because
    assert "add src/helper.py, src/common.py" in train.because
    assert "to deps of stage train (read at src/train.py:2)" in train.because
    assert (train.problems[0].path, train.problems[0].line) == ("src/train.py", 2)
    assert project.why() != "", "a failure is no result"

    project.stage("strict", ["src/helper.py", "src/common.py", "src/slow.py"])
    train = project.run().stages["train"]
    assert "add data/train.csv to deps of stage train (read at src/train.py:3)" in train.because

    project.stage("strict", WHOLE)
    assert project.model() == "8 False slow"
    assert project.why() == ""


def test_first_second_and_evicted_runs_agree_in_both_ways(project: Project) -> None:
    for inputs, deps in (("auto", []), ("strict", WHOLE)):
        project.stage(inputs, list(deps))
        first = project.run()
        again = project.run()
        assert (first.stages["train"].attempt, again.stages["train"].attempt) == (1, 0)
        project.blobs.collect(lambda _digest: False, first.number + 10.0**11)
        evicted = project.run()
        assert evicted.stages["train"].attempt == 1
        assert evicted.stages["train"].differences[0].startswith("evicted: ")
        assert first.stages["train"].products == again.stages["train"].products == evicted.stages["train"].products


def test_what_is_not_declared_is_not_there_and_does_not_count(project: Project) -> None:
    project.stage("strict", WHOLE)
    assert project.model() == "8 False slow"
    project.write("configs/local.yaml", "depth: 4\n")
    project.write("src/fast.py", "NAME = 'fast'\n")
    project.write("src/other.py", "x = 1\n")
    assert project.why() == ""
    assert project.model() == "8 False slow"


def test_a_stage_that_goes_on_without_a_file_is_told_where_that_is_seen(project: Project) -> None:
    project.write("src/fast.py", "NAME = 'fast'\n")
    project.stage("strict", WHOLE)
    run = project.run()
    assert run.phase is Phase.SUCCEEDED
    (warning,) = run.stages["train"].problems
    assert warning.is_warning
    assert "add src/fast.py to deps of stage train" in warning.message


def test_switching_between_the_two_is_told_and_never_answered_from_the_other(project: Project) -> None:
    assert project.model() == "8 False slow"
    project.stage("strict", WHOLE)
    assert "inputs: auto -> strict" in project.why()
    project.stage("strict")
    assert project.run().phase is Phase.FAILED, "although the same was made when all could be seen"


def test_parameters_that_are_named_need_no_declaration(project: Project) -> None:
    project.write(
        "src/train.py", "import os\nos.mkdir('model')\nopen('model/weights', 'w').write(open('params.yaml').read())"
    )
    project.stage("strict", params=["train"])
    assert project.model() == "train:\n  depth: 3\n"
    project.stage("strict")
    assert "add params.yaml to deps of stage train (read at src/train.py:3)" in project.run().stages["train"].because


# --- frozen ---


def test_a_frozen_stage_never_runs_again_and_says_what_changed(project: Project) -> None:
    project.stage(frozen=True)
    with pytest.raises(Refused, match="no result"):
        project.why()
    run = project.run()
    assert (run.phase, run.stages["train"].attempt) == (Phase.FAILED, 0)
    assert "frozen" in run.because

    project.stage()
    assert project.model() == "8 False slow"
    project.stage(frozen=True)
    project.write("src/common.py", "FACTOR = 3\n")
    (_, lookup), *_ = project.local.plan(project.folder, None, ()).stages
    told = "frozen: reused from run 2, although src/common.py: constant FACTOR: 2 -> 3"
    assert lookup is not None
    assert lookup.because == told
    assert project.model() == "8 False slow"
    assert project.run().stages["train"].because == told
    project.blobs.collect(lambda _digest: False, 10.0**11)
    with pytest.raises(Refused, match="no result"):
        project.why()
    project.stage()
    assert project.model() == "12 False slow"
