"""Server-sent events: read from lines, and followed over lost connections without gap or duplicate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSentEvent:
    """One event of a stream. ``id`` is the last one that was sent; ``data`` is empty where only an id came."""

    data: str
    name: str = "message"
    id: str = ""


def parse_events(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """The events in the lines of a stream, each once its empty line has come; one that was cut off is left out."""
    data: list[str] = []
    name = last = told = ""
    for line in lines:
        if not line:
            if data or told != last:
                yield ServerSentEvent("\n".join(data), name or "message", last)
            data, name, told = [], "", last
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last = value


def whole_lines(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a stream that comes in pieces; what has no end is left out.

    ``str.splitlines`` would also split at characters that JSON may hold as they are.
    """
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from (line.removesuffix("\r") for line in lines)
