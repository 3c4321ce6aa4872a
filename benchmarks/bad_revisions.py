"""Bad revisions and twenty good ones, live: real Envoy, real sandboxed model servers, the flights of 2013.

Requests come at a fixed rate, each with the label that came true; the canary judges errors, latency and accuracy by
the labels. No revision has golden requests, so nothing but live evidence can find out. For each rollout: how it ended,
when, because of what, and how long after the verdict was saved the last request to the candidate began.

    python benchmarks/bad_revisions.py [--strengths 0 1] [--good COUNT] [--only NAME] [--rate PER_SECOND]
        [--mirror | --blue-green | --without-slices]

With ``--mirror`` the canary begins with copies of all requests, and errors, agreement and labels are judged on pairs of
answers: the table says how many bad ones were found before a caller met them, and what callers met meanwhile.

With ``--blue-green`` each has all traffic at once, and is judged by limits while stable is kept.

One of the twelve kinds is judged by labels that are late, so that only its probation can find it; one is wrong for the
flights of one carrier alone, a sixth of them, and is judged by slices too. ``--without-slices`` plays it without. Of
the good ones the first is on probation too, and two more are judged by slices.

Targets: all bad ones rolled back, 0 of 20 good ones; no request begins on the candidate more than 50 ms after the
verdict. ``make bad-revisions``; half an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from live_plane import LOCK, signed
from sklearn.linear_model import LogisticRegression

from interlock.app.parts import PACKAGE
from interlock.cli.demo.dataset import Sizes, make_data, read_records
from interlock.control.bell import BUSY_SECONDS
from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.deliveries import Deliveries
from interlock.control.delivering.scaling import Scaling
from interlock.control.rows import load_state, write_environment, write_state
from interlock.delivery import rollout as rollouts
from interlock.delivery.environment import Environment, enter
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import Rollout
from interlock.edges.blobs import LocalBlobs
from interlock.edges.proxy import EnvoyProxy
from interlock.edges.sandbox import SANDBOXES
from interlock.edges.serving import Installed, LocalReplicas, ensure_supervise, stop_supervise
from interlock.edges.signing import LocalSigning
from interlock.edges.store import SqlStore
from interlock.errors import InterlockError
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, MirrorPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan
from interlock.system.sockets import free_port
from interlock.vocabulary import Digest, Kind

KEY = "flights/production"
COLUMNS = ("hour", "distance", "temp", "humid", "wind_speed", "pressure", "visib")
MEMORY = 400 * 2**20
"""What one replica may use."""
CANARY = EnvironmentPlan(
    name="production",
    strategy=StrategyPlan(
        kind="canary",
        steps=(
            StepPlan(set_weight=30),
            StepPlan(analysis=5.0),
            StepPlan(set_weight=60),
            StepPlan(analysis=5.0),
            StepPlan(set_weight=100),
        ),
        deadline=120.0,
        analysis=AnalysisPlan(
            alpha=0.01,
            warm_up=2.0,
            metrics=(
                AnalysisMetricPlan(metric="error_rate", max_ratio=1.5, margin=0.03),
                AnalysisMetricPlan(metric="latency_p95_ms", max_ratio=1.5, margin=0.05),
                AnalysisMetricPlan(metric="accuracy", max_ratio=1.0, margin=0.07),
            ),
        ),
    ),
)
LATE_SECONDS = 3.0
ON_PROBATION = CANARY.model_copy(
    update={
        "strategy": CANARY.strategy.model_copy(
            update={
                "probation": 60.0,
                "holdback": 20,
                "analysis": AnalysisPlan(
                    metrics=(
                        AnalysisMetricPlan(metric="error_rate", max_ratio=1.5, margin=0.05),
                        AnalysisMetricPlan(metric="accuracy", max_ratio=1.0, margin=0.07, delay=LATE_SECONDS),
                    ),
                ),
            }
        )
    }
)
"""The same steps, in which no answer is old enough to have a label that counts; then a minute of probation."""
LONGER = CANARY.model_copy(
    update={
        "strategy": CANARY.strategy.model_copy(
            update={"steps": (StepPlan(set_weight=50), StepPlan(analysis=60.0), StepPlan(set_weight=100))}
        )
    }
)
SLICES = {"carrier": ("UA", "B6")}
SLICED = LONGER.model_copy(
    update={
        "strategy": LONGER.strategy.model_copy(
            update={
                "analysis": LONGER.strategy.analysis.model_copy(
                    update={
                        "metrics": tuple(
                            metric.model_copy(update={"slices": SLICES}) if metric.metric == "accuracy" else metric
                            for metric in LONGER.strategy.analysis.metrics
                        )
                    }
                )
            }
        )
    }
)
"""A minute at one weight, in which two carriers are judged by themselves as well."""
MIRRORED = CANARY.model_copy(
    update={
        "strategy": CANARY.strategy.model_copy(
            update={
                "steps": (StepPlan(mirror=MirrorPlan(percent=100, seconds=15.0)), *CANARY.strategy.steps),
                "analysis": CANARY.strategy.analysis.model_copy(
                    update={
                        "metrics": (
                            *CANARY.strategy.analysis.metrics,
                            AnalysisMetricPlan(metric="agreement", min=0.9, margin=0.05),
                        )
                    }
                ),
            }
        )
    }
)
"""The same after copies of all requests: what is rolled out here shall answer as the first does."""
SWITCHED = EnvironmentPlan(
    name="production",
    strategy=StrategyPlan(
        kind="blue_green",
        steps=(StepPlan(set_weight=100), StepPlan(keep=10.0)),
        deadline=120.0,
        analysis=AnalysisPlan(
            warm_up=2.0,
            metrics=(
                AnalysisMetricPlan(metric="error_rate", max=0.03),
                AnalysisMetricPlan(metric="latency_p95_ms", max=25.0),
                AnalysisMetricPlan(metric="accuracy", max=0.47),
            ),
            is_alone=True,
        ),
    ),
)
"""All traffic at once. No check asks the candidate before: no part that runs checks is here."""
MODEL = """
import os, time
import numpy as np
MEAN, SCALE, WEIGHTS, BIAS = {numbers}
COUNT = [0]
KEPT = []
CARRIER = [None]
class Model:
    def preprocess(self, inputs):
        COUNT[0] += 1
        x = np.asarray(inputs["x"], dtype=float)
        CARRIER[0] = np.ravel(inputs["carrier"])
        {before}
        return (x - MEAN) / SCALE
    def predict(self, x):
        {during}
        found = (x @ WEIGHTS + BIAS > 0.0).astype(np.int64)
        carrier = CARRIER[0]
        {after}
        return found
{outside}
"""
BAD: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "errors": (
        {"during": "if COUNT[0] % 10 == 0: raise RuntimeError('planted')"},
        {"during": "if COUNT[0] % 25 == 0: raise RuntimeError('planted')"},
    ),
    "slow": ({"during": "time.sleep(0.03)"}, {"during": "time.sleep(0.05 if COUNT[0] % 4 == 0 else 0.0)"}),
    "wrong output": ({"after": "found = 1 - found"}, {"after": "found = found * 0 + 1"}),
    "crash at start": ({"outside": "raise RuntimeError('planted')"}, {"outside": "os._exit(9)"}),
    "crash under load": (
        {"during": "if COUNT[0] >= 40: os._exit(9)"},
        {"during": "if COUNT[0] >= 200: os._exit(9)"},
    ),
    "leak": (
        {"during": "KEPT.append(np.ones(2**19))"},
        {"during": "KEPT.append(np.ones(2**18))"},
    ),
    "wrong preprocessing": (
        {"before": "x = (x - MEAN) / SCALE"},
        {"before": "x = x[:, [1, 0, 2, 3, 4, 5, 6]]"},
    ),
    "stale feature": ({"before": "x[:, 0] = 21.0"}, {"before": "x[:, 0] = MEAN[0]"}),
    "hang": (
        {"during": "if COUNT[0] >= 40: time.sleep(3600)"},
        {"during": "if COUNT[0] % 100 == 99: time.sleep(3600)"},
    ),
    "partial slice": (
        {"before": "if (x[:, 1] > 1500).any(): raise RuntimeError('no such aeroplane')"},
        {"after": "found = np.where(x[:, 1] > 0.0, 1 - found, found)"},
    ),
    "one carrier": (
        {"after": "found = np.where(carrier == 'UA', 2, found)"},
        {"after": "found = np.where((carrier == 'UA') & (x[:, 0] > 0.0), 2, found)"},
    ),
    "late labels": (
        {"after": "found = 1 - found"},
        {"after": "found = np.where(x[:, 1] > 0.0, 1 - found, found)"},
    ),
}
"""Two strengths of each kind, the plain one first: what is planted in the model's code."""
PLANS = {"late labels": ON_PROBATION, "one carrier": SLICED}
"""How those kinds are rolled out that are not rolled out as all others."""


