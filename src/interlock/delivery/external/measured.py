"""What a source of elsewhere answered.

Evidence is never assumed: an answer that did not come, or is no number, says why, and nothing else.
"""

from __future__ import annotations

import math

from pydantic import Field

from interlock.delivery.revision import CounterSeen
from interlock.vocabulary import Stored

COUNTED = "counted elsewhere"
"""The epoch of counters that somebody else keeps: that they began anew shows in that they fell."""


class Measured(Stored):
    """One answer; ``at`` is the moment that it speaks of (wall seconds).

    ``value`` is a number; ``counts`` are requests and events so far of ``candidate`` and ``stable``; ``problem`` is why
    there is neither.
    """

    at: float
    value: float | None = Field(default=None, allow_inf_nan=False)
    counts: dict[str, CounterSeen] = {}
    problem: str = ""


def counter_of(events: float, requests: float) -> CounterSeen | None:
    """A side's counters; None where a number is no count: NaN, infinite, negative, broken, more than there are."""
    if not all(math.isfinite(number) and number == math.floor(number) for number in (events, requests)):
        return None
    if not 0.0 <= events <= requests:
        return None
    return CounterSeen(epoch=COUNTED, requests=int(requests), errors=int(events))
