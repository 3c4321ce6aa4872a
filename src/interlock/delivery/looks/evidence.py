"""Live evidence: what a plan wants judged, and what one look at the data plane adds for both sides of a rollout.

A source that is not there, began anew or fell says nothing in that look; the metric then has no evidence of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from interlock.delivery.analysis.engine import Analysis, begin_analysis
from interlock.delivery.analysis.forecast import visible_errors
from interlock.delivery.analysis.latency import Span, bins_of_sides
from interlock.delivery.analysis.spread import Spread
from interlock.delivery.analysis.streams import Rule
from interlock.delivery.analysis.ticks import WHOLE, Counts, Latencies, Seen
from interlock.delivery.external.limits import Limit
from interlock.delivery.looks.baseline import Baseline, traffic_of
from interlock.delivery.looks.pairs import agreement_rule
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, LatencySeen, PairsSeen, Revision
from interlock.pipeline.canaries.external import ExternalMetricPlan
from interlock.pipeline.canaries.plan import (
    ACCURACY,
    AGREEMENT,
    ERROR_RATE,
    LATENCY_QUANTILES,
    AnalysisMetricPlan,
    AnalysisPlan,
    StrategyPlan,
    slice_name,
)

TICK_SECONDS = 1.0
"""Least time between two looks at the counters that are fed to the analysis."""
PROBATION_TICK_SECONDS = 60.0
"""The same in a probation of a day and more, which shall not keep a hundred thousand looks."""
PROBATION_TICKS = 1440
"""As many looks a shorter probation has, or one each TICK_SECONDS."""
Source = TypeVar("Source", CounterSeen, LatencySeen)
OLD = 1e9
"""The age in seconds of replicas of which none is known to be younger."""


def analysis_of(plan: AnalysisPlan, seconds: float, spread: Spread | None = None, probation: float = 0.0) -> Analysis:
    """The analysis that a plan asks for, without evidence, of a rollout whose steps may take so many seconds.

    ``spread`` is how far replicas of one revision differ in errors. After its ``probation`` a rollout may be held for
    as long as its steps may take.
    """
    share = 1.0 / max(1, plan.counting)
    rules = [_rule(metric, 1.0 if metric.dry_run else share, spread) for metric in plan.metrics]
    rules += [_external_rule(one, 1.0 if one.dry_run else share) for one in plan.external if one.is_counted]
    if plan.is_alone:
        rules = [rule.model_copy(update={"is_alone": True, "spreads": {}}) for rule in rules]
    limits = [
        Limit(metric=one.metric, min=one.min, max=one.max, seconds=one.seconds, every=one.every, is_dry_run=one.dry_run)
        for one in plan.external
        if not one.is_counted
    ]
    ticks = seconds / TICK_SECONDS + ((probation + seconds) / tick_seconds(probation) if probation else 0.0)
    return begin_analysis(rules, round(ticks), alpha=plan.alpha, warm_up=plan.warm_up, limits=limits)


def tick_seconds(probation: float) -> float:
    """Least time between two looks that are fed to the analysis, in a probation of so many seconds."""
    return min(PROBATION_TICK_SECONDS, max(TICK_SECONDS, probation / PROBATION_TICKS))


def _rule(metric: AnalysisMetricPlan, share: float, spread: Spread | None) -> Rule:
    rule = Rule(
        metric=metric.metric,
        share=share,
        max_ratio=metric.max_ratio,
        margin=metric.margin,
        max=metric.max,
        is_dry_run=metric.dry_run,
        delay=metric.delay,
        slices=metric.slice_names,
    )
    if metric.metric == AGREEMENT:
        return agreement_rule(rule, metric)
    quantile = LATENCY_QUANTILES.get(metric.metric)
    if quantile is not None:
        return rule.model_copy(update={"kind": "latency", "quantiles": (quantile,)})
    is_spread = spread is not None and metric.metric != ACCURACY
    return rule.model_copy(update={"spreads": {metric.metric: spread}}) if is_spread else rule


def _external_rule(metric: ExternalMetricPlan, share: float) -> Rule:
    return Rule(
        metric=metric.metric,
        share=share,
        max_ratio=metric.max_ratio,
        margin=metric.margin,
        max=metric.max,
        is_dry_run=metric.dry_run,
    )


def forecast_of(strategy: StrategyPlan, baseline: Baseline) -> str:
    """The smallest regression that the traffic of the stable revision can show, weight by weight, for people."""
    traffic = traffic_of(baseline)
    if traffic is None:
        return "; its traffic is not known, so neither is what it can show"
    parts = [
        f"{one.place} for {one.minutes:.3g} min "
        + (
            "shows nothing"
            if one.ratio is None
            else f"shows errors x{one.ratio:.2g} ({100.0 * one.ratio * traffic.rate:.2g} %)"
        )
        for one in visible_errors(strategy, traffic.requests, traffic.rate)
    ]
    return f"; at {traffic.requests:.3g} requests/min {', '.join(parts)}" if parts else ""


def unsliced_because(stable: Revision, candidate: Revision) -> str:
    """Which slices of the traffic cannot be compared, for people; empty where both sides log them all."""
    missing = [
        slice_name(column, value)
        for column, values in candidate.slices.items()
        for value in values
        if value not in stable.slices.get(column, ())
    ]
    told = f"; {stable.title} does not log these slices yet, so its traffic is not compared by them: "
    return told + ", ".join(missing) if missing else ""


def counts_between(before: Mapping[str, CounterSeen], after: Mapping[str, CounterSeen]) -> Counts | None:
    """Requests and errors of ``candidate`` and ``stable`` between two looks."""
    if not before or not after or any(before[side].epoch != after[side].epoch for side in after):
        return None
    growth: dict[str, int] = {}
    for side in after:
        growth[f"{side}_requests"] = after[side].requests - before[side].requests
        growth[f"{side}_events"] = after[side].errors - before[side].errors
        if not 0 <= growth[f"{side}_events"] <= growth[f"{side}_requests"]:
            return None
    return Counts(**growth)


def latencies_between(before: Mapping[str, LatencySeen], after: Mapping[str, LatencySeen]) -> Latencies | None:
    """How long answers of ``candidate`` and ``stable`` took between two looks."""
    if not before or not after or any(before[side].epoch != after[side].epoch for side in after):
        return None
    growth = {side: _grown(before[side], after[side]) for side in after}
    if any(count < 0 for spans in growth.values() for count in spans.values()):
        return None
    candidate, stable = bins_of_sides(growth["candidate"], growth["stable"])
    return Latencies(candidate=candidate, stable=stable)


def _grown(before: LatencySeen, after: LatencySeen) -> dict[Span, int]:
    """What was added in each span; less than nothing where it fell."""
    spans = {(least, most): count for least, most, count in after.answers}
    for least, most, count in before.answers:
        spans[least, most] = spans.get((least, most), 0) - count
    return {span: count for span, count in spans.items() if count}


class Sources(NamedTuple):
    """What was last seen of both sides, by ``candidate`` and ``stable``: each of them whole, or empty.

    ``paired`` is of both at once; None where requests are not copied.
    """

    counted: dict[str, CounterSeen] = {}
    timed: dict[str, LatencySeen] = {}
    labelled: dict[str, CounterSeen] = {}
    paired: PairsSeen | None = None


def sources_of(plane: DataPlaneSeen, stable: Revision, candidate: Revision) -> Sources:
    """What a look shows of both sides. Labels may come later than all else: nothing of them yet is a zero."""
    none = next(
        (one.model_copy(update={"requests": 0, "errors": 0, "slices": {}}) for one in plane.labelled.values()), None
    )
    return Sources(
        counted=_both(plane.counters, stable, candidate),
        timed=_both(plane.latencies, stable, candidate),
        labelled={
            side: found
            for side, revision in (("stable", stable), ("candidate", candidate))
            if (found := plane.labelled.get(revision.key, none)) is not None
        },
        paired=plane.paired.get(candidate.key),
    )


def _both(seen: Mapping[str, Source], stable: Revision, candidate: Revision) -> dict[str, Source]:
    if stable.key not in seen or candidate.key not in seen:
        return {}
    return {"stable": seen[stable.key], "candidate": seen[candidate.key]}


def evidence_of(rules: Sequence[Rule], before: Sources, after: Sources) -> dict[str, dict[str, Seen]]:
    """What a tick brings for each rule, of all requests and of its slices; empty where nobody asked anything."""
    counts = counts_between(before.counted, after.counted)
    labelled = counts_between(before.labelled, after.labelled)
    latencies = latencies_between(before.timed, after.timed)
    found: dict[str, dict[str, Seen]] = {}
    for rule in rules:
        if rule.kind == "latency" and latencies is not None and (latencies.candidate or latencies.stable):
            found[rule.metric] = {WHOLE: latencies}
        of_rule = {ACCURACY: labelled, ERROR_RATE: counts}.get(rule.metric)
        if rule.kind == "rate" and of_rule is not None and any(of_rule.candidate + of_rule.stable):
            found[rule.metric] = {WHOLE: of_rule, **_sliced(rule, before.labelled, after.labelled)}
    return found


def _sliced(rule: Rule, before: Mapping[str, CounterSeen], after: Mapping[str, CounterSeen]) -> dict[str, Seen]:
    """What labels bring for each slice that some answer of either side was in."""
    found: dict[str, Seen] = {}
    for name in rule.slices:
        sides = ({side: seen.within(name) for side, seen in look.items()} for look in (before, after))
        counts = counts_between(*sides)
        if counts is not None and any(counts.candidate + counts.stable):
            found[name] = counts
    return found


def youngest_of(plane: DataPlaneSeen, revisions: Sequence[Revision]) -> float:
    """The age in seconds of the youngest replica of these that answers requests."""
    keys = {revision.key for revision in revisions}
    ages = [
        replica.age
        for name, replica in plane.replicas.items()
        if name.rpartition(".")[0] in keys and replica.is_ready and replica.age is not None
    ]
    return min(ages, default=OLD)
