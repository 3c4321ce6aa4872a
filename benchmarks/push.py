"""From a push to its final status: Interlock beside Buildbot and beside the sum of what the work needs at least.

One command, both servers real, on loopback, pushes taken in turn. The pipeline is a checkout and three commands, each
begun when the one before has ended, that print the time; the first command's own time is when work began. Final is when
the server's database says so, looked at every 5 ms for both. The limit: a push without any server, a worktree, three
processes, measured in the same minutes. Ends with 1 where more than a sixth of Buildbot's time is needed.

    python benchmarks/push.py [--pushes N]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from interlock.system.sockets import free_port

BIN = Path(sys.executable).parent
BUILDBOT = ("buildbot==4.3.0", "buildbot-worker==4.3.0", "buildbot-www==4.3.0", "twisted==25.5.0")
LOOK_SECONDS = 0.005
PATIENCE = 60.0
MOST_OF_BUILDBOT = 1 / 6
CLOCK = re.compile(r"(?<!\d)(\d{10}\.\d{9})")
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")

PROJECT = """
[project]
name = "three"
version = "1"
requires-python = ">=3.11"
dependencies = []
"""
PIPELINE = """
version: 1
checks: []
stages:
  one: {{cmd: "date +%s.%N | tee one # {0}", outs: [one]}}
  two: {{cmd: "date +%s.%N | tee two # {0}", deps: [one], outs: [two]}}
  three: {{cmd: "date +%s.%N | tee three # {0}", deps: [two], outs: [three]}}
"""
MASTER = """
from buildbot.plugins import changes, schedulers, steps, util, worker
c = BuildmasterConfig = {{}}
c["workers"] = [worker.Worker("w", "pass")]
c["protocols"] = {{"pb": {{"port": "tcp:{worker_port}:interface=127.0.0.1"}}}}
c["schedulers"] = [schedulers.AnyBranchScheduler(name="all", treeStableTimer=None, builderNames=["b"])]
step = lambda: steps.ShellCommand(command=["sh", "-c", "date +%s.%N"], logEnviron=False)
checkout = steps.Git(repourl="{repository}", mode="incremental", branch="main")
work = util.BuildFactory([checkout, step(), step(), step()])
c["builders"] = [util.BuilderConfig(name="b", workernames=["w"], factory=work)]
c["www"] = dict(port="tcp:{port}:interface=127.0.0.1", change_hook_dialects={{"base": True}})
c["db"] = {{"db_url": "sqlite:///state.sqlite"}}
c["buildbotURL"] = "http://127.0.0.1:{port}/"
c["buildbotNetUsageData"] = None
"""
CHANGE_HOOK = """#!/bin/sh
while read old new ref; do
  exec {python} -c 'import sys, urllib.parse, urllib.request
change = dict(author="a", comments="c", revision=sys.argv[1], branch="main", repository=sys.argv[2])
body = urllib.parse.urlencode(change)
urllib.request.urlopen("http://127.0.0.1:{port}/change_hook/base", body.encode()).read()' "$new" {repository}
done
"""


class Times(NamedTuple):
    """Seconds since the push began: its end, the first command, the final status."""

    pushed: float
    first: float
    final: float


def run(*words: str | Path, folder: Path | None = None, patience: float = PATIENCE) -> str:
    """A program that must succeed; what it printed."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=patience,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout


class Repository:
    """A bare repository and a clone to push from."""

    def __init__(self, folder: Path) -> None:
        self.bare, self._clone, self._number = folder / "repository.git", folder / "clone", 0
        folder.mkdir(parents=True, exist_ok=True)
        run("git", "init", "-q", "--bare", "-b", "main", self.bare)
        run("git", "init", "-q", "-b", "main", self._clone)
        run("git", "remote", "add", "origin", self.bare, folder=self._clone)
        (self._clone / "pyproject.toml").write_text(PROJECT)
        run(BIN / "uv", "lock", "-q", folder=self._clone)

    def commit(self) -> None:
        """The next commit; every command is another one than before, so that nothing is reused."""
        self._number += 1
        (self._clone / "interlock.yaml").write_text(PIPELINE.format(self._number))
        run("git", "add", "-A", folder=self._clone)
        run("git", *IDENTITY, "commit", "-qm", f"number {self._number}", folder=self._clone)

    def push(self) -> None:
        """Pushes main."""
        run("git", "push", "-q", "origin", "main", folder=self._clone)


