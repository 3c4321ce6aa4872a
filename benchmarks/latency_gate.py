"""How often the latency gate is wrong, beside the comparison that most people make: one run after the other.

Real model servers are measured as the gate's probe does it, in lives of both servers, as many as the time allows: a
model beside itself (A/A), and beside one that is 20 % slower. In turn with them each model is measured alone in a run
of its own, and two of those runs, one after the other, are compared by the ratio of their percentiles. Both are done on
the machine as it is, and with a neighbour that works in bursts.

    python benchmarks/latency_gate.py [--seconds 280] [--lives FILE]

``real`` are judgements of as many lives as the gate takes, each life used once; ``resampled`` are drawn from all lives
that were recorded (seed fixed). ``--lives`` keeps the recorded lives and adds those of earlier times.

Targets, of the median with ``max_ratio: 1.1``, resampled: a model beside itself fails in at most 5 % of judgements, one
that is 20 % slower in at least 95 %.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from interlock.edges.blobs import LocalBlobs
from interlock.gate.judge import judge
from interlock.gate.measurements import percentile_of
from interlock.pipeline.gates.served import LIVES, PAIRS
from interlock.pipeline.plan import GatePlan
from interlock.probes.served import LIFE_SECONDS
from interlock.probes.serving import servers as serving
from interlock.probes.serving.lives import WARM_UP, Effort, Requests, begin, read_requests, spend
from interlock.vocabulary import Verdict

LIMIT, SLOWER = 1.1, 1.2
DRAWS = 1000
REQUESTS = 500
"""Of a run alone. When and where it runs makes its median differ more than chance does."""
METRICS = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
TARGET = "latency_p50_ms"
WORLDS = ("as it is", "with a neighbour")
GOLDEN = {"requests": [{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [3.0, 1.0]}]}]}

CODE = """
class Work:
    loops = 0

    def predict(self, table):
        total = 0
        for number in range(self.loops):
            total += number
        return table.sum(axis=1)
"""
MAKE = """
import pathlib, sys, joblib
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
(folder / "work.py").write_text(sys.argv[2])
sys.path[:0] = [str(folder)]
import work
model = work.Work()
model.loops = int(sys.argv[3])
joblib.dump(model, folder / "model.joblib")
"""


class Place:
    """A folder of models, and servers of them."""

    def __init__(self, root: Path) -> None:
        self._root, self._blobs, self._count = root, LocalBlobs(root / "blobs"), itertools.count()
        self._ending: list[serving.ModelServer] = []
        golden = root / "golden.json"
        golden.write_text(json.dumps(GOLDEN))
        self.requests: Requests = read_requests(golden.read_bytes())
        self._golden = str(golden)

    def make(self, name: str, loops: int) -> dict[str, Any]:
        """A model whose answer takes so many turns of a loop."""
        folder = self._root / name
        subprocess.run([sys.executable, "-c", MAKE, str(folder), CODE, str(loops)], check=True)
        model = {"name": name, "path": str(folder), "format": "joblib", "python": sys.executable}
        return {**model, "golden": self._golden, "digest": str(self._blobs.put(str(folder)))}

    @contextlib.contextmanager
    def serve(self, *models: dict[str, Any]) -> Iterator[list[serving.ModelServer]]:
        """New servers of the models, not started yet; those before them have ended by the time that these end."""
        inference = str(Path(serving.__file__).parents[2] / "inference")
        found = [serving.ModelServer(self._root / f"server-{next(self._count)}", inference, each) for each in models]
        try:
            yield found
        finally:
            self.end()
            self._ending = found
            for server in found:
                server.dismiss()

    def end(self) -> None:
        """Waits until the servers that are not needed any more have ended."""
        for server in self._ending:
            server.stop()


class Recorded(NamedTuple):
    """Latencies in milliseconds: of a life's candidate and production, and of three runs alone."""

    world: str
    same: tuple[list[float], list[float]]
    slower: tuple[list[float], list[float]]
    alone: tuple[list[float], list[float], list[float]]


def live(place: Place, cores: Sequence[int], number: int, *models: dict[str, Any]) -> list[list[float]]:
    """One life, as the gate's probe spends it."""
    with place.serve(*models) as both:
        for took in begin(both, cores, number):
            if isinstance(took, serving.NotServed):
                raise took
        shown = spend(both, place.requests, Effort(PAIRS, LIFE_SECONDS, is_pressed=False), number)
    os.sched_setaffinity(0, set(cores))
    return [one["latency_ms"] for one in shown]


def run_alone(place: Place, cores: Sequence[int], model: dict[str, Any]) -> list[float]:
    """A run of one server, as anybody would measure it: wherever the machine puts it."""
    with place.serve(model) as (server,):
        server.start(set(cores))
        found = [server.ask(place.requests.bodies[0]) for _ in range(WARM_UP + REQUESTS)]
    return [latency for latency in found[WARM_UP:] if latency is not None]


def calibrate(place: Place, cores: Sequence[int], loops: int) -> int:
    """The turns of the loop that make an answer SLOWER times as long."""
    pair = live(place, cores, 0, place.make("idle", 0), place.make("base", loops))
    idle, base = map(statistics.median, pair)
    return round(loops * (1.0 + (SLOWER - 1.0) * base / (base - idle)))


