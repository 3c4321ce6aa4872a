"""What running a pipeline costs: Interlock beside its peers, and beside what the machine allows, interleaved.

    python benchmarks/pipelines.py [--rounds N] [--only chain,fan,data,project] [--cpu] [--gib G] [--files N]

chain    20 stages one after the other: cold, and again with nothing changed. Overhead a stage is what the command takes
         longer than a bare shell that does the same, divided by 20, start-up and planning included; the marginal one is
         the difference to 40 stages, without them.
fan      50 stages beside each other and one that joins them, two at a time.
data     many small files and one large one, unchanged and then touched.
project  a scikit-learn project cold, against its bare scripts in the same environment, which is there already.

Every tool runs the same commands, in an environment of its own with pinned versions. Durability of what is compared:
ninja, doit, DVC, luigi and snakemake sync nothing; neither does a local run of Interlock (rows go through SQLite's log,
artifacts are checked when they are used: a power cut may cost a run again, never a wrong result).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from peers import BIN, CORES, PINS, Peer, Step, chain, environment_of, fan
from projects import PROJECT, SCRIPTS, STAGES, make_rows

from interlock.edges.sandbox import BubblewrapSandbox
from interlock.ports import Isolation

SANDBOXED, BARE = "interlock", "interlock, no sandbox"
EMPTY = '[project]\nname = "bench"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = []\n'
WALK = """
import os, sys
for parent, _, names in os.walk(sys.argv[1]):
    for name in names:
        os.lstat(os.path.join(parent, name))
"""
READ = """
import sys
from blake3 import blake3
blake3(max_threads=1).update_mmap(sys.argv[1]).hexdigest()
"""


class Ours:
    """``interlock run`` with a state folder beside the project; the Python environment is shared by all of them."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        self._state = place / f"state-{name.replace(', ', '-').replace(' ', '-')}"
        self._environments = place / "environments"

    def write(self, folder: Path, steps: Sequence[Step], project: str = EMPTY) -> None:
        """Writes pipeline file and lock."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").write_text(project)
        if not (folder / "uv.lock").exists():
            subprocess.run([BIN / "uv", "lock", "-q"], cwd=folder, check=True)
        lines = ["version: 1", "checks: []", "stages:"]
        for step in steps:
            keys = f"cmd: {step.command!r}, deps: [{', '.join(step.reads)}], outs: [{', '.join(step.makes)}]"
            lines.append(f"  {step.name}: {{{keys}}}")  # no deps at all would mean every stage above
        (folder / "interlock.yaml").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        """What a person types in the folder."""
        words = [str(BIN / "interlock"), "run", "--state", str(self._state)]
        return words if self.name == SANDBOXED else [*words, "--sandbox", "none"]

    def environment(self) -> dict[str, str]:
        """The variables it is started with."""
        return dict(os.environ)

    def clear(self, _folder: Path, _steps: Sequence[Step]) -> None:
        """Forgets every run; the Python environment stays."""
        shutil.rmtree(self._state, ignore_errors=True)
        self._state.mkdir(parents=True)
        self._environments.mkdir(exist_ok=True)
        (self._state / "environments").symlink_to(self._environments)


Contender = Ours | Peer


class Watch:
    """Measures commands, which must succeed: wall time, or the CPU of all their processes where that is asked for."""

    def __init__(self, is_cpu: bool) -> None:
        self._is_cpu = is_cpu

    def seconds(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> float:
        """What one command takes."""
        began = self._now()
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        took = self._now() - began
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command[:6])}: {(done.stdout + done.stderr).decode(errors='replace')[-2000:]}")
        return took

    def spawn(self, command: Sequence[str], folder: Path, times: int = 20) -> float:
        """One start of a command with an empty environment, of several in a row."""
        began = self._now()
        for _ in range(times):
            subprocess.run(command, cwd=folder, env={}, check=True, stdout=subprocess.DEVNULL)
        return (self._now() - began) / times

    def _now(self) -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime if self._is_cpu else time.perf_counter()


class Table:
    """Measurements by name, in the order in which they were first taken, and the targets that they are held against."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._found: dict[str, list[float]] = {}
        self._verdicts: list[tuple[str, float, float]] = []

    def take(self, name: str, value: float) -> None:
        """One measurement, in seconds."""
        self._found.setdefault(name, []).append(value)

    def of(self, name: str) -> float:
        """The median of one name."""
        return statistics.median(self._found[name])

    def hold(self, told: str, ours: float, limit: float) -> None:
        """A target: ``ours`` is to be at most ``limit``."""
        self._verdicts.append((told, ours, limit))

    def show(self) -> bool:
        """Prints all of it; whether every target is met."""
        print(f"\n{self.title}\n")
        for name, values in self._found.items():
            print(f"  {name:<40} {1000 * statistics.median(values):>10.1f} ms   least {1000 * min(values):>10.1f}")
        for told, ours, limit in self._verdicts:
            word = "met   " if ours <= limit else "MISSED"
            print(f"  {word} {told}: {1000 * ours:.1f} ms, at most {1000 * limit:.1f} ({ours / limit:.2f} of it)")
        return all(ours <= limit for _, ours, limit in self._verdicts)


