"""JSON as the store writes it: one text for one value, and no number that JSON does not know."""

from __future__ import annotations

import json

from interlock.errors import StoreFault
from interlock.vocabulary import Json


def encode(value: Json, where: str) -> str:
    """The text of a value. StoreFault for NaN, infinities and what is no JSON; ``where`` names the row."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as problem:
        raise StoreFault(f"{where} cannot be stored as JSON: {problem}") from problem


def decode(text: str) -> Json:
    """The value of a text."""
    value: Json = json.loads(text)
    return value


def decode_object(text: str) -> dict[str, Json]:
    """The value of a text that is an object."""
    value: dict[str, Json] = json.loads(text)
    return value
