"""Our model server beside the least that a server could be, interleaved; ``model_peers.py`` has other servers.

    python benchmarks/model_server.py [--rounds N] [--seconds S] [--format joblib|onnx] [--cache DIR]

The least is granian (RSGI), orjson and onnxruntime in 20 lines that check nothing. Both serve the digits classifier
of scikit-learn, exported to ONNX, one worker and one thread, over a Unix socket with 8 connections. ``--format
joblib``: ours has it in a Python class that calls onnxruntime; ``onnx``: as the file itself. Printed are medians of
rounds, and of each round's ratio to the least. Targets: one row of JSON >= 0.90 of the least at a p99 <= 1.25 of its;
64 rows in binary >= 3 of the same in JSON. What JSON costs depends on how long its numbers are: those of the ratio are
FP32 values as Python writes them (``array.tolist()``: 17 digits, mostly), beside them short ones of one decimal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import uvloop
from http_load import Load, load, post
from model_servers import OURS, STACKS, V2, Stack
from pinned import environment_of

from interlock.edges.blobs import LocalBlobs

SOURCE = Path(__file__).parents[1] / "src"
CONNECTIONS = 8
LEAST_RATIO, MOST_LATE, LEAST_BINARY = 0.90, 1.25, 3.0
MAKE = '''
import json, joblib, pathlib
import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
rows, labels = load_digits(return_X_y=True)
rows = rows.astype(np.float32)
model = LogisticRegression(max_iter=300).fit(rows, labels)
exported = to_onnx(model, rows[:1], options={"zipmap": False})
del exported.graph.output[1:]  # the label alone, which is what every server here answers
exported = exported.SerializeToString()
joblib.dump(model, "digits.joblib")
pathlib.Path("model.onnx").write_bytes(exported)
wrapped = pathlib.Path("wrapped")
wrapped.mkdir()
(wrapped / "model.onnx").write_bytes(exported)
(wrapped / "wrapping.py").write_text("""
import pathlib
import onnxruntime

class Wrapped:
    def __getstate__(self):
        return {"file": "model.onnx"}

    def __setstate__(self, state):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(pathlib.Path(__file__).with_name(state["file"])), options)

    def predict(self, rows):
        return self.session.run(["label"], {"X": rows})[0]
""")
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, "wrapped")
import wrapping
joblib.dump(wrapping.Wrapped(), wrapped / "model.joblib")
golden = [{"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": row.tolist()}]} for row in rows[:4]]
pathlib.Path("golden.json").write_text(json.dumps({"requests": golden}))
'''


class Running(NamedTuple):
    """A server that answers: its socket's path or its port, its process, and how many seconds it took to answer."""

    address: str
    pid: int
    took: float


def main() -> int:
    """Answers 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--format", choices=("joblib", "onnx"), default="joblib")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "interlock-benchmarks")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = environment_of("interlock", OURS, asked.cache) / "python"
        subprocess.run([ours, "-c", MAKE], cwd=folder, check=True)
        servers = {"bare": stack.enter_context(run_peer("bare", folder, asked.cache))}
        servers["interlock"] = stack.enter_context(
            run_ours(ours, folder, "wrapped" if asked.format == "joblib" else "model.onnx")
        )
        one = measure(servers, {name: post(V2, body_of(1)) for name in servers}, asked.rounds, asked.seconds)
        show("one row, JSON", one, "bare")
        many = {name: post(V2, body_of(64, single)) for name in servers}
        servers |= dict.fromkeys(("interlock, short numbers", "interlock, binary"), servers["interlock"])
        many |= {"interlock, short numbers": post(V2, body_of(64)), "interlock, binary": binary_of(64)}
        sixty_four = measure(servers, many, asked.rounds, asked.seconds)
        show("64 rows", sixty_four, "interlock")
    rate, late = ratio(one, "interlock", "bare")
    binary, _ = ratio(sixty_four, "interlock, binary", "interlock")
    beside, _ = ratio(sixty_four, "interlock, binary", "interlock, short numbers")
    print(f"one row: {rate:.2f} of the least (target {LEAST_RATIO}), p99 {late:.2f} of its (target {MOST_LATE})")
    print(
        f"64 rows in binary: {binary:.2f} times JSON (target {LEAST_BINARY}), {beside:.2f} times JSON of short numbers"
    )
    return int(rate < LEAST_RATIO or late > MOST_LATE or binary < LEAST_BINARY)


def short(number: float) -> float:
    """With one decimal."""
    return round(number, 1)


def single(number: float) -> float:
    """What FP32 holds of it."""
    (found,) = struct.unpack("<f", struct.pack("<f", number))
    return float(found)


def numbers(rows: int, kept: Callable[[float], float] = short) -> list[float]:
    """The same ones each time."""
    chance = random.Random(1)
    return [kept(chance.random() * 16) for _ in range(rows * 64)]


def body_of(rows: int, kept: Callable[[float], float] = short) -> bytes:
    """A V2 request in JSON."""
    entry = {"name": "X", "shape": [rows, 64], "datatype": "FP32", "data": numbers(rows, kept)}
    return json.dumps({"inputs": [entry]}).encode()


def request_of(stack: Stack, rows: int = 1) -> bytes:
    """What the stack takes."""
    if stack.key is None:
        return post(stack.path, body_of(rows))
    table = [numbers(rows)[start : start + 64] for start in range(0, rows * 64, 64)]
    return post(stack.path, json.dumps({stack.key: table}).encode())


def binary_of(rows: int) -> bytes:
    """The same in binary, both ways."""
    entry = {"name": "X", "shape": [rows, 64], "datatype": "FP32", "parameters": {"binary_data_size": rows * 256}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    tail = struct.pack(f"<{rows * 64}f", *numbers(rows))
    return post(V2, head + tail, f"inference-header-content-length: {len(head)}")


@contextlib.contextmanager
def run_ours(python: Path, folder: Path, model: str, *more: str) -> Iterator[Running]:
    """``python -m interlock.inference`` with the model's file or folder. ``more`` are further arguments."""
    with tempfile.TemporaryDirectory() as blobs:
        digest = str(LocalBlobs(Path(blobs)).put(str(folder / model)))
    form = "onnx" if model.endswith(".onnx") else "joblib"
    line = [python, "-m", "interlock.inference", "--name", "m", "--model", model, "--digest", digest, "--format", form]
    address = str(folder / f"s{len(list(folder.iterdir()))}")
    line += ["--golden", "golden.json", "--socket", address, *more]
    with running(line, folder, {"PYTHONPATH": str(SOURCE)}, address, post(V2, body_of(1))) as found:
        yield found


