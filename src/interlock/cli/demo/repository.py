"""The model repository of the demo: a bare one to push to, and a clone that a person works in."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from interlock.cli.demo.dataset import COLUMNS, read_records, write_planes, write_records
from interlock.errors import Refused

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"
BRANCH = "main"


class Pushed(NamedTuple):
    """One push: the commit, how long ``git push`` took (seconds), and what the server answered to it."""

    sha: str
    seconds: float
    answer: tuple[str, ...]


def example(name: str) -> Path:
    """A folder of examples. Refused where Interlock was installed without them."""
    path = EXAMPLES / name
    if not path.is_dir():
        raise Refused(
            f"the example {name!r} is not here", str(path), "run the demo from a clone of Interlock's repository"
        )
    return path


class Clone:
    """A working copy at ``path``, whose origin is the bare repository at ``origin``."""

    def __init__(self, path: Path, origin: Path) -> None:
        self.path = path
        self.origin = origin

    @classmethod
    def make(cls, path: Path, origin: Path) -> Clone:
        """Both repositories, the working copy filled with the example's files; nothing is committed yet."""
        clone = cls(path, origin)
        ignored = shutil.ignore_patterns("__pycache__", ".venv", ".pytest_cache", "model", "data")
        shutil.copytree(example("flights"), path, ignore=ignored)
        clone._git("init", "-q", "--bare", "-b", BRANCH, str(origin), folder=path.parent)
        clone._git("init", "-q", "-b", BRANCH)
        clone._git("remote", "add", "origin", str(origin))
        return clone

    def apply(self, patch: str) -> None:
        """Changes the files as one of the patches in ``examples/flights-changes`` says."""
        self._git("apply", str(example("flights-changes") / f"{patch}.patch"))

    def replace(self, name: str, old: str, new: str) -> None:
        """Changes a text in a file, in all places. Refused where it is not there."""
        file = self.path / name
        text = file.read_text(encoding="utf-8")
        if old not in text:
            raise Refused(f"there is no {old!r} to be changed", str(file))
        file.write_text(text.replace(old, new), encoding="utf-8")

    def break_a_distance(self, row: int) -> None:
        """One flight of the training data (counted from 0) gets a distance below zero, as a faulty export would."""
        file = self.path / "data" / "train.csv"
        flights = read_records(file)
        flights[row]["distance"] = "-" + flights[row]["distance"]
        write_records(file, flights, COLUMNS)

    def join_planes(self) -> None:
        """Adds the register of planes; flights whose plane has no record fall out of both datasets, as in a join."""
        write_planes(self.path / "data" / "planes.csv")
        for name in ("train.csv", "holdout.csv"):
            file = self.path / "data" / name
            write_records(file, [flight for flight in read_records(file) if flight["engines"]], COLUMNS)

    def commit(self, subject: str) -> None:
        """Commits everything."""
        self._git("add", "--all")
        self._git("commit", "-q", "-m", subject)

    def revert(self) -> None:
        """Takes the last commit back by a new one."""
        self._git("revert", "--no-edit", "HEAD")

    def push(self) -> Pushed:
        """A plain ``git push``."""
        sha = self._git("rev-parse", "HEAD").stdout.strip()
        begun = time.monotonic()
        done = self._git("push", "origin", BRANCH)
        seconds = time.monotonic() - begun
        said = [line.removeprefix("remote:").strip() for line in done.stderr.splitlines() if line.startswith("remote:")]
        return Pushed(sha, seconds, tuple(line for line in said if line))

    def _git(self, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        # A person's own configuration (signing, hooks, default branches) must not decide how the demo goes.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        person = {"NAME": "Ada", "EMAIL": "ada@example.org"}
        identity = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()}
        env = {**inherited, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C", **identity}
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=folder or self.path, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Refused(f"{' '.join(command[:3])} failed: {done.stderr.strip()}", str(self.path))
        return done
