"""Schedules: the newest slot, clocks that leap, and expressions that are refused."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import Refused
from interlock.source.schedule import check_expression, find_time_zone, latest_slot, next_slot


def at(text: str, zone: str = "UTC") -> float:
    """Seconds of the epoch; a trailing * is the second of two times that the clocks show."""
    local = datetime.fromisoformat(text.removesuffix("*")).replace(tzinfo=ZoneInfo(zone))
    return local.replace(fold=int(text.endswith("*"))).timestamp()


def slot(expression: str, after: str, now: str, zone: str = "UTC") -> str | None:
    """As it was in UTC."""
    found = latest_slot([expression], zone, at(after, zone), at(now, zone))
    return None if found is None else datetime.fromtimestamp(found, UTC).strftime("%Y-%m-%d %H:%M")


SLOTS = [
    ("0 3 * * 1", "2026-11-16", "2026-11-23 02:59:59", "2026-11-16 03:00"),
    ("0 3 * * 1", "2026-11-16", "2026-11-23 03:00", "2026-11-23 03:00"),
    ("0 3 * * 1", "2026-11-16 03:00", "2026-11-23 02:59:59", None),
    ("0 3 * * 1", "2026-11-16 02:59:59", "2026-11-16 03:00", "2026-11-16 03:00"),
    ("0 3 * * MON", "2026-01-01", "2026-11-24", "2026-11-23 03:00"),
    ("* * * * *", "2020-01-01", "2026-11-23 10:17:30", "2026-11-23 10:17"),
    ("* * * * *", "2026-11-23 10:17", "2026-11-23 10:17:59", None),
    ("*/15 9-17 * * 1-5", "2026-11-20", "2026-11-22", "2026-11-20 17:45"),
    ("0 0 29 2 *", "1970-01-02", "2026-11-23", "2024-02-29 00:00"),
    ("0 0 29 2 *", "2024-03-01", "2026-11-23", None),
    ("0 0 L * *", "2026-01-01", "2026-03-15", "2026-02-28 00:00"),
    ("0 0 * 2 MON#5", "1990-01-01", "2026-11-23", "2016-02-29 00:00"),
    ("0 12 13 * 5", "2026-11-01", "2026-11-14", "2026-11-13 12:00"),
    ("0 0 1 1 *", "2026-01-01", "2026-11-23", None),
    ("0 0 1 1 *", "2025-12-31 23:59:59", "2026-11-23", "2026-01-01 00:00"),
    ("0 3 * * 1", "2026-11-23 04:00", "2026-11-16 04:00", None),
]


@pytest.mark.parametrize(("expression", "after", "now", "expected"), SLOTS)
def test_the_newest_slot(expression: str, after: str, now: str, expected: str | None) -> None:
    assert slot(expression, after, now) == expected


# In Berlin clocks leap from 2:00 to 3:00 on 29 March 2026 (1:00 in UTC), and from 3:00 back to 2:00 on 25 October.
LEAPS = [
    ("30 2 * * *", "2026-03-28 12:00", "2026-03-29 12:00", "2026-03-29 01:00"),  # made up for at 3:00
    ("30 2 * * *", "2026-03-28 12:00", "2026-03-29 01:59:59", None),
    ("30 2 * * *", "2026-03-28 12:00", "2026-03-29 03:00", "2026-03-29 01:00"),
    ("30 2 * * *", "2026-03-29 03:00", "2026-03-30 01:00", None),  # and only once
    ("0 3 * * *", "2026-03-28 12:00", "2026-03-29 12:00", "2026-03-29 01:00"),
    ("*/30 * * * *", "2026-03-29 01:00", "2026-03-29 03:10", "2026-03-29 01:00"),
    ("30 2 * * *", "2026-10-24 12:00", "2026-10-25 12:00", "2026-10-25 00:30"),  # the first 2:30
    ("30 2 * * *", "2026-10-24 12:00", "2026-10-25 02:10*", "2026-10-25 00:30"),
    ("30 2 * * *", "2026-10-25 02:30", "2026-10-25 12:00", None),  # not the second
    ("30 2 * * *", "2026-10-25 02:10*", "2026-10-25 12:00", None),
    ("30 * * * *", "2026-10-25 02:30", "2026-10-25 02:40*", "2026-10-25 01:30"),  # each hour that passes
    ("*/10 * * * *", "2026-10-25 02:30", "2026-10-25 02:05*", "2026-10-25 01:00"),
    ("0 4 * * *", "2026-10-24 12:00", "2026-10-25 12:00", "2026-10-25 03:00"),
    ("30 2 * * *", "2026-06-01 00:00", "2026-06-02 00:00", "2026-06-01 00:30"),
]


@pytest.mark.parametrize(("expression", "after", "now", "expected"), LEAPS)
def test_clocks_that_leap(expression: str, after: str, now: str, expected: str | None) -> None:
    assert slot(expression, after, now, "Europe/Berlin") == expected


def test_a_day_that_never_was_is_made_up_for() -> None:
    """Samoa went from Thursday the 29th to Saturday the 31st of December 2011."""
    found = latest_slot(["0 9 * * FRI"], "Pacific/Apia", at("2011-12-29 12:00"), at("2011-12-31 00:00"))
    assert found is not None
    assert datetime.fromtimestamp(found, ZoneInfo("Pacific/Apia")).isoformat() == "2011-12-31T00:00:00+14:00"


@pytest.mark.parametrize(
    ("expression", "zone", "now", "expected"),
    [
        ("0 8 * * 1-5", "UTC", "2026-11-26 07:59:59", "2026-11-26 08:00"),
        ("0 8 * * 1-5", "UTC", "2026-11-26 08:00", "2026-11-27 08:00"),
        ("0 8 * * 1-5", "UTC", "2026-11-27 08:00", "2026-11-30 08:00"),
        ("0 8 * * 1-5", "Asia/Tokyo", "2026-11-26 00:00", "2026-11-26 23:00"),
    ],
)
def test_the_next_slot(expression: str, zone: str, now: str, expected: str) -> None:
    assert next_slot(expression, zone, at(now)) == at(expected)


def test_of_several_expressions_the_newest_counts() -> None:
    now = at("2026-11-23 12:00")
    assert latest_slot(["0 3 * * *", "0 9 * * *", "0 15 * * 1"], "UTC", at("2026-11-20"), now) == at("2026-11-23 09:00")
    assert latest_slot([], "UTC", 0.0, now) is None


def test_fractions_of_seconds_belong_to_the_side_on_which_they_are() -> None:
    sharp = at("2026-11-23 03:00")
    assert latest_slot(["0 3 * * *"], "UTC", sharp - 0.25, sharp + 0.25) == sharp
    assert latest_slot(["0 3 * * *"], "UTC", sharp + 0.25, sharp + 60.0) is None
    assert latest_slot(["0 3 * * *"], "UTC", sharp - 60.0, sharp - 0.25) is None


MINUTES = st.sampled_from(["*", "0", "7", "*/20", "5,45", "50-59"])
HOURS = st.sampled_from(["*", "2", "*/5", "1-3", "0,23"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])


def allowed(field: str, least: int, most: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{least}-{most}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


@settings(max_examples=100)
@given(MINUTES, HOURS, ZONES, st.integers(0, 366 * 24 * 60), st.integers(0, 3 * 24 * 60))
def test_no_slot_is_missed_and_none_is_made_up(minutes: str, hours: str, zone: str, start: int, span: int) -> None:
    """Against a walk through all minutes, where no clock leaps."""
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=start)
    walk = [(after + timedelta(minutes=minute)).astimezone(ZoneInfo(zone)) for minute in range(1, span + 1)]
    steady = after.astimezone(ZoneInfo(zone)).utcoffset()
    around = [after.astimezone(ZoneInfo(zone)) + timedelta(days=days) for days in (-1, 5)]
    if any(moment.utcoffset() != steady for moment in (*walk, *around)):
        return
    fitting = [
        moment for moment in walk if moment.minute in allowed(minutes, 0, 59) and moment.hour in allowed(hours, 0, 23)
    ]
    now = after + timedelta(minutes=span, seconds=30)
    found = latest_slot([f"{minutes} {hours} * * *"], zone, after.timestamp(), now.timestamp())
    assert found == (fitting[-1].timestamp() if fitting else None)


@settings(max_examples=60)
@given(MINUTES, HOURS, ZONES, st.integers(0, 365 * 24 * 60), st.integers(0, 600), st.integers(0, 600))
def test_looking_twice_finds_what_looking_once_does(
    minutes: str, hours: str, zone: str, start: int, first: int, second: int
) -> None:
    """Leaps included: no slot falls between two looks, and none is found by both."""
    expressions = [f"{minutes} {hours} * * *"]
    after = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + 60.0 * start
    middle, now = after + 60.0 * first, after + 60.0 * (first + second)
    earlier, later = (latest_slot(expressions, zone, *span) for span in ((after, middle), (middle, now)))
    assert latest_slot(expressions, zone, after, now) == (earlier if later is None else later)
    assert later is None or middle < later <= now
    assert earlier is None or after < earlier <= middle


# an expression, what is wrong with it, where, and the remedy
WRONG = [
    ("", "5 fields, and this has 0", "the expression", "minute, hour, day, month and weekday"),
    ("@daily", "5 fields, and this has 1", "the expression", "minute, hour, day"),
    ("0 3 * *", "5 fields, and this has 4", "the expression", "minute, hour, day"),
    ("*/10 * * * * *", "5 fields, and this has 6", "the expression", "minute, hour, day"),
    ("* " * 200, "5 fields, and this has 200", "the expression", "minute, hour, day"),
    ("0" * 300 + " 0 * * *", "5 fields", "the expression", "minute, hour, day"),
    ("60 3 * * *", "60 is no minute", "field 1", "0-59"),
    ("0 24 * * *", "24 is no hour", "field 2", "0-23"),
    ("0 3 32 * *", "32 is no day-of-month", "field 3", "1-31"),
    ("0 3 0 * *", "0 is no day-of-month", "field 3", "1-31"),
    ("0 3 * 13 *", "13 is no month", "field 4", "JAN-DEC"),
    ("0 3 * * 8", "8 is no day-of-week", "field 5", "SUN-SAT"),
    ("0 3 * * MON-", "MON- is no day-of-week", "field 5", "SUN-SAT"),
    ("*/0 * * * *", "*/0 is no minute", "field 1", "0-59"),
    ("-1 * * * *", "-1 is no minute", "field 1", "0-59"),
    ("5-1 * * * *", "5-1 is no minute", "field 1", "0-59"),
    (", * * * *", ", is no minute", "field 1", "0-59"),
    ("² * * * *", "² is no minute", "field 1", "0-59"),
    ("0 3 * * L", "L is no day-of-week", "field 5", "SUN-SAT"),
    ("0 3 * * MON#6", "MON#6 is no day-of-week", "field 5", "SUN-SAT"),
    ("0 3 1/x * *", "1/x is no day-of-month", "field 3", "1-31"),
    ("H 3 * * *", "H is no minute", "field 1", "0-59"),
    ("0 0 31 2 *", "0 0 31 2 * never comes true", "field 3", "name a day"),
    ("0 0 31 4,6 *", "never comes true", "field 3", "name a day"),
    ("0 0 */10 2 MON#5", "never comes true", "field 3", "name a day"),
]


@pytest.mark.parametrize(("expression", "problem", "where", "remedy"), WRONG)
def test_what_is_no_schedule_is_refused_with_its_place(expression: str, problem: str, where: str, remedy: str) -> None:
    with pytest.raises(Refused) as caught:
        check_expression(expression)
    assert problem in caught.value.problem
    assert caught.value.where == where
    assert remedy in caught.value.remedy
    with pytest.raises(Refused):
        latest_slot([expression], "UTC", 0.0, 1e9)


@settings(max_examples=300)
@given(st.lists(st.text("0123456789*/-,#LWMONJAF?@² ", max_size=6), min_size=4, max_size=6))
def test_no_expression_gives_anything_but_a_slot_or_a_refusal(fields: list[str]) -> None:
    with contextlib.suppress(Refused):
        found = latest_slot([" ".join(fields)], "Europe/Berlin", at("2026-01-01"), at("2026-11-23"))
        assert found is None or at("2026-01-01") < found <= at("2026-11-23")


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires"])
def test_time_zones_are_found_by_name(name: str) -> None:
    assert find_time_zone(name).key == name


@pytest.mark.parametrize(
    "name",
    ["", "Berlin", "Europe", "../../etc/passwd", "/etc/localtime", "Europe/Berlin\0", "x" * 5000, "UTC+1", "\ud800"],
)
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="is no time zone") as caught:
        find_time_zone(name)
    assert "Europe/Berlin" in caught.value.remedy
