"""Lines of the server's own log: for people, or one JSON object each for a log collector."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from interlock.vocabulary import Json


class Lines:
    """Writes lines with their time through ``write``, one at a time whatever the thread."""

    def __init__(self, write: Callable[[str], None], *, is_json: bool, now: Callable[[], float]) -> None:
        self._write = write
        self._is_json = is_json
        self._now = now
        self._turn = threading.Lock()

    def say(self, text: str, **facts: Json) -> None:
        """One line. ``facts`` are further fields of the JSON form; people read the text alone."""
        if self._is_json:
            at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
            line = json.dumps({"at": at, "message": text, **facts}, ensure_ascii=False)
        else:
            line = _shown(text)
        with self._turn:
            self._write(line)

    def tell_request(self, facts: Mapping[str, Json]) -> None:
        """A line of the access log: each request for a collector, those that went wrong on our side for people."""
        trouble = facts.get("defect") or facts.get("fault")
        if trouble:
            self.say(f"{facts.get('path')}: {trouble}", **facts)
            return
        status = facts.get("status")
        if self._is_json or (isinstance(status, int) and status >= 500):
            self.say(f"{facts.get('method')} {facts.get('path')} {status}", **facts)


def _shown(text: str) -> str:
    """Text that strangers wrote a part of: nothing in it steers a terminal, or passes for a line of its own."""
    return "\n  ".join("".join(map(_visible, line)) for line in text.split("\n"))


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
