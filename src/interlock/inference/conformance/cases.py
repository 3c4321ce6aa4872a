"""What a server of the protocol has to do, case by case. A case returns what is wrong, or None.

Sources: open inference protocol (REST) and its binary tensor data extension; what tritonclient, KServe's client and the
generated clients insist on where the text leaves it open (both words in ``/v2/health/ready``, an empty repository
body).
"""

from __future__ import annotations

import copy
import gzip
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from ..protocol.tensors import FLOATS, INTEGERS, to_bytes
from .asking import Answered, Target

Case = Callable[[Target, dict[str, Any]], str | None]

DEEP = b'{"inputs":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


def make_request(metadata: Any) -> dict[str, Any]:
    """A request of one row that fits the model's metadata: ones, true and texts."""
    entries = []
    for entry in metadata["inputs"]:
        shape = [size if size > 0 else 1 for size in entry["shape"]]
        count = int(np.prod(shape))
        value: object = {"BOOL": True, "BYTES": "1"}.get(entry["datatype"], 1)
        entries.append({**entry, "shape": shape, "data": [value] * count})
    return {"inputs": [{key: entry[key] for key in ("name", "datatype", "shape", "data")} for entry in entries]}


def all_cases() -> dict[str, Case]:
    """Every case by what it says of the server."""
    cases: dict[str, Case] = {
        "GET /v2 and /v2/ tell name, version and extensions": _server_metadata,
        "GET /v2/health/live and ready answer 200 with JSON": _health,
        "model metadata tells inputs and outputs": _model_metadata,
        "model readiness answers 200": _model_ready,
        "an inference request in JSON": _infers,
        "the request's id comes back": _echoes_id,
        "nested data mean what flat data do": _takes_nested,
        "only the outputs that are asked for": _selects_outputs,
        "binary inputs": _takes_binary,
        "binary outputs, all of them or one": _gives_binary,
        "gzip and deflate of the request": _takes_packed,
        "gzip and deflate of the answer, where asked for": _gives_packed,
        "POST /v2/repository/index, also with an empty body": _repository_index,
    }
    for name, hostile in _HOSTILE.items():
        cases[f"4xx and words for: {name}"] = _refuses(hostile)
    cases["a right answer after all that"] = _infers
    return cases


def _error(answered: Answered) -> str | None:
    value = answered.value
    if not 400 <= answered.status < 500:
        return f"answered with {answered.status}"
    if not isinstance(value, dict) or not isinstance(value.get("error"), str) or not value["error"]:
        return f'{answered.status} without {{"error": text}}'
    return None


def _outputs(answered: Answered) -> Any:
    """The outputs by name; a text that says why there are none."""
    value = answered.value
    if answered.status != 200 or not isinstance(value, dict) or not value.get("outputs"):
        return f"answered with {answered.status}: {answered.body[:200]!r}"
    for output in value["outputs"]:
        if not {"name", "datatype", "shape", "data"} <= output.keys():
            return f"an output has only {sorted(output)}"
        if int(np.prod(output["shape"])) != np.ravel(np.array(output["data"], dtype=object)).size:
            return f"{output['name']} has the shape {output['shape']} and other data"
    return {output["name"]: output["data"] for output in value["outputs"]}


def _same(target: Target, request: dict[str, Any], answered: Answered) -> str | None:
    """Whether the answer holds what the plain request is answered with."""
    expected, found = _outputs(target.send(request)), _outputs(answered)
    if isinstance(found, str):
        return found
    return None if found == expected else f"answered {found}, to the plain request {expected}"


def _server_metadata(target: Target, _: dict[str, Any]) -> str | None:
    for path in ("/v2", "/v2/"):
        answered = target.ask("GET", path)
        if answered.status != 200 or not {"name", "version"} <= (answered.value or {}).keys():
            return f"{path}: {answered.status} {answered.body[:100]!r}"
    return None


def _health(target: Target, _: dict[str, Any]) -> str | None:
    for path, word in (("live", "live"), ("ready", "ready")):
        answered = target.ask("GET", f"/v2/health/{path}")
        if answered.status != 200 or (answered.value or {}).get(word) is not True:
            return f"{path}: {answered.status} {answered.body[:100]!r}"
    return None


def _model_metadata(target: Target, _: dict[str, Any]) -> str | None:
    value = target.ask("GET", f"/v2/models/{target.model}").value or {}
    missing = {"name", "platform", "inputs", "outputs"} - value.keys()
    return f"without {sorted(missing)}" if missing else None


def _model_ready(target: Target, _: dict[str, Any]) -> str | None:
    answered = target.ask("GET", f"/v2/models/{target.model}/ready")
    return None if answered.status == 200 else f"answered with {answered.status}"


def _infers(target: Target, request: dict[str, Any]) -> str | None:
    answered = target.send(request)
    found = _outputs(answered)
    if isinstance(found, str):
        return found
    return (
        None if answered.value.get("model_name") == target.model else f"model_name {answered.value.get('model_name')}"
    )


def _echoes_id(target: Target, request: dict[str, Any]) -> str | None:
    found = (target.send({**request, "id": "conformance-7"}).value or {}).get("id")
    return None if found == "conformance-7" else f"the id came back as {found!r}"


def _takes_nested(target: Target, request: dict[str, Any]) -> str | None:
    nested = copy.deepcopy(request)
    for entry in nested["inputs"]:
        flat = np.array(entry["data"], dtype=object)
        entry["data"] = flat.reshape(entry["shape"]).tolist()
    return _same(target, request, target.send(nested))


