"""The analysis of a rollout: two opposite questions after every tick, their errors held however often one looks.

*Harm* (roll back): is the candidate worse than tolerated? The e-processes of all metrics are averaged and share one
alpha: a false rollback in at most that share of whole rollouts. *Safety* (promote): is every metric within its margin
of the stable side? Wrongly promoted at a margin in at most SAFETY_ALPHA of rollouts. No alarm so far is never a proof.

Alpha, rules and strata are frozen when it begins; with other ones another analysis begins, without evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import model_validator

from interlock.delivery.analysis.bets import STAKES, limit_bets, log_wealth
from interlock.delivery.analysis.gains import Side
from interlock.delivery.analysis.streams import Rule, Stream, begin_stream, grow, learn_only
from interlock.delivery.analysis.ticks import Counts, Tick
from interlock.delivery.external.limits import Limit, Standing, with_limits
from interlock.gate.judgement import GateResult
from interlock.vocabulary import Json, Stored, Verdict

SAFETY_ALPHA = 0.05
"""The chance of promoting a candidate that is worse by the whole margin."""

_GATE = "analysis"


class Analysis(Stored):
    """All evidence of one rollout so far, with the rules it was begun with; ``streams`` in their order.

    Ticks in which a replica younger than ``warm_up`` seconds answered are not judged. ``last`` is the number of the
    last tick, ``ticks`` and ``seconds`` how many were judged and how long they were, ``cold`` how many were not.
    Until ``judges_late`` rules with a delay are left out: they get no evidence, and nothing waits for them.
    ``standings`` say in their order how the plain ``limits`` on values of elsewhere stand; they spend nothing of alpha.
    """

    alpha: float = 0.01
    rules: tuple[Rule, ...]
    streams: tuple[Stream, ...]
    strata: tuple[str, ...] = ()
    horizon: int = 1
    warm_up: float = 0.0
    last: int = 0
    ticks: int = 0
    seconds: float = 0.0
    cold: int = 0
    judges_late: bool = False
    limits: tuple[Limit, ...] = ()
    standings: tuple[Standing, ...] = ()

    @model_validator(mode="after")
    def _shares_one_alpha(self) -> Analysis:
        shares = [rule.share for rule in self.rules if not rule.is_dry_run]
        if shares and abs(math.fsum(shares) - 1.0) > 1e-9:
            raise ValueError("the shares of the rules have to add up to 1")
        return self

    @property
    def judged(self) -> list[int]:
        """Which of its rules are judged now, dry runs among them."""
        return [index for index, rule in enumerate(self.rules) if self.judges_late or not rule.delay]

    @property
    def counting(self) -> list[int]:
        """Which of its rules decide now."""
        return [index for index in self.judged if not self.rules[index].is_dry_run]


def begin_analysis(
    rules: Sequence[Rule],
    ticks: int,
    *,
    alpha: float = 0.01,
    warm_up: float = 0.0,
    strata: Sequence[str] = (),
    limits: Sequence[Limit] = (),
) -> Analysis:
    """An analysis without evidence. ``ticks`` is how many it can last: its deadline over the interval.

    ``strata`` are parts of the traffic that may be routed otherwise than at random, or are watched on their own.
    """
    horizon = max(1, ticks)
    streams = tuple(begin_stream(rule, tuple(strata), horizon) for rule in rules)
    return Analysis(
        alpha=alpha,
        rules=tuple(rules),
        streams=streams,
        strata=tuple(strata),
        horizon=horizon,
        warm_up=warm_up,
        limits=tuple(limits),
        standings=(Standing(),) * len(limits),
    )


def begin_again(analysis: Analysis) -> Analysis:
    """The analysis as it was begun, without evidence."""
    return begin_analysis(
        analysis.rules,
        analysis.horizon,
        alpha=analysis.alpha,
        warm_up=analysis.warm_up,
        strata=analysis.strata,
        limits=analysis.limits,
    )


def observe(analysis: Analysis, tick: Tick) -> Analysis:
    """The analysis with one more tick; one whose number is not above the last changes nothing."""
    if tick.number <= analysis.last:
        return analysis
    is_cold = tick.youngest < analysis.warm_up
    streams, judged = [], set(analysis.judged)
    for index, (rule, stream) in enumerate(zip(analysis.rules, analysis.streams, strict=True)):
        seen = tick.seen.get(rule.metric, {}) if index in judged else {}
        after = learn_only(stream, seen, tick.seconds) if is_cold else grow(stream, rule, seen, tick.seconds)
        streams.append(after)
    counted = (
        {"cold": analysis.cold + 1}
        if is_cold
        else {
            "ticks": analysis.ticks + 1,
            "seconds": analysis.seconds + tick.seconds,
        }
    )
    return analysis.model_copy(update={"streams": tuple(streams), "last": tick.number, **counted})


def harm_of(analysis: Analysis) -> float:
    """The e-value for harm: the mean of the metrics' by their shares. Dry runs have none."""
    return math.fsum(
        rule.share * stream.harm_value
        for rule, stream in zip(analysis.rules, analysis.streams, strict=True)
        if not rule.is_dry_run
    )


