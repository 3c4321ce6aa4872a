"""What gates ask of the model as it is served, and so what is measured of it."""

from __future__ import annotations

from collections.abc import Iterable

from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Stored

LATENCIES = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
THROUGHPUT = "throughput_rps"
ASKED_METRICS = (*LATENCIES, THROUGHPUT, "cpu_s_per_1000")
"""Measurements that golden requests are needed for."""
SIZE = "model_size_mb"
SERVED_METRICS = (*ASKED_METRICS, "memory_peak_mb", SIZE, "startup_ms")
"""Measurements of the model as served. Of throughput more is better, of all others less."""

LIVES = 8
"""How often both servers are started anew where they are compared by what differs from life to life."""
PAIRS = 400
"""Requests to each server in such a life: so many that it outlasts most of what disturbs a machine for a moment."""


class Measuring(Stored):
    """What is measured of the served model: in so many ``lives`` of its server, ``pairs`` of requests in each, beside
    production if ``is_compared``, its throughput if ``is_pressed``, its latency at the model's rate if ``is_loaded``.
    """

    lives: int = 1
    pairs: int = 500
    is_compared: bool = False
    is_pressed: bool = False
    is_loaded: bool = False

    def alone(self) -> Measuring:
        """The same where there is no production to compare with: one life shows all that limits ask."""
        return Measuring(is_pressed=self.is_pressed, is_loaded=self.is_loaded)


def compares_rows(gates: Iterable[GatePlan]) -> bool:
    """Whether any of these gates needs what production predicts of the holdout's rows."""
    return any(gate.against is not None and gate.metric not in SERVED_METRICS for gate in gates)


def measuring_for(gates: Iterable[GatePlan]) -> Measuring:
    """What these gates need."""
    served = [gate for gate in gates if gate.metric in SERVED_METRICS]
    compared = {gate.metric for gate in served if gate.against is not None}
    found = Measuring(
        is_compared=bool(compared),
        is_pressed=any(gate.metric == THROUGHPUT for gate in served),
        is_loaded=any(gate.metric in LATENCIES and gate.against is None for gate in served),
    )
    if compared <= {SIZE}:
        return found
    return found.model_copy(update={"lives": LIVES, "pairs": PAIRS})
