"""A real model server counts what it is asked beside the reference of its model: a shift is found, and none is not."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.watched import WHERE, World

from interlock.delivery.revision import ObservedSeen
from interlock.edges.blobs import LocalBlobs
from interlock.edges.serving import FakeReplicas
from interlock.edges.serving.local import read_observed
from interlock.probes.consistency import read_outputs, rows_in
from interlock.probes.offline import make_reference, read_holdout
from interlock.system.sockets import http_over

SOURCE = Path(__file__).resolve().parents[2] / "src"
CODE = """
class Late:
    def predict(self, table):
        return (table["distance"].to_numpy() > 500.0).astype(int)
"""
MAKE = """
import pathlib, sys, joblib
pathlib.Path("model").mkdir()
pathlib.Path("model/late.py").write_text(sys.argv[1])
sys.path[:0] = ["model"]
import late
joblib.dump(late.Late(), "model/model.joblib")
"""
ROWS_AT_ONCE = 45
"""All of them together are fewer than a second takes."""


def table(rows: int, seed: int, *, is_shifted: bool = False) -> pd.DataFrame:
    """Flights as a file has them; shifted, their distances are in another unit."""
    drawn = random.Random(seed)
    distances = [drawn.lognormvariate(6.0, 0.6) * (0.3 if is_shifted else 1.0) for _ in range(rows)]
    carriers = drawn.choices(["AA", "DL", "UA", ""], [5, 3, 2, 0.1], k=rows)
    cells = {"distance": [f"{one:.3f}" for one in distances], "carrier": carriers}
    return pd.DataFrame({"id": [f"r{seed}-{row}" for row in range(rows)], **cells})


def request(rows: pd.DataFrame) -> dict[str, Any]:
    distances = {"name": "distance", "datatype": "FP64", "data": [float(cell) for cell in rows["distance"]]}
    carriers = {"name": "carrier", "datatype": "BYTES", "data": [cell or None for cell in rows["carrier"]]}
    return {"inputs": [{**tensor, "shape": [len(rows)]} for tensor in (distances, carriers)]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    subprocess.run([sys.executable, "-c", MAKE, CODE], cwd=folder, check=True)
    holdout = table(2000, 1)
    holdout.to_csv(folder / "holdout.csv", index=False)
    predictions = [int(float(cell) > 500.0) for cell in holdout["distance"]]
    pd.DataFrame({"id": holdout["id"], "prediction": predictions}).to_csv(folder / "predictions.csv", index=False)
    (folder / "golden.json").write_text(json.dumps({"requests": [request(holdout.iloc[[row]]) for row in range(5)]}))
    return folder


@contextmanager
def served(project: Path, *more: str) -> Iterator[Callable[[dict[str, Any]], bytes]]:
    """A model server on ``http`` in the project's folder; what it answers to a request."""
    digest = LocalBlobs(project / "blobs").put(str(project / "model"))
    command = [sys.executable, "-m", "interlock.inference", "--name", "late", "--model", "model", "--digest", digest]
    command += ["--format", "joblib", "--golden", "golden.json", "--socket", "http", *more]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=project, env=environment)

    def ask(asked: dict[str, Any]) -> bytes:
        body = json.dumps(asked).encode()
        answer = http_over(project, "http", "POST", "/v2/models/late/infer", body=body)
        assert answer.status == 200, answer.body
        return answer.body

    try:
        until = time.monotonic() + 60.0
        while not (project / "http").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        yield ask
    finally:
        process.terminate()
        process.wait(20)
        (project / "http").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def reference(project: Path) -> dict[str, Any]:
    golden = json.loads((project / "golden.json").read_text())["requests"]
    files = {"predictions": str(project / "predictions.csv")}
    holdout = read_holdout({**files, "holdout": {"path": str(project / "holdout.csv"), "id": "id"}}, golden)
    with served(project) as ask:
        assert read_observed(project) is None  # without a reference nothing is counted
        made = make_reference(holdout, lambda asked: read_outputs(ask(asked), rows_in(asked)))
    (project / "reference.json").write_text(json.dumps(made))
    return made


class OneReplica(FakeReplicas):
    """The real server's counts, as those of one replica."""

    def __init__(self, folder: Path, name: Callable[[], str]) -> None:
        super().__init__()
        self._folder, self._name = folder, name

    def observed(self, environment: str) -> dict[str, ObservedSeen]:
        assert environment == WHERE
        seen = read_observed(self._folder)
        return {} if seen is None else {self._name(): seen}


def test_a_shifted_column_is_found_and_the_others_are_not(project: Path, reference: dict[str, Any]) -> None:
    assert reference["rows"] == 2000
    world = World()
    world.replicas = OneReplica(project, lambda: world.stable.replica(0))
    world.live()
    world.deliver(reference=reference, period=24.0)

    def spend(ask: Callable[[dict[str, Any]], bytes], seconds: int, *, is_shifted: bool) -> None:
        for _ in range(seconds):
            world.now += 1.0
            ask(request(table(ROWS_AT_ONCE, int(world.now), is_shifted=is_shifted)))
            world.monitoring.step(WHERE)

    with served(project, "--reference", "reference.json") as ask:
        spend(ask, 60, is_shifted=False)
        assert world.monitor().alerts == {}
        assert world.monitor().unwatched == "accuracy: no gate measured it on the holdout"
        spend(ask, 40, is_shifted=True)
    alerts = world.monitor().alerts
    assert "sudden drift of input.distance" in alerts
    assert {alert.column for alert in alerts.values()} <= {"input.distance", "output.prediction"}
    assert [message.state for message in world.messages()] == ["firing"] * len(alerts)


def test_no_value_that_was_asked_is_kept_or_told(project: Path, reference: dict[str, Any]) -> None:
    with served(project, "--reference", "reference.json") as ask:
        rows = table(1, 5)
        rows["carrier"] = ["a secret carrier"]
        ask(request(rows))
        told = http_over(project, "http", "GET", "/interlock/observed")
    assert told.status == 200
    assert json.loads(told.body)["input"]["carrier"][1] == 1
    assert b"secret" not in told.body
    assert reference["columns"][1]["name"] == "carrier"
