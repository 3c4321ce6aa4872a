"""Before it serves: the model is asked its golden requests in batches, which warms it and shows what that saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np

from ..inputs import Batch
from ..protocol.tensors import Array
from .asking import Outputs, divide, kind_of, merge
from .policy import ServiceCurve

WARMING_SECONDS = 0.15
SIZES = (1, 2, 4, 8, 16, 32)
TOLERANCE = 1e-6


class Learnt(NamedTuple):
    """What is known of the model before the first request. ``because`` says why requests may be merged, or not."""

    curve: ServiceCurve
    may_merge: bool
    because: str


def warm(answer: Callable[[Batch], Outputs], batches: Sequence[Batch], *, is_wanted: bool) -> Learnt:
    """Asks for a moment, in turns of all sizes. ``batches`` are the golden requests, which the model answers."""
    curve = ServiceCurve()
    batches = [batch for batch in batches if kind_of(batch) == kind_of(batches[0])]  # only these can be merged
    alone = [_ask(answer, batch, curve) for batch in batches]
    because = _because(batches, is_wanted)
    over = time.perf_counter() + WARMING_SECONDS
    for number, size in enumerate(cycle(SIZES)):
        if time.perf_counter() > over or not batches:
            break
        chosen = list(islice(cycle(range(len(batches))), number, number + size))
        if size == 1 or because:
            _ask(answer, batches[chosen[0]], curve)
            continue
        together = [batches[place] for place in chosen]
        try:
            parts = divide(_ask(answer, merge(together), curve), together)
        except Exception as fault:  # noqa: BLE001 - a model that takes one row at a time is one
            because = f"golden requests are not answered together: {type(fault).__name__}: {fault}"[:300]
            continue
        if not all(_are_alike(part, alone[place]) for part, place in zip(parts, chosen, strict=True)):
            because = "golden requests are answered otherwise together than alone"
    return Learnt(
        curve, not because, because or f"{len(batches)} golden requests are answered alike together and alone"
    )


def _because(batches: Sequence[Batch], is_wanted: bool) -> str:
    if not is_wanted:
        return "it was started with --no-batching"
    if len(batches) < 2:
        return (
            "fewer than two golden requests of one kind cannot tell whether rows are answered alike together and alone"
        )
    return ""


def _ask(answer: Callable[[Batch], Outputs], batch: Batch, curve: ServiceCurve) -> Outputs:
    began = time.perf_counter()
    outputs = answer(batch)
    curve.observe(batch.rows, time.perf_counter() - began)
    return outputs


def _are_alike(some: dict[str, Array], others: dict[str, Array]) -> bool:
    return some.keys() == others.keys() and all(_is_alike(some[name], others[name]) for name in some)


def _is_alike(some: Array, other: Array) -> bool:
    if some.shape != other.shape or some.dtype.kind != other.dtype.kind:
        return False
    if some.dtype.kind != "f":
        return bool((some == other).all())
    return bool(np.allclose(some, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
