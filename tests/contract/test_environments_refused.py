"""Locks that cannot be used, each refused by the real uv before anything is trained, with its cause and a remedy.

The packages come from an index of this machine, so that what is missing in it is missing for good.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import uv

from interlock.edges.environments import UvEnvironments
from interlock.errors import EnvironmentFault, Refused
from interlock.pipeline.plan import PythonPlan

LOCKED = PythonPlan()
PINNED = PythonPlan(lock="requirements.txt")


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


class Index(NamedTuple):
    """An index in a folder, its URL, and the hashes of its wheels by name."""

    folder: Path
    url: str
    hashes: dict[str, str]

    def add(
        self, name: str, version: str = "1", needs: Sequence[str] = (), tag: str = "py3-none-any", python: str = ""
    ) -> None:
        wheel = f"{name}-{version}-{tag}.whl"
        place = self.folder / "simple" / name
        place.mkdir(parents=True, exist_ok=True)
        more = "".join(f"Requires-Dist: {need}\n" for need in needs) + (
            f"Requires-Python: {python}\n" if python else ""
        )
        facts = {
            f"{name}.py": "x = 1\n",
            f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}",
            f"{name}-{version}.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        }
        record = "".join(f"{inside},,\n" for inside in (*facts, f"{name}-{version}.dist-info/RECORD"))
        with zipfile.ZipFile(place / wheel, "w") as archive:
            for inside, content in (facts | {f"{name}-{version}.dist-info/RECORD": record}).items():
                archive.writestr(inside, content)
        self.hashes[f"{name}=={version}"] = f"sha256:{hashlib.sha256((place / wheel).read_bytes()).hexdigest()}"
        required = f' data-requires-python="{python.replace(">", "&gt;")}"' if python else ""
        with (place / "index.html").open("a") as page:
            page.write(
                f'<a href="{wheel}#{self.hashes[f"{name}=={version}"].replace(":", "=")}"{required}>{wheel}</a>\n'
            )

    def pins(self, *names: str) -> dict[str, bytes]:
        lines = [f"{name} --hash={self.hashes.get(name, 'sha256:' + '0' * 64)}\n" for name in names]
        return {"requirements.txt": "".join(lines).encode()}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("index")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made = Index(folder, f"http://127.0.0.1:{server.server_port}/simple/", {})
    for version in ("1", "2"):
        made.add("plain", version)
    made.add("needy", needs=["plain>=2"])
    made.add("elsewhere", tag="cp311-cp311-win_amd64")
    made.add("future", python=">=3.99")
    made.add("gone")
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def environments(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> UvEnvironments:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    return UvEnvironments(tmp_path / "environments", ())


def project(*needs: str, python: str = ">=3.11") -> bytes:
    wanted = ", ".join(f'"{need}"' for need in needs)
    return (
        f'[project]\nname = "demo"\nversion = "0"\nrequires-python = "{python}"\ndependencies = [{wanted}]\n'.encode()
    )


def lock(folder: Path, text: bytes) -> dict[str, bytes]:
    """The project file with the lock that the real uv makes of it."""
    folder.mkdir()
    (folder / "pyproject.toml").write_bytes(text)
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=folder, check=True)
    return {name: (folder / name).read_bytes() for name in ("pyproject.toml", "uv.lock")}


Given = Callable[[Index, Path], Mapping[str, bytes]]


def _stale(index: Index, folder: Path) -> Mapping[str, bytes]:
    return {**lock(folder / "p", project("plain==1")), "pyproject.toml": project("plain==2")}


def _other_hash(index: Index, folder: Path) -> Mapping[str, bytes]:
    files = lock(folder / "p", project("plain==1"))
    digest = index.hashes["plain==1"].encode()
    return {**files, "uv.lock": files["uv.lock"].replace(digest, b"sha256:" + b"0" * 64)}


def _conflict(index: Index, folder: Path) -> Mapping[str, bytes]:
    return {**lock(folder / "p", project("plain==1")), "pyproject.toml": project("plain==1", "needy")}


def _newer_python(index: Index, folder: Path) -> Mapping[str, bytes]:
    files = lock(folder / "p", project("plain==1"))
    return {name: text.replace(b">=3.11", b">=3.99") for name, text in files.items()}


def _other_platform(index: Index, folder: Path) -> Mapping[str, bytes]:
    return lock(folder / "p", project("elsewhere; python_version > '3'"))


def _removed(index: Index, folder: Path) -> Mapping[str, bytes]:
    files = lock(folder / "p", project("gone"))
    next((index.folder / "simple" / "gone").glob("*.whl")).unlink()
    return files


CASES: dict[str, tuple[PythonPlan, Given, str, str]] = {
    "no lock": (
        LOCKED,
        lambda i, f: {"pyproject.toml": project("plain")},
        "uv.lock is not in the commit",
        "run --lock",
    ),
    "no requirements": (PINNED, lambda i, f: {}, "requirements.txt is not in the commit", "run --lock"),
    "no project file": (
        LOCKED,
        lambda i, f: {"uv.lock": b""},
        "pyproject.toml is not in the commit",
        "commit the file",
    ),
    "unreadable lock": (
        LOCKED,
        lambda i, f: {"pyproject.toml": project("plain"), "uv.lock": b"= ["},
        "it cannot be read",
        "lock again",
    ),
    "lock of another format": (
        LOCKED,
        lambda i, f: {"pyproject.toml": project("plain"), "uv.lock": b"version = 99\n"},
        "version",
        "run --lock",
    ),
    "stale lock": (LOCKED, _stale, "pyproject.toml asks for plain==2, the lock was made for plain==1", "run --lock"),
    "other hash, lock": (LOCKED, _other_hash, "(?i)hash mismatch.*plain", "find out why"),
    "other hash, pins": (
        PINNED,
        lambda i, f: {"requirements.txt": b"plain==1 --hash=sha256:" + b"0" * 64},
        "(?i)hash mismatch.*plain",
        "find out why",
    ),
    "conflict, lock": (LOCKED, _conflict, "needy is in pyproject.toml and not in the lock", "run --lock"),
    "conflict, pins": (
        PINNED,
        lambda i, f: i.pins("plain==1", "needy==1"),
        "needy depend on plain>=2 and you require plain==1",
        "interlock run --lock",
    ),
    "incomplete pins": (
        PINNED,
        lambda i, f: i.pins("needy==1"),
        "no trusted hash was provided for: `plain`",
        "interlock run --lock",
    ),
    "no such Python": (
        PythonPlan(version=">=3.99"),
        lambda i, f: lock(f / "p", project("plain==1")),
        r"no Python >=3\.99 is installed here",
        "Interlock downloads none",
    ),
    "project of a newer Python": (LOCKED, _newer_python, r"Python requirement: `>=3\.99`", "requires-python"),
    "pin of a newer Python": (
        PINNED,
        lambda i, f: i.pins("future==1"),
        r"Python>=3\.99",
        "an installed interpreter fits",
    ),
    "not pinned": (PINNED, lambda i, f: {"requirements.txt": b"plain>=1\n"}, "not pinned with ==", "run --lock"),
    "no hashes": (PINNED, lambda i, f: {"requirements.txt": b"plain==1\n"}, "no --hash", "run --lock"),
    "not on the index, pins": (
        PINNED,
        lambda i, f: i.pins("nobody-has-this==1"),
        "nobody-has-this was not found in the package registry",
        "that uv's index has",
    ),
    "not on the index any more": (LOCKED, _removed, "gone.*404", "that uv's index has"),
    "no wheel for this platform, lock": (
        LOCKED,
        _other_platform,
        "elsewhere==1 has no wheel for this platform",
        "a version with a wheel",
    ),
    "no wheel for this platform, pins": (
        PINNED,
        lambda i, f: i.pins("elsewhere==1"),
        "elsewhere==1 has no wheels with a matching (Python|platform)",
        "a version with a wheel",
    ),
}


def prepare(environments: UvEnvironments, python: PythonPlan, files: Mapping[str, bytes]) -> None:
    """What planning and the check `dependencies` do, before any training."""
    found = environments.lock_files(python, lambda paths: {path: files[path] for path in paths if path in files})
    environments.check(python, found)
    environments.ensure(python, found, "build", lambda _: None)


@pytest.mark.parametrize("case", CASES)
def test_a_lock_that_cannot_be_used_is_refused_with_its_cause(
    case: str, environments: UvEnvironments, index: Index, tmp_path: Path
) -> None:
    python, given, said, remedy = CASES[case]
    files = given(index, tmp_path)
    with pytest.raises(Refused) as refused:
        prepare(environments, python, files)
    told = str(refused.value)
    assert re.search(said, told), told
    assert re.search(remedy, told), told
    assert "\n\n" not in told
    assert "Caused by" not in told
    assert not list((tmp_path / "environments").glob("*/interlock-complete.json"))


def test_where_the_cache_is_warm_no_index_is_needed(
    environments: UvEnvironments, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[PythonPlan, Mapping[str, bytes]]] = [
        (LOCKED, lock(tmp_path / "p", project("needy"))),
        (PINNED, index.pins("plain==2", "needy==1")),
    ]
    for python, files in given:
        prepare(environments, python, files)
    monkeypatch.setenv("UV_OFFLINE", "1")
    elsewhere = UvEnvironments(tmp_path / "elsewhere", ())
    for python, files in given:
        prepare(elsewhere, python, files)
    assert len(list((tmp_path / "elsewhere").glob("*/interlock-complete.json"))) == 2
    with pytest.raises(EnvironmentFault, match="gone"):
        prepare(elsewhere, PINNED, index.pins("gone==1"))


# --- writing the lock ---


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def test_a_project_is_locked_and_every_change_is_told(environments: UvEnvironments, index: Index, tree: Path) -> None:
    (tree / "pyproject.toml").write_bytes(project("needy", "plain==2"))
    told = environments.lock(LOCKED, tree)
    assert told == "uv.lock was written, with 2 packages, from pyproject.toml: commit it"
    written = (tree / "uv.lock").read_bytes()
    prepare(environments, LOCKED, {name: (tree / name).read_bytes() for name in ("pyproject.toml", "uv.lock")})
    assert environments.lock(LOCKED, tree).startswith("uv.lock fits already, and was not changed")
    assert (tree / "uv.lock").read_bytes() == written
    (tree / "pyproject.toml").write_bytes(project("plain==1"))
    assert "uv.lock was written: needy 1 is gone, plain 2 -> 1, from" in environments.lock(LOCKED, tree)


def test_loose_requirements_are_kept_and_locked_beside(environments: UvEnvironments, index: Index, tree: Path) -> None:
    (tree / "requirements.txt").write_text("needy  # the model\n")
    told = environments.lock(PINNED, tree)
    assert told.startswith("requirements.txt was written, with 2 packages, from requirements.in, which keeps what")
    assert (tree / "requirements.in").read_text() == "needy  # the model\n"
    prepare(environments, PINNED, {"requirements.txt": (tree / "requirements.txt").read_bytes()})
    assert "fits already" in environments.lock(PINNED, tree)
    (tree / "requirements.in").write_text("plain==1\n")
    assert "was written: needy 1 is gone, plain 2 -> 1, from requirements.in" in environments.lock(PINNED, tree)


def test_a_lock_that_init_made_is_made_again_from_its_sources(
    environments: UvEnvironments, index: Index, tree: Path
) -> None:
    (tree / "requirements.txt").write_text("plain\n")
    (tree / "requirements-dev.txt").write_text("needy\n")
    told = environments.lock(PythonPlan(lock="requirements.lock.txt"), tree)
    assert told.endswith("from requirements.txt and requirements-dev.txt: commit it")
    assert (tree / "requirements.txt").read_text() == "plain\n"
    assert "needy==1" in (tree / "requirements.lock.txt").read_text()


def test_a_lock_from_elsewhere_is_left_alone(environments: UvEnvironments, index: Index, tree: Path) -> None:
    (tree / "requirements.txt").write_bytes(index.pins("plain==1")["requirements.txt"])
    assert "nothing was written" in environments.lock(PINNED, tree)
    assert [path.name for path in tree.iterdir()] == ["requirements.txt"]


@pytest.mark.parametrize(
    ("python", "files", "said"),
    [
        (LOCKED, {}, "there is no pyproject.toml to lock"),
        (PINNED, {}, "there is no requirements.in to lock"),
        (PythonPlan(lock="requirements.lock.txt"), {}, "there is no requirements.txt to lock"),
        (LOCKED, {"pyproject.toml": project("needy", "plain==1")}, "needy"),
        (PINNED, {"requirements.txt": b"needy\nplain==1\n"}, "needy"),
    ],
)
def test_what_cannot_be_locked_is_refused_and_nothing_is_changed(
    environments: UvEnvironments, tree: Path, python: PythonPlan, files: Mapping[str, bytes], said: str
) -> None:
    for name, content in files.items():
        (tree / name).write_bytes(content)
    with pytest.raises(Refused, match=said):
        environments.lock(python, tree)
    assert {path.name: path.read_bytes() for path in tree.iterdir()} == dict(files)
