"""The probes that look at code, run as a stage runs them: a program of its own in the project's folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import interlock

PROBES = Path(interlock.__file__).parent / "probes"


class Project:
    """A folder of code, and a package folder in which nothing but the probes can be seen."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.root.mkdir()
        self.package = folder / "package"
        (self.package / "interlock").mkdir(parents=True)
        (self.package / "interlock/probes").symlink_to(PROBES)
        self.folder = folder

    def write(self, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            place = self.root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)

    def run(self, name: str, settings: str) -> tuple[int, str]:
        (self.folder / "settings.json").write_text(settings)
        arguments = [name, str(self.folder / "settings.json"), str(self.folder / "report.json")]
        env = {"PYTHONPATH": str(self.package), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        # An interpreter without Interlock's own packages, as a user's environment is one.
        python = os.path.realpath(sys.executable)
        command = [python, "-W", "error", "-m", "interlock.probes", *arguments]
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    def check(self, name: str, entries: Sequence[str] = ()) -> dict[str, Any]:
        code, said = self.run(name, json.dumps({"entries": list(entries)}))
        assert code == 0, said
        report = json.loads((self.folder / "report.json").read_text())
        assert set(report) == {"passed", "because", "problems", "report"}
        assert all(set(problem) == {"message", "path", "line", "is_warning"} for problem in report["problems"])
        return report

    def imports(self, source: str, **files: str) -> tuple[bool, list[str]]:
        """What is said about one file's imports; other files by name, ``__`` for a slash."""
        named = {f"{name.replace('__', '/')}.py": content for name, content in files.items()}
        self.write({"src/main.py": source, **named})
        report = self.check("imports", ["src/main.py"])
        return report["passed"], [problem["message"] for problem in report["problems"]]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# --- how a probe is called ---


@pytest.mark.parametrize("arguments", [[], ["syntax"], ["nothing", "a", "b"]])
def test_a_wrong_call_is_answered_with_usage(project: Project, arguments: list[str]) -> None:
    env = {"PYTHONPATH": str(project.package)}
    command = [sys.executable, "-m", "interlock.probes", *arguments]
    done = subprocess.run(command, cwd=project.root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_a_probe_that_cannot_measure_does_not_exit_with_0(project: Project) -> None:
    assert project.run("syntax", "{}")[0] != 0
    assert project.run("syntax", "no json")[0] != 0
    assert not (project.folder / "report.json").exists()


# --- syntax ---


def test_code_that_parses_passes(project: Project) -> None:
    project.write({"src/train.py": "import helper\n", "src/helper.py": "def f():\n    return '\\d'\n"})
    report = project.check("syntax", ["src/train.py"])
    assert report["passed"]
    assert report["problems"] == []
    assert report["report"] == {"files": 2, "reached": ["src/helper.py", "src/train.py"]}


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("x = 1\ndef (\n", 2),
        ("if x:\ny = 1\n", 2),
        ("\n\nreturn 5\n", 3),
        ("x = 1\nawait x\n", 2),
        ("s = 'open\n", 1),
    ],
)
def test_a_file_that_does_not_parse_is_named_with_its_line(project: Project, source: str, line: int) -> None:
    project.write({"train.py": "from helper import f\n", "helper.py": source})
    report = project.check("syntax", ["train.py"])
    assert not report["passed"]
    (problem,) = report["problems"]
    assert (problem["path"], problem["line"], problem["is_warning"]) == ("helper.py", line, False)
    assert report["because"].startswith(f"helper.py:{line}: ")


def test_a_file_nobody_uses_is_only_warned_about(project: Project) -> None:
    project.write({"train.py": "x = 1\n", "old/draft.py": "def (\n", ".hidden/x.py": "def (\n", "venv/x.py": "def (\n"})
    report = project.check("syntax", ["train.py"])
    assert report["passed"]
    assert [(problem["path"], problem["is_warning"]) for problem in report["problems"]] == [("old/draft.py", True)]


def test_bytes_that_are_no_text_are_a_problem_and_no_crash(project: Project) -> None:
    (project.root / "a.py").write_bytes(b"x = '\xff'\n")
    (project.root / "b.py").write_bytes(b"x = 1\0\n")
    (project.root / "c.py").write_text("x = " + "(" * 5000 + ")" * 5000)
    report = project.check("syntax", ["a.py", "b.py", "c.py"])
    assert [problem["path"] for problem in report["problems"]] == ["a.py", "b.py", "c.py"]


def test_without_entries_every_file_counts(project: Project) -> None:
    project.write({"a.py": "x = 1\n", "b.py": "def (\n"})
    assert not project.check("syntax")["passed"]


def test_a_folder_of_tests_is_an_entry_and_a_missing_file_is_a_problem(project: Project) -> None:
    project.write({"tests/test_a.py": "import a\n", "tests/conftest.py": "def (\n", "src/a.py": "x = 1\n"})
    report = project.check("syntax", ["tests", "gone.py", "README.md"])
    assert {problem["path"] for problem in report["problems"]} == {"gone.py", "tests/conftest.py"}
    assert report["report"]["reached"] == ["src/a.py", "tests/conftest.py", "tests/test_a.py"]


# --- imports ---


