"""What came between two looks at a stable revision, by column: of the reference, and of each live metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import add, sub
from typing import NamedTuple

from interlock.delivery.monitoring.questions import Counts
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, LatencySeen, LoadSeen, ObservedSeen, Revision
from interlock.pipeline.monitoring.plan import MonitorRulePlan


class Tally(NamedTuple):
    """All that was counted of a revision up to a moment (seconds); ``replicas`` is how many serve it."""

    at: float
    observed: Mapping[str, ObservedSeen]
    counter: CounterSeen | None
    latency: LatencySeen | None
    labelled: CounterSeen | None
    load: LoadSeen | None
    replicas: int


def tally_of(
    stable: Revision, replicas: int, plane: DataPlaneSeen, observed: Mapping[str, ObservedSeen], now: float
) -> Tally:
    """What one look shows of the stable revision; of others nothing is taken."""
    key = stable.key
    own = {name: seen for name, seen in observed.items() if name.rpartition(".")[0] == key}
    labelled = plane.labelled.get(key)
    counter, latency, load = plane.counters.get(key), plane.latencies.get(key), plane.loads.get(key)
    return Tally(now, own, counter, latency, labelled, load, replicas)


def counts_between(
    rules: Sequence[MonitorRulePlan], widths: Mapping[str, int], before: Tally, after: Tally
) -> dict[str, Counts]:
    """By column what came between the looks; ``widths`` are how many counts a column has.

    A source that is not there, or began anew, says nothing.
    """
    found = _columns_between(widths, before.observed, after.observed)
    for rule in rules:
        counts = _live_between(rule, before, after)
        if counts is not None and min(counts) >= 0:
            found[rule.metric] = counts
    return found


def _columns_between(
    widths: Mapping[str, int], before: Mapping[str, ObservedSeen], after: Mapping[str, ObservedSeen]
) -> dict[str, Counts]:
    """What all replicas counted; a process that was not there before began between the looks.

    A replica runs the model's own code, and may say anything: what cannot be counts of a column is passed over.
    """
    found: dict[str, Counts] = {}
    for name, seen in after.items():
        last = before.get(name)
        former = last.columns if last is not None and last.epoch == seen.epoch else {}
        for column, counts in seen.columns.items():
            known = former.get(column, (0,) * len(counts))
            if len(counts) != widths.get(column) or len(known) != len(counts) or min(map(sub, counts, known)) < 0:
                continue
            added = tuple(map(sub, counts, known))
            found[column] = tuple(map(add, found[column], added)) if column in found else added
    return found


def _live_between(rule: MonitorRulePlan, before: Tally, after: Tally) -> Counts | None:
    """Events and all else."""
    if rule.metric == "error_rate":
        return _errors(before.counter, after.counter)
    if rule.metric == "accuracy":
        return _errors(before.labelled, after.labelled)
    if rule.metric == "saturation":
        return _busy(rule.max or 0.0, before, after)
    if rule.metric.startswith("latency_p"):
        return _slow(rule.max or 0.0, before.latency, after.latency)
    return None


def _errors(before: CounterSeen | None, after: CounterSeen | None) -> Counts | None:
    if before is None or after is None or before.epoch != after.epoch:
        return None
    errors = after.errors - before.errors
    return errors, after.requests - before.requests - errors


def _busy(limit: float, before: Tally, after: Tally) -> Counts | None:
    """One event where a replica had more than ``limit`` in flight on average (Little), or has now."""
    old, new, seconds = before.load, after.load, after.at - before.at
    if old is None or new is None or old.epoch != new.epoch or seconds <= 0.0:
        return None
    in_flight = max((new.seconds - old.seconds) / seconds, float(new.active)) / max(1, after.replicas)
    return (1, 0) if in_flight > limit else (0, 1)


def _slow(limit: float, before: LatencySeen | None, after: LatencySeen | None) -> Counts | None:
    """Answers that surely took longer, and the others."""
    if before is None or after is None or before.epoch != after.epoch:
        return None
    old_slow, old_all = _counted(limit, before)
    slow, every = _counted(limit, after)
    return slow - old_slow, every - old_all - (slow - old_slow)


def _counted(limit: float, seen: LatencySeen) -> tuple[int, int]:
    slow = sum(count for least, _, count in seen.answers if least >= limit)
    return slow, sum(count for _, _, count in seen.answers)
