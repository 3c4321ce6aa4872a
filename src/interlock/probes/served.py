"""The model as it is really served: start-up, latency, throughput, cost and memory, beside the one in production where
gates compare them.

Both model servers run here, on this machine, at the same time, each in its own Python environment, and get the same
golden requests in turn: see ``serving.lives``. Load at a declared rate is the candidate's alone: ``serving.arrivals``.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .consistency import Ask, measure_consistency, read_outputs, rows_in
from .offline import compare_offline, make_reference, read_holdout
from .serving.arrivals import arrive
from .serving.exporting import export
from .serving.lives import Effort, Requests, begin, read_requests, spend
from .serving.servers import ModelServer, NotServed

LIFE_SECONDS = 12.0
LIVES_SECONDS = 180.0
"""After so long no further life begins: of servers that start slowly there are fewer."""

CONSISTENCY_SECONDS = 6.0
MEBIBYTE = 1024 * 1024


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Measures a candidate, and a baseline in turn with it.

    ``settings``: ``model`` (name, format, path, golden or None, rate or None), ``digest``, ``python`` (of the serving
    environment), ``inference_folder``, ``baseline`` (name, path, format, python, digest; or None), ``lives``, ``pairs``
    (of requests in each life), ``is_pressed`` (whether throughput is measured), ``is_loaded`` (whether latency at the
    rate is), ``offline`` (``predictions`` and ``holdout``, or None), ``export`` (see ``serving.exporting``): measured
    is what would be served, which is the exported model where there is one. The report has ``candidate`` and
    ``baseline``, each with its ``lives`` (see ``serving.lives.spend``; also ``startup_ms`` and ``memory_peak_mb``),
    ``model_size_mb``, ``requests``, ``errors``, ``golden`` and, of the candidate, ``loaded`` (latencies at the rate),
    its ``inputs`` and ``consistency`` (whether a row is answered alike whatever stands beside it, and as predicted
    offline) and ``reference`` (how rows of the holdout lie); and ``export``: how the model was exported, or why not.
    """
    problems: list[dict[str, Any]] = []
    settings = {**settings, "cores": sorted(os.sched_getaffinity(0))}
    golden, exported = settings["model"].get("golden"), export(settings)
    own = {"model": {**settings["model"], "path": exported["path"], "format": exported["format"]}}
    own |= {"python": exported["python"], "digest": exported["digest"]}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interlock-served-")))
        candidate = _Side(stack, folder / "candidate", settings, own)
        sides = [candidate]
        if asked := settings.get("baseline"):
            beside = {"model": {**asked, "golden": _without_answers(golden, folder)}, **asked}
            sides.append(_Side(stack, folder / "baseline", settings, beside))
        until = time.perf_counter() + LIVES_SECONDS
        for number in range(settings["lives"]):
            if time.perf_counter() > until:
                break
            try:
                sides = _live(sides, number, settings, problems)
            except NotServed as failure:
                return _report(False, str(failure), problems, None, None, exported["report"])
        if golden:
            _ask_candidate_alone(candidate, settings)
        else:
            problems.append(_warning("no golden requests: latency was not measured", None))
    baseline = sides[1] if len(sides) > 1 else None
    if golden and baseline is not None and not any(life["latency_ms"] for life in baseline.lives):
        problems.append(_warning(f"{baseline.name} answers none of the golden requests: it is not compared", golden))
        baseline = None
    failed = f", {candidate.errors} of them errors" if candidate.errors else ""
    because = f"{candidate.name} answered {candidate.requests} requests as served{failed}"
    if not golden:
        because = f"{candidate.name} starts and becomes ready"
    because += f"; {exported['report']['because']}" if exported["report"] else ""
    return _report(candidate.errors == 0, because, problems, candidate, baseline, exported["report"])


class _Side:
    """One model: its servers, a new one for each life, and what was measured of them."""

    def __init__(self, stack: ExitStack, folder: Path, settings: dict[str, Any], own: dict[str, Any]) -> None:
        self._stack, self._folder, self._inference = stack, folder, settings["inference_folder"]
        self._model = {"golden": None, **own["model"], "python": own["python"], "digest": own["digest"]}
        folder.mkdir()
        self.name = str(self._model["name"])
        self.servers: list[ModelServer] = []
        self.lives: list[dict[str, Any]] = []
        self.more: dict[str, Any] = {}
        self.golden_checked = 0

    @property
    def requests(self) -> int:
        """How many requests were sent to it."""
        return sum(server.requests for server in self.servers)

    @property
    def errors(self) -> int:
        """How many of them were not answered with 200."""
        return sum(server.errors for server in self.servers)

    def dismiss(self) -> None:
        """Its server is needed no more."""
        if self.servers:
            self.servers[-1].dismiss()

    def renew(self) -> ModelServer:
        """A server for the next life, not started yet; the one of the life before has ended."""
        if self.servers:
            self.servers[-1].stop()
        server = ModelServer(self._folder / str(len(self.servers)), self._inference, self._model)
        self._stack.callback(server.stop)
        self.servers.append(server)
        return server

    def note(self, startup_ms: float, shown: dict[str, Any]) -> None:
        """Keeps what a life showed, and what the server says of itself at its end."""
        stats = self.servers[-1].stats()
        self.lives.append({"startup_ms": startup_ms, "memory_peak_mb": stats.get("memory_peak_mb"), **shown})
        self.golden_checked = stats.get("golden_checked", 0)

    def report(self) -> dict[str, Any]:
        """All of it."""
        return {
            "lives": self.lives,
            "model_size_mb": _size(Path(self._model["path"])) / MEBIBYTE,
            "requests": self.requests,
            "errors": self.errors,
            "golden": {"checked": self.golden_checked, "wrong": []},
            **self.more,
        }


