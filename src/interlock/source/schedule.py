"""Times at which runs begin, and windows open: cron expressions of five fields, read in a time zone.

As Debian's cron does it: an hour that the clocks leap over is made up for at once after the leap, and one that comes
twice counts once; expressions whose minute or hour is ``*`` or ``*/n`` follow the time that really passes. Cron
expressions have no field of seconds here, so nothing begins more often than each minute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

from interlock.errors import Refused

FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
RANGES = ("0-59", "0-23", "1-31", "1-12 or JAN-DEC", "0-7 or SUN-SAT")
MOST_LETTERS = 200
"""The length of an expression at most."""
_REMEDY = 'write minute, hour, day, month and weekday: "0 3 * * 1" is Mondays at 3:00'
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def check_expression(expression: str) -> None:
    """Refused, with the field that is wrong, for what is no cron expression or never comes true."""
    fields = expression.split()
    if len(expression) > MOST_LETTERS or len(fields) != len(FIELDS):
        raise Refused(
            f"a cron expression has {len(FIELDS)} fields, and this has {len(fields)}", "the expression", _REMEDY
        )
    for place, (field, name) in enumerate(zip(fields, FIELDS, strict=True)):
        alone = " ".join(field if other == place else "*" for other in range(len(FIELDS)))
        if _ticks(alone, _LONG_AGO) is None:
            raise Refused(f"{field} is no {name}", f"field {place + 1}", f"write {RANGES[place]}, * or */n")
    ticks = _ticks(expression, _LONG_AGO)
    if ticks is None or next(ticks, None) is None:
        raise Refused(f"{expression} never comes true", "field 3", "name a day that its months have")


def find_time_zone(name: str) -> ZoneInfo:
    """The time zone of this name. Refused where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Refused(f"{name} is no time zone", "the time zone", "write a name like Europe/Berlin, or UTC") from None


def latest_slot(expressions: Sequence[str], time_zone: str, after: float, now: float) -> float | None:
    """The newest time at which an expression came true, after ``after`` and not after ``now``; None if there is none.

    Times are seconds of the epoch. Refused as ``check_expression`` and ``find_time_zone`` do.
    """
    zone = find_time_zone(time_zone)
    found: list[float] = []
    for expression in expressions:
        check_expression(expression)
        slot = _latest(expression, zone, after, now)
        found += [slot] if slot is not None else []
    return max(found, default=None)


def next_slot(expression: str, time_zone: str, now: float) -> float:
    """The first time after ``now`` (seconds of the epoch) at which the expression comes true.

    Refused as ``check_expression`` and ``find_time_zone`` do.
    """
    check_expression(expression)
    slot = _next(expression, find_time_zone(time_zone), now)
    assert slot is not None  # it has no year: what comes true once does so again
    return slot


def _latest(expression: str, zone: ZoneInfo, after: float, now: float) -> float | None:
    """Halves the span in which the newest slot lies: its cost does not grow with the number of slots."""
    latest = _next(expression, zone, after)
    if latest is None or latest > now:
        return None
    unseen = math.floor(now)
    while latest < unseen:
        middle = (math.floor(latest) + unseen) // 2
        slot = _next(expression, zone, middle)
        if slot is not None and slot <= now:
            latest = slot
        else:
            unseen = middle
    return latest


def _next(expression: str, zone: ZoneInfo, after: float) -> float | None:
    ticks = _ticks(expression, datetime.fromtimestamp(math.floor(after), zone))
    assert ticks is not None
    # In the hour that comes twice a tick may be one of its first time, which is over.
    return next((slot for tick in ticks if (slot := tick.timestamp()) > after), None)


def _ticks(expression: str, start: datetime) -> CronSim | None:
    """The times behind ``start``; None where the expression cannot be read."""
    try:
        return CronSim(expression, start)
    except Exception:  # noqa: BLE001 - it parses what strangers write, and whatever it raises means the same
        return None