class Flights:
    """A small model of the flights of the year's first half, and the later ones as requests with their truth."""

    def __init__(self, folder: Path) -> None:
        make_data(folder, folder / "live.csv", Sizes(train=20_000, holdout=100, live=12_000))
        train, late, _ = self._read(folder / "data" / "train.csv")
        mean, scale = train.mean(axis=0), train.std(axis=0)
        model = LogisticRegression(class_weight="balanced").fit((train - mean) / scale, late)
        self.numbers = ", ".join(
            f"np.array({np.round(part, 6).tolist()})" for part in (mean, scale, model.coef_[0], model.intercept_)
        )
        rows, truth, carriers = self._read(folder / "live.csv")
        few = min(int(truth.sum()), int((1 - truth).sum()))
        chosen = np.concatenate([np.flatnonzero(truth == kind)[:few] for kind in (0, 1)])
        chosen = np.random.default_rng(7).permutation(chosen)
        self.rows, self.truth, self.carriers = rows[chosen].tolist(), truth[chosen].tolist(), carriers[chosen].tolist()

    def _read(self, path: Path) -> tuple[Any, Any, Any]:
        records = [one for one in read_records(path) if all(one[name] for name in COLUMNS)]
        rows = np.array([[float(one[name]) for name in COLUMNS] for one in records])
        return rows, np.array([int(one["late"]) for one in records]), np.array([one["carrier"] for one in records])

    def source(self, name: str, planted: dict[str, str]) -> bytes:
        """The model's file."""
        parts = {"before": "pass", "during": "pass", "after": "pass", "outside": ""} | planted
        return (MODEL.format(numbers=self.numbers, **parts) + f"# {name}\n").encode()


