"""How many replicas an environment needs for its load.

Each second one look; what is needed is the most of these rows:

=================================================  ====================================================================
seen                                               needed
=================================================  ====================================================================
what arrived in the last minute, its trend drawn   as many as keep all but one request in a thousand within the latency
out to when a new replica would be ready           gate (``utilization``)
more in the last 1, 2 or 3 s than chance explains  the same for that rate, and for what waits to be served (panic)
5 % of the last answers later than the gate        one more, once all that were asked for are ready
=================================================  ====================================================================

More are taken at once; fewer only when none of the last three minutes needed more, and never fewer than answer what is
in flight within the gate. A control plane that began just now takes none away for so long. While a rollout is under way
none are taken away: either side may get all traffic in the next second. ``min`` and ``max`` of the pipeline file and
the machine bound it, and what they withheld is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from interlock.delivery.revision import LoadSeen

LATE_SHARE = 0.001
"""The share of requests that may take longer than the latency gate."""
FULLEST = 0.85
"""The most of its time that a replica may be busy, whatever the gate allows: the next minute may bring more."""
GATES_BY_DEFAULT = 10.0
"""Without a latency gate in the pipeline file, a request may take so many times what it takes of a replica."""
FAST_SECONDS = 3.0
STEADY_SECONDS = 60.0
PATIENT_SECONDS = 180.0
"""For how long fewer must have been enough."""
AHEAD_SECONDS = 5.0
"""Until a replica that is asked for now answers requests; also how soon what waits is to be served."""
CHANCE = 4.0
"""Standard deviations (of a Poisson count) by which the last seconds differ from the last minute not by chance."""
LATE_IN_PANIC = 0.05
ENOUGH_ANSWERS = 100
"""Answers whose mean time is taken for a service time."""
LEAST_SERVICE = 0.0005
"""Seconds. The proxy counts whole milliseconds, so what is shorter cannot be seen."""


class Scope(NamedTuple):
    """What an environment's replicas may be. ``latency`` is the gate in seconds, ``service`` the seconds that a request
    took when the gates measured it; None where they did not. ``room`` is how many replicas the machine holds, ``share``
    how much of a core one may use, at most 1.
    """

    least: int
    most: int
    room: int
    latency: float | None = None
    service: float | None = None
    share: float = 1.0


class Sample(NamedTuple):
    """What was counted in the ``span`` seconds before ``at``; ``late`` of the answers took longer than the gate."""

    at: float
    span: float
    arrived: int
    answered: int
    late: int
    seconds: float


class History(NamedTuple):
    """The looks of the last minutes, and what they found to be needed. ``last`` is the load at the last of them."""

    last: LoadSeen | None = None
    at: float = 0.0
    samples: tuple[Sample, ...] = ()
    needs: tuple[tuple[float, int], ...] = ()


class Size(NamedTuple):
    """How many replicas there shall be, and why."""

    replicas: int
    because: str


def total(loads: Iterable[LoadSeen]) -> LoadSeen | None:
    """The load of all revisions together; None where there are none, or where their counters began at other times."""
    seen = list(loads)
    if not seen or len({load.epoch for load in seen}) > 1:
        return None
    within: dict[float, int] = {}
    for load in seen:
        for bound, count in load.within:
            within[bound] = within.get(bound, 0) + count
    return LoadSeen(
        epoch=seen[0].epoch,
        answered=sum(load.answered for load in seen),
        active=sum(load.active for load in seen),
        seconds=sum(load.seconds for load in seen),
        within=tuple(sorted(within.items())),
    )


def remember(history: History, load: LoadSeen, scope: Scope, now: float) -> History:
    """The history with one look more. Counters that began anew tell nothing of the time before."""
    last = history.last
    needs = tuple(one for one in history.needs if now - one[0] <= PATIENT_SECONDS)
    if last is None or last.epoch != load.epoch or load.answered < last.answered or now <= history.at:
        return History(load, now, history.samples, needs)
    answered = load.answered - last.answered
    sample = Sample(
        at=now,
        span=now - history.at,
        arrived=max(0, answered + load.active - last.active),
        answered=answered,
        late=min(answered, max(0, _late(load, scope) - _late(last, scope))),
        seconds=load.seconds - last.seconds,
    )
    kept = tuple(one for one in history.samples if now - one.at <= PATIENT_SECONDS)
    return History(load, now, (*kept, sample), needs)


def size(
    history: History, scope: Scope, asked: int, ready: int, now: float, *, is_moving: bool
) -> tuple[History, Size]:
    """How many replicas there shall be; ``asked`` is how many there shall be so far, ``ready`` of them are.

    ``is_moving``: a rollout is under way. The history comes back with what this look found.
    """
    needed, why = _needed(history, scope, asked, ready, now)
    history = history._replace(needs=(*history.needs, (now, needed)))
    held = max(_in_flight(history, scope), *(need for _, need in history.needs))
    wanted = needed if needed >= asked else min(asked, held)
    is_known = bool(history.samples) and now - history.needs[0][0] >= PATIENT_SECONDS - AHEAD_SECONDS
    if wanted < asked and (is_moving or not is_known):
        wanted = asked
    bounded, told = _bounded(wanted, scope)
    return history, Size(bounded, f"{why}{told}")


def utilization(replicas: int, ratio: float, share: float = LATE_SHARE) -> float:
    """How busy replicas may be, 0 to 1, for all but ``share`` of requests to take at most ``ratio`` service times.

    Each replica serves one request at a time, in the order of arrival, and the shorter of two queues drawn by lot gets
    the next. Of one replica it is the tail of M/D/1 (waiting decays with x where rho = x/(e^x - 1)); n replicas are
    taken for one that is n times as fast, who waits at all is Sakasegawa's rho^(sqrt(2(n+1)) - 1), and what two
    choices lose against one queue is Mitzenmacher's limit: a share of rho^(2^k - 1) queues holds k or more. Within 12 %
    of a simulation of 1 to 12 replicas and 3 to 20 service times (benchmarks/autoscaling.py --table).
    """
    ratio = max(ratio, 1.5)
    low, high = 1e-9, 50.0
    for _ in range(40):
        x = (low + high) / 2.0
        waits = (x / math.expm1(x)) ** (math.sqrt(2.0 * (replicas + 1)) - 1.0)
        low, high = (low, x) if waits * math.exp(-x * replicas * (ratio - 1.2)) < share else (x, high)
    rho = high / math.expm1(high)
    if replicas > 1:
        rho *= share ** (1.0 / (2.0 ** min(ratio + 0.5, 60.0) - 2.0))
    return min(FULLEST, rho)


def replicas_for(rate: float, service: float, latency: float, most: int) -> int:
    """The fewest replicas that hold ``rate`` requests a second of ``service`` seconds each; at most ``most`` + 1."""
    for replicas in range(1, most + 1):
        if rate * service <= replicas * utilization(replicas, latency / service):
            return replicas
    return most + 1


def service_of(history: History, scope: Scope) -> float | None:
    """Seconds that a request takes of a replica: the shortest mean of many answers, in which hardly any waited.

    Never below half of what the gates measured. None where neither they nor the traffic tell. Both are times of a whole
    core: a replica that may use less of one is held back only once it is busy.
    """
    means: list[float] = []
    answered, seconds = 0, 0.0
    for sample in history.samples:
        answered, seconds = answered + sample.answered, seconds + sample.seconds
        if answered >= ENOUGH_ANSWERS:
            means.append(seconds / answered)
            answered, seconds = 0, 0.0
    if not means:
        return scope.service and scope.service / scope.share
    return max(min(means), LEAST_SERVICE, (scope.service or 0.0) / 2.0) / scope.share


def _needed(history: History, scope: Scope, asked: int, ready: int, now: float) -> tuple[int, str]:
    service = service_of(history, scope)
    if service is None or not history.samples or history.last is None:
        return scope.least, "too little was answered yet to tell what a request takes"
    latency = scope.latency or GATES_BY_DEFAULT * service
    steady = [one for one in history.samples if now - one.at < STEADY_SECONDS]
    fast = [one for one in steady if now - one.at < FAST_SECONDS]
    expected = _expected(steady, now)
    reasons = [(replicas_for(expected, service, latency, scope.most), f"{expected:.3g} requests/s are expected")]
    sudden = _sudden(fast, expected)
    if sudden is not None:
        waiting = history.last.active / AHEAD_SECONDS
        because = f"{sudden:.3g} requests/s came at once and {history.last.active} are in flight"
        reasons.append((replicas_for(sudden + waiting, service, latency, scope.most), because))
    answered, late = sum(one.answered for one in fast), sum(one.late for one in fast)
    if ready >= asked and late > LATE_IN_PANIC * answered and answered >= ENOUGH_ANSWERS // 5:
        reasons.append((asked + 1, f"{late} of {answered} answers were late"))
    needed, reason = max(reasons, key=lambda one: one[0])
    takes = f"a request takes {service * 1000:.3g} ms of a replica and may take {latency * 1000:.4g} ms"
    return min(needed, scope.most + 1), f"{reason}; {takes}"


def _expected(steady: Sequence[Sample], now: float) -> float:
    """Requests a second when a replica asked for now would be ready: the line through the last minute, drawn on.

    Least squares, each sample weighing as long as it took; never below the last minute's mean.
    """
    span = sum(one.span for one in steady)
    if span <= 0.0:
        return 0.0
    mean = sum(one.arrived for one in steady) / span
    middle = sum((one.at - one.span / 2.0) * one.span for one in steady) / span
    spread = sum((one.at - one.span / 2.0 - middle) ** 2 * one.span for one in steady)
    if span < STEADY_SECONDS / 2.0 or spread <= 0.0:
        return mean
    slope = sum((one.at - one.span / 2.0 - middle) * (one.arrived - mean * one.span) for one in steady) / spread
    return max(mean, mean + slope * (now + AHEAD_SECONDS - middle))


def _sudden(fast: Sequence[Sample], expected: float) -> float | None:
    """The highest rate of the last samples, from the newest back, that is more than chance makes of ``expected``."""
    rates = []
    arrived, span = 0, 0.0
    for sample in reversed(fast):
        arrived, span = arrived + sample.arrived, span + sample.span
        if arrived > expected * span + CHANCE * math.sqrt(expected * span + 1.0):
            rates.append(arrived / span)
    return max(rates, default=None)


def _in_flight(history: History, scope: Scope) -> int:
    """The fewest that answer what is in flight within the gate, however little arrives now."""
    service = service_of(history, scope)
    if service is None or history.last is None:
        return scope.least
    return math.ceil(history.last.active * service / (scope.latency or GATES_BY_DEFAULT * service))


def _late(load: LoadSeen, scope: Scope) -> int:
    """Answers so far that took longer than the gate, by the first bound of the counter that is not below it."""
    latency = math.inf if scope.latency is None else scope.latency * 1000.0
    return load.answered - next((count for bound, count in load.within if bound >= latency), load.answered)


def _bounded(wanted: int, scope: Scope) -> tuple[int, str]:
    most = max(scope.least, min(scope.most, scope.room))
    if wanted <= most:
        return max(wanted, scope.least), ""
    short = f"{wanted}" if wanted <= scope.most else f"more than {scope.most}"
    who = "the machine holds" if scope.room < scope.most else "the pipeline file allows"
    return most, f"; {short} are needed, {who} {most}"
