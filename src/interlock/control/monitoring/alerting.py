"""Tells of alerts: what is stored as pending is sent until it is taken, also after this process was killed.

A message is marked after it was sent, so that it may come twice, with the same id; it is never lost.
"""

from __future__ import annotations

from collections.abc import Callable

from interlock.control.rows import read_state, save_or_lose, write_state
from interlock.delivery.monitoring.messages import PENDING, Message, advance_message
from interlock.ports import Receivers, Store
from interlock.vocabulary import Kind, canonical

MOST_AT_ONCE = 100


class Alerting:
    """Sends what is pending, the oldest first; ``now`` is wall time."""

    def __init__(self, store: Store, receivers: Receivers, now: Callable[[], float]) -> None:
        self._store = store
        self._receivers = receivers
        self._now = now

    def one_pass(self) -> int:
        """How many messages were tried. Each receiver is waited for, so this is nothing for the loop."""
        rows = self._store.rows(Kind.ALERT, phases=(PENDING,))
        due = [row for row in rows if read_state(row, Message).due <= self._now()][:MOST_AT_ONCE]
        for row in due:
            message = read_state(row, Message)
            body, problems = canonical(message.document), dict[str, str]()
            for receiver in self._receivers.names:
                problem = None if receiver in message.taken else self._receivers.send(receiver, message.id, body)
                problems |= {receiver: problem} if problem else {}
            decision = advance_message(message, self._receivers.names, problems, self._now())
            after = decision.state
            save_or_lose(
                self._store,
                write_state(
                    Kind.ALERT, row.key, after, expected=row.version, phase=after.phase, because=decision.because
                ),
            )
        return len(due)