class Site:
    """A data plane with one environment, and the control plane's own parts that move its rollouts."""

    def __init__(self, folder: Path, flights: Flights) -> None:
        self.folder, self.flights = folder, flights
        self.data = folder / "data-plane"
        self.data.mkdir()
        self.store = SqlStore(f"sqlite:///{folder / 'rows.db'}")
        self.blobs = LocalBlobs(folder / "artifacts")
        self.proxy = EnvoyProxy(self.data, {"production": f"127.0.0.1:{free_port()}"})
        self.signing = LocalSigning(folder / "keys")
        installed, key = Installed(sys.prefix, None), self.signing.public_key()
        sandbox, inference = SANDBOXES["namespace"](), PACKAGE / "inference"
        replicas = LocalReplicas(self.data, sandbox, self._place, lambda _revision: installed, inference, key)
        self.plane = Plane(self.store, replicas, self.proxy, Scaling(self.store, time.monotonic, 2.0, 2.0**33))
        # No release is admitted and no check is run here: nobody asks the parts that do.
        self.deliveries = Deliveries(self.store, None, None, self.plane, time.time)  # type: ignore[arg-type]
        self.over = threading.Event()
        self.loop = threading.Thread(target=self._move)

    def _place(self, digest: Digest, target: Path) -> None:
        self.blobs.materialise(digest, str(target))

    def _move(self) -> None:
        """As the server's loop does."""
        while not self.over.wait(BUSY_SECONDS):
            try:
                for row in self.store.rows(Kind.ROLLOUT, phases=("progressing",)):
                    while self.deliveries.step_rollout(row.key):
                        pass
                self.plane.keep(KEY)
            except InterlockError as fault:
                sys.stderr.write(f"{fault}\n")

    def environment(self) -> tuple[Environment, int]:
        """As its row says."""
        environment, version = load_state(self.store, Kind.ENVIRONMENT, KEY, Environment)
        assert environment is not None
        return environment, version

    def revision(self, number: int, name: str, planted: dict[str, str]) -> Revision:
        """A revision that serves such a model."""
        model = self.blobs.put_files({"model.py": self.flights.source(name, planted)})
        return Revision(
            environment=KEY,
            number=number,
            version=number,
            model="flights",
            model_digest=model,
            lock=LOCK,
            provenance=signed(self.signing, self.blobs, model),
            format="python",
            replicas=2,
            memory=MEMORY,
            slices=SLICES,
        )

    def begin(self) -> None:
        """The first revision serves."""
        ensure_supervise(self.data)
        self.proxy.start()
        first = self.revision(1, "the first", {})
        environment = Environment(
            name="production", model="flights", stable=first, weights={first.key: 100}, revisions=1
        )
        self.store.save(write_environment(environment, 0, "begun"))
        self.loop.start()
        until = time.monotonic() + 60.0
        while self.proxy.observe(KEY).weights.get(first.key) != 100:
            if time.monotonic() > until:
                raise SystemExit("the first revision does not serve")
            time.sleep(0.05)

    def roll_out(self, name: str, planted: dict[str, str], plan: EnvironmentPlan = CANARY) -> tuple[Rollout, float]:
        """The rollout after its end, and when its verdict was saved (wall seconds)."""
        environment, version = self.environment()
        candidate = self.revision(environment.revisions + 1, name, planted)
        rollout = rollouts.begin(
            candidate.number,
            candidate,
            environment.stable,
            plan,
            release=None,
            now=time.time(),
            baseline=self.plane.baseline(KEY),
        )
        self.store.save(
            write_state(Kind.ROLLOUT, rollout.key, rollout, expected=0, phase=rollout.phase, because=rollout.because),
            write_environment(enter(environment, rollout), version, rollout.because),
        )
        while True:
            time.sleep(0.1)
            row = self.store.load(Kind.ROLLOUT, rollout.key)
            assert row is not None
            if row.phase != "progressing":
                ended, _ = load_state(self.store, Kind.ROLLOUT, rollout.key, Rollout)
                assert ended is not None
                return ended, row.updated

    def settle(self) -> None:
        """Only the stable revision is left."""
        until = time.monotonic() + 60.0
        while time.monotonic() < until:
            stable = self.environment()[0].stable
            seen = self.plane.observe(KEY)
            if stable is not None and set(seen.endpoints) == {stable.key} and len(seen.replicas) == stable.replicas:
                return
            time.sleep(0.1)

    def close(self) -> None:
        """Ends everything."""
        self.over.set()
        if self.loop.ident is not None:
            self.loop.join()
        stop_supervise(self.data)
        self.store.close()


