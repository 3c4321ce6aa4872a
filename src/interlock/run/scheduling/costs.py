"""What a machine has for stages, what each takes of it, for how long, and so the longest way to the end of a run."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from interlock.pipeline.plan import Resources, StagePlan
from interlock.vocabulary import Stored

GIB = 2**30
HEAD_ROOM = 1.25
"""A stage without a declared limit of memory takes so many times the most that it was seen to use."""
SAMPLES = 5
"""The last executions of a stage that count."""
FIRST_GUESS = 1.0
"""Seconds of a stage where nothing at all was measured: then the longest chain of stages goes first."""


class Claim(NamedTuple):
    """What one stage takes, or several together: cores, bytes of memory, graphics processors."""

    cpu: float
    memory: float = 0.0
    gpu: int = 0

    def plus(self, other: Claim) -> Claim:
        """Both together."""
        return Claim(self.cpu + other.cpu, self.memory + other.memory, self.gpu + other.gpu)


class Capacity(NamedTuple):
    """Cores, bytes of memory (infinite: not counted), and the graphics processors by name."""

    cores: float
    memory: float = math.inf
    gpus: tuple[str, ...] = ()

    @property
    def whole(self) -> Claim:
        """All of it."""
        return Claim(self.cores, self.memory, len(self.gpus))


class Sample(Stored):
    """One execution that succeeded: seconds of wall time and of all its processes, and bytes (None where unknown)."""

    seconds: float
    cpu_seconds: float | None = None
    peak_memory: int | None = None


class Cost(Stored):
    """What a stage is expected to cost: medians of seconds, the most memory, and of how many executions."""

    seconds: float
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    runs: int = 1


def cost_of(samples: Sequence[Sample]) -> Cost | None:
    """What the last executions, newest first, make one expect of the next; None where there are none."""
    last = samples[:SAMPLES]
    if not last:
        return None
    cpu = [sample.cpu_seconds for sample in last if sample.cpu_seconds is not None]
    memory = [sample.peak_memory for sample in last if sample.peak_memory is not None]
    return Cost(
        seconds=median(sample.seconds for sample in last),
        cpu_seconds=median(cpu) if cpu else None,
        peak_memory=max(memory, default=None),
        runs=len(last),
    )


def claim_of(resources: Resources, cost: Cost | None) -> Claim:
    """What a stage takes: what it declares, and for memory that is not declared what it was seen to use."""
    seen = cost.peak_memory if cost else None
    memory = resources.memory if resources.memory is not None else (seen or 0) * HEAD_ROOM
    return Claim(resources.cpu, float(memory), resources.gpu)


def typical_seconds(costs: Mapping[str, Cost]) -> float:
    """What a stage that was never measured counts as: the median of those that were."""
    return median(cost.seconds for cost in costs.values()) if costs else FIRST_GUESS


def longest_ways(
    stages: Sequence[StagePlan], costs: Mapping[str, Cost], executed: Collection[str] | None = None
) -> dict[str, float]:
    """For each stage the seconds from its start to the end of the run, were there room for everything.

    That is its own time and that of the slowest chain of stages behind it: the critical path, by which list scheduling
    orders its jobs (Graham 1969). ``stages`` are in the order of a plan; those that are not in ``executed`` (None: all
    are) take no time.
    """
    typical = typical_seconds(costs)
    ways: dict[str, float] = dict.fromkeys((stage.name for stage in stages), 0.0)
    for stage in reversed(stages):
        if executed is None or stage.name in executed:
            known = costs.get(stage.name)
            ways[stage.name] += known.seconds if known else typical
        for need in stage.needs:
            ways[need] = max(ways[need], ways[stage.name])
    return ways


def said_memory(size: float) -> str:
    """Bytes for people: ``512 MiB``, ``1.2 GiB``."""
    return f"{size / GIB:.3g} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"
