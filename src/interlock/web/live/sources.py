"""What can be followed: the log of an attempt, and the events of the server."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from interlock.access.caller import Caller
from interlock.control.running.attempts import FINISHED, LOST
from interlock.ports import Logs, Store
from interlock.vocabulary import Event, Kind, Phase
from interlock.web.live.streams import Piece
from interlock.web.sight import EventSight

LINES = 2000
EVENTS = 500
GRACE_SECONDS = 15.0
"""How long after the end of a run an attempt of it may still print its last lines."""


@dataclass(frozen=True)
class LogSource:
    """The lines of ``run/stage/number``; a position is a line's number."""

    logs: Logs
    store: Store
    attempt: str

    def end(self) -> int:
        """The number of the line that comes next."""
        return self.logs.window(self.attempt, -1, 1).following

    def read(self, position: int, until: int | None) -> Piece:
        """Lines, each an event with its number."""
        most = LINES if until is None else min(LINES, until - position)
        window = self.logs.window(self.attempt, position, most)
        told = (f"id: {number}\ndata: {json.dumps(line)}\n\n" for number, line in enumerate(window.lines, window.first))
        return Piece("".join(told).encode(), window.following, window.is_end)

    def is_over(self) -> bool:
        """Whether the attempt has ended, or its run long ago."""
        attempt = self.store.load(Kind.ATTEMPT, self.attempt)
        if attempt is not None and attempt.phase in (FINISHED, LOST):
            return True
        run = self.store.load(Kind.RUN, self.attempt.partition("/")[0])
        return run is None or (Phase(run.phase).is_final and time.time() - run.updated > GRACE_SECONDS)


@dataclass(frozen=True)
class EventSource:
    """The events of one row, of a kind, or all, as far as ``caller`` may see them; a position is an event's number."""

    store: Store
    kind: Kind | None
    key: str | None
    caller: Caller

    def end(self) -> int:
        """The number of the newest event."""
        return self.store.last_event()

    def read(self, position: int, until: int | None) -> Piece:
        """Events behind the one at ``position``, each with its number."""
        events = self.store.events(self.kind, self.key, after=position, most=EVENTS)
        is_end = len(events) < EVENTS
        following = events[-1].number if events else position
        if until is not None:
            events = [event for event in events if event.number <= until]
            following = until if is_end or following > until else following
        sight = EventSight(self.store, self.caller)
        return Piece(b"".join(written(event) for event in events if sight.may_see(event)), following, is_end)

    def is_over(self) -> bool:
        """Whether it is a run that has ended; one that is held may go on."""
        if self.kind is not Kind.RUN or self.key is None:
            return False
        run = self.store.load(self.kind, self.key)
        return run is None or (Phase(run.phase).is_final and run.phase != Phase.HELD)


def written(event: Event) -> bytes:
    """An event as it is sent."""
    return f"id: {event.number}\ndata: {json.dumps(event.model_dump(mode='json'))}\n\n".encode()


def shared(caller: Caller) -> Caller:
    """The caller without a name: those who may see the same share one reader."""
    return caller.model_copy(update={"name": ""})
