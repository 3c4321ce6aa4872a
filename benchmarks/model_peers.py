"""Our model server beside other model servers, interleaved: requests, batching, memory and start.

    python benchmarks/model_peers.py [--rounds N] [--seconds S] [--only NAME ...] [--cache DIR]

Each peer has a pinned environment of its own, made when it is first needed, one worker, and the digits classifier of
scikit-learn: exported to ONNX, or as it is where the name says so, and ours then too. It is asked one row and 64 rows,
in JSON of the V2 protocol or else in its own, over 8 connections. Printed are medians of rounds, and of each round's
ratio of ours to the peer's. Memory is that of all its processes after the load, start the time to its first answer.
Batching is measured on a model of 2 ms a call whatever its rows (it should help), and on the classifier (where nothing
should be lost). Answers 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from http_load import Load, post
from model_server import MAKE, Running, body_of, measure, memory_of, request_of, run_ours, run_peer
from model_servers import OURS, STACKS, V2
from pinned import environment_of

TARGETS = {
    "KServe SDK": 8.0, "LitServe": 12.0, "BentoML": 30.0, "MLServer, scikit-learn": 3.0, "MLflow, scikit-learn": 6.0
}  # fmt: skip
"""How many times as many one-row requests ours answers at least."""
MOST_MEMORY, MOST_START = 0.30, 0.1
"""Of what Ray Serve takes."""
LEAST_GAIN, MOST_LOST = 2.0, 0.95
"""Batching: where it matters, and where it does not."""
MAKE_SLOW = '''
import pathlib, sys, joblib
sys.dont_write_bytecode = True
slow = pathlib.Path("slow")
slow.mkdir()
(slow / "slowly.py").write_text("""
import time

class Slow:
    def predict(self, rows):
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass
        return rows[:, 0]
""")
sys.path.insert(0, "slow")
import slowly
joblib.dump(slowly.Slow(), slow / "model.joblib")
'''


def main() -> int:
    """Answers 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", nargs="*", choices=[name for name in STACKS if name != "bare"], help="these peers")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "interlock-benchmarks")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    missed = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        python = environment_of("interlock", OURS, asked.cache) / "python"
        subprocess.run([python, "-c", MAKE + MAKE_SLOW], cwd=folder, check=True)
        print(
            f"{'':24}{'1 row/s':>9}{'ours':>8}{'64 rows/s':>11}{'ours':>8}{'MB':>7}{'ours':>7}{'start s':>9}{'ours':>7}"
        )
        for name in asked.only or [name for name in STACKS if name != "bare"]:
            missed += compare(name, python, folder, asked)
        missed += batching(python, folder, asked)
    print("targets missed: " + "; ".join(missed) if missed else "no target is missed")
    return int(bool(missed))


def compare(name: str, python: Path, folder: Path, asked: argparse.Namespace) -> list[str]:
    """One peer and ours, in turn, and nobody else running. Answers which targets are missed."""
    model = "digits.joblib" if "scikit-learn" in name else "model.onnx"
    with run_peer(name, folder, asked.cache) as peer, run_ours(python, folder, model) as ours:
        servers = {"ours": ours, "peer": peer}
        ratios, rates = [], []
        for rows in (1, 64):
            requests = {"ours": post(V2, body_of(rows)), "peer": request_of(STACKS[name], rows)}
            found = measure(servers, requests, asked.rounds, asked.seconds)
            ratios.append(times(found["ours"], found["peer"]))
            rates.append(statistics.median(one.rate for one in found["peer"]))
        memory = {who: memory_of(server.pid) for who, server in servers.items()}
    print(
        f"{name:24}{rates[0]:9.0f}{ratios[0]:7.1f}x{rates[1]:11.0f}{ratios[1]:7.1f}x"
        f"{memory['peer']:7.0f}{memory['ours'] / memory['peer']:6.2f}x{peer.took:9.1f}{ours.took / peer.took:6.2f}x"
    )
    missed = []
    if ratios[0] < TARGETS.get(name, 0.0):
        missed.append(f"{name}: {ratios[0]:.1f}x, wanted {TARGETS[name]:.0f}x")
    if name == "Ray Serve" and (memory["ours"] > MOST_MEMORY * memory["peer"] or ours.took > MOST_START * peer.took):
        missed.append(f"memory {MOST_MEMORY} and start {MOST_START} of {name}'s")
    return missed


def batching(python: Path, folder: Path, asked: argparse.Namespace) -> list[str]:
    """With and without it, in turn."""
    missed = []
    for model, text, wanted in (
        ("slow", "batching, 2 ms a call", LEAST_GAIN),
        ("model.onnx", "batching, classifier", MOST_LOST),
    ):
        with run_ours(python, folder, model) as merging, run_ours(python, folder, model, "--no-batching") as alone:
            servers: dict[str, Running] = {"with": merging, "without": alone}
            found = measure(servers, dict.fromkeys(servers, post(V2, body_of(1))), asked.rounds, asked.seconds)
        gain = times(found["with"], found["without"])
        print(f"{text:24}{statistics.median(one.rate for one in found['without']):9.0f}{gain:7.2f}x")
        if gain < wanted:
            missed.append(f"{text}: {gain:.2f}x, wanted {wanted:.2f}x")
    return missed


def times(some: list[Load], others: list[Load]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(one.rate / other.rate for one, other in zip(some, others, strict=True))


if __name__ == "__main__":
    sys.exit(main())
