"""Lives of model servers: started anew, warmed up, asked in turn, ended.

Two processes of one program differ: by where their memory lies, and by what the machine did while they started. So what
is compared is measured in several lives, each of which gives one ratio (Kalibera and Jones 2013, "Rigorous benchmarking
in reasonable time"). Within a life both servers are on the same core, and who asks is on another. They get the same
requests, one of them has something to do at a time, and who goes first is drawn, as often the one as the other.
Whatever disturbs one disturbs the other then.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..consistency import rows_in
from .servers import Connection, ModelServer, NotServed

WARM_UP = 50
WARM_SHARE = 0.25
"""Of a life's seconds, the most that warming up takes: a slow model is still measured."""

TURNS = 10
"""Pairs of requests in which either side goes first as often as the other."""

CALLERS = 4
BURSTS, BURST_SECONDS = 4, 0.15
"""How throughput is measured: by so many callers that wait for no other, in bursts to either side in turn."""


class Requests(NamedTuple):
    """Requests that are sent round and round: as golden, as sent, and how many rows each of them asks for."""

    documents: tuple[dict[str, Any], ...]
    bodies: tuple[bytes, ...]
    rows: tuple[int, ...]


class Effort(NamedTuple):
    """What one life is spent on: so many ``pairs`` of requests within so many ``seconds``, and on throughput or not."""

    pairs: int
    seconds: float
    is_pressed: bool


def begin(servers: Sequence[ModelServer], cores: Sequence[int], number: int) -> list[float | NotServed]:
    """Starts the servers of a life on one core, in an order that is drawn, and leaves that core to them. Answers for
    each after how many milliseconds it was ready, or why it was not. Each core has its turn: no slow one decides.
    """
    core = {cores[number % len(cores)]}
    order = list(servers)
    random.Random(f"start {number}").shuffle(order)  # noqa: S311 - no secret
    taken = {server: _start(server, core) for server in order}
    os.sched_setaffinity(0, {*cores} - core or core)
    return [taken[server] for server in servers]


def _start(server: ModelServer, core: set[int]) -> float | NotServed:
    try:
        return server.start(core)
    except NotServed as failure:
        return failure


def spend(servers: Sequence[ModelServer], requests: Requests, effort: Effort, number: int) -> list[dict[str, Any]]:
    """What a life showed of each server: ``latency_ms`` of the pairs in order, ``cpu_s_per_1000`` rows, and
    ``throughput_rps`` where that is measured.
    """
    chance = random.Random(f"turns {number}")  # noqa: S311 - no secret
    turns, places = _turns(servers, chance), itertools.cycle(range(len(requests.bodies)))
    _ask_in_turn(itertools.islice(turns, WARM_UP), places, requests, effort.seconds * WARM_SHARE)
    before = [server.cpu_seconds() for server in servers]
    latencies, rows = _ask_in_turn(
        itertools.islice(turns, effort.pairs), places, requests, effort.seconds * (1 - WARM_SHARE)
    )
    used = [server.cpu_seconds() - began for server, began in zip(servers, before, strict=True)]
    found: list[dict[str, Any]] = [
        {"latency_ms": latencies.get(server, []), "cpu_s_per_1000": 1000.0 * seconds / rows if rows else None}
        for server, seconds in zip(servers, used, strict=True)
    ]
    if effort.is_pressed:
        for life, rate in zip(found, _press(servers, requests.bodies, chance), strict=True):
            life["throughput_rps"] = rate
    return found


def _ask_in_turn(
    turns: Iterator[Sequence[ModelServer]], places: Iterator[int], requests: Requests, seconds: float
) -> tuple[dict[ModelServer, list[float]], int]:
    """Latencies of each server in order, of what it answered, and how many rows it was asked for; fewer if time is
    up. The first request is sent in any case.
    """
    until, rows = time.perf_counter() + seconds, 0
    latencies: dict[ModelServer, list[float]] = {}
    for turn in turns:
        place = next(places)
        rows += requests.rows[place]
        for server in turn:
            elapsed = server.ask(requests.bodies[place])
            if elapsed is not None:
                latencies.setdefault(server, []).append(elapsed)
        if time.perf_counter() > until:
            break
    return latencies, rows


def _turns(servers: Sequence[ModelServer], chance: random.Random) -> Iterator[Sequence[ModelServer]]:
    """The order in which the servers are asked, pair by pair, without end."""
    while True:
        block = [servers if turn % 2 else servers[::-1] for turn in range(TURNS)]
        chance.shuffle(block)
        yield from block


def _press(servers: Sequence[ModelServer], bodies: Sequence[bytes], chance: random.Random) -> list[float]:
    """Requests a second that each server answers to CALLERS at once, over bursts in turn."""
    answered = dict.fromkeys(servers, 0)
    seconds = dict.fromkeys(servers, 0.0)
    for turn in itertools.islice(_turns(servers, chance), BURSTS):
        for server in turn:
            count, elapsed = _burst(server, bodies)
            answered[server] += count
            seconds[server] += elapsed
    return [answered[server] / seconds[server] for server in servers]


def _burst(server: ModelServer, bodies: Sequence[bytes]) -> tuple[int, float]:
    counts = [0] * CALLERS
    began = time.perf_counter()
    until = began + BURST_SECONDS

    def call(caller: int, connection: Connection) -> None:
        for body in itertools.cycle(bodies):
            counts[caller] += server.ask(body, connection) is not None
            if time.perf_counter() > until:
                break
        connection.close()

    callers = [threading.Thread(target=call, args=(caller, server.connect())) for caller in range(CALLERS)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    return sum(counts), time.perf_counter() - began


def read_requests(golden: bytes) -> Requests:
    """The golden requests as they are sent."""
    requests = tuple(json.loads(golden)["requests"])
    bodies = tuple(json.dumps(request).encode() for request in requests)
    return Requests(requests, bodies, tuple(rows_in(request) for request in requests))