def wait_for(look: Callable[[], object]) -> None:
    """Until ``look`` finds something."""
    deadline = time.monotonic() + PATIENCE
    while not look():
        if time.monotonic() > deadline:
            raise SystemExit("a server did not answer in time")
        time.sleep(LOOK_SECONDS)


def ask(database: Path, query: str) -> list[tuple[object, ...]]:
    """Rows of a database that another process writes."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


class Interlock:
    """The real server on a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository(folder)
        self._state, self._log = folder / "state", (folder / "server.log").open("wb")
        self._state.mkdir()
        ports = [free_port(), free_port()]
        (self._state / "server.yaml").write_text(
            f"listen: 127.0.0.1:0\nrepositories: {{three: {{path: {self.repository.bare}}}}}\n"
            f"environments:\n  staging: {{listen: '127.0.0.1:{ports[0]}'}}\n"
            f"  production: {{listen: '127.0.0.1:{ports[1]}'}}\n"
        )
        self._process = subprocess.Popen(
            [BIN / "interlock", "server", "--state", self._state], stdout=self._log, stderr=self._log
        )
        wait_for(lambda: b"ready:" in (folder / "server.log").read_bytes())

    def measure(self) -> Times:
        """One push."""
        self.repository.commit()
        seen = self._finals()
        began, clock = time.monotonic(), time.time()
        self.repository.push()
        pushed = time.monotonic() - began
        wait_for(lambda: self._finals() > seen)
        final = time.monotonic() - began
        logs = sorted(self._state.glob("execution/logs/*/one/*.log"), key=lambda path: path.stat().st_mtime)
        first = CLOCK.search(logs[-1].read_text())
        assert first is not None
        return Times(pushed, float(first.group(1)) - clock, final)

    def _finals(self) -> int:
        query = "select count(*) from rows where kind = 'run' and phase = 'succeeded'"
        return int(str((ask(self._state / "interlock.db", query) or [(0,)])[0][0]))

    def close(self) -> None:
        """Ends all of it."""
        run(BIN / "interlock", "server", "stop", "--data-plane", "--state", self._state)
        self._process.wait()
        self._log.close()


class Buildbot:
    """Master and worker, in an environment of their own, told by the HTTP change hook."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository(folder)
        self._folder = folder
        run(BIN / "uv", "venv", "-q", "--python", sys.executable, folder / "environment")
        self._bin = folder / "environment" / "bin"
        run(BIN / "uv", "pip", "install", "-q", "--python", self._bin / "python", *BUILDBOT, patience=600)
        run(self._bin / "buildbot", "create-master", "-q", folder / "master")
        port, worker_port = free_port(), free_port()
        (folder / "master" / "master.cfg").write_text(
            MASTER.format(port=port, worker_port=worker_port, repository=self.repository.bare)
        )
        hook = self.repository.bare / "hooks" / "post-receive"
        hook.write_text(CHANGE_HOOK.format(port=port, python=sys.executable, repository=self.repository.bare))
        hook.chmod(0o755)
        run(
            self._bin / "buildbot-worker",
            "create-worker",
            "-q",
            folder / "worker",
            f"127.0.0.1:{worker_port}",
            "w",
            "pass",
        )
        environment = {**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}"}
        self._processes = [
            subprocess.Popen(
                [self._bin / program, "start", "--nodaemon", folder / place],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            for program, place in (("buildbot", "master"), ("buildbot-worker", "worker"))
        ]
        wait_for(lambda: ask(folder / "master" / "state.sqlite", "select * from connected_workers"))

    def measure(self) -> Times:
        """One push."""
        self.repository.commit()
        seen = self._finals()
        began, clock = time.monotonic(), time.time()
        self.repository.push()
        pushed = time.monotonic() - began
        wait_for(lambda: self._finals() > seen)
        final = time.monotonic() - began
        text = run(self._bin / "python", "-c", READ_LOG, self._folder / "master" / "state.sqlite")
        first = CLOCK.search(text)
        assert first is not None, text
        return Times(pushed, float(first.group(1)) - clock, final)

    def _finals(self) -> int:
        found = ask(self._folder / "master" / "state.sqlite", "select count(*) from builds where results = 0")
        return int(str((found or [(0,)])[0][0]))

    def close(self) -> None:
        """Ends both."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()


