"""Golden requests: what a model is asked before it serves, and what its callers may send.

A file ``{"requests": [...], "responses": [...], "defaults": {...}}``: requests of the V2 protocol; the answers that are
expected, one each, or none at all; and the inputs that a request may leave out, with the value that stands for what is
missing (``null``: a missing value). So a new input is one that callers of before need not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from .inputs import Array, InvalidRequest, Signature, names_of
from .model import Model

TOLERANCE = 1e-6


class GoldenWrong(Exception):
    """A golden request has no answer, or another than the expected one."""


class Golden(NamedTuple):
    """What the file says; nothing is known of the requests yet but that there is one."""

    requests: list[Any]
    responses: list[Any]
    defaults: Mapping[str, object]


class Checked(NamedTuple):
    """A model that answers: its signature, the outputs of the first golden request, and those requests."""

    signature: Signature
    outputs: dict[str, Array]
    requests: list[Any]


def check_golden(model: Model, path: Path | None) -> Checked:
    """Asks the model every golden request of the file.

    The signature is what the model knows of itself, else that of the requests; without a file nothing else is known.
    GoldenWrong where a request is not answered, or not within 1e-6 (relative above 1) of its expected response.
    """
    if path is None:
        return Checked(model.signature, {}, [])
    golden = read_golden(path)
    try:
        signature = signature_of(model, golden)
    except InvalidRequest as wrong:
        raise GoldenWrong(str(wrong)) from wrong
    first: dict[str, Array] = {}
    for number, request in enumerate(golden.requests):
        try:
            outputs = model.answer(signature.read(request))
        except Exception as fault:
            raise GoldenWrong(f"golden request {number} is not answered: {type(fault).__name__}: {fault}") from fault
        first = first or outputs
        if golden.responses:
            _compare(number, outputs, golden.responses[number])
    return Checked(signature, first, golden.requests)


def read_golden(path: Path) -> Golden:
    """The file; GoldenWrong where it is none of golden requests."""
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as fault:
        raise GoldenWrong(f"{path} cannot be read: {fault}") from fault
    requests = document.get("requests") if isinstance(document, dict) else None
    if not isinstance(requests, list) or not requests:
        raise GoldenWrong(f'{path} must be an object with "requests", a list of at least one request')
    responses = document.get("responses") or []
    if not isinstance(responses, list) or len(responses) not in (0, len(requests)):
        raise GoldenWrong(f'{path}: "responses" must be a list as long as "requests"')
    defaults = document.get("defaults") or {}
    if not isinstance(defaults, dict):
        raise GoldenWrong(f'{path}: "defaults" must be an object of a value for each input that may be left out')
    return Golden(requests, responses, defaults)


def signature_of(model: Model, golden: Golden) -> Signature:
    """The inputs that the model takes, and those of them that a request may leave out; InvalidRequest."""
    if unknown := golden.defaults.keys() - names_of(golden.requests):
        raise InvalidRequest(f"a default for {min(unknown)!r}, which no golden request brings")
    known = model.signature.columns or Signature.from_golden(golden.requests, golden.defaults.keys()).columns
    return Signature(known.values(), golden.defaults)


def _compare(number: int, outputs: dict[str, Array], response: Any) -> None:
    expected = response.get("outputs") if isinstance(response, dict) else None
    if not isinstance(expected, list) or not expected:
        raise GoldenWrong(f'golden response {number} has no "outputs"')
    for entry in expected:
        name = entry.get("name") if isinstance(entry, dict) else None
        if name not in outputs:
            raise GoldenWrong(f"golden request {number}: the model has no output {name!r}")
        wanted = np.ravel(np.array(entry.get("data"), dtype=object)).tolist()
        found = outputs[name].ravel().tolist()
        if len(found) != len(wanted):
            raise GoldenWrong(f"golden request {number}: {name} has {len(found)} values, expected {len(wanted)}")
        for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
            if not _is_close(one, other):
                raise GoldenWrong(f"golden request {number}: {name}[{place}] is {one!r}, expected {other!r}")


def _is_close(found: object, wanted: object) -> bool:
    if isinstance(found, float) and wanted is None:
        return math.isnan(found)
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return abs(found - wanted) <= TOLERANCE * max(1.0, abs(wanted))
    return found == wanted
