"""What a stage with strict inputs is shown, and what its log says of the rest: words of real readers."""

from __future__ import annotations

import pytest

from interlock.pipeline.inputs.declared import Undeclared, find_undeclared, remedy_for, visible_files
from interlock.pipeline.plan import PythonPlan, StagePlan
from interlock.source.commit import FileEntry

FILES = (
    "train.py",
    "src/train.py",
    "src/helper.py",
    "src/pkg/__init__.py",
    "src/pkg/deep/__init__.py",
    "src/pkg/deep/b.py",
    "data/x.csv",
    "data/y/z.parquet",
    "other/x.csv",
    "run.sh",
    "uv.lock",
    "pyproject.toml",
    "params.yaml",
    "env/requirements.txt",
    "env/pyproject.toml",
)
TREE = {path: FileEntry("100644", "0", 0) for path in FILES}


def shown(command: str, *deps: str, inputs: str = "strict", lock: str = "uv.lock") -> set[str]:
    stage = StagePlan.model_validate(
        {"name": "train", "kind": "stage", "command": command, "deps": deps, "inputs": inputs}
    )
    return set(visible_files(stage, PythonPlan(lock=lock), TREE))


LOCKS = {"uv.lock", "pyproject.toml"}


@pytest.mark.parametrize(
    ("command", "deps", "files"),
    [
        ("python src/train.py", (), {"src/train.py"}),
        ("python src/train.py --data=data/x.csv", (), {"src/train.py", "data/x.csv"}),
        ("python ./train.py", ("data",), {"train.py", "data/x.csv", "data/y/z.parquet"}),
        ("python train.py", ("data/x.csv", "no/such"), {"train.py", "data/x.csv"}),
        ("python -m pkg.deep.b", (), {"src/pkg/deep/b.py"}),
        ("python -m src.pkg.deep.b", (), {"src/pkg/__init__.py", "src/pkg/deep/__init__.py", "src/pkg/deep/b.py"}),
        ("sh run.sh|cat data/x.csv>out;(cat params.yaml)", (), {"run.sh", "data/x.csv", "params.yaml"}),
        ("it's odd train.py", (), {"train.py"}),
    ],
)
def test_what_is_declared_and_what_the_command_names_is_shown(
    command: str, deps: tuple[str, ...], files: set[str]
) -> None:
    found = shown(command, *deps)
    packages = {"src/pkg/__init__.py", "src/pkg/deep/__init__.py"} if "-m pkg" in command else set()
    assert found == files | LOCKS | packages


def test_the_files_of_the_lock_are_shown_wherever_they_are() -> None:
    assert shown("true", lock="env/requirements.txt") == {"env/requirements.txt", "env/pyproject.toml"}


def test_everything_is_shown_to_others() -> None:
    assert shown("true", inputs="auto") == set(FILES)


FOLDER = "/workspace/p"
TRACE = f'Traceback (most recent call last):\n  File "{FOLDER}/src/train.py", line 3, in <module>\n    import helper\n'
LIBRARY = '  File "/usr/lib/python3/csv.py", line 9, in read\n    open(path)\n'


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (f"{TRACE}ModuleNotFoundError: No module named 'helper'", Undeclared("src/helper.py", "src/train.py", 3)),
        (
            f"{TRACE}ImportError: cannot import name 'b' from 'pkg.deep' ({FOLDER}/x)",
            Undeclared("src/pkg/deep/b.py", "src/train.py", 3),
        ),
        (
            f"{TRACE}{LIBRARY}FileNotFoundError: [Errno 2] No such file or directory: 'data/x.csv'",
            Undeclared("data/x.csv", "src/train.py", 3),
        ),
        ("cat: data/x.csv: No such file or directory", Undeclared("data/x.csv")),
        ("FileNotFoundError: data/x.csv", Undeclared("data/x.csv")),
        ("sh: 1: ./run.sh: not found", Undeclared("run.sh")),
        (f"python: can't open file '{FOLDER}/src/helper.py': [Errno 2] No such file", Undeclared("src/helper.py")),
        (
            "FileNotFoundError: data/y/z.parquet. Detail: [errno 2] No such file or directory",
            Undeclared("data/y/z.parquet"),
        ),
        ("No such file or directory (os error 2): data/x.csv", Undeclared("data/x.csv")),
        ('IO Error: No files found that match the pattern "data/x.csv"', Undeclared("data/x.csv")),
        ("Opening data/x.csv failed: No such file or directory", Undeclared("data/x.csv")),
        ("Model file data/x.csv is not available for reads", Undeclared("data/x.csv")),
        ("cat: z.parquet: No such file or directory", Undeclared("data/y/z.parquet")),
    ],
)
def test_complaints_of_all_kinds_of_readers_are_understood(log: str, found: Undeclared) -> None:
    assert find_undeclared(log, FOLDER, FILES) == [found]


@pytest.mark.parametrize(
    "log",
    [
        "",
        "reading data/x.csv",
        "cat: x.csv: No such file or directory",  # two files end so
        "cat: nothing.csv: No such file or directory",
        "cat: /etc/data/x.csv: No such file or directory",
        "cat: ../data/x.csv: No such file or directory",
        "ModuleNotFoundError: No module named 'numpy'",
        "cannot converge",
        "No such file " + "data/x.csv " * 1000,
    ],
)
def test_what_names_no_hidden_file_is_none(log: str) -> None:
    assert find_undeclared(log, FOLDER, FILES) == []


def test_a_folder_that_is_hidden_is_told_by_its_files() -> None:
    assert [one.path for one in find_undeclared("ls: cannot access 'data/y'", FOLDER, FILES)] == ["data/y/z.parquet"]
    assert [one.path for one in find_undeclared("No module named 'data'", FOLDER, FILES)] == [
        "data/x.csv",
        "data/y/z.parquet",
    ]


def test_each_file_is_told_once_where_it_was_missed_first() -> None:
    missing = f"{TRACE}ModuleNotFoundError: No module named 'helper'\n"
    log = f"{missing}\ncat: data/x.csv: No such file\n{missing}"
    found = find_undeclared(log, FOLDER, FILES)
    assert found == [Undeclared("src/helper.py", "src/train.py", 3), Undeclared("data/x.csv")]
    assert remedy_for("train", found) == "add src/helper.py, data/x.csv to deps of stage train (read at src/train.py:3)"
    assert remedy_for("train", found[1:]) == "add data/x.csv to deps of stage train"


def test_a_relative_frame_is_of_the_project_too() -> None:
    log = "  File \"src/train.py\", line 7\nNo module named 'helper'"
    assert find_undeclared(log, FOLDER, FILES) == [Undeclared("src/helper.py", "src/train.py", 7)]
