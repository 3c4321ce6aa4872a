"""The probe that measures a model as it is served, called as a stage calls it, with real model servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interlock.edges.blobs import LocalBlobs

SOURCE = Path(__file__).resolve().parents[2] / "src"

# Models of plain Python: nothing heavy has to be imported to serve them.
CODE = """
import os, time

class Sum:
    delay = 0.0
    def predict(self, table):
        time.sleep(self.delay * len(table))  # of each row: asking several together saves nothing
        return table.sum(axis=1)

class Picky(Sum):
    def predict(self, table):
        raise KeyError("unknown plane")

class Busy(Sum):
    def predict(self, table):
        until = time.thread_time() + 0.005 * len(table)
        while time.thread_time() < until:
            pass
        return table.sum(axis=1)

class Forgetful(Sum):
    asked = 0
    def predict(self, table):
        self.asked += os.path.exists("socket")  # what it is warmed with before does not count
        if self.asked > 20:
            raise KeyError("forgotten")
        return table.sum(axis=1)
"""

MAKE = """
import pathlib, sys, joblib
root = pathlib.Path(sys.argv[1])
for kind, delay in (("Sum", 0.0), ("Slow", 0.02), ("Picky", 0.0), ("Busy", 0.0), ("Forgetful", 0.0)):
    folder = root / kind.lower()
    folder.mkdir()
    (folder / "sums.py").write_text(sys.argv[2])
    sys.path[:0] = [str(folder)]
    import sums
    model = getattr(sums, "Sum" if kind == "Slow" else kind)()
    model.delay = delay
    joblib.dump(model, folder / "model.joblib")