def conclude(analysis: Analysis) -> GateResult:
    """What the evidence says now. Metrics that are dry runs decide nothing: what they would do alone is told."""
    result = _of_rules(analysis)
    return with_limits(result, analysis.limits, analysis.standings) if analysis.limits else result


def _of_rules(analysis: Analysis) -> GateResult:
    judged, counting = analysis.judged, analysis.counting
    if len(counting) == len(analysis.rules):
        return _conclude(analysis)
    result = _conclude(_part(analysis, counting))
    told, evidence = result.because, dict(result.evidence)
    for index in [index for index in judged if index not in counting]:
        alone = _conclude(_part(analysis, [index], is_dry_run=False, share=1.0))
        evidence[f"dry_run_of_{analysis.rules[index].metric}"] = alone.evidence | {"verdict": alone.verdict}
        told += f"; a dry run would roll back: {alone.because}" if alone.verdict is Verdict.FAIL else ""
    return result.model_copy(update={"because": told, "evidence": evidence})


def _part(analysis: Analysis, chosen: Sequence[int], **changes: object) -> Analysis:
    """The analysis of some of its rules only, each with changes."""
    rules = tuple(analysis.rules[index].model_copy(update=changes) for index in chosen)
    return analysis.model_copy(update={"rules": rules, "streams": tuple(analysis.streams[index] for index in chosen)})


def _conclude(analysis: Analysis) -> GateResult:
    """What the evidence of rules that count says.

    ======================================================  =========  =======================
    evidence                                                verdict    means
    ======================================================  =========  =======================
    harm e-value >= 1 / alpha                               fail       roll back
    else safety e-value >= 1 / 0.05 for every metric        pass       promotion is proven
    else (also: no requests, no stable side, no metric)     undecided  go on
    ======================================================  =========  =======================
    """
    if not analysis.rules:
        return GateResult(gate=_GATE, verdict=Verdict.UNDECIDED, because="the analysis names no metric")
    harm, needed = harm_of(analysis), 1.0 / analysis.alpha
    evidence = _evidence(analysis, harm)
    if harm >= needed:
        because = f"{_worst(analysis)}: proven worse than tolerated (e-value {harm:.4g}, needed {needed:.4g})"
        return GateResult(gate=_GATE, verdict=Verdict.FAIL, because=because, evidence=evidence)
    slowest = min(range(len(analysis.rules)), key=lambda index: analysis.streams[index].log_safety)
    safety = math.exp(min(600.0, analysis.streams[slowest].log_safety))
    if analysis.streams[slowest].log_safety >= -math.log(SAFETY_ALPHA):
        within = ", ".join(map(_bound_of, analysis.rules))
        because = (
            f"{_sides(analysis, slowest)}: proven safe: {within} "
            f"(e-value {safety:.4g}, needed {1.0 / SAFETY_ALPHA:.4g}){_unseen(analysis)}"
        )
        return GateResult(gate=_GATE, verdict=Verdict.PASS, because=because, evidence=evidence)
    more = requests_needed(analysis)
    minutes = minutes_needed(analysis, more)
    evidence |= {"more_candidate_requests": more, "more_minutes": minutes}
    because = _why_undecided(analysis, slowest, more, minutes)
    return GateResult(gate=_GATE, verdict=Verdict.UNDECIDED, because=because, evidence=evidence)