def _selects_outputs(target: Target, request: dict[str, Any]) -> str | None:
    outputs = _outputs(target.send(request))
    if isinstance(outputs, str):
        return outputs
    name = min(outputs)
    found = _outputs(target.send({**request, "outputs": [{"name": name}]}))
    return None if not isinstance(found, str) and list(found) == [name] else f"asked for {name}, answered {found}"


def binary_of(request: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The request with its inputs in binary, as tritonclient writes it: body and headers."""
    content, tensors = copy.deepcopy(request), []
    for entry in content["inputs"]:
        dtype: np.dtype[Any] = {**INTEGERS, **FLOATS, "BOOL": np.dtype(bool)}.get(entry["datatype"], np.dtype(object))
        tensors.append(to_bytes(np.array(entry.pop("data"), dtype=dtype)))
        entry["parameters"] = {"binary_data_size": len(tensors[-1])}
    text = orjson.dumps(content)
    headers = {"inference-header-content-length": str(len(text)), "content-type": "application/octet-stream"}
    return b"".join((text, *tensors)), headers


def _takes_binary(target: Target, request: dict[str, Any]) -> str | None:
    body, headers = binary_of(request)
    return _same(target, request, target.ask("POST", target.infer, body, headers))


def _gives_binary(target: Target, request: dict[str, Any]) -> str | None:
    outputs = _outputs(target.send(request))
    if isinstance(outputs, str):
        return outputs
    name = min(outputs)
    one = {"outputs": [{"name": name, "parameters": {"binary_data": True}}]}
    for wish in ({"parameters": {"binary_data_output": True}}, one):
        answered = target.send({**request, **wish})
        length = answered.headers.get("inference-header-content-length", "")
        if answered.status != 200 or not length.isdigit():
            return f"{answered.status} without inference-header-content-length"
        told = orjson.loads(answered.body[: int(length)])["outputs"]
        sizes = sum(output["parameters"]["binary_data_size"] for output in told)
        if sizes != len(answered.body) - int(length):
            return f"binary_data_size adds up to {sizes} of {len(answered.body) - int(length)} bytes"
    return None


def _takes_packed(target: Target, request: dict[str, Any]) -> str | None:
    text = orjson.dumps(request)
    for name, packed in (("gzip", gzip.compress(text)), ("deflate", zlib.compress(text))):
        answered = target.ask("POST", target.infer, packed, {"content-encoding": name})
        if wrong := _same(target, request, answered):
            return f"{name}: {wrong}"
    return None


def _gives_packed(target: Target, request: dict[str, Any]) -> str | None:
    for name, unpack in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        answered = target.send(request, {"accept-encoding": name})
        used = answered.headers.get("content-encoding", "identity")
        if used not in (name, "identity"):
            return f"asked for {name}, answered with {used}"
        body = unpack(answered.body) if used == name else answered.body
        if wrong := _same(target, request, answered._replace(body=body)):
            return f"{name}: {wrong}"
    return None


def _repository_index(target: Target, _: dict[str, Any]) -> str | None:
    for body in (None, b"{}", b'{"ready":true}'):
        answered = target.ask("POST", "/v2/repository/index", body)
        names = [entry.get("name") for entry in answered.value or () if isinstance(entry, dict)]
        if answered.status != 200 or target.model not in names:
            return f"body {body!r}: {answered.status} {answered.body[:100]!r}"
    return None


def _refuses(hostile: Callable[[Target, dict[str, Any]], Answered]) -> Case:
    return lambda target, request: _error(hostile(target, request))


def _with(**changed: object) -> Callable[[Target, dict[str, Any]], Answered]:
    """The request with its first input changed."""

    def send(target: Target, request: dict[str, Any]) -> Answered:
        first, *others = request["inputs"]
        return target.send({"inputs": [{**first, **changed}, *others]})

    return send


def _raw(body: bytes, **headers: str) -> Callable[[Target, dict[str, Any]], Answered]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda target, _: target.ask("POST", target.infer, body, named)


def _lying_size(target: Target, request: dict[str, Any]) -> Answered:
    body, headers = binary_of(request)
    return target.ask("POST", target.infer, body[:-1], headers)


_HOSTILE: dict[str, Callable[[Target, dict[str, Any]], Answered]] = {
    "a body that is no JSON": _raw(b"hello"),
    "no inputs": _raw(b"{}"),
    "a list": _raw(b"[]"),
    "JSON nested 10,000 deep": _raw(DEEP),
    "NaN in JSON": _raw(b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1],"data":[NaN]}]}'),
    "a shape that differs from the data": _with(shape=[3, 7, 11]),
    "a shape that overflows": _with(shape=[2**31, 2**31]),
    "a negative shape": _with(shape=[-1]),
    "a shape of texts": _with(shape=["1"]),
    "a datatype that there is not": _with(datatype="FP128"),
    "FP16 in JSON": _with(datatype="FP16"),
    "data of another kind": _with(data={"a": 1}),
    "a name of another kind": _with(name=7),
    "a header length beyond the body": _raw(b"{}", inference_header_content_length="100"),
    "a header length that is no number": _raw(b"{}", inference_header_content_length="-1"),
    "binary data that are too short": _lying_size,
    "a body that is no gzip": _raw(b"hello", content_encoding="gzip"),
    "a gzip bomb": _raw(gzip.compress(bytes(64 << 20)), content_encoding="gzip"),
    "an unknown model": lambda target, request: target.ask(
        "POST", "/v2/models/no-such-model/infer", orjson.dumps(request)
    ),
    "an unknown version": lambda target, request: target.ask(
        "POST", f"/v2/models/{target.model}/versions/987654/infer", orjson.dumps(request)
    ),
    "an unknown path": lambda target, _: target.ask("GET", "/v2/nothing-here"),
}