READ_LOG = """
import sqlite3, sys, zlib, bz2
db = sqlite3.connect(sys.argv[1])
build = db.execute("select max(id) from builds").fetchone()[0]
for name, content, compressed in db.execute(
    "select s.name, c.content, c.compressed from steps s "
    "join logs l on l.stepid = s.id join logchunks c on c.logid = l.id "
    "where s.buildid = ? and s.name like 'shell%' order by s.number, c.first_line", (build,)):
    content = {0: lambda x: x, 1: zlib.decompress, 2: bz2.decompress}.get(compressed, lambda x: x)(content)
    print(content.decode(errors="replace") if isinstance(content, bytes) else content)
"""


class Limit:
    """What cannot be left out: a push, a worktree, three processes."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository(folder)
        self._folder = folder

    def measure(self) -> Times:
        """One push with its work, nobody watching."""
        self.repository.commit()
        began = time.monotonic()
        self.repository.push()
        pushed = time.monotonic() - began
        target = self._folder / "worktree"
        run("git", "--git-dir", self.repository.bare, "worktree", "add", "-q", "--detach", target, "main")
        first = time.monotonic() - began
        for _ in range(3):
            run("date", "+%s.%N")
        final = time.monotonic() - began
        shutil.rmtree(target)
        run("git", "--git-dir", self.repository.bare, "worktree", "prune")
        return Times(pushed, first, final)

    def close(self) -> None:
        """Nothing runs."""


def main() -> int:
    """Measures in turn and prints medians and ratios; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pushes", type=int, default=15)
    pushes = parser.parse_args().pushes
    with tempfile.TemporaryDirectory(prefix="interlock-push-") as folder:
        contenders = {}
        try:
            for name, kind in (("limit", Limit), ("interlock", Interlock), ("buildbot", Buildbot)):
                contenders[name] = kind(Path(folder) / name)
                contenders[name].measure()  # the first push also makes environments and clones
            found: dict[str, list[Times]] = {name: [] for name in contenders}
            for _ in range(pushes):
                for name, contender in contenders.items():
                    found[name].append(contender.measure())
        finally:
            for contender in contenders.values():
                contender.close()
    medians = {
        name: Times(*(statistics.median(column) for column in zip(*times, strict=True)))
        for name, times in found.items()
    }
    print(f"{'':12}{'pushed':>10}{'first':>10}{'final':>10}   seconds since the push began, medians of {pushes}")
    for name, times in medians.items():
        print(f"{name:12}" + "".join(f"{value:10.3f}" for value in times))
    ours, peer, limit = medians["interlock"], medians["buildbot"], medians["limit"]
    first, final = ours.first / peer.first, ours.final / peer.final
    print(f"of Buildbot: first {first:.3f}, final {final:.3f} (target {MOST_OF_BUILDBOT:.3f})")
    print(f"of the limit: final {ours.final / limit.final:.2f}")
    return 0 if max(first, final) <= MOST_OF_BUILDBOT else 1


if __name__ == "__main__":
    sys.exit(main())
