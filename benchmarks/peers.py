"""Other tools for pipelines: their pinned environments, and how each writes the same work down."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pinned

BIN = Path(sys.executable).parent
PINS = {"doit": "0.37.0", "ninja": "1.13.2", "luigi": "3.8.1", "dvc": "3.67.1", "snakemake": "9.27.1"}
CORES = 2


class Step(NamedTuple):
    """One stage: a shell command, the files it reads and the files it makes."""

    name: str
    command: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def chain(count: int) -> list[Step]:
    """Stages one after the other, each making a small file of the one before."""
    return [
        Step(f"s{n}", f"echo {n} > s{n}.txt", (f"s{n - 1}.txt",) if n else (), (f"s{n}.txt",)) for n in range(count)
    ]


def fan(count: int) -> list[Step]:
    """Stages beside each other, and one that needs them all."""
    wide = [Step(f"s{n}", f"echo {n} > s{n}.txt", (), (f"s{n}.txt",)) for n in range(count)]
    return [*wide, Step("join", "cat s*.txt > all.txt", tuple(step.makes[0] for step in wide), ("all.txt",))]


def environment_of(peer: str, cache: Path) -> Path:
    """The folder of the peer's programs."""
    return pinned.environment_of(peer, [f"{peer}=={PINS[peer]}"], cache)


class Peer:
    """One tool on one folder. ``more`` are files of the project that are there before it begins."""

    def __init__(self, name: str, programs: Path) -> None:
        self.name = name
        self._bin = programs

    def write(self, folder: Path, steps: Sequence[Step]) -> None:
        """Writes the tool's own files into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        getattr(self, f"_write_{self.name}")(folder, steps)

    def command(self) -> list[str]:
        """What a person types in the folder, with two stages at a time where the tool can do that."""
        return {
            "doit": [f"{self._bin}/doit", "-n", str(CORES), "-v", "0"],
            "ninja": [f"{self._bin}/ninja", "-j", str(CORES), "--quiet"],
            "luigi": [
                *(f"{self._bin}/luigi", "--module", "tasks", "All", "--local-scheduler", "--no-lock"),
                *("--workers", str(CORES), "--log-level", "ERROR"),
            ],
            "dvc": [f"{self._bin}/dvc", "repro", "--quiet"],
            "snakemake": [f"{self._bin}/snakemake", "--cores", str(CORES), "--quiet", "all"],
        }[self.name]

    def environment(self) -> dict[str, str]:
        """Variables it is started with: nothing is reported to anybody."""
        quiet = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "DVC_TEST": "true", "PYTHONPATH": "."}
        return {**os.environ, **quiet, "PATH": f"{self._bin}:{os.environ['PATH']}"}

    def clear(self, folder: Path, steps: Sequence[Step]) -> None:
        """Makes the folder as if nothing had ever run in it."""
        for step in steps:
            for path in step.makes:
                (folder / path).unlink(missing_ok=True)
        leftovers = (".doit.db*", ".ninja_*", "dvc.lock", ".snakemake", ".dvc/cache", ".dvc/tmp", "__pycache__")
        for pattern in leftovers:
            for path in folder.glob(pattern):
                subprocess.run(["rm", "-rf", path], check=True)

    def _write_doit(self, folder: Path, steps: Sequence[Step]) -> None:
        tasks = [
            {"name": step.name, "actions": [step.command], "file_dep": list(step.reads), "targets": list(step.makes)}
            for step in steps
        ]
        (folder / "dodo.py").write_text(f"def task_work():\n    yield from {tasks!r}\n")

    def _write_ninja(self, folder: Path, steps: Sequence[Step]) -> None:
        lines = ["rule run", "  command = $cmd"]
        for step in steps:
            lines += [f"build {' '.join(step.makes)}: run {' '.join(step.reads)}", f"  cmd = {step.command}"]
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")

    def _write_luigi(self, folder: Path, steps: Sequence[Step]) -> None:
        made = {path: step.name for step in steps for path in step.makes}
        text = "import luigi, subprocess\n"
        for step in steps:
            needs = ", ".join(f"T_{made[path]}()" for path in step.reads if path in made)
            text += textwrap.dedent(f"""
                class T_{step.name}(luigi.Task):
                    def requires(self):
                        return [{needs}]
                    def output(self):
                        return [luigi.LocalTarget(path) for path in {list(step.makes)!r}]
                    def run(self):
                        subprocess.run({step.command!r}, shell=True, check=True)
                """)
        last = ", ".join(
            f"T_{step.name}()" for step in steps if not {*step.makes} & {p for s in steps for p in s.reads}
        )
        text += f"\nclass All(luigi.WrapperTask):\n    def requires(self):\n        return [{last}]\n"
        (folder / "tasks.py").write_text(text)

    def _write_dvc(self, folder: Path, steps: Sequence[Step]) -> None:
        if not (folder / ".dvc").exists():
            subprocess.run(
                [self._bin / "dvc", "init", "-q", "--no-scm"], cwd=folder, env=self.environment(), check=True
            )
        text = "stages:\n"
        for step in steps:
            text += f"  {step.name}:\n    cmd: {step.command}\n"
            text += "".join(
                f"    {key}: [{', '.join(paths)}]\n"
                for key, paths in (("deps", step.reads), ("outs", step.makes))
                if paths
            )
        (folder / "dvc.yaml").write_text(text)

    def _write_snakemake(self, folder: Path, steps: Sequence[Step]) -> None:
        read = {path for step in steps for path in step.reads}
        last = [path for step in steps for path in step.makes if path not in read]
        text = f"rule all:\n    input: {last!r}\n"
        for step in steps:
            text += f"rule {step.name}:\n    input: {list(step.reads)!r}\n    output: {list(step.makes)!r}\n"
            text += f"    shell: {step.command!r}\n"
        (folder / "Snakefile").write_text(text)
