"""The canary test: two opposite questions asked after every tick, with errors that hold however often one looks.

*Harm* (roll back): is the candidate's error rate above ``max_ratio`` times the stable one, or above ``max``? The
e-processes of all rules are averaged and share the rollout's alpha: a false rollback in at most that share of whole
rollouts. *Safety* (promote): is its rate below the stable one plus ``margin``? Wrongly promoted at the margin in at
most SAFETY_ALPHA of rollouts. No alarm so far is never a proof. Cold replicas and ticks counted twice are kept away by
the caller; every tick is compared within itself, so that weights and traffic may change between ticks.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from interlock.gate.eprocess import (
    STAKE_WEIGHTS,
    STAKES,
    EProcess,
    limit_gains,
    log_sum,
    ratio_gains,
    safety_gains,
)
from interlock.gate.judgement import GateResult
from interlock.pipeline.plan import AnalysisPlan
from interlock.vocabulary import Json, Stored, Verdict

SAFETY_ALPHA = 0.05
"""The chance of promoting a candidate that is worse by the whole margin."""

_GATE = "canary"
_NO_BETS = (0.0,) * len(STAKES)

Count = Annotated[int, Field(ge=0)]


class Tick(Stored):
    """Requests and errors of both sides in one interval, per upstream attempt.

    An error counts as a request even where its request was counted in the tick before.
    """

    candidate_requests: Count = 0
    candidate_errors: Count = 0
    stable_requests: Count = 0
    stable_errors: Count = 0

    @property
    def candidate(self) -> tuple[int, int]:
        """(errors, requests) of the candidate."""
        return self.candidate_errors, max(self.candidate_requests, self.candidate_errors)

    @property
    def stable(self) -> tuple[int, int]:
        """(errors, requests) of the stable side."""
        return self.stable_errors, max(self.stable_requests, self.stable_errors)


class MetricTest(Stored):
    """One metric of the analysis: harm against the stable side, harm against the limit, and bets on its safety.

    ``bets`` are logarithms of wealth, one for each stake.
    """

    against_stable: EProcess
    against_limit: EProcess | None = None
    bets: tuple[float, ...] = _NO_BETS

    @property
    def log_safety(self) -> float:
        """The logarithm of the e-value for promotion."""
        return log_sum([math.log(w) + bet for w, bet in zip(STAKE_WEIGHTS, self.bets, strict=True)])


class CanaryTest(Stored):
    """All evidence of one rollout so far, frozen with the analysis it was begun with."""

    analysis: AnalysisPlan
    horizon: int
    metrics: tuple[MetricTest, ...]
    ticks: int = 0
    pairs: int = 0
    candidate_requests: int = 0
    candidate_errors: int = 0
    stable_requests: int = 0
    stable_errors: int = 0


def begin_test(analysis: AnalysisPlan, ticks: int) -> CanaryTest:
    """A test without evidence. ``ticks`` is how many the rollout can last: its deadline over the interval."""
    horizon = max(1, ticks)
    metrics = tuple(
        MetricTest(
            against_stable=EProcess(horizon=horizon),
            against_limit=None if metric.max is None else EProcess(horizon=horizon),
        )
        for metric in analysis.metrics
    )
    return CanaryTest(analysis=analysis, horizon=horizon, metrics=metrics)


def observe_tick(test: CanaryTest, tick: Tick) -> CanaryTest:
    """The test with one more tick. A tick without requests changes nothing."""
    candidate, stable = tick.candidate, tick.stable
    if candidate[1] == 0 and stable[1] == 0:
        return test
    metrics = []
    for plan, metric in zip(test.analysis.metrics, test.metrics, strict=True):
        update: dict[str, object] = {}
        if candidate[1] and stable[1]:
            update["against_stable"] = metric.against_stable.grow(ratio_gains(candidate, stable, plan.max_ratio))
            gains = safety_gains(candidate, stable, plan.margin)
            update["bets"] = tuple(bet + gain for bet, gain in zip(metric.bets, gains, strict=True))
        if candidate[1] and metric.against_limit is not None and plan.max is not None:
            update["against_limit"] = metric.against_limit.grow(limit_gains(candidate, plan.max))
        metrics.append(metric.model_copy(update=update))
    return test.model_copy(
        update={
            "metrics": tuple(metrics),
            "ticks": test.ticks + 1,
            "pairs": test.pairs + min(candidate[1], stable[1]),
            "candidate_errors": test.candidate_errors + candidate[0],
            "candidate_requests": test.candidate_requests + candidate[1],
            "stable_errors": test.stable_errors + stable[0],
            "stable_requests": test.stable_requests + stable[1],
        }
    )


def conclude(test: CanaryTest) -> GateResult:
    """What the evidence says now.

    ==================================================  =========  =======================
    evidence                                            verdict    means
    ==================================================  =========  =======================
    mean harm e-value >= 1 / alpha                      fail       roll back
    else safety e-value >= 1 / 0.05 for every metric    pass       promotion is proven
    else (also: no requests, no stable side)            undecided  go on
    ==================================================  =========  =======================
    """
    if not test.metrics:
        return GateResult(gate=_GATE, verdict=Verdict.UNDECIDED, because="the analysis names no metric")
    harm, needed_harm = _log_harm(test), -math.log(test.analysis.alpha)
    safety, needed_safety = min(metric.log_safety for metric in test.metrics), -math.log(SAFETY_ALPHA)
    evidence = _evidence(test, harm, safety)
    if harm >= needed_harm:
        because = (
            f"{_sides(test)}: proven worse than tolerated (e-value {_exp(harm):.4g}, needed {_exp(needed_harm):.4g})"
        )
        return GateResult(gate=_GATE, verdict=Verdict.FAIL, because=because, evidence=evidence)
    if safety >= needed_safety:
        margin = max(metric.margin for metric in test.analysis.metrics)
        because = (
            f"{_sides(test)}: proven to be within {margin:g} of stable (e-value {_exp(safety):.4g}, "
            f"needed {_exp(needed_safety):.4g}, {test.pairs} pairs)"
        )
        return GateResult(gate=_GATE, verdict=Verdict.PASS, because=because, evidence=evidence)
    more = _requests_needed(test, needed_safety)
    evidence["more_candidate_requests"] = more
    return GateResult(gate=_GATE, verdict=Verdict.UNDECIDED, because=_why_undecided(test, more), evidence=evidence)


def _log_harm(test: CanaryTest) -> float:
    processes = [metric.against_stable for metric in test.metrics]
    processes += [metric.against_limit for metric in test.metrics if metric.against_limit is not None]
    return log_sum([process.log_value for process in processes]) - math.log(len(processes))


def _why_undecided(test: CanaryTest, more: int | None) -> str:
    if test.candidate_requests == 0:
        return "the candidate has answered no request yet"
    if test.stable_requests == 0:
        return f"{_sides(test)}: no stable side has answered, so there is nothing to compare with"
    if more is None:
        return f"{_sides(test)}: at these rates it will not be proven to be within the margin"
    return f"{_sides(test)}: neither harm nor safety is proven; about {more} more candidate requests needed"


def _requests_needed(test: CanaryTest, needed: float) -> int | None:
    """How many more candidate requests prove safety if the error rates stay as seen; None where they never will."""
    if not test.pairs:
        return None
    wrong = test.candidate_errors / test.candidate_requests
    stable_wrong = test.stable_errors / test.stable_requests
    slowest = 0.0
    for plan, metric in zip(test.analysis.metrics, test.metrics, strict=True):
        pairs = []
        for stake, weight, bet in zip(STAKES, STAKE_WEIGHTS, metric.bets, strict=True):
            growth = (
                wrong * (1.0 - stable_wrong) * math.log1p(stake * (plan.margin - 1.0))
                + stable_wrong * (1.0 - wrong) * math.log1p(stake * (plan.margin + 1.0))
                + (1.0 - wrong - stable_wrong + 2.0 * wrong * stable_wrong) * math.log1p(stake * plan.margin)
            )
            if growth > 0.0:
                pairs.append((needed - math.log(weight) - bet) / growth)
        if not pairs:
            return None
        slowest = max(slowest, min(pairs))
    return max(1, math.ceil(slowest * test.candidate_requests / test.pairs))


def _evidence(test: CanaryTest, harm: float, safety: float) -> dict[str, Json]:
    rules: dict[str, Json] = {}
    for plan, metric in zip(test.analysis.metrics, test.metrics, strict=True):
        rules[f"{plan.metric} max_ratio {plan.max_ratio:g}"] = _exp(metric.against_stable.log_value)
        if metric.against_limit is not None:
            rules[f"{plan.metric} max {plan.max:g}"] = _exp(metric.against_limit.log_value)
        rules[f"{plan.metric} margin {plan.margin:g}"] = _exp(metric.log_safety)
    return {
        "method": "e-processes: conditional 2x2 (Lindon and Malek 2022) for harm, paired betting for safety",
        "candidate_requests": test.candidate_requests,
        "candidate_errors": test.candidate_errors,
        "stable_requests": test.stable_requests,
        "stable_errors": test.stable_errors,
        "ticks": test.ticks,
        "pairs": test.pairs,
        "harm": _exp(harm),
        "harm_needed": 1.0 / test.analysis.alpha,
        "safety": _exp(safety),
        "safety_needed": 1.0 / SAFETY_ALPHA,
        "rules": rules,
    }


def _sides(test: CanaryTest) -> str:
    sides = (
        ("candidate", test.candidate_errors, test.candidate_requests),
        ("stable", test.stable_errors, test.stable_requests),
    )
    return ", ".join(
        f"{name} {errors} errors in {requests} requests" + (f" ({100.0 * errors / requests:.2f} %)" if requests else "")
        for name, errors, requests in sides
    )


def _exp(logarithm: float) -> float:
    return math.exp(min(600.0, logarithm))
