"""JSON as the store writes it: one text for one value, and no number that JSON does not know."""

from __future__ import annotations

import json

from pydantic_core import from_json, to_json

from interlock.errors import StoreFault
from interlock.vocabulary import Json


def encode(value: Json, where: str) -> str:
    """The text of a value. StoreFault for NaN, infinities and what is no JSON; ``where`` names the row."""
    try:
        text = to_json(value, inf_nan_mode="constants")
        if b"NaN" not in text and b"Infinity" not in text:  # else perhaps in a string
            return text.decode()
    except (TypeError, ValueError):  # the fast writer knows no half surrogates, and more types than there are in JSON
        pass
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as problem:
        raise StoreFault(f"{where} cannot be stored as JSON: {problem}") from problem


def decode(text: str) -> Json:
    """The value of a text."""
    value: Json
    try:
        value = from_json(text)
    except ValueError:  # the fast reader knows neither half surrogates nor 200 levels
        value = json.loads(text)
    return value


def decode_object(text: str) -> dict[str, Json]:
    """The value of a text that is an object; JSONDecodeError for any other."""
    value = decode(text)
    if not isinstance(value, dict):
        raise json.JSONDecodeError("this is no object", text, 0)
    return value


def readable(text: str) -> str:
    """A text as every database keeps it: a NUL, which PostgreSQL refuses, becomes the replacement character."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