def test_the_standard_library_and_the_project_are_found(project: Project) -> None:
    source = (
        "import os.path, json\nfrom . import x\nfrom pkg.deep import thing, other\n"
        "import pkg.deep.thing as t\nfrom pkg import *\n"
    )
    project.write(
        {"src/main.py": source, "src/x.py": "", "src/pkg/__init__.py": "", "src/pkg/deep/__init__.py": "other = 1\n"}
    )
    project.write({"src/pkg/deep/thing.py": "from ..near import y\n", "src/pkg/near.py": "y = 1\n"})
    report = project.check("imports", ["src/main.py"])
    assert report["passed"], report
    assert report["report"]["reached"] == [
        "src/main.py",
        "src/pkg/__init__.py",
        "src/pkg/deep/__init__.py",
        "src/pkg/deep/thing.py",
        "src/pkg/near.py",
        "src/x.py",
    ]


def test_a_module_that_is_nowhere_is_named_with_line_and_remedy(project: Project) -> None:
    project.write({"train.py": "import json\nimport helper\n", "helper.py": "\n\nimport sklearn.linear_model\n"})
    report = project.check("imports", ["train.py"])
    assert not report["passed"]
    (problem,) = report["problems"]
    assert (problem["path"], problem["line"]) == ("helper.py", 3)
    assert "sklearn.linear_model" in problem["message"]
    assert "add scikit-learn to the project's dependencies and lock again" in problem["message"]


def test_a_misspelt_module_of_the_project_is_suggested(project: Project) -> None:
    passed, messages = project.imports("import featurs\n", src__features="")
    assert not passed
    assert "did you mean features?" in messages[0]


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import lightgbm\nexcept ImportError:\n    lightgbm = None\n",
        "try:\n    import lightgbm\nexcept (KeyError, ModuleNotFoundError):\n    pass\n",
        "try:\n    import lightgbm\nexcept:\n    pass\n",
        "import typing\nif typing.TYPE_CHECKING:\n    import lightgbm\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    def f():\n        import lightgbm\n",
    ],
)
def test_an_import_that_may_fail_is_only_warned_about(project: Project, source: str) -> None:
    passed, messages = project.imports(source)
    assert passed
    assert len(messages) == 1


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import lightgbm\nexcept ValueError:\n    pass\n",
        "try:\n    pass\nexcept ImportError:\n    import lightgbm\n",
        "def f():\n    import lightgbm\n",
        "class A:\n    from lightgbm import b\n",
    ],
)
def test_an_import_that_must_not_fail_is_a_problem_wherever_it_is(project: Project, source: str) -> None:
    assert not project.imports(source)[0]


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("import pkg.nothing\n", "pkg.nothing"),
        ("from pkg.nothing import x\n", "pkg.nothing"),
        ("from .nothing import x\n", ".nothing"),
        ("from bare import nothing\n", "bare.nothing"),
        ("from bare.part import x\n", "bare.part"),
    ],
)
def test_a_part_of_the_project_that_is_not_there_is_a_problem(project: Project, source: str, missing: str) -> None:
    project.write({"src/pkg/__init__.py": "x = 1\n", "src/bare/module.py": ""})
    passed, messages = project.imports(source)
    assert not passed
    assert missing in messages[0]


def test_folders_without_init_are_packages_too(project: Project) -> None:
    project.write({"src/bare/module.py": "", "src/bare/deep/other.py": ""})
    assert project.imports("import bare.module\nfrom bare import deep\nfrom bare.deep.other import x\n") == (True, [])


def test_a_module_that_only_lies_elsewhere_is_warned_about(project: Project) -> None:
    project.write({"lib/tools.py": "", "src/main.py": "import tools\n"})
    report = project.check("imports", ["src/main.py"])
    assert report["passed"]
    assert "lib/tools" in report["problems"][0]["message"]


def test_tests_find_what_pytest_adds(project: Project) -> None:
    project.write(
        {"tests/unit/__init__.py": "", "tests/__init__.py": "", "tests/unit/test_a.py": "import a, tests.unit, b\n"}
    )
    project.write({"src/a.py": "", "b.py": ""})
    report = project.check("imports", ["tests"])
    assert report["problems"] == []


def test_an_import_is_never_executed(project: Project) -> None:
    project.write(
        {
            "train.py": "import helper\n",
            "helper.py": "open('executed', 'w')\n",
            "helper2/__init__.py": "open('executed', 'w')\n",
        }
    )
    assert project.check("imports", ["train.py"])["passed"]
    assert not (project.root / "executed").exists()


def test_a_project_may_import_in_a_circle(project: Project) -> None:
    assert project.imports("import a\n", src__a="import b\n", src__b="import a, main\n") == (True, [])


def test_a_file_that_does_not_parse_is_left_to_the_other_probe(project: Project) -> None:
    project.write({"train.py": "import helper\n", "helper.py": "def (\n"})
    report = project.check("imports", ["train.py"])
    assert report["passed"]
    assert report["problems"][0]["is_warning"]


def test_links_and_other_environments_are_left_alone(project: Project) -> None:
    shutil.copytree(PROBES, project.folder / "outside")
    (project.root / "linked").symlink_to(project.folder / "outside")
    project.write({"mine/pyvenv.cfg": "", "mine/lib/x.py": "def (\n", "a.py": ""})
    assert project.check("syntax")["report"]["files"] == 1
