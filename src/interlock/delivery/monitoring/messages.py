"""What is told of an alert to whoever is to hear of it: each message until each receiver has taken it, or for days.

It may be told more than once, always with the same ``id``. The decisions, by what came of the tries that were due:

| receivers | then |
|---|---|
| all have taken it, or there is none | told |
| one has not, and it is younger than OLDEST_SECONDS | pending: tried again after twice as long as before |
| one has not, and it is older | given up |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from interlock.delivery.monitoring.monitor import Alert, Monitor
from interlock.vocabulary import Decision, Json, Stored

PENDING, TOLD, GIVEN_UP = "pending", "told", "given_up"
OLDEST_SECONDS = 3 * 86400.0
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 600.0
"""Between two tries: twice as long each time, at most so long."""

State = Literal["firing", "resolved"]


class Message(Stored):
    """One turn of an alert: ``state`` since ``at`` (wall seconds). ``taken`` are the receivers that have taken it.

    ``tries`` counts those that were made; the next is not before ``due``.
    """

    id: str
    state: State
    environment: str
    title: str
    alert: Alert
    at: float
    taken: tuple[str, ...] = ()
    tries: int = 0
    due: float = 0.0
    phase: str = PENDING

    @property
    def document(self) -> dict[str, Json]:
        """What receivers are sent."""
        alert = self.alert
        return {
            "version": 1,
            "id": self.id,
            "state": self.state,
            "environment": self.environment,
            "model": self.title,
            "alert": alert.key,
            "metric": alert.metric,
            "column": alert.column,
            "because": alert.because,
            "acted": alert.acted,
            "since": alert.since,
            "at": self.at,
        }


def messages_of(before: Monitor | None, after: Monitor, version: int, now: float) -> list[Message]:
    """What is told of the turn from one state of a monitor to the next, which is saved as this version of its row.

    Alerts that fire are told of once, until they are resolved; so are those of a revision that is watched no more.
    """
    old = before.alerts if before is not None else {}
    is_same = before is not None and before.revision == after.revision
    resolved = [alert for key, alert in old.items() if not is_same or key not in after.alerts]
    fired = [alert for key, alert in after.alerts.items() if not is_same or key not in old]
    turns: list[tuple[State, Alert, str]] = [("resolved", alert, before.title if before else "") for alert in resolved]
    turns += [("firing", alert, after.title) for alert in fired]
    return [
        Message(
            id=f"{after.environment}/{version}.{place}",
            state=state,
            environment=after.environment,
            title=title,
            alert=alert,
            at=now,
        )
        for place, (state, alert, title) in enumerate(turns)
    ]


def advance_message(
    message: Message, receivers: Sequence[str], problems: Mapping[str, str], now: float
) -> Decision[Message]:
    """The message after a try at all ``receivers`` that had not taken it; ``problems`` is why some did not now."""
    taken = tuple(receiver for receiver in receivers if receiver not in problems)
    tried = {"taken": taken, "tries": message.tries + 1}
    if not problems:
        because = f"told {', '.join(taken)}" if taken else "nobody is to be told: no webhook is set"
        return Decision(state=message.model_copy(update={**tried, "phase": TOLD}), because=because)
    because = "; ".join(f"{receiver}: {problem}" for receiver, problem in problems.items())
    if now - message.at >= OLDEST_SECONDS:
        return Decision(state=message.model_copy(update={**tried, "phase": GIVEN_UP}), because=f"given up: {because}")
    wait = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(message.tries, 20))
    return Decision(state=message.model_copy(update={**tried, "due": now + wait}), because=because)