def _bound_of(rule: Rule) -> str:
    """What is proven of a metric that is safe."""
    if rule.kind == "agreement":
        return f"less than {100.0 * rule.margin:.3g} % of answers unequal to stable's"
    return f"{rule.metric} below {rule.max:g}" if rule.is_alone else f"{rule.metric} within {rule.margin:g} of stable"


def requests_needed(analysis: Analysis) -> int | None:
    """How many more candidate requests prove safety if rates stay as seen; None where they never will, or none came."""
    most = 1
    for rule, stream in zip(analysis.rules, analysis.streams, strict=True):
        requests = stream.totals.candidate_requests
        if not requests or not (stream.totals.stable_requests or rule.is_alone):
            return None
        paces = [pace / requests for pace in _paces(rule, stream.totals)]
        if max(paces) <= 0.0:
            return None
        enough = 1
        while not _proves(stream.bets, paces, enough):
            enough *= 2
        too_few = enough // 2
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            enough, too_few = (middle, too_few) if _proves(stream.bets, paces, middle) else (enough, middle)
        most = max(most, enough)
    return most


def _proves(bets: Sequence[float], paces: Sequence[float], requests: int) -> bool:
    grown = tuple(bet + pace * requests for bet, pace in zip(bets, paces, strict=True))
    return log_wealth(grown) >= -math.log(SAFETY_ALPHA)


def _paces(rule: Rule, totals: Counts) -> list[float]:
    """What all requests so far are worth in the long run, by stake: it is how the next ones are expected to count."""
    (x1, n1), (x0, n0) = totals.candidate, totals.stable
    if rule.is_alone:
        return list(limit_bets(totals.candidate, rule.limit or 0.0))
    if rule.kind in ("pairs", "agreement"):
        ties = n1 - x1 - x0
        return [
            x1 * math.log1p(stake * (rule.margin - 1.0))
            + x0 * math.log1p(stake * (rule.margin + 1.0))
            + ties * math.log1p(stake * rule.margin)
            for stake in STAKES
        ]
    return [x1 * math.log1p(-stake) + x0 * math.log1p(stake * n1 / n0) + stake * n1 * rule.margin for stake in STAKES]


def minutes_needed(analysis: Analysis, requests: int | None) -> float | None:
    """How long so many candidate requests take at the rate at which they have come; None where that is not known."""
    seen = max(stream.totals.candidate_requests for stream in analysis.streams)
    return None if requests is None or not seen else requests * analysis.seconds / seen / 60.0


def _why_undecided(analysis: Analysis, slowest: int, more: int | None, minutes: float | None) -> str:
    totals = analysis.streams[slowest].totals
    metric = analysis.rules[slowest].metric
    if totals.candidate_requests == 0:
        answered = any(stream.totals.candidate_requests for stream in analysis.streams)
        return f"no evidence of {metric} yet" if answered else "the candidate has answered no request yet"
    if totals.stable_requests == 0 and not analysis.rules[slowest].is_alone:
        return f"{_sides(analysis, slowest)}: no stable side has answered, so there is nothing to compare with"
    if more is None or minutes is None:
        return f"{_sides(analysis, slowest)}: at these rates it will not be proven to be within its bounds"
    return (
        f"{_sides(analysis, slowest)}: neither harm nor safety is proven; about {more} more candidate requests needed, "
        f"{max(1, math.ceil(minutes))} min at this traffic"
    )


