"""Which edit makes which tool run what: six edits of a project of three Python scripts, one of them with a helper.

    python benchmarks/edits.py [--cache DIR]

Each tool is told of the same files: scripts, data and parameters; nobody is told of the helper module that a script
imports, as nobody tells a tool of every import. The right answer is known for each edit: what has to run, and what must
not. Stale: something that had to run did not. Needless: something ran that did not have to. 1 where Interlock is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peers import BIN, PINS, Peer, Step, environment_of

FILES = {
    "helper.py": "def scale(x):\n    return 2 * x\n",
    "features.py": (
        "import helper\nrows = [int(line) for line in open('rows.csv')]\n"
        "open('features.txt', 'w').write(' '.join(str(helper.scale(row)) for row in rows))\n"
    ),
    "train.py": (
        "import json\ndepth = json.load(open('params.json'))['depth']\n"
        "open('model.txt', 'w').write(open('features.txt').read() + f' {depth}')\n"
    ),
    "evaluate.py": "import json\njson.dump({'length': len(open('model.txt').read())}, open('metrics.json', 'w'))\n",
    "rows.csv": "1\n2\n3\n",
    "params.json": '{"depth": 3}\n',
}
STEPS = [
    Step("features", "python features.py", ("features.py", "rows.csv"), ("features.txt",)),
    Step("train", "python train.py", ("train.py", "params.json", "features.txt"), ("model.txt",)),
    Step("evaluate", "python evaluate.py", ("evaluate.py", "model.txt"), ("metrics.json",)),
]
EVERYTHING = frozenset({"features", "train", "evaluate"})
EMPTY = '[project]\nname = "edits"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = []\n'
PIPELINE = "version: 1\nchecks: []\nstages:\n" + "".join(
    f"  {step.name}: {{cmd: {step.command}, deps: [{', '.join(step.reads)}], outs: [{', '.join(step.makes)}]}}\n"
    for step in STEPS
)


def replace(name: str, old: str, new: str) -> Callable[[Path], object]:
    """An edit of one file."""
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


EDITS: dict[str, tuple[Callable[[Path], object], frozenset[str]]] = {
    "nothing": (lambda _: None, frozenset()),
    "a hyperparameter": (replace("params.json", "3", "4444"), frozenset({"train", "evaluate"})),
    "data touched": (lambda folder: (folder / "rows.csv").touch(), frozenset()),
    "a comment": (replace("train.py", "import json", "import json  # for the parameters"), frozenset()),
    "a value of the data": (replace("rows.csv", "3", "3333"), EVERYTHING),
    "the helper module": (replace("helper.py", "2 * x", "1000 * x"), EVERYTHING),
}


class Watched:
    """A peer that is asked what it ran: every command also leaves its name in a file that the tool knows nothing of."""

    def __init__(self, peer: Peer, folder: Path) -> None:
        self.name, self._peer, self.folder = peer.name, peer, folder / peer.name
        self._log = folder / f"{peer.name}.log"
        steps = [step._replace(command=f"echo {step.name} >> {self._log} && {step.command}") for step in STEPS]
        write_files(self.folder)
        peer.write(self.folder, steps)

    def run(self) -> frozenset[str]:
        """Runs it; the stages that ran."""
        self._log.write_text("")
        done = subprocess.run(
            self._peer.command(), cwd=self.folder, env=self._peer.environment(), capture_output=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{self.name}: {(done.stdout + done.stderr).decode(errors='replace')}")
        return frozenset(self._log.read_text().split())


class Ours:
    """Interlock, which tells itself what it executed."""

    name = "interlock"

    def __init__(self, folder: Path) -> None:
        self.folder, self._state = folder / "interlock", folder / "state"
        write_files(self.folder)
        (self.folder / "pyproject.toml").write_text(EMPTY)
        (self.folder / "interlock.yaml").write_text(PIPELINE)
        subprocess.run([BIN / "uv", "lock", "-q"], cwd=self.folder, check=True)

    def run(self) -> frozenset[str]:
        """Runs it; the stages that were executed."""
        command = [BIN / "interlock", "run", "--json", "--state", self._state]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"interlock: {done.stdout}{done.stderr}")
        return frozenset(name for name, stage in json.loads(done.stdout)["stages"].items() if stage["attempt"])


def write_files(folder: Path) -> None:
    """The project, without any tool's own files."""
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)


def verdict(ran: frozenset[str], due: frozenset[str]) -> str:
    """What a tool's answer is worth."""
    words = ["STALE"] * bool(due - ran) + [f"needless: {', '.join(sorted(ran - due))}"] * bool(ran - due)
    return "; ".join(words) or "right"


def main() -> int:
    """Prints the table; 1 where Interlock is wrong anywhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "interlock-benchmarks")
    cache = parser.parse_args().cache
    cache.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="interlock-edits-") as name:
        tools = [Ours(Path(name)), *(Watched(Peer(peer, environment_of(peer, cache)), Path(name)) for peer in PINS)]
        for tool in tools:
            assert tool.run() == EVERYTHING, f"{tool.name} did not run everything at first"
        for told, (edit, due) in EDITS.items():
            print(f"\n{told}: due {', '.join(sorted(due)) or 'nothing'}")
            for tool in tools:
                time.sleep(0.2)  # nobody is asked to tell two edits of one moment apart
                edit(tool.folder)
                answer = verdict(tool.run(), due)
                wrong += answer != "right" and tool.name == "interlock"
                print(f"  {tool.name:<12} {answer}")
    print(f"\ninterlock is wrong in {wrong} of {len(EDITS)} edits" if wrong else "\ninterlock is right in every edit")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