def disturb(seed: int) -> None:
    """Works in bursts, for ever."""
    chance = random.Random(seed)
    while True:
        until = time.monotonic() + chance.uniform(0.05, 1.5)
        while time.monotonic() < until:
            sum(range(1000))
        time.sleep(chance.uniform(0.05, 1.5))


def record(seconds: float) -> Iterator[Recorded]:
    """Lives and runs, both worlds in turn, for so many seconds."""
    cores, until = sorted(os.sched_getaffinity(0)), time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="interlock-latency-") as folder:
        place = Place(Path(folder))
        production, loops = place.make("production", 20_000), calibrate(place, cores, 20_000)
        same, slower = place.make("same", 20_000), place.make("slower", loops)
        for number in itertools.count():
            if time.monotonic() > until:
                break
            neighbour = multiprocessing.Process(target=disturb, args=(number,), daemon=True)
            world = WORLDS[number % len(WORLDS)]
            if number % len(WORLDS):
                neighbour.start()
            lives = [live(place, cores, number // 2, model, production) for model in (same, slower)]
            alone = [run_alone(place, cores, model) for model in (production, same, slower)]
            if number % len(WORLDS):
                neighbour.terminate()
                neighbour.join()
            place.end()
            yield Recorded(
                world, (lives[0][0], lives[0][1]), (lives[1][0], lives[1][1]), (alone[0], alone[1], alone[2])
            )


# ---- verdicts


def judge_lives(metric: str, lives: Sequence[tuple[list[float], list[float]]]) -> Verdict:
    """What the gate says of these lives."""
    sides = {
        name: {
            "name": "m v1",
            "lives": [{"latency_ms": life[place]} for life in lives],
            "requests": PAIRS * len(lives),
            "errors": 0,
        }
        for place, name in enumerate(("candidate", "baseline"))
    }
    gate = GatePlan(metric=metric, against="production", max_ratio=LIMIT)
    return judge([gate], {"served": sides}, "m v1").results[0].verdict


def judge_runs(metric: str, candidate: Sequence[float], production: Sequence[float]) -> Verdict:
    """What two point values say, compared as most pipelines do it."""
    ours, theirs = (percentile_of(side, METRICS[metric]).value or 0.0 for side in (candidate, production))
    return Verdict.FAIL if ours / theirs > LIMIT else Verdict.PASS


def judge_all(found: Sequence[Recorded], metric: str, *, is_slower: bool) -> dict[str, list[Verdict]]:
    """The verdicts on one pair of models in one world, by way of comparing them."""
    lives = [one.slower if is_slower else one.same for one in found]
    runs = [(one.alone[2 if is_slower else 1], one.alone[0]) for one in found]
    chance, draws = random.Random(metric), DRAWS if metric == TARGET else DRAWS // 10
    return {
        "gate, real": [judge_lives(metric, lives[at : at + LIVES]) for at in range(0, len(lives) - LIVES + 1, LIVES)],
        "gate, resampled": [judge_lives(metric, chance.sample(lives, LIVES)) for _ in range(draws)],
        "two runs, one after the other": [judge_runs(metric, *pair) for pair in runs],
    }


def true_ratio(found: Sequence[Recorded]) -> float:
    """How much slower the slower model really is: the typical ratio of medians within a life."""
    lives = [one.slower for one in found]
    return statistics.median(statistics.median(ours) / statistics.median(theirs) for ours, theirs in lives)


def report(found: Sequence[Recorded]) -> int:
    """The table; answers the exit code."""
    print(
        f"max_ratio {LIMIT}; {len(found)} lives of each pair; the slower model is {true_ratio(found):.3f} times as slow"
    )
    heads = f"{'judged':>7}{'A/A fails':>11}{'A/A passes':>12}{'slower found':>14}"
    print(f"{'machine':<18}{'metric':<16}{'compared by':<32}{heads}")
    missed = False
    for world, metric in itertools.product(WORLDS, METRICS):
        there = [one for one in found if one.world == world]
        if len(there) < LIVES:
            continue
        same, slower = (judge_all(there, metric, is_slower=is_slower) for is_slower in (False, True))
        for way, verdicts in same.items():
            shares = [
                verdicts.count(Verdict.FAIL) / len(verdicts),
                verdicts.count(Verdict.PASS) / len(verdicts),
                slower[way].count(Verdict.FAIL) / len(verdicts),
            ]
            mark = ""
            if way == "gate, resampled" and metric == TARGET:
                is_met = shares[0] <= 0.05 and shares[2] >= 0.95
                missed, mark = missed or not is_met, "  ok" if is_met else "  MISSED"
            told = f"{shares[0]:>11.1%}{shares[1]:>12.1%}{shares[2]:>14.1%}"
            print(f"{world:<18}{metric:<16}{way:<32}{len(verdicts):>7}{told}{mark}", flush=True)
    return int(missed)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=280.0, help="how long lives are recorded")
    parser.add_argument("--lives", type=Path, help="a file of recorded lives, which is added to")
    arguments = parser.parse_args()
    kept = arguments.lives is not None and arguments.lives.exists()
    found = [Recorded(*each) for each in json.loads(arguments.lives.read_text())] if kept else []
    for one in record(arguments.seconds):
        found.append(one)
        if arguments.lives is not None:
            arguments.lives.write_text(json.dumps(found))
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