def bare(steps: Sequence[Step]) -> list[str]:
    """A shell that starts one shell a stage, as every tool does."""
    lines = [f"rm -f {path}" for step in steps for path in step.makes]
    return ["sh", "-c", "\n".join(["set -e", *lines, *(f"sh -c {step.command!r}" for step in steps)])]


def launcher(folder: Path) -> list[str]:
    """The bare launcher: the very sandbox that a stage gets, around its command, with nothing else of Interlock.

    It is to be started with an empty environment, as stages are.
    """
    argv, inside = ("/bin/sh", "-c", "echo 1 > s0.txt"), "/workspace"
    isolation = Isolation(argv=argv, folder=inside, writable=((str(folder), inside),), interpreters=(sys.executable,))
    return list(BubblewrapSandbox().start(isolation).command)


def measure_chain(watch: Watch, place: Path, contenders: Sequence[Contender], rounds: int) -> bool:
    """The chain: cold with 20 and 40 stages, and unchanged."""
    table, again = Table("chain of 20 stages, cold"), Table("the same again, nothing changed")
    short, long = chain(20), chain(40)
    folders = {one.name: place / "chain" / one.name.replace(", ", "-").replace(" ", "-") for one in contenders}
    for one in contenders:
        for count, steps in ((20, short), (40, long)):
            one.write(folders[one.name] / str(count), steps)
    scratch = place / "chain" / "bare"
    scratch.mkdir(parents=True, exist_ok=True)
    start = launcher(scratch)
    for turn in range(rounds + 1):
        if turn:
            table.take("spawn of sh", watch.spawn(["/bin/sh", "-c", "echo 1 > s0.txt"], scratch))
            table.take("bare sandbox launcher", watch.spawn(start, scratch))
            table.take("bare shell, 20", watch.seconds(bare(short), scratch))
        for one in contenders:
            for count, steps in ((40, long), (20, short)):
                folder = folders[one.name] / str(count)
                one.clear(folder, steps)
                took = watch.seconds(one.command(), folder, one.environment())
                if turn:  # the first turn only warms caches and makes environments
                    table.take(f"{one.name}, {count}", took)
            if turn and one.name != BARE:  # no stage runs, so that there is no sandbox to be without
                again.take(one.name, watch.seconds(one.command(), folder, one.environment()))
    _hold_overheads(table, [one.name for one in contenders])
    again.hold("unchanged, 1x doit", again.of(SANDBOXED), again.of("doit"))
    again.hold("unchanged, 1/8 DVC", again.of(SANDBOXED), again.of("dvc") / 8)
    again.hold("unchanged, 0.4x doit (stretch)", again.of(SANDBOXED), 0.4 * again.of("doit"))
    is_met = table.show()
    return again.show() and is_met


def _hold_overheads(table: Table, names: Iterable[str]) -> None:
    """Overheads a stage, from commands of 20 and 40 stages, against the targets."""
    base = table.of("bare shell, 20")
    whole = {name: (table.of(f"{name}, 20") - base) / 20 for name in names}
    marginal = {name: (table.of(f"{name}, 40") - table.of(f"{name}, 20")) / 20 for name in names}
    spawn, bubble = table.of("spawn of sh"), table.of("bare sandbox launcher")
    for kind, found in (("whole", whole), ("marginal", marginal)):
        for name, value in found.items():
            table.take(f"overhead a stage, {kind}: {name}", value)
        table.hold(f"no sandbox, {kind}, 3x a bare spawn", found[BARE], 3 * spawn)
        table.hold(f"no sandbox, {kind}, 0.4x doit", found[BARE], 0.4 * found["doit"])
        table.hold(f"no sandbox, {kind}, 1/40 DVC", found[BARE], found["dvc"] / 40)
        table.hold(f"sandbox, {kind}, 1.3x the bare launcher", found[SANDBOXED], 1.3 * bubble)
        table.hold(f"sandbox, {kind}, 1/10 DVC", found[SANDBOXED], found["dvc"] / 10)