def _live(sides: list[_Side], number: int, settings: dict[str, Any], problems: list[dict[str, Any]]) -> list[_Side]:
    """One life of the sides; answers those that lived, the candidate first. NotServed where that one did not."""
    for side in sides:
        side.dismiss()
    servers = [side.renew() for side in sides]
    started = begin(servers, settings["cores"], number)
    for side, took in zip(sides[1:], started[1:], strict=True):
        if isinstance(took, NotServed):
            problems.append(_warning(f"{side.name} is not compared, it could not be started: {took}", None))
    if isinstance(started[0], NotServed):
        raise started[0]
    living = [(side, took) for side, took in zip(sides, started, strict=True) if not isinstance(took, NotServed)]
    shown: list[dict[str, Any]] = [{"latency_ms": []} for _ in living]
    if settings["model"].get("golden"):
        effort = Effort(settings["pairs"], LIFE_SECONDS, settings["is_pressed"])
        shown = spend([side.servers[-1] for side, _ in living], _requests(settings), effort, number)
    for (side, took), one in zip(living, shown, strict=True):
        side.note(took, one)
    return [side for side, _ in living]


def _ask_candidate_alone(candidate: _Side, settings: dict[str, Any]) -> None:
    """What only the candidate is asked, in its last life: load at the declared rate, whether it is consistent, and
    whether it answers what was predicted offline.
    """
    server, requests = candidate.servers[-1], _requests(settings)
    rate = settings["model"].get("rate")
    if rate and settings["is_loaded"]:
        candidate.more["loaded"] = arrive(server, requests.bodies, rate)
    golden = list(requests.documents)
    names = (str(tensor["name"]) for request in golden for tensor in request["inputs"])
    candidate.more["inputs"] = list(dict.fromkeys(names))
    candidate.more["consistency"] = measure_consistency(golden, _answers(server))
    if settings.get("offline"):
        holdout = read_holdout(settings["offline"], golden)
        candidate.more["consistency"]["offline"] = compare_offline(holdout, _answers(server))
        candidate.more["reference"] = make_reference(holdout, _answers(server))


def _answers(server: ModelServer) -> Ask:
    """The outputs of one request; None where the model does not answer it, or CONSISTENCY_SECONDS are over."""
    until = time.perf_counter() + CONSISTENCY_SECONDS

    def answer(request: dict[str, Any]) -> dict[str, list[Any]] | None:
        content = server.answer(request) if time.perf_counter() < until else None
        return None if content is None else read_outputs(content, rows_in(request))

    return answer


def _without_answers(golden: str | None, folder: Path) -> str | None:
    """The golden requests alone: production may answer otherwise, but is warmed with them as the candidate is."""
    if golden is None:
        return None
    path = folder / "requests.json"
    document = json.loads(Path(golden).read_bytes())
    path.write_text(json.dumps({name: document[name] for name in document.keys() - {"responses"}}), encoding="utf-8")
    return str(path)


def _requests(settings: dict[str, Any]) -> Requests:
    return read_requests(Path(settings["model"]["golden"]).read_bytes())


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _report(
    passed: bool,
    because: str,
    problems: list[dict[str, Any]],
    candidate: _Side | None,
    baseline: _Side | None,
    exported: dict[str, Any] | None,
) -> dict[str, Any]:
    if not passed:
        problems = [{"message": because, "path": None, "line": None, "is_warning": False}, *problems]
    report = {
        "candidate": None if candidate is None else candidate.report(),
        "baseline": None if baseline is None else {**baseline.report(), "name": baseline.name},
        "export": exported,
    }
    return {"passed": passed, "because": because, "problems": problems, "report": report}


def _warning(message: str, path: str | None) -> dict[str, Any]:
    return {"message": message, "path": path, "line": None, "is_warning": True}
