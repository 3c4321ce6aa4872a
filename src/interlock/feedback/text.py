"""Text of others (names, messages, reasons) made fit to stand in a status or in Markdown."""

from __future__ import annotations

# The two characters that could end a code span or a cell of a table are shown as others that look alike.
_LOOK_ALIKES = str.maketrans({"`": "'", "|": "¦"})


def one_line(text: str, most: int) -> str:
    """The text on one line of at most ``most`` characters: what does not print is a space, a cut shows as ``…``."""
    printed = "".join(character if character.isprintable() else " " for character in text[: 4 * most])
    line = " ".join(printed.split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 1].rstrip()}…"


def fit(told: str, way_out: str, most: int) -> str:
    """``told; way_out`` within ``most`` characters: what was told is cut, the way out never is."""
    if not way_out:
        return one_line(told, most)
    return f"{one_line(told, most - len(way_out) - 2)}; {way_out}"


def code(text: str, most: int = 300) -> str:
    """The text as a code span: there neither markup nor links, mentions or references mean anything to any forge."""
    line = one_line(text, most).translate(_LOOK_ALIKES)
    return f"`{line}`" if line else ""
