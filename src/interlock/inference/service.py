"""The V2 inference protocol over one model: what is answered at which path.

Every answer names the revision (header ``x-interlock-revision``; in an inference response also ``parameters``), and
every one that is not 200 is ``{"error": text}``.

A request may say by when it wants its answer: ``x-request-timeout-ms``, or what Envoy tells of its own time limit,
``x-envoy-expected-rq-timeout-ms``. One that cannot be answered by then is refused with 504, at once where that is
known.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from .batching.asking import Asking, Overloaded, TooLate
from .batching.warming import Learnt
from .inputs import Batch, Signature, read_id
from .model import Model
from .observing.observer import Observer
from .predictions import FLUSH_SECONDS, PredictionLog
from .protocol.answers import Answer, as_json, read_form, refusal, respond
from .protocol.bodies import SMALLEST_PACKED, UnreadableBody, choose_encoding, pack, part, unpack
from .protocol.tensors import Array, InvalidRequest, describe, is_extreme
from .slices import Slices
from .wire.connection import Rest
from .wire.reading import Request

LONGEST_REASON = 500
LONG_WORK = 64 * 1024
"""From this length on a body is packed and unpacked beside the event loop."""
DEADLINE_HEADERS = ("x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms")
COPIED_HEADER = "x-interlock-mirrored"
"""The proxy's mark of a request that was copied, and of its copy: the revision that was given the copy."""
ATTEMPT_HEADER = "x-envoy-attempt-count"
TELLING = frozenset(
    name.encode()
    for name in (
        *DEADLINE_HEADERS, COPIED_HEADER, "x-request-id",
        "content-encoding", "accept-encoding", "inference-header-content-length"
    )
)  # fmt: skip
EXTENSIONS = ["binary_tensor_data", "model_repository"]

Route = Callable[[Request], "Answer | Rest"]


@dataclass(frozen=True)
class Served:
    """What is served, as the command line said."""

    name: str
    version: str
    revision: str
    digest: str
    format: str


class Wishes(NamedTuple):
    """What the headers of a request say. ``deadline`` is on ``time.monotonic``; a text that is not there is empty."""

    deadline: float
    identity: str
    encoding: str
    accepted: str
    json_length: str | None
    copied_to: str


