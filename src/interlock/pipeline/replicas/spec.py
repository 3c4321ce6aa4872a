"""The keys of the replicas of one environment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Field, Tag

from interlock.pipeline.gates.spec import GateSpec
from interlock.pipeline.plan import ScalingPlan, SurgePlan
from interlock.pipeline.rules.values import Section, Size


class ReplicasSpec(Section):
    """The processes that serve. A number alone is how many there always are."""

    min: Annotated[int, Field(ge=1, le=64)] = 2
    """The fewest there are, whatever the load."""
    max: Annotated[int, Field(ge=1, le=64)] | None = None
    """The most there may be: in between the load decides. It is held to the smallest `max` of the gates on
    `latency_p99_ms`; without one, to ten times what a request takes. Without this key there are always `min`."""
    memory: Size | None = None
    """The memory that one of them may use. One that uses more is replaced: it answers what it has, and starts anew."""
    cpu: Annotated[float, Field(ge=0.1, le=1024.0)] | None = None
    """Cores that one of them may use, and threads: as many as whole cores, at least one. Without this key: the
    machine's, with one thread. The gates measure one thread with a whole core."""
    max_surge: Annotated[int, Field(ge=0, le=64)] | None = None
    """How many more than there shall be may exist while a new revision's take their place, with `strategy: rolling`.
    Without this key both revisions have all theirs, so that the machine has to hold twice as many."""
    max_unavailable: Annotated[int, Field(ge=0, le=63)] = 0
    """How many fewer may serve meanwhile. With `max_surge: 0` it is 1 or more: one leaves before another starts."""


MOST = 64


def number_or_mapping(value: Any) -> str:
    """Which side of ``number or mapping`` a value is meant to be."""
    return "<mapping>" if isinstance(value, dict) else "<number>"


Replicas: TypeAlias = Annotated[
    Annotated[Annotated[int, Field(ge=1, le=64)], Tag("<number>")] | Annotated[ReplicasSpec, Tag("<mapping>")],
    Discriminator(number_or_mapping),
]


def replicas_of(written: int | ReplicasSpec) -> ReplicasSpec:
    """The mapping that a number stands for."""
    return ReplicasSpec(min=written) if isinstance(written, int) else written


def scaling_of(replicas: ReplicasSpec, gates: Iterable[GateSpec]) -> ScalingPlan | None:
    """Replicas by load, held to the latency that the gates allow; None where there are always as many."""
    if replicas.max is None or replicas.max == replicas.min:
        return None
    limits = [gate.max for gate in gates if gate.metric == "latency_p99_ms" and gate.max is not None]
    return ScalingPlan(most=replicas.max, latency_ms=min(limits, default=None))


def surge_of(replicas: ReplicasSpec, *, is_recreated: bool) -> SurgePlan | None:
    """How they are replaced by another revision's; None where there is room for both. All at once where they are made
    anew: then nobody serves in between.
    """
    if is_recreated:
        return SurgePlan(max_surge=0, max_unavailable=MOST)
    if replicas.max_surge is None:
        return None
    return SurgePlan(max_surge=replicas.max_surge, max_unavailable=replicas.max_unavailable)
