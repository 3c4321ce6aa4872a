"""What one look at live numbers brings. A number that is no count, or not there, is no evidence: never a zero."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, model_validator

from interlock.delivery.analysis.gains import Side
from interlock.vocabulary import Stored

Count = Annotated[int, Field(ge=0)]
WHOLE = ""
"""The name of the stratum that holds all requests which no other holds."""


class Counts(Stored):
    """Requests and events (errors, wrong labels) of both sides in one interval.

    An event counts as a request even where its request was counted in the tick before.
    """

    candidate_requests: Count = 0
    candidate_events: Count = 0
    stable_requests: Count = 0
    stable_events: Count = 0

    @property
    def candidate(self) -> Side:
        """(events, requests) of the candidate."""
        return self.candidate_events, max(self.candidate_requests, self.candidate_events)

    @property
    def stable(self) -> Side:
        """(events, requests) of the stable side."""
        return self.stable_events, max(self.stable_requests, self.stable_events)


class Latencies(Stored):
    """Answers of both sides in one interval, by bin of their latency (``latency.bin_of``)."""

    candidate: dict[int, Count] = {}
    stable: dict[int, Count] = {}


class Pairs(Stored):
    """Requests that both sides were asked: ``worse`` where the candidate alone is wrong, ``better`` where stable is.

    ``both`` are those in which both are.
    """

    pairs: Count = 0
    worse: Count = 0
    better: Count = 0
    both: Count = 0

    @model_validator(mode="after")
    def _fits(self) -> Pairs:
        if self.worse + self.better + self.both > self.pairs:
            raise ValueError("more pairs differ than there are")
        return self


Seen = Counts | Latencies | Pairs


class Tick(Stored):
    """One look: ``seen`` by metric, then by stratum and slice; a metric that is missing has no evidence in it.

    ``number`` grows from look to look: one that is not above the last is counted twice or late, and left out.
    ``seconds`` is how long the interval was, ``youngest`` the age in seconds of the youngest replica that answered.
    """

    number: int
    seconds: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    youngest: float = 1e9
    seen: dict[str, dict[str, Seen]] = {}


def counts_of(
    candidate_events: float, candidate_requests: float, stable_events: float, stable_requests: float
) -> Counts | None:
    """Counts from numbers of elsewhere; None where one of them cannot be a count: NaN, infinite, negative, broken."""
    numbers = (candidate_requests, candidate_events, stable_requests, stable_events)
    if not all(math.isfinite(number) and number >= 0.0 and number == math.floor(number) for number in numbers):
        return None
    requests, events, other_requests, other_events = (int(number) for number in numbers)
    return Counts(
        candidate_requests=requests,
        candidate_events=events,
        stable_requests=other_requests,
        stable_events=other_events,
    )
