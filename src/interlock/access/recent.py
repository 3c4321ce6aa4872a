"""Who asked a model lately, from what the front keeps of requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from interlock.vocabulary import Json, Stored

MODELS = "/v2/models/"


class RecentCaller(Stored):
    """``who`` is an API key's name, else an address. ``lines`` of the front's log are of them, the last ``last``.

    ``last`` is a moment as ISO 8601 has it, in UTC.
    """

    who: str
    environment: str
    lines: int
    last: str


def recent_callers(lines: Iterable[Mapping[str, Json]], model: str) -> list[RecentCaller]:
    """Of a log's lines about a model, one caller in each environment, the most frequent first."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        path = f"{line.get('path')}/"
        if path.startswith(f"{MODELS}{model}/"):
            who = line.get("key") or line.get("address") or "unknown"
            found.setdefault((str(who), str(line.get("listener"))), []).append(str(line.get("time")))
    callers = [
        RecentCaller(who=who, environment=f"{model}/{name}", lines=len(times), last=max(times))
        for (who, name), times in found.items()
    ]
    return sorted(callers, key=lambda one: (-one.lines, one.who, one.environment))
