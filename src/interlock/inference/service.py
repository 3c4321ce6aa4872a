"""The V2 inference protocol over one model: what is answered at which path.

Every answer names the revision (header ``x-interlock-revision``; in an inference response also ``parameters``), and
every one that is not 200 is ``{"error": text}``.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from .inputs import Array, Batch, InvalidRequest, Signature, describe, read_id
from .model import Model
from .predictions import FLUSH_SECONDS, PredictionLog
from .wire import Answer, Request, UnreadableBody, refusal

QUICK_SECONDS = 0.005
MOST_WAITING = 256
LONGEST_REASON = 500

Route = Callable[[Request], "Answer | Awaitable[Answer]"]


@dataclass(frozen=True)
class Served:
    """What is served, as the command line said."""

    name: str
    version: str
    revision: str
    digest: str
    format: str


class ModelService:
    """Answers for one model. ``golden`` counts the golden requests that were answered before it began to serve."""

    def __init__(
        self,
        served: Served,
        model: Model,
        signature: Signature,
        *,
        outputs: dict[str, Array],
        golden: int,
        log: PredictionLog | None,
    ) -> None:
        self._served = served
        self._model = model
        self._signature = signature
        self._outputs = outputs
        self._golden = golden
        self._log = log
        self._flushing: asyncio.Task[None] | None = None
        self._is_ready = True
        self._began = time.monotonic()
        self._requests = self._errors = 0
        # One thread asks the model; quick answers are given without it, for the hop costs as much as they do.
        self._thread = ThreadPoolExecutor(1, "model")
        self._waiting = 0
        self._row_seconds = QUICK_SECONDS  # until it is known: not quick
        self._headers = (("x-interlock-revision", served.revision),)
        self._parameters = {"revision": served.revision, "digest": served.digest}
        self._routes = self._make_routes()

    def fail_readiness(self) -> None:
        """From now on the health endpoint says not ready."""
        self._is_ready = False

    async def answer(self, request: Request) -> Answer:
        """Answers one request."""
        route = self._routes.get(request.path)
        if route is None:
            status, body, headers = self._unknown(request.path)
        elif request.method not in route:
            allowed = ", ".join(route)
            status, body, headers = refusal(405, f"{request.method} is not for {request.path}", ("allow", allowed))
        else:
            outcome = route[request.method](request)
            status, body, headers = outcome if isinstance(outcome, Answer) else await outcome
        return Answer(status, body, headers + self._headers)

    def _make_routes(self) -> dict[str, dict[str, Route]]:
        routes: dict[str, dict[str, Route]] = {
            "/v2/health/live": {"GET": lambda _: _json({"live": True})},
            "/v2/health/ready": {"GET": self._tell_ready},
            "/v2/repository/index": {"POST": self._tell_index},
            "/interlock/stats": {"GET": self._tell_stats},
        }
        server = _json({"name": "interlock", "version": "1", "extensions": ["model_repository"]})
        for path in ("/v2", "/v2/"):
            routes[path] = {"GET": lambda _: server}
        model = f"/v2/models/{self._served.name}"
        for path in (model, f"{model}/versions/{self._served.version}"):
            routes[path] = {"GET": self._tell_model}
            routes[f"{path}/ready"] = {"GET": self._tell_model_ready}
            routes[f"{path}/infer"] = {"POST": self._infer}
        return routes

    def _unknown(self, path: str) -> Answer:
        parts = path.split("/")
        if parts[:3] == ["", "v2", "models"] and len(parts) > 3:
            if parts[3] != self._served.name:
                return refusal(404, f"model {parts[3][:100]!r} is not served here, {self._served.name!r} is")
            if len(parts) > 5 and parts[4] == "versions" and parts[5] != self._served.version:
                return refusal(404, f"version {parts[5][:100]!r} is not served here, {self._served.version!r} is")
        if parts[:4] == ["", "v2", "repository", "models"]:
            return refusal(404, "models are not loaded or unloaded by requests")
        return refusal(404, f"there is nothing at {path[:200]!r}")

    def _tell_ready(self, _: Request) -> Answer:
        if not self._is_ready:
            return refusal(503, "the server is stopping", ("retry-after", "1"))
        return _json({"live": True, "ready": True})

    def _tell_model_ready(self, _: Request) -> Answer:
        if not self._is_ready:
            return refusal(503, "the server is stopping", ("retry-after", "1"))
        return _json({"name": self._served.name, "ready": True})

    def _tell_model(self, _: Request) -> Answer:
        return _json(
            {
                "name": self._served.name,
                "versions": [self._served.version],
                "platform": f"python_{self._served.format}",
                "inputs": self._signature.metadata(),
                "outputs": [
                    {"name": name, "datatype": describe(array), "shape": [-1, *array.shape[1:]]}
                    for name, array in self._outputs.items()
                ],
                "parameters": self._parameters,
            }
        )

    async def _tell_index(self, request: Request) -> Answer:
        try:
            content = await request.read()
            asked = orjson.loads(content) if content else {}
        except UnreadableBody as wrong:
            return refusal(wrong.status, str(wrong))
        except orjson.JSONDecodeError as wrong:
            return refusal(400, str(wrong))
        state = {
            "name": self._served.name,
            "version": self._served.version,
            "state": "READY" if self._is_ready else "UNAVAILABLE",
            "reason": "" if self._is_ready else "the server is stopping",
        }
        only_ready = isinstance(asked, dict) and asked.get("ready") is True
        return _json([state] if self._is_ready or not only_ready else [])

    def _tell_stats(self, _: Request) -> Answer:
        memory = read_memory()
        return _json(
            {
                "requests": self._requests,
                "errors": self._errors,
                "memory_peak_mb": memory["VmHWM"],
                "memory_mb": memory["VmRSS"],
                "uptime_s": time.monotonic() - self._began,
                "golden_checked": self._golden,
                "log_lost": self._log.lost if self._log else 0,
                **self._parameters,
            }
        )

    async def _infer(self, request: Request) -> Answer:
        identity = request.header("x-request-id") or str(uuid.uuid4())
        rows, outputs = 0, {}
        try:
            document = await _read_document(request)
            identity = read_id(document) or identity
            batch = self._signature.read(document)
            rows = batch.rows
            if batch.wanted and (unknown := batch.wanted - self._model.outputs):
                raise InvalidRequest(f"the model has no output {min(unknown)!r}")
            if self._waiting >= MOST_WAITING:
                answer = refusal(503, "too many requests are waiting", ("retry-after", "1"))
            else:
                outputs = await self._ask(batch)
                answer = self._respond(identity, outputs)
        except (InvalidRequest, orjson.JSONDecodeError) as wrong:
            answer = refusal(400, str(wrong))
        except UnreadableBody as wrong:
            answer = refusal(wrong.status, str(wrong))
        except Exception as fault:  # noqa: BLE001 - the model's own code may raise anything; it is the answer
            answer = refusal(500, f"{type(fault).__name__}: {fault}"[:LONGEST_REASON])
        self._requests += 1
        self._errors += answer.status >= 500
        self._note(identity, rows, outputs, answer.status)
        return answer

    async def _ask(self, batch: Batch) -> dict[str, Array]:
        """Asks the model: at once where that will be quick and nothing waits, else in its thread."""
        if not self._waiting and batch.rows * self._row_seconds < QUICK_SECONDS:
            return self._ask_timed(batch)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask_timed, batch)
        finally:
            self._waiting -= 1

    def _ask_timed(self, batch: Batch) -> dict[str, Array]:
        began = time.perf_counter()
        try:
            return self._model.answer(batch)
        finally:
            self._row_seconds = (time.perf_counter() - began) / batch.rows

    def _respond(self, identity: str, outputs: dict[str, Array]) -> Answer:
        return _json(
            {
                "model_name": self._served.name,
                "model_version": self._served.version,
                "id": identity,
                "parameters": self._parameters,
                "outputs": [
                    {"name": name, "datatype": describe(array), "shape": array.shape, "data": _flat(array)}
                    for name, array in outputs.items()
                ],
            }
        )

    def _note(self, identity: str, rows: int, outputs: dict[str, Array], status: int) -> None:
        if self._log is None:
            return
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(_flush_always(self._log))
        self._log.append(
            {
                "id": identity,
                "time": time.time(),
                **self._parameters,
                "rows": rows,
                "prediction": _listed(outputs.get("prediction")),
                "probability": _listed(outputs.get("probability")),
                "status": status,
            }
        )


def read_memory() -> dict[str, float]:
    """This process's memory in MB: ``VmHWM`` at its highest, ``VmRSS`` now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmHWM", "VmRSS")}


async def _read_document(request: Request) -> object:
    for header in ("inference-header-content-length", "content-encoding"):
        if request.header(header):
            raise InvalidRequest(f"{header} is not supported: send plain JSON")
    return orjson.loads(await request.read())


async def _flush_always(log: PredictionLog) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        log.flush()


def _json(value: Any) -> Answer:
    return Answer(200, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def _flat(array: Array) -> Any:
    return array.ravel().tolist() if array.dtype == object else array.ravel()


def _listed(array: Array | None) -> Any:
    return array.tolist() if array is not None and array.dtype == object else array