def _worst(analysis: Analysis) -> str:
    """What happened of the metric that is harmed most; of one slice of it, where that has more evidence than all."""
    harm = [rule.share * stream.harm_value for rule, stream in zip(analysis.rules, analysis.streams, strict=True)]
    index = harm.index(max(harm))
    rule, stream = analysis.rules[index], analysis.streams[index]
    worst = max(stream.harm, key=lambda name: stream.harm[name].value)
    sliced = next((name for name in rule.slices if worst == f"{rule.metric} in {name}"), None)
    return _sides(analysis, index) if sliced is None else _slice(rule, stream, sliced)


def slices_of(analysis: Analysis) -> list[str]:
    """What happened in each slice so far, for people."""
    streams = zip(analysis.rules, analysis.streams, strict=True)
    return [_slice(rule, stream, name) for rule, stream in streams for name in rule.slices]


def _unseen(analysis: Analysis) -> str:
    """The slices that were not compared, for people; they neither prove nor block anything."""
    streams = zip(analysis.rules, analysis.streams, strict=True)
    unseen = [
        name
        for rule, stream in streams
        for name in rule.slices
        if not min((counts := stream.sliced.get(name, Counts())).candidate_requests, counts.stable_requests)
    ]
    return f"; not seen on both sides: {', '.join(unseen)}" if unseen else ""


def _slice(rule: Rule, stream: Stream, name: str) -> str:
    totals = stream.sliced.get(name, Counts())
    sides = ("candidate", totals.candidate), ("stable", totals.stable)
    return f"{rule.metric} of {name}: {_told(sides, 'wrong')}"


def _told(sides: Sequence[tuple[str, Side]], what: str) -> str:
    return ", ".join(
        f"{name} {events} {what} in {requests} requests" + (f" ({100.0 * events / requests:.2f} %)" if requests else "")
        for name, (events, requests) in sides
    )


def _sides(analysis: Analysis, index: int) -> str:
    totals, rule = analysis.streams[index].totals, analysis.rules[index]
    if rule.kind == "agreement":
        events, requests = totals.candidate
        share = f" ({100.0 * events / requests:.2f} %)" if requests else ""
        return f"{rule.metric}: {events} unequal of {requests} answers{share}"
    is_error = rule.metric == "error_rate"
    what = {"rate": "errors" if is_error else "wrong", "latency": "slow", "pairs": "alone wrong"}[rule.kind]
    sides = [("candidate", totals.candidate), ("stable", totals.stable)][: 1 if rule.is_alone else 2]
    return ("" if is_error else f"{rule.metric}: ") + _told(sides, what)


def _evidence(analysis: Analysis, harm: float) -> dict[str, Json]:
    metrics: dict[str, Json] = {}
    for rule, stream in zip(analysis.rules, analysis.streams, strict=True):
        of_metric: dict[str, Json] = {
            "share": rule.share,
            "harm": stream.harm_value,
            "questions": {name: process.value for name, process in stream.harm.items()},
            "safety": math.exp(min(600.0, stream.log_safety)),
            "margin": rule.margin,
            "max_ratio": rule.max_ratio,
            "candidate": list(stream.totals.candidate),
            "stable": list(stream.totals.stable),
        }
        if rule.slices:
            of_metric["slices"] = {
                name: {"candidate": list(counts.candidate), "stable": list(counts.stable)}
                for name, counts in stream.sliced.items()
            }
        metrics[rule.metric] = of_metric
    return {
        "method": "e-processes: binomial split of every tick for harm, bets on the margin for safety",
        "ticks": analysis.ticks,
        "ticks_while_cold": analysis.cold,
        "harm": harm,
        "harm_needed": 1.0 / analysis.alpha,
        "safety_needed": 1.0 / SAFETY_ALPHA,
        "metrics": metrics,
    }
