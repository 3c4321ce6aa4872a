"""Text that others wrote, as it may be shown: it steers no terminal, hides nothing, and is never read backwards."""

from __future__ import annotations

import json
import re
from typing import Any

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, marks of the direction of writing, and halves of characters."""
COLOUR = re.compile("\x1b\\[[0-9;:]*m")
RESET = "\x1b[0m"


def harmless(text: str, *, keep_colours: bool = False) -> str:
    """The text with what steers a terminal written as an escape, and a line of its own after each carriage return.

    Colours are left out; with ``keep_colours`` they stay, and end where the text does.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    colours = COLOUR.findall(lines) if keep_colours else []
    pieces = [STEERING.sub(_escape, piece) for piece in COLOUR.split(lines)]
    if not colours:
        return "".join(pieces)
    return pieces[0] + "".join(f"{colour}{piece}" for colour, piece in zip(colours, pieces[1:], strict=True)) + RESET


def harmless_json(value: Any) -> str:
    """One line of JSON in which every such character is escaped as JSON knows it."""
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
