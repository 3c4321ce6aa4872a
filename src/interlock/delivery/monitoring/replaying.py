"""The turns of alerts decided again: what was stored of each has to lead to the same alert, or to none."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from interlock.delivery.looks.replaying import Replay
from interlock.delivery.monitoring.monitor import Alert, Monitor, Turn, judge_again
from interlock.vocabulary import Event, Json

TURNS = "turns"
"""Where an event keeps what alerts turned on."""
_READ = TypeAdapter(tuple[Turn, ...])


def observation(monitor: Monitor) -> dict[str, Json]:
    """What is stored of the turns of the last look, beside the decision that followed from them."""
    return {TURNS: _READ.dump_python(monitor.turns, mode="json")} if monitor.turns else {}


def replay_turns(events: Sequence[Event]) -> Replay:
    """Every turn of a monitor's alerts made again; ``events`` are all of its own, oldest first."""
    turns = [turn for event in events for turn in _READ.validate_python(event.observed.get(TURNS, ()), strict=False)]
    again = [(turn, judge_again(turn)) for turn in turns]
    differences = [
        f"{turn.question.key}: {_told(turn.fires)} then, {_told(found)} now"
        for turn, found in again
        if found != turn.fires
    ]
    return Replay(decisions=len(turns), differences=tuple(differences))


def _told(alert: Alert | None) -> str:
    return f"it fires, {alert.because}" if alert is not None else "it does not fire"