def measure_fan(watch: Watch, place: Path, contenders: Sequence[Contender], rounds: int) -> bool:
    """Fifty beside each other, two at a time."""
    table, steps = Table("50 stages beside each other and one that joins them, two at a time"), fan(50)
    scratch = place / "fan" / "bare"
    scratch.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{step.command}\n" for step in steps[:-1])
    (scratch / "commands").write_text(lines)
    limit = f"xargs -d '\\n' -P {CORES} -I % sh -c % < commands && {steps[-1].command}"
    boxed = "xargs -d '\\n' -P {} -n {} {} < starts".format(CORES, 1, " ".join(launcher(scratch)[:-1]))
    (scratch / "starts").write_text("true\n" * 51)
    for one in contenders:
        one.write(place / "fan" / one.name, steps)
    for turn in range(rounds + 1):
        found = {f"xargs -P{CORES}": watch.seconds(["sh", "-c", limit], scratch)}
        found[f"xargs -P{CORES} of the bare sandbox launcher"] = watch.seconds(["/bin/sh", "-c", boxed], scratch, {})
        for one in contenders:
            folder = place / "fan" / one.name
            one.clear(folder, steps)
            found[one.name] = watch.seconds(one.command(), folder, one.environment())
        for name, value in found.items() if turn else ():
            table.take(name, value)
    table.hold(f"no sandbox, 2.5x xargs -P{CORES}", table.of(BARE), 2.5 * table.of(f"xargs -P{CORES}"))
    boxed_limit = 2.5 * table.of(f"xargs -P{CORES} of the bare sandbox launcher")
    table.hold("sandbox, 2.5x xargs of the bare launcher", table.of(SANDBOXED), boxed_limit)
    return table.show()


def measure_data(watch: Watch, place: Path, ours: Ours, rounds: int, files: int, gib: float) -> bool:
    """Many files and a large one in the folder: unchanged, and with the large one touched."""
    table = Table(f"{files} small files and one of {gib:g} GiB")
    folder = place / "data" / "project"
    ours.write(folder, [Step("count", "ls data | wc -l > count.txt", ("data/",), ("count.txt",))])
    for number in range(files):
        path = folder / "data" / f"{number // 500:03}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * 1000)
    large = folder / "data" / "large.bin"
    with large.open("wb") as file:
        for _ in range(round(gib * 1024)):
            file.write(os.urandom(1 << 20))
    ours.clear(folder, [])
    time.sleep(0.5)
    table.take("cold", watch.seconds(ours.command(), folder))
    for _ in range(rounds):
        table.take("start-up and stat walk", watch.seconds([sys.executable, "-c", WALK, "data"], folder))
        table.take("unchanged", watch.seconds(ours.command(), folder))
        table.take(
            "start-up and blake3 of the large file", watch.seconds([sys.executable, "-c", READ, str(large)], folder)
        )
        large.touch()
        time.sleep(0.5)
        table.take("touched", watch.seconds(ours.command(), folder))
    table.hold("unchanged, 2x start-up and stat walk", table.of("unchanged"), 2 * table.of("start-up and stat walk"))
    limit = 1.3 * table.of("start-up and blake3 of the large file")
    table.hold("touched, 1.3x one blake3 read", table.of("touched"), limit)
    return table.show()


def measure_project(watch: Watch, place: Path, ours: Ours, rounds: int) -> bool:
    """A scikit-learn project, cold, its environment there already for both."""
    table, folder = Table("a scikit-learn project, cold; the Python environment is there"), place / "project"
    ours.write(folder, STAGES, PROJECT)
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    make_rows(folder / "rows.csv", 1_000_000)
    ours.clear(folder, STAGES)
    watch.seconds(ours.command(), folder)
    python = next((place / "environments").glob("*/bin/python"))
    script = "set -e\n" + "\n".join(step.command for step in STAGES)
    environment = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    for _ in range(rounds):
        bare_folder = place / "project-bare"
        shutil.rmtree(bare_folder, ignore_errors=True)
        shutil.copytree(folder, bare_folder)
        table.take("bare scripts", watch.seconds(["sh", "-c", script], bare_folder, environment))
        ours.clear(folder, STAGES)
        table.take(ours.name, watch.seconds(ours.command(), folder))
    table.hold("sandbox, 1.05x the bare scripts", table.of(ours.name), 1.05 * table.of("bare scripts"))
    return table.show()


def main() -> int:
    """Measures what was asked for; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="chain,fan,data,project")
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--cpu", action="store_true", help="compare CPU, not wall time: for a busy machine")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "interlock-benchmarks")
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody's program is compiled again for each start
    watch = Watch(asked.cpu)
    asked.cache.mkdir(parents=True, exist_ok=True)
    clock = "CPU" if asked.cpu else "wall time"
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {clock}, medians of {asked.rounds} rounds in turn")
    with tempfile.TemporaryDirectory(prefix="interlock-pipelines-") as name:
        place = Path(name)
        ours = [Ours(SANDBOXED, place), Ours(BARE, place)]
        wanted: dict[str, Callable[[], bool]] = {
            "chain": lambda: measure_chain(watch, place, [*ours, *peers], asked.rounds),
            "fan": lambda: measure_fan(watch, place, [*ours, *peers], asked.rounds),
            "data": lambda: measure_data(watch, place, ours[0], asked.rounds, asked.files, asked.gib),
            "project": lambda: measure_project(watch, place, ours[0], asked.rounds),
        }
        chosen = [part for part in wanted if part in asked.only.split(",")]
        is_compared = any(part in chosen for part in ("chain", "fan"))
        peers = [Peer(peer, environment_of(peer, asked.cache)) for peer in PINS] if is_compared else []
        missed = [part for part in chosen if not wanted[part]()]
    print(f"\ntargets are missed in: {', '.join(missed)}" if missed else "\nevery target is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