"""


def child_environment() -> dict[str, str]:
    # Libraries compiled once for all these processes: without bytecode each would take seconds to import them.
    bytecode = Path(tempfile.gettempdir()) / f"interlock-bytecode-{os.getuid()}"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(SOURCE), "PYTHONPYCACHEPREFIX": str(bytecode)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-c", MAKE, str(root), CODE], check=True, env=child_environment())
    requests = [
        {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [float(number), 1.0]}]}
        for number in range(3)
    ]
    responses = [{"outputs": [{"name": "prediction", "data": [number + 1.0]}]} for number in range(3)]
    (root / "golden.json").write_text(json.dumps({"requests": requests, "responses": responses}))
    (root / "unchecked.json").write_text(json.dumps({"requests": requests}))
    responses[1]["outputs"][0]["data"] = [7.0]
    (root / "wrong.json").write_text(json.dumps({"requests": requests, "responses": responses}))
    return root


@pytest.fixture(scope="module")
def digest_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    blobs = LocalBlobs(tmp_path_factory.mktemp("blobs"))
    return lambda path: str(blobs.put(str(path)))


@pytest.fixture
def measure(models: Path, digest_of: Callable[[Path], str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the probe in ``models``; answers what it wrote, after it has left nothing behind."""

    def run(
        model: str, golden: str | None, baseline: str | None = None, rate: float | None = None, **more: Any
    ) -> dict[str, Any]:
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        settings = {
            "model": {"name": model, "format": "joblib", "path": f"{model}/", "golden": golden, "rate": rate},
            "digest": digest_of(models / model),
            "python": sys.executable,
            "inference_folder": str(SOURCE / "interlock" / "inference"),
            "baseline": None,
            "lives": 1,
            "pairs": 30,
            "is_pressed": False,
            "is_loaded": True,
            **more,
        }
        if baseline is not None:
            settings["baseline"] = {
                "name": f"{baseline} v1",
                "path": str(models / baseline),
                "format": "joblib",
                "python": sys.executable,
                "digest": digest_of(models / baseline),
            }
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        command = [sys.executable, "-m", "interlock.probes", "served"]
        command += [str(tmp_path / "settings.json"), str(tmp_path / "report.json")]
        environment = {**child_environment(), "TMPDIR": str(temporary), "MARK": str(tmp_path)}
        ended = subprocess.run(command, cwd=models, env=environment, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert list(temporary.iterdir()) == []
        assert running_with(f"MARK={tmp_path}") == []
        found: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
        return found

    return run


def running_with(variable: str) -> list[str]:
    """Processes whose environment holds the variable."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if variable.encode() in variables:
            found.append(process.name)
    return found


def test_a_model_beside_its_baseline(measure: Callable[..., dict[str, Any]]) -> None:
    found = measure("sum", "golden.json", baseline="slow", lives=2)
    assert (found["passed"], found["problems"]) == (True, [])
    candidate, baseline = found["report"]["candidate"], found["report"]["baseline"]
    for side in (candidate, baseline):
        assert side["errors"] == 0
        assert side["golden"]["checked"] == 3  # both were warmed with them
        assert 0 < side["model_size_mb"] < 1
        assert [len(life["latency_ms"]) for life in side["lives"]] == [30, 30]
        for life in side["lives"]:
            assert min(life["latency_ms"]) > 0
            assert life["memory_peak_mb"] > 10
            assert life["startup_ms"] > 0
            assert 0 < life["cpu_s_per_1000"] < 20  # asleep is not at work
            assert "throughput_rps" not in life
    assert baseline["name"] == "slow v1"
    assert min(latency for life in baseline["lives"] for latency in life["latency_ms"]) >= 20
    assert candidate["golden"] == {"checked": 3, "wrong": []}
    assert "loaded" not in candidate


def test_throughput_and_cost_tell_models_apart(measure: Callable[..., dict[str, Any]]) -> None:
    found = measure("busy", "golden.json", baseline="sum", is_pressed=True)
    ours, theirs = (found["report"][side]["lives"][0] for side in ("candidate", "baseline"))
    # One thread asks the model, and each row takes it 5 ms of work: at most 200 a second, and 5 s of each 1,000.
    assert 0 < ours["throughput_rps"] <= 205
    assert theirs["throughput_rps"] > 1.5 * ours["throughput_rps"]
    assert ours["cpu_s_per_1000"] >= 5
    assert theirs["cpu_s_per_1000"] < ours["cpu_s_per_1000"]


def test_load_at_a_rate_counts_from_the_moment_at_which_a_request_was_due(
    measure: Callable[..., dict[str, Any]],
) -> None:
    # 20 ms a row bear 50 requests a second: at 70 they pile up, which one caller would never see.
    found = measure("slow", "golden.json", rate=70.0)
    side = found["report"]["candidate"]
    alone, loaded = side["lives"][0]["latency_ms"], side["loaded"]["latency_ms"]
    assert side["loaded"]["rate"] == 70.0
    assert len(loaded) == 560
    assert side["requests"] >= len(alone) + len(loaded)
    assert max(alone) < 200
    assert sorted(loaded)[280] > 500


def test_a_wrong_golden_answer_fails_with_the_servers_words(measure: Callable[..., dict[str, Any]]) -> None:
    found = measure("sum", "wrong.json")
    assert found["passed"] is False
    assert "golden request 1: prediction[0] is 2.0, expected 7.0" in found["because"]
    assert found["problems"][0]["is_warning"] is False
    assert found["report"] == {"candidate": None, "baseline": None, "export": None}


def test_other_bytes_fail(measure: Callable[..., dict[str, Any]]) -> None:
    found = measure("sum", "golden.json", digest="blake3:" + "0" * 64)
    assert found["passed"] is False
    assert "not the admitted" in found["because"]


def test_a_model_that_fails_while_it_is_measured(measure: Callable[..., dict[str, Any]]) -> None:
    found = measure("forgetful", "unchecked.json")
    assert found["passed"] is False
    assert found["report"]["candidate"]["errors"] > 0
    assert "errors" in found["because"]


def test_a_baseline_that_cannot_answer_is_left_out(measure: Callable[..., dict[str, Any]]) -> None:
    found = measure("sum", "golden.json", baseline="picky")
    assert found["passed"] is True
    assert found["report"]["baseline"] is None
    assert [(problem["is_warning"], "picky v1" in problem["message"]) for problem in found["problems"]] == [
        (True, True)
    ]


def test_without_golden_requests_only_start_memory_and_size(measure: Callable[..., dict[str, Any]]) -> None:
    found = measure("sum", None, baseline="slow")
    assert found["passed"] is True
    assert found["problems"][0]["is_warning"] is True
    (life,) = found["report"]["candidate"]["lives"]
    assert life["latency_ms"] == []
    assert life["memory_peak_mb"] > 10
    assert found["report"]["baseline"]["lives"][0]["startup_ms"] > 0
    assert found["report"]["baseline"]["model_size_mb"] > 0
