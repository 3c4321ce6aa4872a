"""A canary played over made traffic: analysis and steps are those of live ones, without replicas and waiting.

A bad candidate is bad by its errors. Its latencies, and its accuracy where labels are asked for, are those of stable.
Of copied requests both sides fail by themselves; half as many answers differ as ``agreement`` leaves. Nothing is made
of slices: they say nothing, and have their share of the evidence.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from interlock.cli.output import Line
from interlock.delivery.analysis.engine import SAFETY_ALPHA, harm_of, observe
from interlock.delivery.analysis.forecast import visible_errors
from interlock.delivery.analysis.gains import Side
from interlock.delivery.analysis.streams import Rule
from interlock.delivery.analysis.ticks import WHOLE, Counts, Latencies, Pairs, Seen, Tick
from interlock.delivery.looks.evidence import analysis_of
from interlock.delivery.looks.pairs import ON_PAIRS
from interlock.pipeline.canaries.plan import ACCURACY, StrategyPlan

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


class Exposure(NamedTuple):
    """One tick: the candidate's ``weight``, the share of requests that is ``copied`` to it, and whether only proof is
    missing for the next step.
    """

    weight: float
    copied: float
    is_last: bool


def exposures(strategy: StrategyPlan, holds: Callable[[], bool]) -> Iterator[Exposure]:
    """What the candidate is given in each tick until the deadline; a mirror lasts on while it ``holds``."""
    ticks = range(math.ceil(strategy.deadline / TICK))
    planned = _planned(strategy, holds)
    last = Exposure(0.0, 0.0, True)
    for _ in ticks:
        exposure = next(planned, None)
        last = last if exposure is None else exposure._replace(is_last=True)
        yield last if exposure is None else exposure


def _planned(strategy: StrategyPlan, holds: Callable[[], bool]) -> Iterator[Exposure]:
    """The ticks of all steps but the last, which waits for proof."""
    weight = 0.0
    for step in strategy.steps:
        if step.set_weight == 100:
            return
        weight = weight if step.set_weight is None else step.set_weight / 100.0
        mirror = step.mirror
        seconds = (step.analysis or 0.0) + (step.pause or 0.0) if mirror is None else mirror.seconds
        exposure = Exposure(weight, 0.0 if mirror is None else mirror.percent / 100.0, False)
        for _ in range(math.ceil(seconds / TICK)):
            yield exposure
        while mirror is not None and holds():
            yield exposure


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
    is_unproven = {"agreement": any(rule.kind == "agreement" and not rule.is_dry_run for rule in analysis.rules)}
    for exposure in exposures(strategy, lambda: is_unproven["agreement"]):
        copied, weight = exposure.copied, exposure.weight
        sides = []
        for index, share in enumerate((copied, copied) if copied else (weight, 1.0 - weight)):
            owed[index] += traffic.requests / 60.0 * TICK * share
            requests = int(owed[index])
            owed[index] -= requests
            sides.append((_failing(random, requests, traffic.rate if index else rate), requests))
        seconds += TICK
        made = _made_pairs if copied else _made
        seen = {rule.metric: {WHOLE: found} for rule in analysis.rules if (found := made(rule, sides, random))}
        analysis = observe(analysis, Tick(number=analysis.last + 1, seconds=TICK, seen=seen))
        if harm_of(analysis) >= needed:
            return seconds, True
        counting = [(analysis.rules[index], analysis.streams[index]) for index in analysis.counting]
        is_unproven["agreement"] = any(
            rule.kind == "agreement" and stream.log_safety < proof for rule, stream in counting
        )
        if exposure.is_last and min(stream.log_safety for _, stream in counting) >= proof:
            return seconds, False
    return seconds, None


def _made_pairs(rule: Rule, sides: Sequence[Side], random: Random) -> Seen | None:
    """What copied requests bring for a rule; ``sides`` are (errors, requests) of the copies and of their requests."""
    (failed, copies), (stable_failed, _) = sides
    if rule.metric not in ON_PAIRS or not copies:
        return None
    if rule.kind == "agreement":
        return Pairs(pairs=copies, worse=_failing(random, copies, (rule.max or 0.0) / 2.0))
    if rule.metric == ACCURACY:
        failed, stable_failed = (_failing(random, copies, WRONG) for _ in sides)
    both = sum(random.random() < failed / copies for _ in range(stable_failed))
    both = max(failed + stable_failed - copies, min(both, failed))
    return Pairs(pairs=copies, worse=failed - both, better=stable_failed - both, both=both)


def _made(rule: Rule, sides: Sequence[Side], random: Random) -> Seen | None:
    """What a tick brings for a rule; ``sides`` are (errors, requests) of the candidate and of stable."""
    if rule.kind == "agreement":
        return None
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
    """For each mirror and weight the smallest regression that this traffic shows while it lasts."""
    lines = []
    for one in visible_errors(strategy, traffic.requests, traffic.rate):
        told = f"at {traffic.requests:g} requests/min and {one.place} you will see"
        if one.ratio is None:
            way_out = "copy more" if one.is_mirror else "raise the weight, begin with a mirror"
            lines.append(Line(f"  {told} nothing in {one.minutes:g} min: {way_out}, or wait longer", "warn"))
        else:
            lines.append(Line(f"  {told} errors x{one.ratio:.2g} or more in {one.minutes:g} min"))
    return lines


def slices_lines(strategy: StrategyPlan) -> list[Line]:
    """What is not played of it."""
    names = [name for metric in strategy.analysis.metrics for name in metric.slice_names]
    told = "is not played: it takes its share of the evidence, and finds nothing here"
    return [Line(f"  what a slice shows ({', '.join(names)}) {told}", "dim")] if names else []


def odds_line(what: str, odds: Odds) -> Line:
    """What became of the rollouts, for people."""

    def part(count: int, seconds: float | None) -> str:
        return f"{100.0 * count / odds.runs:.3g} %" + ("" if seconds is None else f" (median {seconds / 60.0:.3g} min)")

    held = odds.runs - odds.rolled_back - odds.promoted
    return Line(
        f"  {what}: rolled back for harm {part(odds.rolled_back, odds.until_rolled_back)}, "
        f"promoted {part(odds.promoted, odds.until_promoted)}, undecided at the deadline {part(held, None)}"
    )
