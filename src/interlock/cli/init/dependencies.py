"""The lock of a repository's Python environment: found, or made by uv from what is not pinned yet."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from uv import find_uv_bin

MADE_LOCK = "requirements.lock.txt"
"""The lock that is made of a requirements.txt without hashes."""
LOCK_SECONDS = 300.0

_NAME = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


class LockFound(NamedTuple):
    """The lock to use (None: there is none), the packages in it, what was done to get it, and what is left to do."""

    path: str | None
    packages: frozenset[str]
    told: tuple[str, ...] = ()
    unsolved: tuple[str, ...] = ()


def find_lock(project: Path, python: str) -> LockFound:
    """The lock of the project folder. Requirements without hashes, and projects without a lock, are locked by uv."""
    if (project / "uv.lock").is_file():
        return LockFound("uv.lock", _locked_packages(project / "uv.lock"), ("lock: uv.lock",))
    requirements = project / "requirements.txt"
    if requirements.is_file():
        if "--hash=" in requirements.read_text(errors="replace"):
            return LockFound("requirements.txt", _required(requirements), ("lock: requirements.txt, with hashes",))
        return _compile(project, python)
    pyproject = project / "pyproject.toml"
    if pyproject.is_file() and "project" in _read_toml(pyproject):
        problem = _run_uv(project, ["lock", "--quiet"])
        if problem is None:
            return LockFound("uv.lock", _locked_packages(project / "uv.lock"), ("lock: uv.lock was made by `uv lock`",))
        return LockFound(None, frozenset(), (), (f"the lock: `uv lock` failed: {problem}",))
    others = [name for name in ("poetry.lock", "Pipfile", "environment.yml", "setup.py") if (project / name).is_file()]
    seen = f"{', '.join(others)} cannot be used as one; " if others else ""
    remedy = "write a requirements.txt or a pyproject.toml and run `interlock init --force` again"
    return LockFound(
        None, frozenset(), (), (f"the lock: no uv.lock and no requirements.txt was found; {seen}{remedy}",)
    )


def find_python(project: Path) -> str:
    """Which Python the project asks for; ``>=3.11`` where it does not say."""
    pyproject = project / "pyproject.toml"
    asked = _read_toml(pyproject).get("project", {}).get("requires-python") if pyproject.is_file() else None
    if isinstance(asked, str) and asked:
        return asked
    pinned = project / ".python-version"
    version = pinned.read_text(errors="replace").strip() if pinned.is_file() else ""
    return f"=={version}.*" if re.fullmatch(r"3\.[0-9]+", version) else ">=3.11"


def project_name(project: Path) -> str:
    """The project's name from pyproject.toml, else the folder's; in small letters, digits and hyphens."""
    pyproject = project / "pyproject.toml"
    named = _read_toml(pyproject).get("project", {}).get("name") if pyproject.is_file() else None
    name = re.sub(r"[^a-z0-9]+", "-", str(named or project.resolve().name).lower()).strip("-")
    return name[:63].strip("-") or "model"


def _compile(project: Path, python: str) -> LockFound:
    sources = ["requirements.txt"]
    sources += [name for name in ("requirements-dev.txt", "requirements-test.txt") if (project / name).is_file()]
    oldest = re.search(r"3\.[0-9]+", python)
    command = ["pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header", "-o", MADE_LOCK]
    command += ["--python-version", oldest.group() if oldest else "3.11", *sources]
    problem = _run_uv(project, command)
    if problem is not None:
        return LockFound(None, frozenset(), (), (f"the lock: {' and '.join(sources)} could not be locked: {problem}",))
    told = f"lock: {' and '.join(sources)} did not pin every package with its hash; uv did, into {MADE_LOCK}"
    return LockFound(MADE_LOCK, _required(project / MADE_LOCK), (told,))


def _run_uv(project: Path, arguments: list[str]) -> str | None:
    """Runs uv in the project; what went wrong, or None."""
    try:
        done = subprocess.run(
            [find_uv_bin(), *arguments],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=LOCK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"uv took longer than {LOCK_SECONDS:g} s"
    if done.returncode == 0:
        return None
    return " ".join(done.stderr.split())[:400] or f"uv ended with {done.returncode}"


def _locked_packages(lock: Path) -> frozenset[str]:
    packages = _read_toml(lock).get("package", [])
    return frozenset(package["name"] for package in packages if isinstance(package, dict) and "name" in package)


def _required(path: Path) -> frozenset[str]:
    lines = path.read_text(errors="replace").splitlines()
    names = [match.group(1) for line in lines if not line.startswith((" ", "#", "-")) and (match := _NAME.match(line))]
    return frozenset(re.sub(r"[-_.]+", "-", name).lower() for name in names)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(errors="replace"))
    except tomllib.TOMLDecodeError:
        return {}