# ---- requests, and what came true


class Load:
    """Requests from a process of their own; each label follows its answer within half a second.

    It is begun before the site is: a fork would keep the locks of files that its loop holds at that moment.
    """

    def __init__(self, address: str, flights: Flights, rate: float) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_ask_on, args=(address, flights, rate, theirs), daemon=True)
        self._process.start()

    def last_begun(self) -> dict[str, float]:
        """By revision when the last request began that it answered (wall seconds)."""
        self._pipe.send("tell")
        told: dict[str, float] = self._pipe.recv()
        return told

    def callers(self) -> tuple[int, list[float]]:
        """Since it was asked last: how many requests failed, and the seconds that the others took."""
        self._pipe.send("callers")
        told: tuple[int, list[float]] = self._pipe.recv()
        return told

    def close(self) -> None:
        """No more requests."""
        self._process.kill()
        self._process.join()


def _ask_on(address: str, flights: Flights, rate: float, pipe: Any) -> None:
    asyncio.run(_ask(address, flights, rate, pipe))


class Connections:
    """Kept-alive connections to one address."""

    def __init__(self, address: str) -> None:
        self._host, self._port = address.removeprefix("http://").split(":")
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, document: dict[str, Any]) -> tuple[bytes, bytes]:
        """The head and the body of the answer."""
        body = json.dumps(document).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: m\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        while self._idle and self._idle[-1][0].at_eof():
            self._idle.pop()[1].close()  # nobody asked by it for minutes, and the proxy closed it
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(self._host, int(self._port))
        writer.write(head + body)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20.0)
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        content = await reader.readexactly(int(length.partition(b":")[2]))
        self._idle.append((reader, writer))
        return answer, content