PLAIN = Wishes(math.inf, "", "", "", None, "")


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
        learnt: Learnt,
        latency_limit: float,
        log: PredictionLog | None,
        observer: Observer | None = None,
        slices: Slices | None = None,
    ) -> None:
        self._served = served
        self._model = model
        self._signature = signature
        self._outputs = outputs
        self._golden = golden
        self._log = log
        self._observer = observer
        self._slices = slices
        self._flushing: asyncio.Task[None] | None = None
        self._is_ready = True
        self._began = time.monotonic()
        self._requests = self._errors = 0
        self._learnt = learnt
        self._asking = Asking(self._ask_model, learnt.curve, may_merge=learnt.may_merge, limit=latency_limit)
        self.headers: tuple[tuple[str, str], ...] = (("x-interlock-revision", served.revision),)
        self._parameters = {"revision": served.revision, "digest": served.digest}
        self._head = {"model_name": served.name, "model_version": served.version}
        # Ids of requests that bring none: unlike those of other processes, and counted.
        self._identities = map(f"{os.urandom(12).hex()}-{{:x}}".format, count())
        self._routes = self._make_routes()

    def fail_readiness(self) -> None:
        """From now on the health endpoint says not ready."""
        self._is_ready = False

    def close(self) -> None:
        """Nothing is answered any more: the log is written to its end."""
        if self._log is not None:
            self._log.close()

    def answer(self, request: Request) -> Answer | Rest:
        """The answer to one request, or what is left to do for it."""
        # Most requests name a path just as it is: there is nothing to decode.
        route = self._routes.get(request.url) or self._routes.get(request.path.encode())
        if route is None:
            return self._unknown(request.path)
        if request.method not in route:
            return refusal(405, f"{request.method} is not for {request.path}", ("allow", ", ".join(route)))
        return route[request.method](request)

    def _make_routes(self) -> dict[bytes, dict[str, Route]]:
        routes: dict[str, dict[str, Route]] = {
            "/v2/health/live": {"GET": lambda _: as_json({"live": True})},
            "/v2/health/ready": {"GET": self._tell_ready},
            "/v2/repository/index": {"POST": self._tell_index},
            "/interlock/stats": {"GET": self._tell_stats},
            "/interlock/observed": {"GET": self._tell_observed},
        }
        server = as_json({"name": "interlock", "version": "1", "extensions": EXTENSIONS})
        for path in ("/v2", "/v2/"):
            routes[path] = {"GET": lambda _: server}
        model = f"/v2/models/{self._served.name}"
        for path in (model, f"{model}/versions/{self._served.version}"):
            routes[path] = {"GET": self._tell_model}
            routes[f"{path}/ready"] = {"GET": self._tell_model_ready}
            routes[f"{path}/infer"] = {"POST": self._infer}
        return {path.encode(): route for path, route in routes.items()}

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
        return as_json({"live": True, "ready": True})

    def _tell_model_ready(self, _: Request) -> Answer:
        if not self._is_ready:
            return refusal(503, "the server is stopping", ("retry-after", "1"))
        return as_json({"name": self._served.name, "ready": True})

    def _tell_model(self, _: Request) -> Answer:
        return as_json(
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

    def _tell_index(self, request: Request) -> Answer:
        try:
            content = request.read()
            asked = part(content, None).content if content else {}
        except (UnreadableBody, InvalidRequest) as wrong:
            return explain(wrong)
        state = {
            "name": self._served.name,
            "version": self._served.version,
            "state": "READY" if self._is_ready else "UNAVAILABLE",
            "reason": "" if self._is_ready else "the server is stopping",
        }
        only_ready = isinstance(asked, dict) and asked.get("ready") is True
        return as_json([state] if self._is_ready or not only_ready else [])

    def _tell_stats(self, _: Request) -> Answer:
        memory = read_memory()
        return as_json(
            {
                "requests": self._requests,
                "errors": self._errors,
                "memory_peak_mb": memory["VmHWM"],
                "memory_mb": memory["VmRSS"],
                "uptime_s": time.monotonic() - self._began,
                "golden_checked": self._golden,
                "log_lost": self._log.lost if self._log else 0,
                "batching": self._tell_batching(),
                **self._parameters,
            }
        )

    def _tell_observed(self, _: Request) -> Answer:
        if self._observer is None:
            return refusal(404, "this model is served without a reference: nothing is counted")
        return as_json(self._observer.tell())

    def _tell_batching(self) -> dict[str, object]:
        asking = self._asking
        return {
            "most_rows": asking.most_rows,
            "because": self._learnt.because,
            "calls": asking.calls,
            "merged": asking.merged,
            "fixed_ms": asking.curve.fixed * 1000,
            "row_ms": asking.curve.each * 1000,
        }

    async def _infer(self, request: Request) -> Answer:
        identity, rows, outputs = "", 0, {}
        copy: dict[str, object] = {}
        sliced: dict[str, object] = {}
        try:
            # Most requests bring none of these headers, and to look for each takes longer than a small model does.
            wishes = PLAIN if TELLING.isdisjoint(request.headers) else read_wishes(request.header, time.monotonic())
            identity = wishes.identity or next(self._identities)
            body = request.read()
            if wishes.copied_to:
                copy = {"copied_to": wishes.copied_to, "request": wishes.identity, "asked": zlib.crc32(body)}
                copy["attempt"] = request.header(ATTEMPT_HEADER)
            if wishes.encoding:
                body = await _beside(body, unpack, wishes.encoding)
            content, binary, may_hold_booleans = part(body, wishes.json_length)
            identity = read_id(content) or identity
            batch = self._signature.read(content, binary, may_hold_booleans=may_hold_booleans)
            rows = batch.rows
            if batch.wanted and (unknown := batch.wanted - self._model.outputs):
                raise InvalidRequest(f"the model has no output {min(unknown)!r}")
            form = read_form(content)
            found = self._asking.ask_at_once(batch)
            outputs = await self._asking.ask(batch, wishes.deadline) if found is None else found
            if self._observer is not None:
                self._observer.note(rows, batch.arrays, outputs)
            if self._slices is not None and (found_in := self._slices.of(rows, batch.arrays)):
                sliced = {"slices": found_in}
            answer = respond({**self._head, "id": identity, "parameters": self._parameters}, outputs, form)
            if wishes.accepted and len(answer.body) >= SMALLEST_PACKED:
                answer = await _packed(answer, wishes.accepted)
        except Exception as fault:  # noqa: BLE001 - the model's own code may raise anything; it is the answer
            answer = explain(fault)
        self._requests += 1
        self._errors += answer.status >= 500
        if self._log is not None:
            self._note(self._log, {"id": identity, **copy, **sliced}, rows, outputs, answer.status)
        return answer

    def _ask_model(self, batch: Batch) -> dict[str, Array]:
        """What the model answers. InvalidRequest where it refuses values that many a model refuses."""
        try:
            return self._model.answer(batch)
        except (ValueError, TypeError) as fault:
            if not isinstance(fault, InvalidRequest) and any(map(is_extreme, batch.arrays.values())):
                raise InvalidRequest(f"the model does not take missing or extreme values: {fault}") from fault
            raise

    def _note(
        self, log: PredictionLog, names: dict[str, object], rows: int, outputs: dict[str, Array], status: int
    ) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(_flush_always(log))
        log.append(
            {
                **names,
                "time": time.time(),
                **self._parameters,
                "rows": rows,
                "prediction": _listed(outputs.get("prediction")),
                "probability": _listed(outputs.get("probability")),
                "status": status,
            }
        )
        if names.get("copied_to") == self._served.revision:
            log.flush()  # nobody waits for it, and what a process that is killed has not written is taken for no answer


def read_memory() -> dict[str, float]:
    """This process's memory in MB: ``VmHWM`` at its highest, ``VmRSS`` now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmHWM", "VmRSS")}


def read_wishes(header: Callable[[str], str | None], now: float) -> Wishes:
    """What the headers ask for. InvalidRequest where a time is no number of milliseconds."""
    deadline = math.inf
    for name in DEADLINE_HEADERS:
        if (text := header(name)) is not None:
            if not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
                raise InvalidRequest(f"{name} must be a whole number of milliseconds")
            if int(text):  # 0 is Envoy's word for no limit
                deadline = min(deadline, now + int(text) / 1000)
    return Wishes(
        deadline,
        header("x-request-id") or "",
        header("content-encoding") or "",
        header("accept-encoding") or "",
        header("inference-header-content-length"),
        header(COPIED_HEADER) or "",
    )


def explain(fault: Exception) -> Answer:
    """The answer to a request that could not be answered: whose fault that is, and what to do."""
    if isinstance(fault, InvalidRequest):
        return refusal(400, str(fault)[:LONGEST_REASON])
    if isinstance(fault, UnreadableBody):
        return refusal(fault.status, str(fault), *((("retry-after", "1"),) if fault.status == 503 else ()))
    if isinstance(fault, Overloaded):
        return refusal(503, str(fault), ("retry-after", str(max(1, math.ceil(fault.seconds)))))
    if isinstance(fault, TooLate):
        return refusal(504, f"not answered in time: {fault}")
    return refusal(500, f"{type(fault).__name__}: {fault}"[:LONGEST_REASON])


async def _beside(body: bytes, work: Callable[[bytes, str], bytes], encoding: str) -> bytes:
    if len(body) < LONG_WORK:
        return work(body, encoding)
    return await asyncio.to_thread(work, body, encoding)


async def _packed(answer: Answer, accepted: str) -> Answer:
    if (encoding := choose_encoding(accepted)) is None:
        return answer
    packed = await _beside(answer.body, pack, encoding)
    return Answer(answer.status, packed, (*answer.headers, ("content-encoding", encoding), ("vary", "accept-encoding")))


async def _flush_always(log: PredictionLog) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        log.flush()


def _listed(array: Array | None) -> Any:
    return array.tolist() if array is not None and array.dtype == object else array
