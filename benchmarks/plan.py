"""What a plan costs: of 10, 100 and 1,000 stages, and of a commit that only changes a page of the documentation.

Every stage was executed once before, so each plan finds all of them again in the store, the way it is on a working day.
A plan is measured in a new process, from the opened state folder to the answer: processor time of Interlock itself, and
beside it that of the git commands it starts. The whole command ``interlock plan`` is measured too, beside
``python -c pass``.

    python benchmarks/plan.py [--rounds N] [--stages 10,100,1000] [--place DIR] [--only-prepare]

To execute 1,000 stages once takes minutes, each in a folder with all 1,200 files of the project, and needs no quiet
machine: ``--place`` keeps what was executed for a later call, and ``--only-prepare`` measures nothing.

Targets: 1,000 stages within a second of processor time; the commit of documentation within 50 ms beyond git.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
STAGES_LIMIT, DOCUMENTATION_LIMIT = 1.0, 0.050
FILES = 200
"""Files of the repository beside those of the stages."""
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
PROJECT = """
[project]
name = "many"
version = "1"
requires-python = ">=3.11"
dependencies = []
"""
INSIDE = """
import json, resource, sys, time
from pathlib import Path
from interlock.app.local import Local
from interlock.pipeline.trace import Lookup

def used():
    own, git = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime, git.ru_utime + git.ru_stime

with Local(Path(sys.argv[1])) as local:
    before, began = used(), time.monotonic()
    planned = local.plan(Path(sys.argv[2]), "HEAD", [])
    wall, after = time.monotonic() - began, used()
reused = sum(1 for _, lookup in planned.stages if lookup is not None and lookup.hit is not None)
print(json.dumps([after[0] - before[0], after[1] - before[1], wall, reused, len(planned.stages)]))
"""


def run(*words: str | Path, folder: Path) -> str:
    """A program that must succeed; what it printed."""
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def commit(folder: Path, message: str) -> None:
    """Everything as it is now."""
    run("git", "add", "-A", folder=folder)
    run("git", *IDENTITY, "commit", "-qm", message, folder=folder)


def pipeline(count: int) -> str:
    """A tree of stages, each of which reads a script of its own and what the stage above it made."""
    lines = ["version: 1", "checks: []", "stages:"]
    for number in range(count):
        above = f", o/{(number - 1) // 2}" if number else ""
        command = f"mkdir -p o && cat steps/{number}.txt > o/{number}"
        lines.append(f"  s{number}: {{cmd: {command}, deps: [steps/{number}.txt{above}], outs: [o/{number}]}}")
    return "\n".join(lines) + "\n"


def executed(place: Path, count: int) -> tuple[Path, float]:
    """A repository whose stages have all been executed once, and the seconds that took; made unless it is there."""
    folder, took = place / f"repository-{count}", place / f"seconds-{count}"
    if took.exists():
        return folder, float(took.read_text())
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "steps").mkdir(parents=True)
    (folder / "docs").mkdir()
    for number in range(count):
        (folder / "steps" / f"{number}.txt").write_text(f"{number}\n")
    for number in range(FILES):
        (folder / "docs" / f"{number}.md").write_text(f"# Page {number}\n")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "interlock.yaml").write_text(pipeline(count))
    (folder / ".gitignore").write_text(".interlock/\n")
    run("git", "init", "-q", "-b", "main", folder=folder)
    run(BIN / "uv", "lock", "-q", folder=folder)
    commit(folder, "first")
    began = time.monotonic()
    run(BIN / "interlock", "run", "--state", place / "state", folder=folder)
    took.write_text(str(time.monotonic() - began))
    return folder, float(took.read_text())


def planned(place: Path, folder: Path) -> list[float]:
    """One plan in a new process: seconds of its own processor time, of git's, of wall time; stages reused, and all."""
    found: list[float] = json.loads(run(sys.executable, "-c", INSIDE, place / "state", folder, folder=folder))
    return found


def command_cpu(words: list[str], folder: Path) -> float:
    """Seconds of processor time of a whole command, with all that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> int:
    """Prints the table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--stages", type=lambda text: [int(one) for one in text.split(",")], default=[10, 100, 1000])
    parser.add_argument("--place", type=Path, help="where repositories and their results are kept for the next call")
    parser.add_argument("--only-prepare", action="store_true")
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody's program is compiled again for each start
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {asked.rounds} rounds, medians\n")
    is_met = True
    with tempfile.TemporaryDirectory(prefix="interlock-plan-") as made:
        place = asked.place or Path(made)
        folders = {count: executed(place, count) for count in asked.stages}
        if asked.only_prepare:
            return 0
        documented = folders[min(folders)][0]
        (documented / "docs" / "0.md").write_text(f"# Another page, {time.time()}\n")
        commit(documented, "documentation only")
        plans: dict[int, list[list[float]]] = {count: [] for count in folders}
        whole: dict[int, list[float]] = {count: [] for count in folders}
        base: list[float] = []
        for _ in range(asked.rounds):
            base.append(command_cpu([sys.executable, "-c", "pass"], place))
            for count, (folder, _) in folders.items():
                plans[count].append(planned(place, folder))
                command = [str(BIN / "interlock"), "plan", "--revision", "HEAD", "--state", str(place / "state")]
                whole[count].append(command_cpu(command, folder))
    bare = statistics.median(base)
    heads = ("plan CPU s", "git CPU s", "wall s", "command CPU s", "x python", "run s")
    print(f"{'stages':<8} {' '.join(f'{head:>13}' for head in heads)}")
    for count, (_, seconds) in folders.items():
        own, git, wall = (statistics.median(one[part] for one in plans[count]) for part in range(3))
        all_of_it = statistics.median(whole[count])
        cells = (
            f"{own:.3f}",
            f"{git:.3f}",
            f"{wall:.3f}",
            f"{all_of_it:.3f}",
            f"{all_of_it / bare:.1f}",
            f"{seconds:.1f}",
        )
        print(f"{count:<8} {' '.join(f'{cell:>13}' for cell in cells)}")
        if any(one[3] != one[4] for one in plans[count]):
            print(f"  not every stage was reused: {plans[count]}")
            is_met = False
    largest, smallest = max(folders), min(folders)
    own = statistics.median(one[0] for one in plans[largest])
    documentation = statistics.median(one[0] for one in plans[smallest])
    print(f"\n{largest} stages: {own:.3f} s of processor time; the target is {STAGES_LIMIT:g} s for 1,000.")
    print(
        f"A commit of documentation, {smallest} stages: {1000 * documentation:.1f} ms beyond git; the target is 50 ms."
    )
    print(f"`python -c pass`: {1000 * bare:.1f} ms.")
    return 0 if is_met and own <= STAGES_LIMIT and documentation <= DOCUMENTATION_LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