@contextlib.contextmanager
def run_peer(name: str, folder: Path, cache: Path) -> Iterator[Running]:
    """One of the stacks."""
    stack = STACKS[name]
    python = environment_of(name, stack.packages, cache) / "python"
    place = folder / "".join(letter for letter in name if letter.isalnum())
    place.mkdir()
    for file in ("model.onnx", "digits.joblib"):
        (place / file).write_bytes((folder / file).read_bytes())
    (place / "program.py").write_text(stack.program)
    address = str(place / "s") if stack.listens == "socket" else str(free_port())
    with running([python, "program.py", address], place, {}, address, request_of(stack)) as found:
        yield found


@contextlib.contextmanager
def running(line: list[object], folder: Path, more: dict[str, str], address: str, request: bytes) -> Iterator[Running]:
    """The program, from when it answers the request until it and whatever it has started are ended."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [str(part) for part in line], cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    began = time.monotonic()
    try:
        until = began + 120
        while True:
            try:
                if not uvloop.run(load(address, request, 0.0, 1)).wrong:
                    break
            except (OSError, IndexError, ValueError):
                pass
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"it does not answer: {line}")
            time.sleep(0.05)
        yield Running(address, process.pid, time.monotonic() - began)
    finally:
        started = family_of(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
        for each in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, 9)


def family_of(pid: int) -> set[int]:
    """The process and all that it has started, and those have."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def memory_of(pid: int, kind: str = "Pss:") -> float:
    """MB of the process and all that it has started; what they share is counted once. ``kind`` is a line of proc(5)."""
    size = 0
    for each in family_of(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            size += sum(int(line.split()[1]) for line in lines if line.startswith(kind))
    return size / 1024


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def measure(
    servers: dict[str, Running], requests: dict[str, bytes], rounds: int, seconds: float
) -> dict[str, list[Load]]:
    """Each server in turn, round after round. RuntimeError for an answer that is not 200."""
    found: dict[str, list[Load]] = {name: [] for name in servers}
    for turn in range(rounds + 1):
        for name, server in servers.items():
            one = uvloop.run(load(server.address, requests[name], seconds, CONNECTIONS))
            if one.wrong:
                raise RuntimeError(f"{name}: {one.wrong[0]!r}")
            if turn:  # the first only warms
                found[name].append(one)
    return found


def ratio(found: dict[str, list[Load]], name: str, base: str) -> tuple[float, float]:
    """The medians of the rate's and the p99's ratio."""
    pairs = list(zip(found[name], found[base], strict=True))
    return statistics.median(a.rate / b.rate for a, b in pairs), statistics.median(a.late / b.late for a, b in pairs)


def show(title: str, found: dict[str, list[Load]], base: str) -> None:
    """One line a server."""
    print(f"{title:26}{'requests/s':>12}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}")
    for name, loads in found.items():
        rate, middle, late = (
            statistics.median(getattr(one, key) for one in loads) for key in ("rate", "middle", "late")
        )
        print(f"{name:26}{rate:12.0f}{ratio(found, name, base)[0]:8.3f}{middle:9.2f}{late:9.2f}")


if __name__ == "__main__":
    sys.exit(main())
