"""A canary played over made traffic: analysis and steps are those of live ones, without replicas and waiting.

A bad candidate is bad by its errors. Its latencies, and its accuracy where labels are asked for, are those of stable.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from interlock.cli.output import Line
from interlock.delivery.analysis.engine import SAFETY_ALPHA, harm_of, observe
from interlock.delivery.analysis.forecast import visible_errors
from interlock.delivery.analysis.gains import Side
from interlock.delivery.analysis.streams import Rule
from interlock.delivery.analysis.ticks import WHOLE, Counts, Latencies, Seen, Tick
from interlock.delivery.looks.evidence import analysis_of
from interlock.pipeline.plan import ACCURACY, StrategyPlan

TICK = 10.0
"""Seconds between two looks. Live ones are closer, which changes little: each is judged within itself."""


WRONG = 0.1
"""The share of answers that labels prove wrong, on both sides."""
SLOWER = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
"""Shares of answers that take more than one more step of made latency: each step is 1.5 times as long."""
STEP_BINS = 20


class Traffic(NamedTuple):
    """Requests a minute to both sides together, and the share of stable's that fail."""

    requests: float
    rate: float


class Odds(NamedTuple):
    """Of ``runs`` rollouts: how many were rolled back for harm and promoted, and when (seconds, medians)."""

    runs: int
    rolled_back: int
    promoted: int
    until_rolled_back: float | None
    until_promoted: float | None


def weights_over_time(strategy: StrategyPlan) -> Iterator[tuple[float, bool]]:
    """For each tick until the deadline the candidate's weight, and whether only proof is missing for the next one."""
    left = strategy.deadline
    weight = 0.0
    for step in strategy.steps:
        if step.set_weight == 100:
            break
        weight = weight if step.set_weight is None else step.set_weight / 100.0
        for _ in range(math.ceil(((step.analysis or 0.0) + (step.pause or 0.0)) / TICK)):
            if left <= 0.0:
                return
            yield weight, False
            left -= TICK
    while left > 0.0:
        yield weight, True
        left -= TICK


def play(strategy: StrategyPlan, traffic: Traffic, worse: float, runs: int, seed: int) -> Odds:
    """So many rollouts of a candidate whose error rate is ``worse`` times stable's."""
    random = Random(seed)  # noqa: S311  # a simulation, repeatable by its seed
    ends = [_play_once(strategy, traffic, min(1.0, traffic.rate * worse), random) for _ in range(runs)]
    harmed = [seconds for seconds, is_harm in ends if is_harm]
    proven = [seconds for seconds, is_harm in ends if is_harm is False]
    return Odds(
        runs,
        len(harmed),
        len(proven),
        statistics.median(harmed) if harmed else None,
        statistics.median(proven) if proven else None,
    )


def _play_once(strategy: StrategyPlan, traffic: Traffic, rate: float, random: Random) -> tuple[float, bool | None]:
    """When it ended, and whether by harm; None where the deadline came."""
    analysis = analysis_of(strategy.analysis, strategy.deadline)
    needed, proof = 1.0 / strategy.analysis.alpha, -math.log(SAFETY_ALPHA)
    owed = [0.0, 0.0]
    seconds = 0.0
    for weight, is_last in weights_over_time(strategy):
        sides = []
        for index, share in enumerate((weight, 1.0 - weight)):
            owed[index] += traffic.requests / 60.0 * TICK * share
            requests = int(owed[index])
            owed[index] -= requests
            sides.append((_failing(random, requests, traffic.rate if index else rate), requests))
        seconds += TICK
        seen = {rule.metric: {WHOLE: _made(rule, sides, random)} for rule in analysis.rules}
        analysis = observe(analysis, Tick(number=analysis.last + 1, seconds=TICK, seen=seen))
        if harm_of(analysis) >= needed:
            return seconds, True
        counting = [analysis.streams[index] for index in analysis.counting]
        if is_last and min(stream.log_safety for stream in counting) >= proof:
            return seconds, False
    return seconds, None


def _made(rule: Rule, sides: Sequence[Side], random: Random) -> Seen:
    """What a tick brings for a rule; ``sides`` are (errors, requests) of the candidate and of stable."""
    requests = [of_side for _, of_side in sides]
    if rule.kind == "latency":
        candidate, stable = (_latencies(count, random) for count in requests)
        return Latencies(candidate=candidate, stable=stable)
    if rule.metric == ACCURACY:
        sides = [(_failing(random, count, WRONG), count) for count in requests]
    (x1, n1), (x0, n0) = sides
    return Counts(candidate_events=x1, candidate_requests=n1, stable_events=x0, stable_requests=n0)


def _latencies(requests: int, random: Random) -> dict[int, int]:
    """So many answers by bin of their latency."""
    bins: dict[int, int] = {}
    left, share = requests, 1.0
    for step, slower in enumerate((*SLOWER, 0.0)):
        beyond = _failing(random, left, slower / share)
        bins[step * STEP_BINS] = left - beyond
        left, share = beyond, slower
    return {index: count for index, count in bins.items() if count}


def _failing(random: Random, requests: int, rate: float) -> int:
    """How many of so many requests fail, each by itself: from one failure to the next."""
    if rate <= 0.0 or rate >= 1.0:
        return requests if rate >= 1.0 else 0
    failed, at = 0, -1
    while True:
        at += 1 + int(math.log(1.0 - random.random()) / math.log(1.0 - rate))
        if at >= requests:
            return failed
        failed += 1


def visible_lines(strategy: StrategyPlan, traffic: Traffic) -> list[Line]:
    """For each weight the smallest regression that this traffic shows while it lasts."""
    lines = []
    for weight, minutes, ratio in visible_errors(strategy, traffic.requests, traffic.rate):
        told = f"at {traffic.requests:g} requests/min and {weight} % you will see"
        if ratio is None:
            lines.append(Line(f"  {told} nothing in {minutes:g} min: raise the weight, or wait longer", "warn"))
        else:
            lines.append(Line(f"  {told} errors x{ratio:.2g} or more in {minutes:g} min"))
    return lines


def odds_line(what: str, odds: Odds) -> Line:
    """What became of the rollouts, for people."""

    def part(count: int, seconds: float | None) -> str:
        return f"{100.0 * count / odds.runs:.3g} %" + ("" if seconds is None else f" (median {seconds / 60.0:.3g} min)")

    held = odds.runs - odds.rolled_back - odds.promoted
    return Line(
        f"  {what}: rolled back for harm {part(odds.rolled_back, odds.until_rolled_back)}, "
        f"promoted {part(odds.promoted, odds.until_promoted)}, undecided at the deadline {part(held, None)}"
    )
