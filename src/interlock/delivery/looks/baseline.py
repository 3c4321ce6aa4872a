"""What is known of the stable revision before anything is compared with it: its traffic, and how its replicas differ.

Counters are marked once a minute while no rollout is under way. What began anew is another baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from interlock.delivery.analysis.spread import BLOCKS, Spread, learn
from interlock.delivery.revision import DataPlaneSeen, Revision

MARK_SECONDS = 60.0
KEPT_SECONDS = 6 * 3600.0
"""For how long marks are kept: replicas may have been otherwise before."""
TRAFFIC_SECONDS = 900.0
"""The newest seconds that tell how much traffic there is."""
GAP_SECONDS = 10.0
"""Without a look for so long, the traffic in between may have gone elsewhere."""
FEWEST_BLOCKS = 10
"""Of one length, below which their differences are taken for chance."""


class Mark(NamedTuple):
    """Counters at a moment: of the revision, and (errors, requests) of each of its replicas."""

    at: float
    requests: int
    errors: int
    replicas: dict[str, tuple[int, int]]


class Baseline(NamedTuple):
    """Marks of one stable revision. ``identity`` says which counters; ``quiet`` is since when there was no gap."""

    identity: str = ""
    marks: tuple[Mark, ...] = ()
    last: Mark | None = None
    quiet: float = 0.0


NOTHING_KNOWN = Baseline()


class Traffic(NamedTuple):
    """Requests a minute, and the share of them that failed (half an error more than was seen: none is no proof)."""

    requests: float
    rate: float


def remember(baseline: Baseline, stable: Revision, plane: DataPlaneSeen, now: float) -> Baseline:
    """The baseline with one look more; ``now`` in monotonic seconds."""
    counter = plane.counters.get(stable.key)
    if counter is None or plane.problem is not None:
        return baseline
    hosts = plane.endpoints.get(stable.key, {})
    replicas = {name: (host.errors, host.requests) for name, host in hosts.items()}
    mark = Mark(now, counter.requests, counter.errors, replicas)
    identity = f"{stable.key} {counter.epoch}"
    if identity != baseline.identity:
        return Baseline(identity, (mark,), mark, now)
    is_gap = baseline.last is None or now - baseline.last.at > GAP_SECONDS
    kept = tuple(one for one in baseline.marks if now - one.at <= KEPT_SECONDS)
    is_due = not kept or now - kept[-1].at >= MARK_SECONDS or is_gap
    return Baseline(identity, (*kept, mark) if is_due else kept, mark, now if is_gap else baseline.quiet)


def traffic_of(baseline: Baseline) -> Traffic | None:
    """What came in the last minutes; None where nothing is known, or nothing came."""
    last = baseline.last
    if last is None:
        return None
    since = [one for one in baseline.marks if one.at >= baseline.quiet and last.at - one.at <= TRAFFIC_SECONDS]
    if not since or last.at <= since[0].at or last.requests <= since[0].requests:
        return None
    requests, errors = last.requests - since[0].requests, last.errors - since[0].errors
    return Traffic(60.0 * requests / (last.at - since[0].at), (errors + 0.5) / (requests + 1.0))


def spread_of(baseline: Baseline) -> Spread | None:
    """How far its replicas differ in errors beyond chance; None where too little is known, or they do not."""
    history = {seconds: list(_blocks(baseline.marks, seconds)) for seconds in BLOCKS}
    spread = learn({seconds: blocks for seconds, blocks in history.items() if len(blocks) >= FEWEST_BLOCKS})
    return spread if any(spread.variances.values()) else None


def _blocks(marks: Sequence[Mark], seconds: float) -> Iterator[list[tuple[int, int]]]:
    """Blocks of about so many seconds, each with (errors, requests) of the replicas that were there all the time."""
    edges = list(marks[:1])
    for mark in marks:
        if mark.at - edges[-1].at >= seconds:
            edges.append(mark)
    for before, after in pairwise(edges):
        block = []
        for name in before.replicas.keys() & after.replicas.keys():
            errors, requests = (new - old for new, old in zip(after.replicas[name], before.replicas[name], strict=True))
            if 0 <= errors <= requests:
                block.append((errors, requests))
        yield block
