"""What the journeys and chaos tests share: a small model repository, a real server process, and real traffic."""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

from interlock.edges.store import SqlStore
from interlock.vocabulary import Kind, Row

settings.register_profile("interlock", deadline=None)
settings.load_profile("interlock")  # no test is about time on a machine that others use too

BIN = Path(sys.executable).parent
Found = TypeVar("Found")
GIT = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]

FILES = {
    "pyproject.toml": """
        [project]
        name = "small"
        version = "1"
        requires-python = ">=3.11"
        dependencies = ["pyyaml", "scikit-learn", "skops"]

        [dependency-groups]
        dev = ["pytest"]
        """,
    "interlock.yaml": """
        version: 1
        checks: [syntax, imports, dependencies, {name: unit, cmd: pytest -q tests}]
        data:
          train: {path: data/train.csv, schema: schema.yaml, id: id, label: late}
          holdout: {path: data/holdout.csv, schema: schema.yaml, id: id, label: late, disjoint_from: train}
        stages:
          train: {cmd: python train.py, params: [train], outs: [model/]}
          evaluate: {cmd: python evaluate.py, deps: [model/, data/holdout.csv], metrics: [metrics.json],
                     outs: [golden.json], predictions: predictions.csv}
        model: {name: small, path: model/, format: skops, golden: golden.json, export: off}
        gates:
          - {metric: accuracy, min: 0.8}
          - {metric: accuracy, against: production, margin: 0.02, alpha: 0.05}
          - {metric: latency_p99_ms, max: 500}
        deploy:
          staging: {strategy: rolling, replicas: 1}
          production:
            requires: [staging]
            replicas: 2
            strategy:
              canary:
                steps: [{set_weight: 30}, {analysis: {for: 2s}}, {set_weight: 60}, {analysis: {for: 2s}}]
                deadline: 90s
                analysis: {alpha: 0.01, metrics: [{metric: error_rate, max_ratio: 1.5, margin: 0.05, max: 0.2}]}
        """,
    "params.yaml": """
        train: {c: 1.0}
        unused: {depth: 3}
        """,
    "schema.yaml": """
        columns:
          id: {type: integer, unique: true, nulls: false}
          x: {type: number, min: -10, max: 10, nulls: false}
          y: {type: number, min: -10, max: 10, nulls: false}
          late: {type: integer, in: [0, 1], nulls: false}
        rows: {min: 100}
        """,
    "helper.py": """
        import csv


        def read(path):
            # both columns, as they are
            with open(path) as lines:
                rows = list(csv.DictReader(lines))
            return [[float(row["x"]), float(row["y"])] for row in rows], [int(row["late"]) for row in rows]
        """,
    "train.py": """
        import pathlib

        import skops.io
        import yaml
        from sklearn.linear_model import LogisticRegression

        import helper

        x, y = helper.read("data/train.csv")
        params = yaml.safe_load(open("params.yaml"))
        model = LogisticRegression(C=params["train"]["c"]).fit(x, y)
        pathlib.Path("model").mkdir()
        skops.io.dump(model, "model/model.skops")
        """,
    "evaluate.py": """
        import csv
        import json

        import skops.io

        import helper

        model = skops.io.load("model/model.skops")
        x, y = helper.read("data/holdout.csv")
        predicted, probability = model.predict(x), model.predict_proba(x)[:, 1]
        json.dump({"accuracy": float(model.score(x, y))}, open("metrics.json", "w"))
        with open("predictions.csv", "w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["id", "prediction", "probability"])
            for row, p, q in zip(csv.DictReader(open("data/holdout.csv")), predicted, probability):
                writer.writerow([row["id"], int(p), float(q)])
        tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": x[0]}
        json.dump({"requests": [{"inputs": [tensor]}]}, open("golden.json", "w"))
        """,
    "tests/test_helper.py": """
        import pathlib
        import sys

        sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
        import helper


        def test_reads_both_columns():
            x, y = helper.read("data/holdout.csv")
            assert len(x) == len(y) and len(x[0]) == 2
        """,
    ".gitignore": "__pycache__/\n",
}


def _rows(first: int, count: int) -> str:
    numbers = random.Random(first)
    lines = ["id,x,y,late"]
    for number in range(first, first + count):
        x, y = numbers.uniform(-5, 5), numbers.uniform(-5, 5)
        lines.append(f"{number},{x:.6f},{y:.6f},{int(x + y + numbers.gauss(0, 0.5) > 0)}")
    return "\n".join(lines) + "\n"


LONGEST_FIRST = "chaos journeys contract architecture domain"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no worker ends alone; a file's tests share its fixtures, in one worker.

    Tests that keep servers and traffic going take turns, so that two of them never share the machine; those with a
    server that waits most of the time ("quiet servers") take turns among themselves.
    """
    items.sort(key=lambda item: LONGEST_FIRST.find(item.path.parent.name))
    for item in items:
        if "journey" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("servers"))
        elif item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}/{item.path.stem}"))


@pytest.fixture(scope="session")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a small scikit-learn repository, locked."""
    folder = tmp_path_factory.mktemp("small") / "small"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    (folder / "data").mkdir()
    (folder / "data" / "train.csv").write_text(_rows(0, 600))
    (folder / "data" / "holdout.csv").write_text(_rows(10_000, 800))
    subprocess.run([BIN / "uv", "lock", "--quiet"], cwd=folder, check=True, env=_uv_environment())
    return folder


def _uv_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}


