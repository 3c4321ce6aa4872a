"""From the first build of an environment to its eviction: never half built, never built twice, never gone in use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import uv

from interlock.edges.environments import UvEnvironments
from interlock.edges.environments.bytecode import ByteCode
from interlock.pipeline.plan import PythonPlan

LOCKED = PythonPlan()
COMPLETE = "interlock-complete.json"
DAY = 86400.0
PROJECT = """
[project]
name = "lasting"
version = "0"
requires-python = ">=3.11"
dependencies = ["six", "pyyaml", "pytest"]
"""
BUILDER = """
import sys
from pathlib import Path
from interlock.edges.environments import UvEnvironments
from interlock.pipeline.plan import PythonPlan

files = {name: (Path(sys.argv[2]) / name).read_bytes() for name in ("pyproject.toml", "uv.lock")}
environments = UvEnvironments(sys.argv[1])
print(environments.ensure(PythonPlan(), files, "build", lambda line: print(line, flush=True)), flush=True)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").write_text(PROJECT)
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def files(project: Path) -> Mapping[str, bytes]:
    return {name: (project / name).read_bytes() for name in ("pyproject.toml", "uv.lock")}


def builder(folder: Path, project: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(folder), str(project)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def environments_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("[!.]*") if path.is_dir()]


def imported(folder: str, *modules: str) -> str:
    """The byte code that an environment's interpreter imports these from, as far as it is there."""
    found = "[f for m in {modules!r} if os.path.exists(f := sys.modules[m].__cached__)]"
    script = f"import os, sys, {', '.join(modules)}; print(*{found.format(modules=modules)})"
    done = subprocess.run(
        [UvEnvironments.python_of(folder), "-B", "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("after", ["building", "+ six", "compiling"])
def test_a_builder_that_is_killed_leaves_nothing_in_use(
    after: str, tmp_path: Path, project: Path, files: Mapping[str, bytes]
) -> None:
    process = builder(tmp_path, project)
    assert process.stdout is not None
    for line in process.stdout:
        if after in line or (after == "compiling" and "Installed" in line):
            break
    if after == "compiling":
        place = tmp_path / ".bytecode"
        while not list(place.glob("*/*/*")) and process.poll() is None:
            time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not any((path / COMPLETE).exists() for path in environments_in(tmp_path))
    folder = UvEnvironments(tmp_path).ensure(LOCKED, files, "build", lambda _: None)
    assert [str(path) for path in environments_in(tmp_path)] == [folder]
    assert imported(folder, "six", "yaml", "pytest").count("__pycache__") == 3


def test_two_programs_that_ask_at_once_build_once(tmp_path: Path, project: Path) -> None:
    both = [builder(tmp_path, project) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len({text.splitlines()[-1] for text in said}) == 1
    assert sorted(text.count("ready after") for text in said) == [0, 1]


def test_what_is_needed_stays_and_what_was_evicted_is_built_again(tmp_path: Path, files: Mapping[str, bytes]) -> None:
    environments = UvEnvironments(tmp_path)
    folder = environments.ensure(LOCKED, files, "build", lambda _: None)
    identity = environments.identify(LOCKED, files, "build")
    long_ago = time.time() - 30 * DAY

    def age() -> None:
        os.utime(Path(folder) / COMPLETE, (long_ago, long_ago))

    age()
    assert environments.collect({identity}, "", time.time() - DAY) == (0, 0)
    assert environments.collect((), f"a replica is told: {folder}/bin/python", time.time() - DAY) == (0, 0)
    environments.ensure(LOCKED, files, "build", lambda _: None)  # asked for, so it was used just now
    assert environments.collect((), "", time.time() - DAY)[0] == 0
    age()
    assert environments.collect((), "", time.time() - DAY)[0] == 1
    assert environments_in(tmp_path) == []
    said: list[str] = []
    assert environments.ensure(LOCKED, files, "build", said.append) == folder
    assert "ready after" in said[-1]
    assert imported(folder, "six").count("__pycache__") == 1


# --- byte code ---


def sources(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "lib" / "python3" / "site-packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def byte_code(environment: Path) -> dict[str, int]:
    """The byte code of an environment with the number of its links, by the module's name."""
    return {path.name.partition(".")[0]: path.stat().st_nlink for path in environment.rglob("*.pyc")}


def import_from(environment: Path, script: str) -> str:
    place = environment / "lib" / "python3" / "site-packages"
    done = subprocess.run(
        [sys.executable, "-B", "-c", script],
        env={"PYTHONPATH": str(place), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def give(kept: Path, environments: Sequence[Path]) -> None:
    for environment in environments:
        ByteCode(kept).give(sys.executable, environment)


def test_byte_code_is_made_once_for_each_content(tmp_path: Path) -> None:
    one = sources(tmp_path / "one", {"a.py": "x = 1\n", "b/__init__.py": "", "b/c.py": "x = 1\n", "bad.py": "def (\n"})
    other = sources(tmp_path / "other", {"a.py": "x = 2\n", "moved.py": "x = 1\n", "bad.py": "def (\n"})
    give(tmp_path / "kept", [one])
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").glob("*/*/*")}
    assert byte_code(one) == {"a": 3, "__init__": 2, "c": 3}
    give(tmp_path / "kept", [other])
    assert byte_code(other) == {"a": 2, "moved": 4}
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())
    assert import_from(one, "import a, b.c; print(a.x, b.c.x)").split() == ["1", "1"]
    assert import_from(other, "import a, moved; print(a.x, moved.x)").split() == ["2", "1"]


def test_byte_code_is_used_and_tells_its_own_source(tmp_path: Path) -> None:
    text = "def fail():\n    raise RuntimeError('here')\n"
    one, other = (sources(tmp_path / name, {f"{name}_module.py": text}) for name in ("one", "other"))
    give(tmp_path / "kept", [one, other])
    for environment, name in ((one, "one"), (other, "other")):
        said = import_from(environment, f"import {name}_module; print({name}_module.__cached__); {name}_module.fail()")
        assert f'site-packages/{name}_module.py", line 2, in fail' in said
        (environment / "lib/python3/site-packages" / f"{name}_module.py").write_text(
            "def fail():\n    print('other')\n"
        )
        assert "RuntimeError: here" in import_from(environment, f"import {name}_module; {name}_module.fail()")


def test_byte_code_that_a_package_brings_is_left_alone(tmp_path: Path) -> None:
    one = sources(tmp_path / "one", {"a.py": "x = 1\n"})
    tag = sys.implementation.cache_tag
    own = sources(tmp_path / "one", {f"__pycache__/a.{tag}.pyc": "own"}).rglob("*.pyc").__next__()
    give(tmp_path / "kept", [one])
    assert own.read_text() == "own"


def test_an_interpreter_that_answers_nothing_gives_no_byte_code(tmp_path: Path) -> None:
    one = sources(tmp_path / "one", {"a.py": "x = 1\n"})
    ByteCode(tmp_path / "kept").give("/bin/false", one)
    assert byte_code(one) == {}


def test_the_name_of_a_file_cannot_have_another_one_compiled_in_its_place(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text("x = 'planted'\n")
    honest = sources(tmp_path / "honest", {"a.py": "x = 'honest'\n"})
    hostile = sources(tmp_path / "hostile", {f"new\n{elsewhere}": "x = 'honest'\n"})
    give(tmp_path / "kept", [hostile, honest])
    assert import_from(honest, "import a; print(a.x)").strip() == "honest"


def test_byte_code_goes_once_nothing_holds_it(tmp_path: Path) -> None:
    one, other = sources(tmp_path / "one", {"a.py": "x = 1\n"}), sources(tmp_path / "other", {"b.py": "x = 2\n"})
    give(tmp_path / "kept", [one, other])
    next(other.rglob("*.pyc")).unlink()
    kept = ByteCode(tmp_path / "kept")
    assert kept.collect(time.time() - DAY) == 0
    assert kept.collect(time.time() + 1) > 0
    assert [path.stat().st_nlink for path in (tmp_path / "kept").glob("*/*/*")] == [2]
    assert kept.collect(time.time() + 1) == 0