async def _ask(address: str, flights: Flights, rate: float, pipe: Any) -> None:
    connections = Connections(address)
    begun: dict[str, float] = {}
    labels: list[dict[str, Any]] = []
    took: list[float | None] = []
    mark = f"{time.time():.3f}"

    async def predict(number: int) -> None:
        index = number % len(flights.rows)
        numbers = {"name": "x", "datatype": "FP64", "shape": [1, len(COLUMNS)], "data": flights.rows[index]}
        carrier = {"name": "carrier", "datatype": "BYTES", "shape": [1], "data": [flights.carriers[index]]}
        start = time.time()
        try:
            head, content = await connections.post(
                "/v2/models/flights/infer", {"id": f"{mark}-{number}", "inputs": [numbers, carrier]}
            )
            took.append(time.time() - start if head.startswith(b"HTTP/1.1 200") else None)
            if head.startswith(b"HTTP/1.1 200"):
                revision = json.loads(content)["parameters"]["revision"]
                begun[revision] = max(start, begun.get(revision, 0.0))
                labels.append({"id": f"{mark}-{number}", "label": flights.truth[index]})
        except (OSError, EOFError, TimeoutError, StopIteration):
            took.append(None)

    async def tell_labels() -> None:
        while True:
            await asyncio.sleep(0.5)
            batch, labels[:] = labels[:], []
            if batch:
                await connections.post("/labels/flights/production", {"labels": batch})

    loop = asyncio.get_running_loop()
    tasks = {loop.create_task(tell_labels())}
    due, number = loop.time(), 0
    while True:
        due, number = due + 1.0 / rate, number + 1
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        task = loop.create_task(predict(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if pipe.poll():
            pipe.send(begun if pipe.recv() == "tell" else _taken(took))


def _taken(took: list[float | None]) -> tuple[int, list[float]]:
    """How many failed, and how long the others took; from then on others are counted."""
    answered = [seconds for seconds in took if seconds is not None]
    failed = len(took) - len(answered)
    took.clear()
    return failed, answered


# ---- the story


def play(
    site: Site, load: Load, name: str, planted: dict[str, str], plan: EnvironmentPlan
) -> tuple[bool, float | None]:
    """Whether it was rolled back, and after how many milliseconds the last request to it began."""
    began = time.time()
    load.callers()
    ended, verdict = site.roll_out(name, planted, plan)
    time.sleep(1.0)
    failed, seconds = load.callers()
    last = load.last_begun().get(ended.candidate.key)
    is_back = ended.phase.value == "rolled_back"
    lag = 1000.0 * (last - verdict) if is_back and last is not None else None
    told = "-" if lag is None else f"{lag:.0f}"
    met = f"{failed} | {1000.0 * statistics.quantiles(seconds, n=20)[-1]:.0f}"
    because = textwrap.shorten(ended.because, 140)
    print(f"| {name} | {ended.phase} | {verdict - began:.0f} | {told} | {met} | {because} |")
    sys.stdout.flush()
    site.settle()
    return is_back, lag


def main() -> int:
    """Plays all, and says what was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--strengths", type=int, nargs="*", default=[0, 1], choices=(0, 1))
    parser.add_argument("--good", type=int, default=20)
    parser.add_argument("--only", default="")
    parser.add_argument("--rate", type=float, default=100.0)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--mirror", action="store_const", dest="usual", const=MIRRORED, default=CANARY)
    how.add_argument("--blue-green", action="store_const", dest="usual", const=SWITCHED)
    how.add_argument("--without-slices", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="interlock-bad-"))
    flights = Flights(folder)
    site = Site(folder, flights)
    usual, plans = options.usual, PLANS | ({"one carrier": LONGER} if options.without_slices else {})
    bad = [
        (f"{kind}, {'plain' if strength == 0 else 'less so'}", BAD[kind][strength], plans.get(kind, usual))
        for strength in options.strengths
        for kind in BAD
        if options.only in kind
    ]
    some = dict(enumerate((ON_PROBATION, plans["one carrier"], plans["one carrier"])))
    good: list[tuple[str, dict[str, str], EnvironmentPlan]] = [
        (f"good {number}", {}, some.get(number, usual)) for number in range(options.good)
    ]
    results: dict[bool, list[tuple[str, bool, float | None]]] = {True: [], False: []}
    try:
        load = Load(site.proxy.endpoint(KEY), flights, options.rate)
        site.begin()
        time.sleep(3.0)
        load.callers()
        time.sleep(2.0)
        failed, seconds = load.callers()
        print(
            f"before: {failed} of {len(seconds)} failed, p95 {1000.0 * statistics.quantiles(seconds, n=20)[-1]:.0f} ms"
        )
        print("| candidate | ended | s | last request, ms after | failed | p95, ms | because |")
        print("|---|---|---|---|---|---|---|")
        for is_bad, kinds in ((True, bad), (False, good)):
            for name, planted, plan in kinds:
                results[is_bad].append((name, *play(site, load, name, planted, plan)))
        load.close()
    finally:
        site.close()
        shutil.rmtree(folder, ignore_errors=True)
    found = sum(is_back for _, is_back, _ in results[True])
    wronged = sum(is_back for _, is_back, _ in results[False])
    lags = [lag for _, _, lag in results[True] if lag is not None]
    print(f"bad ones rolled back: {found} of {len(bad)}; good ones: {wronged} of {len(good)}")
    if options.usual is MIRRORED:
        unmet = sum(is_back and lag is None for _, is_back, lag in results[True])
        print(f"bad ones that no caller met: {unmet} of {len(bad)}")
    if lags:
        print(f"last request after the verdict, ms: median {statistics.median(lags):.0f}, most {max(lags):.0f}")
    missed = [name for name, is_back, _ in results[True] if not is_back]
    print(f"not found: {', '.join(missed) or 'none'}")
    return int(found < len(bad) or wronged > 0 or max(lags, default=0.0) > 50.0)


if __name__ == "__main__":
    sys.exit(main())
