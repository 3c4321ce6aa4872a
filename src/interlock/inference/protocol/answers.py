"""Answers to inference requests: outputs as JSON, binary, or some so and some so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from .tensors import Array, InvalidRequest, describe, to_bytes

JSON = ("content-type", "application/json")
OCTETS = ("content-type", "application/octet-stream")


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (JSON,)


class Form(NamedTuple):
    """How outputs are wanted: ``is_binary`` unless ``but`` says otherwise by the output's name."""

    is_binary: bool
    but: Mapping[str, bool]


AS_JSON = Form(False, {})


def as_json(value: Any) -> Answer:
    """200 with a value."""
    return Answer(200, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def refusal(status: int, because: str, *headers: tuple[str, str]) -> Answer:
    """An answer that is not 200, in the protocol's form."""
    # Text from a library's exception may hold what cannot be encoded.
    text = because.encode(errors="replace").decode()
    return Answer(status, orjson.dumps({"error": text}), (JSON, *headers))


def read_form(content: Any) -> Form:
    """Which outputs the request wants in binary. InvalidRequest where it asks for what is no such wish.

    ``binary_data_output`` is for all of them, ``binary_data`` for one. The content was read before: its outputs are
    objects.
    """
    parameters, outputs = content.get("parameters"), content.get("outputs")
    if parameters is None and not outputs:
        return AS_JSON
    if parameters is not None and not isinstance(parameters, dict):
        raise InvalidRequest('"parameters" must be an object')
    but = {}
    for output in outputs or ():
        wishes = output.get("parameters") or {}
        if wishes.get("classification"):
            raise InvalidRequest("classification of outputs is not supported")
        if (wish := wishes.get("binary_data")) is not None:
            but[output["name"]] = _read_wish("binary_data", wish)
    return Form(_read_wish("binary_data_output", (parameters or {}).get("binary_data_output", False)), but)


def _read_wish(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f'"{name}" must be true or false')
    return value


def respond(head: Mapping[str, object], outputs: Mapping[str, Array], form: Form) -> Answer:
    """200 with the outputs in the wanted form. ``head`` is what comes before them."""
    entries: list[dict[str, object]] = []
    tensors: list[bytes] = []
    for name, found in outputs.items():
        entry: dict[str, object] = {"name": name, "datatype": describe(found), "shape": found.shape}
        if form is not AS_JSON and form.but.get(name, form.is_binary):
            tensors.append(to_bytes(found))
            entry["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            flat = found if found.ndim == 1 else found.ravel()
            entry["data"] = flat.tolist() if flat.dtype == object else flat
        entries.append(entry)
    text = orjson.dumps({**head, "outputs": entries}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tensors:
        return Answer(200, text)
    return Answer(200, b"".join((text, *tensors)), (OCTETS, ("inference-header-content-length", str(len(text)))))
