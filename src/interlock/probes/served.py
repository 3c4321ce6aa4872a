"""The model as it is really served: start-up, latency and memory, beside the one in production where there is one.

Both model servers run here, on this machine, at the same time, and get the same golden requests one by one in turn, so
that whatever disturbs one disturbs the other. Closed loop: one connection each, the next request after the answer.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .consistency import measure_consistency, read_outputs, rows_in
from .offline import compare_offline
from .serving.exporting import export

WARM_UP = 50
WALL_SECONDS = 12.0
START_SECONDS = 120.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 30.0
CONSISTENCY_SECONDS = 6.0


class NotServed(Exception):
    """A model server did not become ready; the text is its own last word."""


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Measures a candidate, and a baseline in turn with it.

    ``settings``: ``model`` (name, format, path, golden or None), ``digest``, ``python`` (of the serving environment),
    ``inference_folder``, ``baseline`` (name, path, format, python, digest; or None), ``requests`` (measured in all with
    two servers, 1000 unless said), ``offline`` (``predictions`` and ``holdout``, or None), ``export`` (see
    ``serving.exporting``): measured is what would be served, which is the exported model where there is one. The report
    has ``candidate`` and ``baseline``, each with ``latency_ms`` (a number for each answered request),
    ``memory_peak_mb``, ``requests``, ``errors``, ``startup_ms``, ``golden`` and, of the candidate, its ``inputs`` and
    ``consistency`` (whether a row is answered alike whatever stands beside it); and ``export``: how the model was
    exported, or why not.
    """
    problems: list[dict[str, Any]] = []
    asked, golden = settings["model"], settings["model"].get("golden")
    exported = export(settings)
    model = {**asked, "path": exported["path"], "format": exported["format"]}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interlock-served-")))
        candidate = _Server(folder / "candidate", settings["inference_folder"])
        stack.callback(candidate.stop)
        try:
            candidate.start(model, exported["python"], exported["digest"], golden)
        except NotServed as failure:
            return _report(False, str(failure), problems, None, None, exported["report"])
        baseline = _start_baseline(stack, folder, settings, problems) if golden else None
        servers = [server for server in (candidate, baseline) if server is not None]
        if golden:
            requests = json.loads(Path(golden).read_bytes())["requests"]
            bodies = [json.dumps(request).encode() for request in requests]
            _drive(servers, bodies, (settings.get("requests") or 1000) // 2)
        else:
            problems.append(_warning("no golden requests: latency was not measured", None))
        for server in servers:
            server.read_stats()
        if golden:
            until = time.perf_counter() + CONSISTENCY_SECONDS
            candidate.inputs = [str(tensor["name"]) for tensor in requests[0]["inputs"]]
            candidate.consistency = measure_consistency(requests, lambda request: candidate.answer(request, until))
            if settings.get("offline"):
                until = time.perf_counter() + CONSISTENCY_SECONDS
                candidate.consistency["offline"] = compare_offline(
                    settings["offline"], requests, lambda request: candidate.answer(request, until)
                )
    if baseline is not None and not baseline.latencies:
        problems.append(_warning(f"{baseline.name} answers none of the golden requests: it is not compared", golden))
        baseline = None
    failed = f", {candidate.errors} of them errors" if candidate.errors else ""
    because = f"{model['name']} answered {candidate.requests} requests as served{failed}"
    if not golden:
        because = f"{model['name']} starts and becomes ready"
    because += f"; {exported['report']['because']}" if exported["report"] else ""
    return _report(candidate.errors == 0, because, problems, candidate, baseline, exported["report"])


def _start_baseline(
    stack: ExitStack, folder: Path, settings: dict[str, Any], problems: list[dict[str, Any]]
) -> _Server | None:
    asked = settings.get("baseline")
    if asked is None:
        return None
    server = _Server(folder / "baseline", settings["inference_folder"])
    stack.callback(server.stop)
    try:
        server.start(asked, asked["python"], asked["digest"], None)
    except NotServed as failure:
        problems.append(_warning(f"{asked['name']} is not compared, it could not be started: {failure}", None))
        return None
    return server


class _Server:
    """One model server, its one connection, and what was measured of it."""

    def __init__(self, folder: Path, inference_folder: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._package_parent = Path(inference_folder).resolve().parent.parent
        self._process: subprocess.Popen[bytes] | None = None
        self._connection = _Connection(folder / "socket")
        self._path = ""
        self.name = ""
        self.latencies: list[float] = []
        self.requests = 0
        self.errors = 0
        self.startup_ms = 0.0
        self.stats: dict[str, Any] = {}
        self.consistency: dict[str, Any] = {}
        self.inputs: list[str] = []

    def start(self, model: dict[str, Any], python: str, digest: str, golden: str | None) -> None:
        """Starts it and waits until it is ready. NotServed where that does not happen."""
        self.name = model["name"]
        served_as = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:63] or "model"
        self._path = f"/v2/models/{served_as}/infer"
        command = [python, "-m", "interlock.inference", "--name", served_as, "--socket", "socket", "--digest", digest]
        command += ["--model", str(Path(model["path"]).resolve()), "--format", model["format"]]
        command += ["--golden", str(Path(golden).resolve())] if golden else []
        environment = {**os.environ, "PYTHONPATH": str(self._package_parent), "OMP_NUM_THREADS": "1"}
        began = time.perf_counter()
        with (self._folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(command, cwd=self._folder, env=environment, stdout=stderr, stderr=stderr)
        while not self._is_ready():
            if self._process.poll() is not None:
                raise NotServed(
                    f"the model server ended with exit code {self._process.returncode}: {self._last_word()}"
                )
            if time.perf_counter() - began > START_SECONDS:
                raise NotServed(f"the model server was not ready within {START_SECONDS:.0f} s")
            time.sleep(0.02)
        self.startup_ms = (time.perf_counter() - began) * 1000

    def ask(self, body: bytes) -> None:
        """Sends one request and measures it. An answer that is not 200 is an error and has no latency."""
        began = time.perf_counter()
        status = self._connection.send("POST", self._path, body)[0]
        elapsed = (time.perf_counter() - began) * 1000
        self.requests += 1
        if status == 200:
            self.latencies.append(elapsed)
        else:
            self.errors += 1

    def answer(self, request: dict[str, Any], until: float) -> dict[str, list[Any]] | None:
        """The outputs of one request, which counts nowhere; None where the model does not answer it, or time is up."""
        if time.perf_counter() > until:
            return None
        status, content = self._connection.send("POST", self._path, json.dumps(request).encode())
        return read_outputs(content, rows_in(request)) if status == 200 else None

    def read_stats(self) -> None:
        """Asks the server about itself."""
        status, content = self._connection.send("GET", "/interlock/stats", None)
        self.stats = json.loads(content) if status == 200 else {}

    def forget(self) -> None:
        """What came before was the warm-up; only its errors stay."""
        self.latencies.clear()

    def stop(self) -> None:
        """Ends the server gently, and at last surely."""
        self._connection.close()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        return (self._folder / "socket").exists() and self._connection.send("GET", "/v2/health/ready", None)[0] == 200

    def _last_word(self) -> str:
        lines = (self._folder / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else "it said nothing"


class _Connection:
    """One kept-alive connection to a Unix socket; made again where it broke."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._http = http.client.HTTPConnection("model", timeout=ANSWER_SECONDS)

    def send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Status and body of the answer; status 0 where there was none."""
        try:
            if self._http.sock is None:
                self._connect()
            self._http.request(method, path, body)
            answer = self._http.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._http.close()
            return 0, b""

    def _connect(self) -> None:
        self._http.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._http.sock.settimeout(ANSWER_SECONDS)
        # A socket's path may have 107 bytes; this one is short however deep the folder lies.
        folder = os.open(self._path.parent, os.O_PATH)
        try:
            self._http.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)

    def close(self) -> None:
        """Closes it; sending again would open it again."""
        self._http.close()


def _drive(servers: list[_Server], bodies: list[bytes], each: int) -> None:
    """The warm-up, then ``each`` requests to every server in turn, the first one alternating; fewer if time is up."""
    deadline = time.perf_counter() + WALL_SECONDS
    # A slow model warms up for a quarter of the time at most, so that most of it is left to measure.
    warm_until = time.perf_counter() + WALL_SECONDS / 4
    endless = itertools.cycle(bodies)
    for number in range(WARM_UP):
        _ask_all(servers, next(endless), number)
        if time.perf_counter() > warm_until:
            break
    for server in servers:
        server.forget()
    for number in range(each):
        _ask_all(servers, next(endless), number)
        if time.perf_counter() > deadline:
            break


def _ask_all(servers: list[_Server], body: bytes, number: int) -> None:
    for server in servers if number % 2 == 0 else reversed(servers):
        server.ask(body)


def _report(
    passed: bool,
    because: str,
    problems: list[dict[str, Any]],
    candidate: _Server | None,
    baseline: _Server | None,
    exported: dict[str, Any] | None,
) -> dict[str, Any]:
    if not passed:
        problems = [{"message": because, "path": None, "line": None, "is_warning": False}, *problems]
    report = {
        "candidate": None if candidate is None else _measured(candidate),
        "baseline": None if baseline is None else {**_measured(baseline), "name": baseline.name},
        "export": exported,
    }
    return {"passed": passed, "because": because, "problems": problems, "report": report}


def _measured(server: _Server) -> dict[str, Any]:
    return {
        "latency_ms": server.latencies,
        "memory_peak_mb": server.stats.get("memory_peak_mb"),
        "requests": server.requests,
        "errors": server.errors,
        "startup_ms": server.startup_ms,
        "inputs": server.inputs,
        "consistency": server.consistency,
        "golden": {"checked": server.stats.get("golden_checked", 0), "wrong": []},
    }


def _warning(message: str, path: str | None) -> dict[str, Any]:
    return {"message": message, "path": path, "line": None, "is_warning": True}
