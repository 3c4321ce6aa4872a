"""Environments made by the real uv from real locks; nothing but small pure wheels is installed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import uv

from interlock.edges.environments import UvEnvironments
from interlock.edges.environments.program import UvFailed
from interlock.edges.environments.requirements import changed_requirements, refuse_loose_pins, without_hashes
from interlock.errors import EnvironmentFault, Refused, SeveralRefused
from interlock.pipeline.locks.packages import logical_lines
from interlock.pipeline.plan import PythonPlan

LOCKED = PythonPlan()
PINNED = PythonPlan(lock="requirements.txt")
SIX = (
    "six==1.17.0 \\\n"
    "    --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274 \\\n"
    "    --hash=sha256:ff70335d468e7eb6ec65b95b99d3a2836546063f63acc5171de367e834932a81\n"
)
PROJECT = """
[project]
name = "demo"
version = "0"
requires-python = ">=3.11"
dependencies = ["six>=1.16"]
[dependency-groups]
dev = ["iniconfig>=2"]
"""


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> UvEnvironments:
    return UvEnvironments(tmp_path_factory.mktemp("environments"), server_requirements=("iniconfig>=2",))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").write_text(PROJECT)
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=folder, check=True)
    return {name: (folder / name).read_bytes() for name in ("pyproject.toml", "uv.lock")}


def reader(files: Mapping[str, bytes]) -> object:
    def read(paths: Sequence[str]) -> Mapping[str, bytes]:
        return {path: files[path] for path in paths if path in files}

    return read


def modules_in(folder: str) -> set[str]:
    script = "import importlib.util as u; print(*[m for m in ('six', 'iniconfig', 'pydantic') if u.find_spec(m)])"
    done = subprocess.run([UvEnvironments.python_of(folder), "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def silent(_: str) -> None:
    return


# --- which files ---


def test_a_lock_comes_with_the_project_file_beside_it(
    environments: UvEnvironments, project: Mapping[str, bytes]
) -> None:
    assert environments.lock_files(LOCKED, reader(project)) == project
    deep = {f"env/{name}": content for name, content in project.items()}
    assert environments.lock_files(PythonPlan(lock="env/uv.lock"), reader(deep)) == project
    assert environments.lock_files(PINNED, reader({"requirements.txt": b"x"})) == {"requirements.txt": b"x"}


@pytest.mark.parametrize(("python", "missing"), [(LOCKED, "uv.lock"), (PINNED, "requirements.txt")])
def test_a_lock_that_is_not_there_is_refused(environments: UvEnvironments, python: PythonPlan, missing: str) -> None:
    with pytest.raises(Refused, match=missing):
        environments.lock_files(python, reader({"pyproject.toml": b""}))


# --- which environment ---


def test_an_environment_is_named_by_all_that_it_is_made_of(environments: UvEnvironments, tmp_path: Path) -> None:
    one = {"requirements.txt": b"a"}
    first = environments.identify(PINNED, one, "build")
    assert first.startswith("blake3:")
    assert first == environments.identify(PINNED, dict(one), "build")
    assert first != environments.identify(PINNED, {"requirements.txt": b"b"}, "build")
    assert first != environments.identify(PINNED, one, "serve")
    other = UvEnvironments(tmp_path, server_requirements=("something-else",))
    assert other.identify(PINNED, one, "build") == first
    assert other.identify(PINNED, one, "serve") != environments.identify(PINNED, one, "serve")


def test_an_interpreter_that_is_not_installed_is_refused(environments: UvEnvironments) -> None:
    for version in (">=3.99", "==2.7", "nonsense"):
        with pytest.raises(Refused, match=r"python\.version"):
            environments.identify(PythonPlan(version=version), {}, "build")


# --- building ---


def test_a_build_environment_has_the_lock_and_the_development_group(
    environments: UvEnvironments, project: Mapping[str, bytes]
) -> None:
    said: list[str] = []
    folder = environments.ensure(LOCKED, project, "build", said.append)
    assert modules_in(folder) == {"six", "iniconfig"}
    assert any("six==1." in line for line in said)
    assert "ready after" in said[-1]
    again: list[str] = []
    assert environments.ensure(LOCKED, project, "build", again.append) == folder
    assert again == []


def test_a_serving_environment_has_the_lock_and_the_servers_needs_only(
    environments: UvEnvironments, project: Mapping[str, bytes], tmp_path: Path
) -> None:
    assert modules_in(environments.ensure(LOCKED, project, "serve", silent)) == {"six", "iniconfig"}
    needing_nothing = UvEnvironments(tmp_path, server_requirements=("six",))
    assert modules_in(needing_nothing.ensure(LOCKED, project, "serve", silent)) == {"six"}


def test_a_conflict_with_the_model_server_names_both_sides(project: Mapping[str, bytes], tmp_path: Path) -> None:
    environments = UvEnvironments(tmp_path, server_requirements=("six==1.15.0",))
    with pytest.raises(Refused, match="cannot be installed together") as refused:
        environments.ensure(LOCKED, project, "serve", silent)
    assert "six==1.15.0" in str(refused.value)
    assert "six==1.1" in refused.value.problem.partition("together")[2]
    with pytest.raises(Refused, match="cannot be installed together"):
        environments.ensure(PINNED, {"requirements.txt": SIX.encode()}, "serve", silent)


def test_pinned_requirements_are_installed_and_hashes_are_checked(environments: UvEnvironments) -> None:
    folder = environments.ensure(PINNED, {"requirements.txt": SIX.encode()}, "build", silent)
    assert modules_in(folder) == {"six"}
    wrong = SIX.replace("4721f391", "00000000").replace("ff70335d", "00000000")
    with pytest.raises(Refused, match=r"(?i)hash"):
        environments.ensure(PINNED, {"requirements.txt": wrong.encode()}, "build", silent)


def test_an_empty_requirements_file_gives_an_empty_environment(environments: UvEnvironments) -> None:
    assert modules_in(environments.ensure(PINNED, {"requirements.txt": b""}, "build", silent)) == set()


def test_a_half_built_environment_is_built_again(environments: UvEnvironments) -> None:
    files = {"requirements.txt": b"# half\n"}
    name = environments.identify(PINNED, files, "build").removeprefix("blake3:")[:40]
    half = environments._folder / name
    (half / "bin").mkdir(parents=True)
    (half / "bin/python").write_text("half")
    folder = environments.ensure(PINNED, files, "build", silent)
    assert Path(folder) == half
    assert modules_in(folder) == set()


def test_two_who_ask_at_once_build_once(environments: UvEnvironments) -> None:
    files = {"requirements.txt": b"# at once\n"}
    said: list[str] = []
    folders: list[str] = []
    threads = [
        threading.Thread(target=lambda: folders.append(environments.ensure(PINNED, files, "build", said.append)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 4
    assert len(set(folders)) == 1
    assert sum("ready after" in line for line in said) == 1


def test_use_is_noted(environments: UvEnvironments) -> None:
    files = {"requirements.txt": b"# used\n"}
    marker = Path(environments.ensure(PINNED, files, "build", silent)) / "interlock-complete.json"
    before = marker.stat().st_mtime_ns
    environments.ensure(PINNED, files, "build", silent)
    assert marker.stat().st_mtime_ns > before


def test_an_index_that_cannot_be_reached_is_not_the_users_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    environments = UvEnvironments(tmp_path / "environments")
    with pytest.raises(EnvironmentFault, match="cannot be installed"):
        environments.ensure(PINNED, {"requirements.txt": SIX.encode()}, "build", silent)


def test_the_servers_own_environment_does_not_leak_into_a_build(
    environments: UvEnvironments, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    folder = environments.ensure(PINNED, {"requirements.txt": b"# own\n"}, "build", silent)
    assert modules_in(folder) == set()
    assert not (tmp_path / "elsewhere").exists()


# --- checking ---


def test_a_lock_that_fits_passes(environments: UvEnvironments, project: Mapping[str, bytes]) -> None:
    environments.check(LOCKED, project)
    environments.check(PINNED, {"requirements.txt": SIX.encode()})


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("six>=1.16", "six>=1.17", "asks for six>=1.17, the lock was made for six>=1.16"),
        ('"six>=1.16"', '"six>=1.16", "tomli-w"', "tomli-w is in pyproject.toml and not in the lock"),
        ('"six>=1.16"', "", "six>=1.16 is in the lock and no longer in pyproject.toml"),
        ("iniconfig>=2", "iniconfig>=2.0.1", "asks for iniconfig>=2.0.1, the lock was made for iniconfig>=2"),
    ],
)
def test_a_lock_that_does_not_fit_says_which_requirement_changed(
    environments: UvEnvironments, project: Mapping[str, bytes], before: str, after: str, said: str
) -> None:
    changed = {**project, "pyproject.toml": PROJECT.replace(before, after).encode()}
    with pytest.raises(Refused) as refused:
        environments.check(LOCKED, changed)
    assert said in str(refused.value)
    assert "interlock run --lock" in refused.value.remedy


def test_a_file_that_cannot_be_read_is_refused(environments: UvEnvironments, project: Mapping[str, bytes]) -> None:
    for name in project:
        with pytest.raises(Refused, match=name):
            environments.check(LOCKED, {**project, name: b"= broken ["})
        with pytest.raises(Refused, match=name):
            environments.check(LOCKED, {**project, name: b"\xff\xfe"})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("six", "not pinned"),
        ("six>=1.0 --hash=sha256:ab", "not pinned"),
        ("six==1.*  --hash=sha256:ab", "not pinned"),
        ("six==1.17.0", "no --hash"),
        ("-e git+file:///x", "not pinned"),
        ("--index-url http://127.0.0.1", "not pinned"),
        ("six @ file:///x --hash=sha256:ab", "not pinned"),
        ("six==1.17.0 --hash=sha256:ab --index-url=http://127.0.0.1", "another option"),
        ("six==1.17.0; touch X\n", "no --hash"),
    ],
)
def test_a_loose_line_is_refused_by_its_number(environments: UvEnvironments, line: str, problem: str) -> None:
    text = f"# comment\n\n{SIX}{line}\n"
    with pytest.raises(SeveralRefused) as refused:
        environments.check(PINNED, {"requirements.txt": text.encode()})
    (only,) = refused.value.refusals
    assert only.where == "requirements.txt:6"
    assert problem in only.problem
    assert "interlock run --lock" in only.remedy


# --- reading pins and messages ---


def test_pins_are_read_line_by_line() -> None:
    text = "a==1 \\\n  --hash=sha256:aa # why\n# nothing\n\nb[x]==2 ; python_version > '3' --hash=sha256:bb"
    assert list(logical_lines(text)) == [
        (1, "a==1 --hash=sha256:aa"),
        (5, "b[x]==2 ; python_version > '3' --hash=sha256:bb"),
    ]
    refuse_loose_pins(text, "requirements.txt")
    assert without_hashes(text) == "a==1\nb[x]==2 ; python_version > '3'\n"
    assert list(logical_lines("a==1 \\")) == [(1, "a==1")]


def test_names_and_ranges_are_compared_and_not_their_spelling() -> None:
    project = "[project]\ndependencies = [\"Foo_Bar[x] >=1, <2 ; python_version > '3'\"]\n"
    lock = (
        '[[package]]\nname = "p"\nsource = { virtual = "." }\n[package.metadata]\n'
        'requires-dist = [{ name = "foo-bar", extras = ["x"], specifier = ">=1,<2" }]\n'
    )
    assert changed_requirements(project, lock) == []
    assert changed_requirements(project, "version = 1\n") == []


def test_what_uv_says_is_put_in_one_line() -> None:
    said = "Using CPython\nerror: No solution found\n  cause: Because a needs b and\n      c, it fails.\n\nhint: lock\n"
    assert UvFailed(said).cause == "No solution found Because a needs b and c, it fails."
    assert UvFailed("").cause == "uv gave no reason"
    assert not UvFailed(said).is_of_the_world
    assert UvFailed("error: Failed to fetch: `http://x`").is_of_the_world
