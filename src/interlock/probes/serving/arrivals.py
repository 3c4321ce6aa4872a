"""Open-loop load: requests come at their own times, as from many callers, whether or not earlier ones are answered.

A caller that waits for one answer before it asks again asks a slow server less often, and so hides how long others
would have waited (coordinated omission). Here each request has its moment beforehand, and its latency counts from then.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from .servers import Connection, ModelServer

FEWEST, MOST = 220, 2000
"""Requests of one measurement: enough for a p99, and no more than are needed."""

SECONDS, MOST_SECONDS = 8.0, 20.0
"""How long requests arrive; a low rate is given longer, so that enough of them come."""

PATIENCE = 2.0
"""How many times as long as they arrived the answers are waited for; what is open then counts as it has waited."""

CALLERS = 32
"""Connections at most: so many requests can be under way at once."""


def arrive(server: ModelServer, bodies: Sequence[bytes], rate: float) -> dict[str, Any]:
    """``rate`` requests a second on average, at random times (a Poisson process with a fixed seed).

    Answers ``rate`` and ``latency_ms``, of each request from its moment to its answer, errors left out; a request
    that got none in time counts with the time that it has waited.
    """
    chance = random.Random("arrivals")  # noqa: S311 - no secret
    count = max(1, min(MOST, max(int(rate * SECONDS), min(FEWEST, int(rate * MOST_SECONDS)))))
    moments = list(itertools.accumulate(chance.expovariate(rate) for _ in range(count)))
    began = time.perf_counter()
    deadline = began + PATIENCE * moments[-1] + 1.0
    turns, taking = iter(range(count)), threading.Lock()
    latencies: list[float | None] = [None] * count

    def call(connection: Connection) -> None:
        while True:
            with taking:
                turn = next(turns, None)
            if turn is None:
                break
            due = began + moments[turn]
            time.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() > deadline:
                latencies[turn] = (time.perf_counter() - due) * 1000
                continue
            if server.ask(bodies[turn % len(bodies)], connection) is not None:
                latencies[turn] = (time.perf_counter() - due) * 1000
        connection.close()

    callers = [threading.Thread(target=call, args=(server.connect(),)) for _ in range(min(CALLERS, count))]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    return {"rate": rate, "latency_ms": [latency for latency in latencies if latency is not None]}
