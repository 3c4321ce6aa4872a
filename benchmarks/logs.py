"""Any 1,000 lines out of 10,000,000, and the price of masking secrets in what a stage prints.

Run it with ``python benchmarks/logs.py [--lines N]``. A window is compared with the least it can cost: seeking to its
first byte, known beforehand, and reading as many bytes. Masking is compared with no masking, all of it into a log, in
pieces of 64 KiB as an executor reads them from a pipe. Limits are of the time on the clock; the processor's stands
beside it, and tells how much of it was somebody else's.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from interlock.access.masking import Masker
from interlock.edges.executor.lines import LogFiles, index_path
from interlock.edges.executor.log import CappedLog

WINDOW, SAMPLES = 1000, 500
WINDOW_LIMIT_MS = 10.0
MASKED_LIMIT = 20.0
PIECE = 64 * 1024
ATTEMPT = "1/train/1"


def line(number: int) -> bytes:
    """Line ``number`` of the log: lengths differ, so that nothing can be computed from it."""
    more = b"=" * (number * 2654435761 % 2**32 >> 27)
    return b"%d epoch %d step %d loss 0.%04d %s\n" % (number, number // 5000, number % 5000, number % 9973, more)


def write_log(files: LogFiles, count: int) -> tuple[float, dict[int, int]]:
    """Seconds it took, and where every thousandth line begins."""
    begins: dict[int, int] = {}
    size = 0
    began = time.perf_counter()
    with CappedLog(files.path(ATTEMPT), limit=1 << 40) as log:
        for first in range(0, count, WINDOW):
            begins[first] = size
            content = b"".join(map(line, range(first, min(first + WINDOW, count))))
            log.write(content)
            size += len(content)
    begins[count] = size
    return time.perf_counter() - began, begins


def measure_windows(files: LogFiles, count: int, begins: dict[int, int]) -> dict[str, list[float]]:
    """Milliseconds of each kind of reading; both take turns at the same places."""
    chosen = random.Random(11).choices([first for first in begins if first < count], k=SAMPLES)
    costs: dict[str, list[float]] = {"window": [], "window, processor time": [], "seek + read": []}
    path = files.path(ATTEMPT)
    for first in chosen:
        end = begins[min(first + WINDOW, count)]
        began, worked = time.perf_counter(), time.process_time()
        window = files.window(ATTEMPT, first, WINDOW)
        costs["window"].append(1000 * (time.perf_counter() - began))
        costs["window, processor time"].append(1000 * (time.process_time() - worked))
        began = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            file.seek(begins[first])
            content = file.read(end - begins[first])
        costs["seek + read"].append(1000 * (time.perf_counter() - began))
        assert "\n".join((*window.lines, "")).encode() == content
    return costs


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all is not above."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def speeds_of(maskers: dict[str, Masker], pieces: list[bytes], rounds: int = 5) -> dict[str, float]:
    """MB per second into a log, the median of rounds in which they take turns."""
    size = sum(map(len, pieces)) / 1e6
    speeds: dict[str, list[float]] = {name: [] for name in maskers}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, masker in maskers.items():
                began = time.perf_counter()
                with CappedLog(Path(folder, "a.log")) as log:
                    log.masker = masker
                    for piece in pieces:
                        log.write(piece)
                speeds[name].append(size / (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in speeds.items()}


def measure_masking() -> dict[str, float]:
    """MB/s without secrets, and with 3 and 20 of them; one in a hundred lines holds one."""
    chosen = random.Random(7)
    secrets = [base64.b64encode(chosen.randbytes(30)).decode() for _ in range(19)]
    key = "-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(chosen.randbytes(1200)).decode()
    text = b"".join(line(number) for number in range(500_000))
    told = [b"token %s\n" % secret.encode() for secret in secrets]
    noisy = b"".join(line(number) if number % 100 else chosen.choice(told) for number in range(500_000))
    many = Masker([*secrets, key])
    maskers = {"no secrets": Masker(()), "3 secrets": Masker(secrets[:3]), "20 secrets, one a key of 26 lines": many}
    speeds = speeds_of(maskers, [text[at : at + PIECE] for at in range(0, len(text), PIECE)])
    pieces = [noisy[at : at + PIECE] for at in range(0, len(noisy), PIECE)]
    return speeds | speeds_of({"20 secrets, one in each hundred lines": many}, pieces)


def main() -> int:
    """Prints the tables; 1 where a limit is broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=10_000_000)
    count = parser.parse_args().lines
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory() as folder:
        files = LogFiles(Path(folder))
        seconds, begins = write_log(files, count)
        index = index_path(files.path(ATTEMPT)).stat().st_size
        print(f"{count:,} lines, {begins[count] / 1e6:.0f} MB, index {index / 1e3:.0f} kB, written in {seconds:.1f} s")
        costs = measure_windows(files, count, begins)
    print(f"\n{SAMPLES} random windows of {WINDOW} lines\n\n{'':<24} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    for name, values in costs.items():
        print(f"{name:<24} " + " ".join(f"{percentile(values, share):>8.2f}" for share in (0.5, 0.95, 0.99)))
    ratio = statistics.median(costs["window"]) / statistics.median(costs["seek + read"])
    print(f"ratio of the medians {ratio:.1f}")
    speeds = measure_masking()
    print(f"\nmasking\n\n{'':<40} {'MB/s':>8} {'share':>7}")
    for name, speed in speeds.items():
        print(f"{name:<40} {speed:>8.0f} {speed / speeds['no secrets']:>7.2f}")
    late, slowest = percentile(costs["window"], 0.95), min(speeds.values())
    print(f"\np95 of a window {late:.2f} ms, the limit is {WINDOW_LIMIT_MS:g}.")
    print(f"Masking {slowest:.0f} MB/s, the limit is {MASKED_LIMIT:g}.")
    return 0 if late <= WINDOW_LIMIT_MS and slowest >= MASKED_LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
