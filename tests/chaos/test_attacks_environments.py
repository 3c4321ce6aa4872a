"""What a pull request can do with its lock: whatever it names, none of its code runs while packages are installed."""

import hashlib
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from interlock.edges.environments import UvEnvironments
from interlock.errors import EnvironmentFault, Refused
from interlock.pipeline.plan import PythonPlan

LOCKED = PythonPlan()
OWN = '[[package]]\nname = "victim"\nversion = "1"\nsource = { virtual = "." }\n'


class Bench(NamedTuple):
    """``canary`` appears when code of a package ran out here."""

    folder: Path
    canary: Path
    environments: UvEnvironments

    @property
    def attack(self) -> str:
        return f"open({str(self.canary)!r}, 'a').write('x')"

    def wheel(self, name: str, files: Mapping[str, str]) -> Path:
        path = self.folder / f"{name}-1-py3-none-any.whl"
        facts = {
            f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
            f"{name}-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        listed = "".join(f"{inside},,\n" for inside in (*files, *facts, f"{name}-1.dist-info/RECORD"))
        with zipfile.ZipFile(path, "w") as archive:
            for inside, content in (files | facts | {f"{name}-1.dist-info/RECORD": listed}).items():
                archive.writestr(inside, content)
        return path

    def build(self, project: str, lock: str, purpose: str = "build") -> str:
        said: list[str] = []
        files = {"pyproject.toml": project.encode(), "uv.lock": _lock(lock).encode()}
        return self.environments.ensure(LOCKED, files, purpose, said.append)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    server = Bench(tmp_path, tmp_path / "it-ran", UvEnvironments(tmp_path / "environments", ()))
    needed = server.wheel("needed", {"needed.py": "x = 1\n"})
    return server._replace(environments=UvEnvironments(tmp_path / "environments", (f"needed @ file://{needed}",)))


def _lock(packages: str) -> str:
    return f'version = 1\nrevision = 3\nrequires-python = ">=3.11"\n{packages}'


def _project(more: str = "", extra: str = "") -> str:
    return f'[project]\nname = "victim"\nversion = "1"\nrequires-python = ">=3.11"\n{more}\n{extra}\n'


def _needs(wheel: Path, name: str) -> str:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return textwrap.dedent(f"""
        [[package]]
        name = "{name}"
        version = "1"
        source = {{ registry = "{wheel.parent}" }}
        wheels = [ {{ path = "{wheel.name}", hash = "sha256:{digest}" }} ]

        [[package]]
        name = "victim"
        version = "1"
        source = {{ virtual = "." }}
        dependencies = [ {{ name = "{name}" }} ]
    """)


@pytest.mark.parametrize("purpose", ["build", "serve"])
@pytest.mark.parametrize("file", ["hostile.pth", "sitecustomize.py", "usercustomize.py"])
def test_a_package_that_runs_with_every_interpreter_does_not_run_out_here(
    bench: Bench, purpose: str, file: str
) -> None:
    wheel = bench.wheel("hostile", {file: f"import os; {bench.attack}\n", "hostile.py": "x = 1\n"})
    extra = "[tool.uv]\ncompile-bytecode = true\n"
    folder = Path(bench.build(_project('dependencies = ["hostile"]', extra), _needs(wheel, "hostile"), purpose))
    packages = next(folder.glob("lib/python*/site-packages"))
    assert (packages / file).exists()
    assert list(packages.glob("__pycache__/hostile.*.pyc")), "stages see it read-only, so its byte code is made now"
    assert (packages / "needed.py").exists() == (purpose == "serve")
    assert not bench.canary.exists()


def _backend(bench: Bench) -> str:
    wheel = bench.wheel("backend", {"backend.py": f"{bench.attack}\n"})
    return f'[build-system]\nrequires = ["backend @ file://{wheel}"]\nbuild-backend = "backend"\n'


EDITABLE = '[[package]]\nname = "other"\nversion = "1"\nsource = { editable = "." }\n'
DIRECTORY = EDITABLE.replace("editable", "directory")
NEEDS_OTHER = OWN + 'dependencies = [ { name = "other" } ]\n'


@pytest.mark.parametrize("lock", [EDITABLE + NEEDS_OTHER, DIRECTORY + NEEDS_OTHER])
@pytest.mark.parametrize("extra", ["", "[tool.uv]\nno-build = false\nno-build-isolation = false\n"])
def test_nothing_is_built_from_the_folder_that_the_lock_lies_in(bench: Bench, lock: str, extra: str) -> None:
    with pytest.raises(Refused, match="built from a folder"):
        bench.build(_project(extra=extra + _backend(bench)), lock)
    assert not bench.canary.exists()


METADATA: dict[str, Callable[[str], str]] = {
    "version": lambda backend: _project('dynamic = ["version"]', backend).replace('version = "1"\n', ""),
    "dependencies": lambda backend: _project('dynamic = ["dependencies"]', backend),
    "extras": lambda backend: _project('dynamic = ["optional-dependencies"]', backend),
    "nothing said": lambda backend: _project("", backend).replace('version = "1"\n', ""),
    "no project": lambda backend: backend,
    "poetry": lambda backend: _project("", "[tool.poetry.dependencies]\npython = '^3.11'\n" + backend),
    "isolated": lambda backend: _project(
        'dynamic = ["dependencies"]', "[tool.uv]\nno-build-isolation = false\n" + backend
    ),
    "a package": lambda backend: _project('dynamic = ["dependencies"]', "[tool.uv]\npackage = true\n" + backend),
    "extra needs": lambda backend: _project(
        'dynamic = ["dependencies"]',
        backend + "[tool.uv.extra-build-dependencies]\nvictim = ['" + backend.split('"')[1] + "']\n",
    ),
}


@pytest.mark.parametrize("how", METADATA)
@pytest.mark.parametrize("source", ["virtual", "editable"])
def test_no_backend_of_the_commits_choice_is_asked_whether_the_lock_fits(bench: Bench, how: str, source: str) -> None:
    files = {
        "pyproject.toml": METADATA[how](_backend(bench)).encode(),
        "uv.lock": _lock(OWN.replace("virtual", source)).encode(),
    }
    with suppress(Refused, EnvironmentFault):
        bench.environments.check(LOCKED, files)
    assert not bench.canary.exists()


def test_a_project_file_chooses_no_folder_to_write_to(bench: Bench) -> None:
    elsewhere = bench.folder / "elsewhere"
    bench.build(_project(extra=f'[tool.uv]\ncache-dir = "{elsewhere}"\n'), OWN)
    assert not elsewhere.exists()
