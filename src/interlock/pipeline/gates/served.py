"""What gates ask of the model as it is served, and so what is measured of it."""

from __future__ import annotations

from collections.abc import Iterable

from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Stored

LATENCIES = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
THROUGHPUT = "throughput_rps"
ASKED_METRICS = (*LATENCIES, THROUGHPUT, "cpu_s_per_1000")
"""Measurements that golden requests are needed for."""
SERVED_METRICS = (*ASKED_METRICS, "memory_peak_mb", "model_size_mb", "startup_ms")
"""Measurements of the model as served. Of throughput more is better, of all others less."""

LIVES = 5
"""How often both servers are started anew where they are compared."""
PAIRS = {"latency_p99_ms": 400, "latency_p95_ms": 200}
"""Requests to each server in a life that a ratio of these needs: one that is steady on a machine that is not."""
FEWEST_PAIRS = 100


class Measuring(Stored):
    """What is measured of the served model: in so many ``lives`` of its server, ``pairs`` of requests in each, beside
    production if ``is_compared``, and its throughput if ``is_pressed``.
    """

    lives: int = 1
    pairs: int = 500
    is_compared: bool = False
    is_pressed: bool = False

    def alone(self) -> Measuring:
        """The same where there is no production to compare with: one life shows all that limits ask."""
        return Measuring(is_pressed=self.is_pressed)


def measuring_for(gates: Iterable[GatePlan]) -> Measuring:
    """What these gates need."""
    served = [gate for gate in gates if gate.metric in SERVED_METRICS]
    compared = [gate.metric for gate in served if gate.against is not None]
    is_pressed = any(gate.metric == THROUGHPUT for gate in served)
    if not compared:
        return Measuring(is_pressed=is_pressed)
    pairs = max(PAIRS.get(metric, FEWEST_PAIRS) for metric in compared)
    return Measuring(lives=LIVES, pairs=pairs, is_compared=True, is_pressed=is_pressed)
