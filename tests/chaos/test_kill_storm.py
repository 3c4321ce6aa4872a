"""Twenty runs at once while the control plane and its stages are killed at random: every run ends, once, and alone.

C2 of the fault matrix. ``STORM_SEEDS`` says how many storms; ``make storm`` takes fifty.
"""

import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
GIT = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
SEEDS = int(os.environ.get("STORM_SEEDS", "1"))
REPOSITORIES = 20
KILLS = 4
ENDING_SECONDS = 60.0
FINAL = ("succeeded", "failed", "errored", "cancelled", "held")
PROJECT = """
[project]
name = "storm"
version = "1"
requires-python = ">=3.11"
dependencies = []
"""
PIPELINE = """
version: 1
checks: []
stages:
  one: {{cmd: "sleep 0.2; echo one > one", outs: [one], env: {{STORM: "{mark}"}}}}
  two: {{cmd: "(setsid sleep 300 &) ; sleep 0.1; cat one > two", outs: [two], env: {{STORM: "{mark}"}}}}
  three: {{cmd: "sleep 0.1; cat two > three", outs: [three], env: {{STORM: "{mark}"}}}}
"""


class Storm:
    """Twenty small repositories, one server, and a hand that kills."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.state, self.seed = folder, folder / "state", seed
        self.mark = f"storm-{os.getpid()}-{seed}-"
        self._server: subprocess.Popen[bytes] | None = None
        self.shas: dict[str, str] = {}
        self.state.mkdir()
        first = folder / "clone"
        subprocess.run([*GIT, "init", "-q", first], check=True)
        (first / "pyproject.toml").write_text(PROJECT)
        (first / "interlock.yaml").write_text(PIPELINE.format(mark=self.mark))
        subprocess.run([BIN / "uv", "lock", "-q"], cwd=first, check=True)
        self._clone = first
        for number in range(REPOSITORIES):
            subprocess.run([*GIT, "init", "-q", "--bare", folder / f"r{number}.git"], check=True)
        ports = [_free_port(), _free_port()]
        settings = {
            "listen": "127.0.0.1:0",
            "poll_every": 1,
            "repositories": {f"r{n}": {"path": str(folder / f"r{n}.git")} for n in range(REPOSITORIES)},
            "environments": {
                name: {"listen": f"127.0.0.1:{port}"}
                for name, port in zip(("staging", "production"), ports, strict=True)
            },
        }
        (self.state / "server.yaml").write_text(json.dumps(settings))

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                [BIN / "interlock", "server", "--state", self.state], stdout=log, stderr=subprocess.STDOUT
            )

    def kill_server(self) -> None:
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def kill_a_stage(self, choice: random.Random) -> None:
        """Any process of a stage, its supervisor included."""
        found = marked(self.mark)
        if found:
            with suppress(ProcessLookupError):
                os.kill(choice.choice(found), signal.SIGKILL)

    def push(self, number: int) -> None:
        name = f"r{number}"
        (self._clone / "name").write_text(name)
        subprocess.run([*GIT, "add", "-A"], cwd=self._clone, check=True)
        subprocess.run([*GIT, "commit", "-qm", name], cwd=self._clone, check=True)
        target = self.folder / f"{name}.git"
        subprocess.run([*GIT, "push", "-q", target, "HEAD:main"], cwd=self._clone, check=True, capture_output=True)
        head = subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=self._clone, check=True, capture_output=True, text=True)
        self.shas[name] = head.stdout.strip()

    def runs(self) -> list[tuple[str, str, str]]:
        """Repository, commit and phase of every run."""
        query = "select state, phase from rows where kind = 'run'"
        states = [(json.loads(state), phase) for state, phase in self.ask(query)]
        return [(state["commit"]["repository"], state["commit"]["sha"], phase) for state, phase in states]

    def ask(self, query: str) -> list[tuple[str, ...]]:
        try:
            with closing(sqlite3.connect(self.state / "interlock.db", timeout=10)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    def end(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            self._server.wait(30)
        stop = [BIN / "interlock", "server", "stop", "--data-plane", "--state", self.state]
        subprocess.run(stop, check=False, capture_output=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def marked(mark: str) -> list[int]:
    """Processes whose environment holds the mark of this storm."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


@pytest.fixture
def storm(request: pytest.FixtureRequest) -> Iterator[Storm]:
    folder = Path(tempfile.mkdtemp(prefix="ij-storm-"))
    made = Storm(folder, request.param)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.xdist_group("servers")
@pytest.mark.parametrize("storm", range(SEEDS), indirect=True)
def test_every_run_ends_once_whatever_is_killed(storm: Storm) -> None:
    choice = random.Random(storm.seed)
    storm.start()
    to_push = list(range(REPOSITORIES))
    for _ in range(KILLS):
        for repository in [to_push.pop() for _ in range(REPOSITORIES // KILLS)]:
            storm.push(repository)
        time.sleep(choice.uniform(0.1, 2.5))
        for _ in range(choice.randrange(3)):
            storm.kill_a_stage(choice)
        storm.kill_server()
        storm.start()
    deadline = time.monotonic() + ENDING_SECONDS
    while time.monotonic() < deadline:
        runs = storm.runs()
        if len(runs) >= REPOSITORIES and all(phase in FINAL for _, _, phase in runs):
            break
        time.sleep(0.2)
    runs = storm.runs()
    log = (storm.folder / "server.log").read_text()[-3000:]
    assert {phase for _, _, phase in runs} <= set(FINAL), (Counter(phase for _, _, phase in runs), log)
    assert sorted((name, sha) for name, sha, _ in runs) == sorted(storm.shas.items()), log
    attempts = [key for (key,) in storm.ask("select key from rows where kind = 'attempt'")]
    assert len(attempts) == len(set(attempts))
    assert storm.ask("pragma integrity_check") == [("ok",)]
    deadline = time.monotonic() + 5
    while marked(storm.mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert marked(storm.mark) == [], "a process of a stage is left"
    assert not list((storm.state / "execution" / "workspaces").glob("executor-*/*"))
