"""What it costs a model server to count what it is asked beside a reference: ``python benchmarks/observing.py``.

The same server twice, once with a reference, in turn round after round; one row a request, each column an input of its
own. Of the processor time of an answer the target is at most 1.05 of what it takes without. The model is a comparison
of one column, so that this is the most that counting can take; a model that takes longer hides it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import uvloop
from http_load import load, post
from model_server import CONNECTIONS, SOURCE, Running, running

from interlock.edges.blobs import LocalBlobs
from interlock.probes.offline.reference import make_reference
from interlock.probes.offline.rows import Holdout

MOST_RATIO = 1.05
MAKE = """
import joblib, pathlib, sys
pathlib.Path("model").mkdir()
pathlib.Path("model/late.py").write_text(sys.argv[1])
sys.path[:0] = ["model"]
import late
joblib.dump(late.Late(), "model/model.joblib")
"""
CODE = """
class Late:
    def predict(self, table):
        return (table["c0"].to_numpy() > 0.0).astype(int)
"""
ROWS = 5000


def request_of(columns: int, drawn: random.Random) -> dict[str, object]:
    """One row; each fifth column is a text."""
    inputs: list[dict[str, object]] = []
    for column in range(columns):
        if column % 5 == 4:
            inputs.append({"name": f"c{column}", "shape": [1], "datatype": "BYTES", "data": [drawn.choice("abcdefg")]})
        else:
            inputs.append({"name": f"c{column}", "shape": [1], "datatype": "FP64", "data": [drawn.gauss(0.0, 1.0)]})
    return {"inputs": inputs}


def write_reference(folder: Path, columns: int) -> None:
    """The reference of rows that are drawn as the requests are."""
    import pandas as pd

    drawn = random.Random(1)
    rows = [request_of(columns, drawn)["inputs"] for _ in range(ROWS)]
    cells = pd.DataFrame([{one["name"]: str(one["data"][0]) for one in row} for row in rows])  # type: ignore[attr-defined,index]
    made = make_reference(
        Holdout(cells, "id", cells, rows[0]),  # type: ignore[arg-type]
        lambda asked: {"prediction": [int(value > 0.0) for value in asked["inputs"][0]["data"]]},
    )
    (folder / "reference.json").write_text(json.dumps(made))


def processor_seconds(pid: int) -> float:
    """Of all threads of the process up to now."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def cost(server: Running, request: bytes, seconds: float) -> float:
    """Processor seconds of one answer. RuntimeError for one that is not 200."""
    before = processor_seconds(server.pid)
    found = uvloop.run(load(server.address, request, seconds, CONNECTIONS))
    if found.wrong:
        raise RuntimeError(f"{found.wrong[0]!r}")
    return (processor_seconds(server.pid) - before) / (found.rate * seconds)


def main() -> int:
    """Answers 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0)
    asked = parser.parse_args()
    worst = 0.0
    for columns in (5, 20, 200):
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            subprocess.run([sys.executable, "-c", MAKE, CODE], cwd=folder, check=True)
            write_reference(folder, columns)
            request = request_of(columns, random.Random(2))
            (folder / "golden.json").write_text(json.dumps({"requests": [request]}))
            digest = LocalBlobs(folder / "blobs").put(str(folder / "model"))
            line: list[object] = [sys.executable, "-m", "interlock.inference", "--name", "m", "--model", "model"]
            line += ["--digest", digest, "--format", "joblib", "--golden", "golden.json", "--socket"]
            body = post("/v2/models/m/infer", json.dumps(request).encode())
            servers = {}
            for name, more in (("plain", []), ("counting", ["--reference", "reference.json"])):
                whole = [*line, str(folder / name), *more]
                servers[name] = stack.enter_context(
                    running(whole, folder, {"PYTHONPATH": str(SOURCE)}, str(folder / name), body)
                )
            ratios, plain = [], []
            for turn in range(asked.rounds + 1):
                found = {name: cost(server, body, asked.seconds) for name, server in servers.items()}
                if turn:  # the first only warms
                    ratios.append(found["counting"] / found["plain"])
                    plain.append(found["plain"])
        middle = statistics.median(ratios)
        worst = max(worst, middle)
        print(f"{columns:4} columns: {statistics.median(plain) * 1e6:5.0f} us an answer, {middle:.3f} of it counting")
    print(f"at most {worst:.3f} (target {MOST_RATIO})")
    return int(worst > MOST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
