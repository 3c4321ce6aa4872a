"""Logs that are followed while others append to them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MOST = 200_000
"""How much of each kind is kept in memory until its counterpart comes, for each environment."""
READ_AT_ONCE = 8 * 2**20


class Following:
    """Files of JSON lines, read from where they end now, or ``back`` bytes before; others from their beginning."""

    def __init__(self, paths: Iterable[Path], back: int = 0) -> None:
        self._offsets = {path: max(0, path.stat().st_size - back) for path in paths if path.exists()}
        self.is_at_end = True
        """Whether the last reading of each file since this was set came to its end."""

    def added(self, path: Path) -> Iterator[dict[str, Any]]:
        """The whole lines that were added; those that are torn or no JSON object are passed over."""
        try:
            with path.open("rb") as reader:
                reader.seek(self._offsets.get(path, 0))
                content = reader.read(READ_AT_ONCE)
        except OSError:  # not there yet, or gone
            return
        self.is_at_end = self.is_at_end and len(content) < READ_AT_ONCE
        whole = content[: content.rfind(b"\n") + 1]
        self._offsets[path] = self._offsets.get(path, 0) + len(whole)
        yield from filter(None, map(record_of, whole.splitlines()))


def record_of(line: bytes) -> dict[str, Any] | None:
    """The record of a log's line; None where it is no JSON object."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def forget_oldest(kept: dict[Any, Any]) -> None:
    """Keeps MOST of them, the newest."""
    while len(kept) > MOST:
        del kept[next(iter(kept))]
