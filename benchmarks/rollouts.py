"""How often rollouts are wrong, and how soon they are right: the analysis beside the rules of other systems, simulated.

    python benchmarks/rollouts.py [--runs 2000] [--detections 400] [--processes 2]

A rollout takes 60 minutes: 5, 10, 25 and 50 % of the traffic for 15 minutes each, with a look every 10 s. Worlds (seeds
are fixed; sizes, correlations and incidents as published for such services):

``iid``      nothing but chance
``real``     bursts and daily traffic; error rates and latencies of both sides move together; incidents (x20, 40 s)
``trend``    as real, and errors and latency of both sides rise to the double during the rollout
``replicas`` as real, and each replica has spells of its own (errors sd 0.4, latency sd 8 %, correlated over 60 s)
``cold``     as real, and the candidate begins 2.7 times slower and worse, decaying within minutes
``simpson``  as real, and heavy requests (x4 errors, x2 latency) come twice as often to the candidate

The analysis is vectorised over runs here; a test feeds the same ticks to the engine itself and compares every e-value.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np

from interlock.delivery.analysis.bets import STAKE_WEIGHTS, STAKES
from interlock.delivery.analysis.engine import begin_analysis, observe
from interlock.delivery.analysis.gains import EXACT_CASES
from interlock.delivery.analysis.spread import BLOCKS
from interlock.delivery.analysis.streams import STRATA_SHARE, Rule
from interlock.delivery.analysis.ticks import Counts, Latencies, Pairs, Seen, Tick
from interlock.delivery.analysis.wealth import PAIR_RATIOS, PAIR_WEIGHTS, RATIO_WEIGHTS, RATIOS

TICKS, SECONDS = 360, 10.0
WEIGHTS = (0.05, 0.10, 0.25, 0.50)
ALPHA, NEEDED, PROVEN = 0.01, 100.0, 20.0
STABLE, CANDIDATE = 4, 2  # replicas
MEDIAN_MS, SIGMA = 60.0, 0.6  # latencies: 1 % take 242 ms
BINS, LOWEST = 520, 40  # of 2 %, from 2.2 ms
GROWTH = math.log(1.02)
TOLERATED = 1.06  # of latencies
WARM_UP = 300.0  # seconds in which a candidate's replicas are not judged
MARGIN = 0.01  # of errors, to be proven
HISTORY = 1440  # ticks of the baseline, from which the spread of its replicas is learnt
QUANTILES = ((0.5, 0.0, 20.0), (0.9, 1.2815515655, 50.0), (0.99, 2.3263478740, 200.0))
WORLDS = ("iid", "real", "trend", "replicas", "cold", "simpson")
Array = Any


class Scenario(NamedTuple):
    """What is wrong with the candidate: more errors (a share), slower by a factor, fewer right answers (a share)."""

    world: str = "real"
    rate: float = 10.0
    errors: float = 0.0
    slower: float = 1.0
    quality: float = 0.0
    base: float = 0.005
    ticks: int = TICKS
    times_errors: float = 1.0


class Look(NamedTuple):
    """One tick of all runs. Errors and requests by run and stratum; latencies by stratum, then run and bin."""

    x1: Array
    n1: Array
    x0: Array
    n0: Array
    slow1: list[Array]
    slow0: list[Array]
    pairs: Array
    worse: Array
    better: Array


def correlated(rng: Any, before: Array | None, shape: tuple[int, ...], deviation: float, over: float) -> Array:
    """One step of an autoregressive process with this standard deviation, forgetting over so many seconds."""
    if before is None:
        return rng.normal(0.0, deviation, shape)
    kept = math.exp(-SECONDS / over)
    return kept * before + math.sqrt(1 - kept**2) * rng.normal(0.0, deviation, shape)


def looks(scenario: Scenario, runs: int, seed: int) -> Iterator[Look]:
    """The ticks of ``runs`` rollouts."""
    rng = np.random.default_rng(seed)
    is_iid, is_noisy = scenario.world == "iid", scenario.world == "replicas"
    heavy = np.array([0.2, 0.4]) if scenario.world == "simpson" else np.zeros(2)
    strata = 2 if scenario.world == "simpson" else 1
    side = np.repeat([0] * STABLE + [1] * CANDIDATE, strata)  # by group: replica, then stratum
    stratum = np.tile(np.arange(strata), STABLE + CANDIDATE)
    errors = slowness = noise = noise_ms = None
    incident, phase = np.zeros(runs), rng.uniform(0, 2 * math.pi, runs)
    for tick in range(scenario.ticks):
        weight = WEIGHTS[min(3, tick * 4 // scenario.ticks)]
        mean = np.full(runs, scenario.rate * SECONDS)
        level, shift = np.zeros(runs), np.zeros(runs)
        if not is_iid:
            mean *= rng.gamma(20.0, 1 / 20.0, runs) * (1 + 0.3 * np.sin(phase + tick * SECONDS / 13751.0))
            errors = correlated(rng, errors, (runs,), 0.5, 120.0)
            slowness = correlated(rng, slowness, (runs,), 0.08, 120.0)
            incident = np.maximum(0, incident - 1)
            incident[rng.random(runs) < SECONDS / 1800.0] = 4
            level = errors - 0.125 + np.where(incident > 0, math.log(20.0), 0.0)
            shift = slowness + np.where(incident > 0, 0.5, 0.0)
        if scenario.world == "trend":
            level, shift = level + math.log(2) * tick / scenario.ticks, shift + math.log(2) * tick / scenario.ticks
        group_level, group_shift = level[:, None] + np.zeros(side.size), shift[:, None] + np.zeros(side.size)
        if is_noisy:
            noise = correlated(rng, noise, (runs, side.size), 0.4, 60.0)
            noise_ms = correlated(rng, noise_ms, (runs, side.size), 0.08, 60.0)
            group_level, group_shift = group_level + noise - 0.08, group_shift + noise_ms
        if scenario.world == "cold":
            cold = math.log1p(1.7 * math.exp(-tick * SECONDS / 60.0))
            group_level, group_shift = group_level + cold * side, group_shift + cold * side
        group_level = group_level + math.log(4.0) * stratum
        group_shift = group_shift + math.log(2.0) * stratum + math.log(scenario.slower) * side
        rate = np.minimum(0.9, scenario.base * np.exp(group_level) * np.where(side, scenario.times_errors, 1.0))
        rate = np.minimum(0.95, rate + scenario.errors * side)
        part = np.where(side, weight / CANDIDATE, (1 - weight) / STABLE)
        part = part * (1.0 if strata == 1 else np.where(stratum, heavy[side], 1 - heavy[side]))
        requests = rng.poisson(mean[:, None] * part)
        failed = rng.binomial(requests, rate)
        counted = [[(side == which) & (stratum == one) for one in range(strata)] for which in (0, 1)]
        times = [[_binned(rng, requests[:, chosen], group_shift[:, chosen]) for chosen in by] for by in counted]
        labels = rng.poisson(mean * 0.2 * (1 - math.exp(-tick * SECONDS / 600.0)))
        worse = rng.binomial(labels, 0.03 + scenario.quality / 2)
        better = rng.binomial(labels - worse, (0.03 - scenario.quality / 2) / (0.97 - scenario.quality / 2))
        sides = [np.stack([of[:, one].sum(1) for one in by], 1) for by in counted[::-1] for of in (failed, requests)]
        yield Look(*sides, times[1], times[0], labels, worse, better)


def _binned(rng: Any, requests: Array, shift: Array) -> Array:
    runs = requests.shape[0]
    each = np.repeat(shift.ravel(), requests.ravel())
    run = np.repeat(np.repeat(np.arange(runs), requests.shape[1]), requests.ravel())
    values = math.log(MEDIAN_MS) + each + SIGMA * rng.standard_normal(each.size)
    bins = np.clip(np.floor(values / GROWTH).astype(np.int64) - LOWEST, 0, BINS - 1)
    return np.bincount(run * BINS + bins, minlength=runs * BINS).reshape(runs, BINS)


# -- the analysis, for all runs at once


class Wealth:
    """E-processes of all runs (``EProcess``)."""

    def __init__(self, runs: int, horizon: int, weights: tuple[float, ...] = RATIO_WEIGHTS) -> None:
        self.weights, self.horizon = np.array(weights), horizon
        self.kept, self.begun = np.zeros((runs, len(weights))), np.zeros((runs, len(weights)))
        self.ticks = np.zeros(runs)

    def grow(self, gains: Array) -> None:
        """One tick later, by run and alternative."""
        says = gains.any(axis=1)
        spent = np.where(says & (self.ticks < self.horizon), 0.5 / self.horizon, 0.0)
        self.kept = np.minimum(600.0, self.kept + gains)
        self.begun = np.minimum(math.exp(600.0), (self.begun + spent[:, None]) * np.exp(np.minimum(600.0, gains)))
        self.ticks += says

    @property
    def value(self) -> Array:
        """The e-values now."""
        cash = 0.5 * (1 - np.minimum(1.0, self.ticks / self.horizon))
        return cash + (0.5 * np.exp(self.kept) + self.begun) @ self.weights


def ratio_gains(x1: Array, n1: Array, x0: Array, n0: Array, ratios: tuple[float, ...] = RATIOS) -> Array:
    """By run and alternative (``gains.ratio_gains``), nothing tolerated."""
    r = np.array(ratios)
    x1, n1, x0, n0 = (side[:, None].astype(float) for side in (x1, n1, x0, n0))
    is_told = (n1 > 0) & (n0 > 0)
    shrunk = np.log(np.where(is_told, n1 + n0, 1.0) / np.where(is_told, n1 * r + n0, 1.0))
    return np.where(is_told, (x1 + x0) * shrunk + x1 * np.log(r), 0.0)


def odds_gains(x1: Array, n1: Array, x0: Array, n0: Array) -> Array:
    """By run and alternative (``gains.odds_gains``), nothing tolerated."""
    r = np.array([1.0, *RATIOS])
    x1, n1, x0, n0 = (side[:, None].astype(float) for side in (x1, n1, x0, n0))
    events = x1 + x0
    is_told = (n1 > 0) & (n0 > 0) & (events > 0) & (events < n1 + n0)
    least, most = np.maximum(0, events - n0), np.minimum(n1, events)
    total = np.ones((x1.shape[0], r.size))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for step in range(EXACT_CASES - 1, -1, -1):
            x = least + step
            ratio = (n1 - x) * (events - x) / ((x + 1) * (n0 - events + x + 1))
            total = np.where(x < most, 1.0 + ratio * r * total, total)
        exact = (x1 - least) * np.log(r[1:]) - np.log(total[:, 1:] / total[:, :1])
        share = np.maximum(n1 + n0, 1.0)
        bound = x1 * np.log(r[1:]) - np.minimum(
            events * np.log1p(n1 / share * (r[1:] - 1)), n1 * np.log1p(events / share * (r[1:] - 1))
        )
    is_exact = (most <= EXACT_CASES) & np.isfinite(total).all(axis=1, keepdims=True)
    return np.where(is_told, np.where(is_exact, exact, bound), 0.0)


class Channel:
    """One channel of a rule: strata added up, and each with a share where there are several (``streams.grow``)."""

    def __init__(self, runs: int, horizon: int, strata: int, variances: Array | None) -> None:
        self.whole = Wealth(runs, horizon)
        self.parts = [Wealth(runs, horizon) for _ in range(strata)] if strata > 1 else []
        self.sum = np.zeros((runs, len(RATIOS)))
        self.variances = variances
        self.expected = np.zeros((strata, 2, runs))

    def add(self, stratum: int, gains: Array, stable: tuple[Array, Array], n1: Array) -> Array:
        """With one tick of a stratum; the share of its evidence that counts, by run."""
        events, requests = self.expected[stratum]
        counts = np.ones((gains.shape[0], 1))
        if self.variances is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                expected = events / requests * n1 / SECONDS
            blocks = self.variances * np.array(BLOCKS) * np.nan_to_num(expected)[:, None]
            divisor = 1.0 + (1.0 + 1.0 / STABLE) * blocks.max(1)
            counts = np.where(requests > 0, 1.0 / divisor, 0.0)[:, None]
        gains = gains * counts
        self.expected[stratum] = self.expected[stratum] * 2 ** (-SECONDS / 180.0) + np.stack(stable)
        self.sum = self.sum + gains
        if self.parts:
            self.parts[stratum].grow(gains)
        return counts

    def close(self) -> None:
        """After the strata of one tick."""
        self.whole.grow(self.sum)
        self.sum = np.zeros_like(self.sum)


def harm(channels: list[Channel]) -> Array:
    """The e-values of one metric (``Stream.harm_value``)."""
    whole = sum(channel.whole.value for channel in channels) / len(channels)
    parts = [part.value for channel in channels for part in channel.parts]
    return whole if not parts else (1 - STRATA_SHARE) * whole + STRATA_SHARE * sum(parts) / len(parts)


def learnt(scenario: Scenario, runs: int, seed: int) -> dict[str, Array]:
    """By channel the variances between the baseline's replicas in the hours before (``spread.learn``)."""
    rng = np.random.default_rng(seed + 10**6)
    names = ["errors", *(f"p{100 * quantile:g}" for quantile, _, _ in QUANTILES)]
    counted = {name: np.zeros((HISTORY, runs, STABLE)) for name in names}
    requests = np.zeros((HISTORY, runs, STABLE))
    noise = noise_ms = shared = None
    for tick in range(HISTORY):
        noise = correlated(rng, noise, (runs, STABLE), 0.4, 60.0)
        noise_ms = correlated(rng, noise_ms, (runs, STABLE), 0.08, 60.0)
        shared = correlated(rng, shared, (runs, 1), 0.5, 120.0)
        requests[tick] = asked = rng.poisson(scenario.rate * SECONDS / STABLE, (runs, STABLE))
        chance = np.minimum(0.9, scenario.base * np.exp(shared - 0.125 + noise - 0.08))
        counted["errors"][tick] = rng.binomial(asked, chance)
        for name, (_, z, _) in zip(names[1:], QUANTILES, strict=True):
            above = 0.5 * (1 - _erf((z - noise_ms / SIGMA) / math.sqrt(2)))
            counted[name][tick] = rng.binomial(asked, above)
    return {name: np.stack([_variance(counted[name], requests, block) for block in BLOCKS], 1) for name in names}


