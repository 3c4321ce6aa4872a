"""What answers of elsewhere add to the evidence of a rollout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from interlock.delivery.analysis.engine import Analysis
from interlock.delivery.analysis.streams import Rule
from interlock.delivery.analysis.ticks import WHOLE, Seen
from interlock.delivery.external.limits import grow_old, look
from interlock.delivery.external.measured import Measured
from interlock.delivery.looks.evidence import counts_between


def heed_limits(analysis: Analysis, measured: Mapping[str, Measured], now: float) -> Analysis:
    """The analysis with what its plain limits are known to be now; the same value where nothing is new."""
    standings = []
    for limit, standing in zip(analysis.limits, analysis.standings, strict=True):
        one = measured.get(limit.metric)
        after = standing if one is None else look(limit, standing, one.at, one.value, one.problem)
        standings.append(grow_old(limit, after, now))
    return analysis.model_copy(update={"standings": tuple(standings)})


def new_counts(known: Mapping[str, Measured], measured: Mapping[str, Measured]) -> dict[str, Measured]:
    """The counts that were not known before, by metric."""
    return {
        metric: one
        for metric, one in measured.items()
        if one.counts and (metric not in known or one.at > known[metric].at)
    }


def counted_between(
    rules: Sequence[Rule], known: Mapping[str, Measured], new: Mapping[str, Measured]
) -> Iterator[tuple[str, dict[str, Seen]]]:
    """What each metric of the rules adds between two answers; nothing where one fell, or nothing happened."""
    for rule in rules:
        if rule.metric in known and rule.metric in new:
            counts = counts_between(known[rule.metric].counts, new[rule.metric].counts)
            if counts is not None and any(counts.candidate + counts.stable):
                yield rule.metric, {WHOLE: counts}