@pytest.fixture(scope="session")
def built_environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python environments, built once and used by the state folders of all tests, whichever worker runs them."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "environments"
    folder.mkdir(exist_ok=True)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: Callable[[], Found | None], seconds: float = 60.0, told: str = "it") -> Found:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{told} did not happen within {seconds} s")


class Traffic:
    """Requests at a steady rate until it is stopped; every answer that is no 200 is kept, with its body.

    They have one tensor of two numbers, or as columns one for each.
    """

    def __init__(self, url: str, rate: float, *, threads: int = 4, has_columns: bool = False) -> None:
        self.served: Counter[str] = Counter()
        self.failures: list[tuple[int, str]] = []
        self._address = urlsplit(url)
        self._pause = threads / rate
        self._has_columns = has_columns
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port or 0, timeout=20)
        numbers = [1.0, float(number)]
        tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": numbers}
        columns = [
            {"name": name, "datatype": "FP64", "shape": [1], "data": [value]}
            for name, value in zip("xy", numbers, strict=True)
        ]
        body = {"inputs": columns if self._has_columns else [tensor]}
        while not self._over.wait(self._pause):
            try:
                connection.request("POST", self._address.path, json.dumps(body))
                answer = connection.getresponse()
                status, text = answer.status, answer.read().decode(errors="replace")
            except (OSError, http.client.HTTPException) as lost:
                connection.close()
                status, text = 0, repr(lost)
            with self._lock:
                if status == 200:
                    self.served[json.loads(text)["parameters"]["revision"]] += 1
                else:
                    self.failures.append((status, text))
        connection.close()


class Journey:
    """One repository, one state folder and one real server process, driven as a user would."""

    def __init__(self, folder: Path, files: Path, environments: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.origin = folder / "small.git"
        self.clone = folder / "clone"
        self.server: subprocess.Popen[bytes] | None = None
        self.ports = {"staging": free_port(), "production": free_port()}
        self.state.mkdir()
        (self.state / "environments").symlink_to(environments)
        self.run("git", "init", "-q", "--bare", "-b", "main", str(self.origin), cwd=folder)
        self.run(*GIT, "clone", "-q", str(self.origin), str(self.clone), cwd=folder)
        shutil.copytree(files, self.clone, dirs_exist_ok=True)
        settings = {
            "repositories": {"small": {"path": str(self.origin)}},
            "environments": {name: {"listen": f"127.0.0.1:{port}"} for name, port in self.ports.items()},
            "poll_every": 2,
            "listen": "127.0.0.1:0",
        }
        (self.state / "server.yaml").write_text(json.dumps(settings))

    def run(self, *command: object, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd or self.clone, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def interlock(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "interlock", *(str(argument) for argument in arguments), "--state", self.state],
            cwd=self.clone,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self) -> None:
        path = self.folder / "server.log"
        seen = path.stat().st_size if path.exists() else 0
        log = path.open("ab")
        self.server = subprocess.Popen(
            [BIN / "interlock", "server", "--state", str(self.state)], stdout=log, stderr=subprocess.STDOUT
        )
        log.close()
        wait_for(lambda: b"ready:" in path.read_bytes()[seen:] or None, 60, "the server's start")

    def kill(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()
        self.server = None

    def push(self, message: str, **files: str | None) -> str:
        """Writes (or with None removes) files, commits and pushes; what git said."""
        for name, text in files.items():
            path = self.clone / name.replace("__", "/").replace("_dot_", ".")
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        self.run(*GIT, "add", "-A")
        self.run(*GIT, "commit", "-q", "--allow-empty", "-m", message)
        return self.run(*GIT, "push", "origin", "HEAD:main")

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.clone / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def rows(self, kind: Kind) -> list[Row]:
        store = SqlStore(f"sqlite:///{self.state / 'interlock.db'}")
        try:
            return store.rows(kind)
        finally:
            store.close()

    def last(self, kind: Kind) -> Row | None:
        return next(iter(self.rows(kind)[::-1]), None)

    def until(self, kind: Kind, count: int, phases: str, seconds: float = 180.0) -> Row:
        """Waits until so many rows of the kind exist and the last one is in one of the phases."""

        def found() -> Row | None:
            rows = self.rows(kind)
            return rows[-1] if len(rows) >= count and rows[-1].phase in phases.split() else None

        try:
            return wait_for(found, seconds, f"{kind} {count} {phases}")
        except AssertionError as late:
            log = (self.folder / "server.log").read_text()[-4000:]
            raise AssertionError(f"{late}\n{log}") from late

    def url(self, environment: str = "production") -> str:
        return f"http://127.0.0.1:{self.ports[environment]}/v2/models/small/infer"

    def end(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait(30)
        subprocess.run(
            [BIN / "interlock", "server", "stop", "--data-plane", "--state", str(self.state)],
            check=False,
            capture_output=True,
        )


@pytest.fixture
def journey(small_files: Path, built_environments: Path) -> Iterator[Journey]:
    folder = Path(tempfile.mkdtemp(prefix="ij-"))
    begun = Journey(folder, small_files, built_environments)
    try:
        yield begun
    finally:
        begun.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def traffic() -> Iterator[Callable[..., Traffic]]:
    """Starts traffic that is certainly stopped at the end."""
    started: list[Traffic] = []

    def start(url: str, rate: float = 60.0, *, has_columns: bool = False) -> Traffic:
        started.append(Traffic(url, rate, has_columns=has_columns))
        return started[-1]

    yield start
    for each in started:
        each.stop()