def _erf(x: Array) -> Array:
    """Abramowitz and Stegun 7.1.26: within 1.5e-7."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - series * np.exp(-x * x))


def _variance(events: Array, requests: Array, block: float) -> Array:
    size = round(block / SECONDS)
    x, n = (of.reshape(-1, size, *of.shape[1:]).sum(1) for of in (events, requests))
    m, total = x.sum(2, keepdims=True), n.sum(2, keepdims=True)
    expected = m * n / total
    squares = ((x - expected) ** 2 / np.where(expected > 0, expected, 1.0)).sum(2)
    m, total = m[..., 0], total[..., 0]
    excess = np.where(m > 0, squares - (STABLE - 1) * (1 - m / total), 0.0).sum(0)
    return np.maximum(0.0, excess / np.maximum(1.0, (m * (STABLE - 1) / STABLE).sum(0)))


class Judge:
    """The analysis of all runs: e-values of errors, latency, quality, all together, and of safety, after every tick."""

    def __init__(self, scenario: Scenario, runs: int, seed: int) -> None:
        self.scenario, self.runs = scenario, runs
        strata = 2 if scenario.world == "simpson" else 1
        spread = learnt(scenario, runs, seed) if scenario.world == "replicas" else {}
        make = lambda name: Channel(runs, scenario.ticks, strata, spread.get(name))  # noqa: E731
        self.errors = make("errors")
        self.latency = [make(f"p{100 * quantile:g}") for quantile, _, _ in QUANTILES]
        self.pairs = Wealth(runs, scenario.ticks, PAIR_WEIGHTS)
        self.bets = np.zeros((runs, len(STAKES)))
        self.known = np.zeros((strata, runs, BINS))
        self.tick = 0

    def observe(self, look: Look) -> dict[str, Array]:
        """With one more tick: the e-values by name."""
        is_cold = self.scenario.world == "cold" and self.tick * SECONDS < WARM_UP
        self.tick += 1
        if not is_cold:
            self._judge(look)
        self.known = self.known * 2 ** (-SECONDS / 180.0) + np.stack(look.slow0)
        each = {"errors": harm([self.errors]), "latency": harm(self.latency), "quality": self._quality()}
        each["whole"] = 0.4 * each["errors"] + 0.4 * each["latency"] + 0.2 * each["quality"]
        each["safe"] = np.exp(np.minimum(600.0, self.bets)) @ np.array(STAKE_WEIGHTS)
        return each

    def _quality(self) -> Array:
        share = STRATA_SHARE if self.errors.parts else 0.0  # no stratum has pairs of its own here
        return (1 - share) * self.pairs.value + share

    def _judge(self, look: Look) -> None:
        later = math.ceil(math.log(TOLERATED) / GROWTH - 1e-9)
        stakes = np.array(STAKES)
        for stratum in range(look.x1.shape[1]):
            x1, n1, x0, n0 = (of[:, stratum] for of in look[:4])
            counts = self.errors.add(stratum, ratio_gains(x1, n1, x0, n0), (x0, n0), n1)
            share = (n1 / np.maximum(1, n0))[:, None]
            gains = x1[:, None] * np.log1p(-stakes) + x0[:, None] * np.log1p(stakes * share)
            safe = np.where(((n1 > 0) & (n0 > 0))[:, None], gains + stakes * n1[:, None] * MARGIN, 0.0)
            self.bets += safe * counts
            below = np.cumsum(self.known[stratum], 1)
            above1, above0 = (np.cumsum(of[stratum][:, ::-1], 1)[:, ::-1] for of in (look.slow1, look.slow0))
            rows = np.arange(self.runs)
            for channel, (quantile, _, fewest) in zip(self.latency, QUANTILES, strict=True):
                total = below[:, -1]
                edge = np.minimum(BINS - 1 - later, (below < quantile * (1 - 1e-9) * total[:, None]).sum(1) + 1)
                is_known = total >= fewest
                slow1, slow0 = above1[rows, edge + later], above0[rows, edge]
                gains = np.where(is_known[:, None], odds_gains(slow1, n1, slow0, n0), 0.0)
                channel.add(stratum, gains, (slow0 * is_known, n0 * is_known), n1)
        for channel in (self.errors, *self.latency):
            channel.close()
        one = np.ones(self.runs)
        self.pairs.grow(ratio_gains(look.worse, one, look.better, one, PAIR_RATIOS))


# -- the rules of others, on error rates; each is told when it rolls back


class Others:
    """Argo Rollouts, Flagger, Kayenta, a stratified z-test with Pocock's limit, and who knows the truth (SPRT)."""

    def __init__(self, scenario: Scenario, runs: int) -> None:
        self.ratio = max(1.0001, (scenario.base * scenario.times_errors + scenario.errors) / scenario.base)
        self.oracle = np.zeros(runs)
        self.minutes: list[tuple[Array, Array, Array, Array]] = []
        self.minute: list[tuple[Array, Array, Array, Array]] = []
        self.difference, self.variance = np.zeros(runs), np.zeros(runs)
        self.failed = {name: np.zeros(runs) for name in ("argo", "argo 99", "flagger")}

    def observe(self, look: Look) -> dict[str, Array]:
        """Which runs each of them rolls back now."""
        by_stratum = [tuple(of[:, one] for of in look[:4]) for one in range(look.x1.shape[1])]
        for x1, n1, x0, n0 in by_stratum:
            self.oracle += ratio_gains(x1, n1, x0, n0, (self.ratio,))[:, 0]
            n, m = n1 + n0, x1 + x0
            several = np.maximum(1, n)
            self.difference += x1 - m * n1 / several
            self.variance += m * (n - m) * n1 * n0 / (several**2 * np.maximum(1, n - 1))
        self.minute.append(tuple(of.sum(1) for of in look[:4]))
        found = {"oracle": self.oracle >= math.log(NEEDED)}
        if len(self.minute) < 6:
            return found
        self.minutes.append(tuple(np.sum([tick[index] for tick in self.minute], 0) for index in range(4)))
        self.minute = []
        asked = np.sum([minute[1] for minute in self.minutes], 0)
        found["pocock"] = (asked >= 50) & (self.difference > 3.3 * np.sqrt(np.maximum(1e-9, self.variance)))
        self.failed["flagger"] += self._below(1, 0.99)
        found["flagger"] = self.failed["flagger"] >= 5
        if len(self.minutes) % 5 == 0:
            self.failed["argo"] += self._below(5, 0.95)
            self.failed["argo 99"] += self._below(5, 0.99)
            found |= {"argo": self.failed["argo"] > 3, "argo 99": self.failed["argo 99"] > 0}
        if len(self.minutes) % 10 == 0:
            found["kayenta"] = self._kayenta()
        return found

    def _below(self, minutes: int, success: float) -> Array:
        x1, n1 = (np.sum([minute[index] for minute in self.minutes[-minutes:]], 0) for index in (0, 1))
        return (n1 == 0) | (1 - x1 / np.maximum(1, n1) < success)

    def _kayenta(self) -> Array:
        """Mann-Whitney by minutes: the 98 % interval of the Hodges-Lehmann shift, beyond a quarter of it, growing."""
        x1, n1, x0, n0 = (np.stack([minute[index] for minute in self.minutes], 1) for index in range(4))
        experiment, control = x1 / np.maximum(1, n1), x0 / np.maximum(1, n0)
        count = experiment.shape[1]
        shifts = np.sort((experiment[:, :, None] - control[:, None, :]).reshape(len(experiment), -1), 1)
        low = count**2 / 2 - 2.326 * math.sqrt(count**2 * (2 * count + 1) / 12)
        lower = shifts[:, max(0, math.floor(low))]
        middle = np.median(shifts, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            effect = experiment.mean(1) / control.mean(1)
        return (lower > 0.25 * np.abs(middle)) & ((effect >= 1.0) | np.isnan(effect))


class Outcome(NamedTuple):
    """By rule: when each run was rolled back (seconds; infinite: never), and the candidate's requests until then."""

    seconds: dict[str, Array]
    exposed: dict[str, Array]


def play(scenario: Scenario, runs: int, seed: int) -> Outcome:
    """All rules over the same ticks."""
    judge, others = Judge(scenario, runs, seed), Others(scenario, runs)
    seconds: dict[str, Array] = {}
    exposed: dict[str, Array] = {}
    answered = np.zeros(runs)
    for tick, look in enumerate(looks(scenario, runs, seed), start=1):
        answered = answered + look.n1.sum(1)
        values = judge.observe(look)
        alarms = {name: value >= (PROVEN if name == "safe" else NEEDED) for name, value in values.items()}
        for name, alarm in (alarms | others.observe(look)).items():
            when = seconds.setdefault(name, np.full(runs, math.inf))
            exposed.setdefault(name, np.zeros(runs))[alarm & np.isinf(when)] = answered[alarm & np.isinf(when)]
            when[alarm & np.isinf(when)] = tick * SECONDS
    for name, when in seconds.items():
        exposed[name][np.isinf(when)] = answered[np.isinf(when)]
    return Outcome(seconds, exposed)


# -- the tables


BATCH = 250
SHOWN = ("errors", "latency", "quality", "whole", "argo", "argo 99", "flagger", "kayenta", "pocock", "oracle")
DETECTIONS = (
    *(Scenario(rate=rate, errors=errors) for rate in (10.0, 50.0) for errors in (0.02, 0.1)),
    *(Scenario(rate=50.0, slower=slower) for slower in (1.2, 2.0)),
    Scenario(rate=10.0, quality=0.03, ticks=720),
)
IMPROVEMENTS = (
    Scenario(rate=50.0, times_errors=0.5),
    Scenario(rate=50.0, slower=0.8),
    Scenario(rate=10.0, quality=-0.03),
)
AT_THE_MARGIN = (Scenario(rate=10.0, errors=MARGIN), Scenario(rate=50.0, errors=MARGIN))


def played(pool: Any, scenarios: list[tuple[Scenario, int]]) -> list[Outcome]:
    """Each scenario so many times, in batches with seeds of their own."""
    jobs = [
        (scenario, min(BATCH, runs - begun), 1000 * number + begun // BATCH)
        for number, (scenario, runs) in enumerate(scenarios)
        for begun in range(0, runs, BATCH)
    ]
    done = iter(pool.starmap(play, jobs, chunksize=1) if pool else list(starmap(play, jobs)))
    whole = []
    for _, runs in scenarios:
        batches = [next(done) for _ in range(0, runs, BATCH)]
        seconds, exposed = (
            {name: np.concatenate([of[name] for of in each]) for name in each[0]}
            for each in ([one.seconds for one in batches], [one.exposed for one in batches])
        )
        whole.append(Outcome(seconds, exposed))
    return whole


def percent(outcome: Outcome, name: str) -> float:
    """Of runs that it rolled back."""
    return 100 * float(np.isfinite(outcome.seconds[name]).mean())


def quantile(outcome: Outcome, name: str, share: float) -> float:
    """Seconds by which so many runs were rolled back; infinite where they never are."""
    return float(np.quantile(outcome.seconds[name], share, method="higher"))


def told(seconds: float) -> str:
    """For people."""
    return f"{seconds:.0f}" if math.isfinite(seconds) else "-"


def title(scenario: Scenario) -> str:
    """What is wrong with the candidate, for people."""
    wrong = []
    if scenario.errors:
        wrong.append(f"errors +{100 * scenario.errors:g} pp")
    if scenario.times_errors != 1.0:
        wrong.append(f"errors x{scenario.times_errors:g}")
    if scenario.slower != 1.0:
        wrong.append(f"latency {100 * (scenario.slower - 1):+.0f} %")
    if scenario.quality:
        wrong.append(f"quality {-100 * scenario.quality:+g} pp")
    return f"{', '.join(wrong) or 'nothing'}, {scenario.rate:g}/s"


class Target(NamedTuple):
    """One promise: what was measured, and the most that it may be."""

    name: str
    measured: float
    most: float


def false_alarms(pool: Any, runs: int) -> list[Target]:
    """A candidate that is the stable one: how often each rule rolls it back."""
    scenarios = [Scenario(world=world, rate=rate) for world in WORLDS for rate in (10.0, 50.0)]
    outcomes = played(pool, [(scenario, runs) for scenario in scenarios])
    names = [name for name in SHOWN if name != "oracle"]
    print(f"\nA candidate like stable, {runs} rollouts each: % rolled back\n")
    print("| world, requests/s |", " | ".join(names), "|\n|---|" + "---|" * len(names))
    targets = []
    for scenario, outcome in zip(scenarios, outcomes, strict=True):
        rates = " | ".join(f"{percent(outcome, name):.2f}" for name in names)
        print(f"| {scenario.world}, {scenario.rate:g} | {rates} |")
        most = 1.0 if scenario.world in {"iid", "real", "trend"} else 2.0
        name = f"false rollbacks in {scenario.world} at {scenario.rate:g}/s, %"
        targets += [Target(name, percent(outcome, "whole"), most)]
        targets += [Target(f"{name}, errors alone", percent(outcome, "errors"), most)]
        targets += [Target(f"{name}, latency alone", percent(outcome, "latency"), most)]
    return targets


def detections(pool: Any, runs: int) -> list[Target]:
    """A candidate that is worse: how soon each rule sees it, and what that costs."""
    outcomes = played(pool, [(scenario, runs) for scenario in DETECTIONS])
    print(f"\nA candidate that is worse (world real), {runs} rollouts each: % found, median / p90 seconds, harm\n")
    print("| what |", " | ".join(SHOWN), "|\n|---|" + "---|" * len(SHOWN))
    targets = []
    for scenario, outcome in zip(DETECTIONS, outcomes, strict=True):
        cells = []
        for name in SHOWN:
            bad = scenario.errors * float(outcome.exposed[name].mean())
            when = f"{told(quantile(outcome, name, 0.5))}/{told(quantile(outcome, name, 0.9))}"
            cells.append(f"{percent(outcome, name):.0f} %, {when}" + (f", h {bad:.1f}" if bad else ""))
        print(f"| {title(scenario)} |", " | ".join(cells), "|")
        if scenario.errors:
            for name, median, late in (("errors", 1.5, 1.3), ("whole", 1.75, 1.5)):
                for share, most in ((0.5, median), (0.9, late)):
                    ratio = quantile(outcome, name, share) / quantile(outcome, "oracle", share)
                    which = "median" if share == 0.5 else "p90"
                    targets.append(Target(f"{title(scenario)}: {which} of {name} beside the oracle", ratio, most))
            sound = min(float(outcome.exposed[name].mean()) for name in ("pocock", "kayenta"))
            ratio = float(outcome.exposed["errors"].mean()) / sound
            targets.append(Target(f"{title(scenario)}: harm beside the best sound rule", ratio, 1.0))
        elif scenario.slower > 1:
            most = 250.0 if scenario.slower < 1.5 else 20.0
            targets.append(Target(f"{title(scenario)}: median seconds", quantile(outcome, "latency", 0.5), most))
        else:
            targets.append(Target(f"{title(scenario)}: median seconds", quantile(outcome, "quality", 0.5), 1200.0))
    return targets


def the_other_way(pool: Any, runs: int) -> list[Target]:
    """Improvements must not be rolled back, and what is worse by the margin must not be promoted."""
    scenarios = [*IMPROVEMENTS, *AT_THE_MARGIN, Scenario(rate=10.0), Scenario(rate=50.0)]
    outcomes = played(pool, [(scenario, runs) for scenario in scenarios])
    print(f"\n{runs} rollouts each (world real)\n")
    print("| candidate | % rolled back | % proven within 1 pp of errors | median seconds |\n|---|---|---|---|")
    targets = []
    for scenario, outcome in zip(scenarios, outcomes, strict=True):
        cells = f"{percent(outcome, 'whole'):.2f} | {percent(outcome, 'safe'):.2f}"
        print(f"| {title(scenario)} | {cells} | {told(quantile(outcome, 'safe', 0.5))} |")
        if scenario in IMPROVEMENTS:
            targets.append(Target(f"{title(scenario)}: rolled back, %", percent(outcome, "whole"), 0.1))
        elif scenario.errors:
            targets.append(Target(f"{title(scenario)}: promoted, %", percent(outcome, "safe"), 5.0))
    return targets


def costs() -> list[Target]:
    """What one update takes of a core, in microseconds by channel: medians of the engine itself."""
    bins = dict.fromkeys(range(180, 230), 1)
    counts = Counts(candidate_requests=50, candidate_events=1, stable_requests=450, stable_events=3)
    seen: dict[str, Seen] = {
        "rate": counts,
        "latency": Latencies(candidate=bins, stable=dict.fromkeys(bins, 9)),
        "pairs": Pairs(pairs=100, worse=2, better=2),
    }
    targets = []
    for kind, one in seen.items():
        rule = Rule.model_validate({"metric": kind, "kind": kind, "max_ratio": TOLERATED})
        analysis, took = begin_analysis([rule], TICKS), []
        for number in range(1, 2001):
            tick = Tick(number=number, seconds=SECONDS, seen={kind: {"": one}})
            begun = time.perf_counter()
            analysis = observe(analysis, tick)
            took.append(time.perf_counter() - begun)
        channels = len(QUANTILES) if kind == "latency" else 1
        targets.append(Target(f"an update of {kind}, us a channel", 1e6 * statistics.median(took) / channels, 50.0))
    return targets


def main() -> int:
    """Prints the tables; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--detections", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with multiprocessing.Pool(arguments.processes) as pool:
        targets = false_alarms(pool, arguments.runs)
        targets += detections(pool, arguments.detections)
        targets += the_other_way(pool, arguments.runs)
    targets += costs()
    print("\n| target | measured | at most | |\n|---|---|---|---|")
    for target in targets:
        print(f"| {target.name} | {target.measured:.2f} | {target.most:g} | {_word(target)} |")
    return 0 if all(target.measured <= target.most for target in targets) else 1


def _word(target: Target) -> str:
    return "kept" if target.measured <= target.most else "**missed**"


if __name__ == "__main__":
    sys.exit(main())
