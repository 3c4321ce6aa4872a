"""Evidence of copied requests, which both sides were asked: what grew between two looks, by metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from interlock.delivery.analysis.streams import Rule
from interlock.delivery.analysis.ticks import WHOLE, Pairs, Seen
from interlock.delivery.revision import PairsSeen
from interlock.pipeline.canaries.plan import ACCURACY, AGREEMENT, AnalysisMetricPlan

InSlice: TypeAlias = tuple[int, int, int, int]
ERROR_RATE = "error_rate"
ON_PAIRS = (ERROR_RATE, ACCURACY, AGREEMENT)
"""The metrics that pairs tell of. Latencies are not among them: a copy waits for other things than a request does."""


def agreement_rule(rule: Rule, metric: AnalysisMetricPlan) -> Rule:
    """How agreement is judged: no more unequal answers than ``min`` leaves; fewer than ``margin`` more are proven."""
    unequal = 1.0 - (metric.min or 0.0)
    margin = min(1.0, unequal + metric.margin)
    return rule.model_copy(update={"kind": "agreement", "max": unequal, "margin": margin})


def growth_of(before: PairsSeen | None, after: PairsSeen | None) -> PairsSeen | None:
    """What was counted between two looks; None where nothing was, or counting began anew meanwhile.

    Before the first copy was given nothing is counted of a revision, and no other one has its key.
    """
    if after is None or (before is not None and before.epoch != after.epoch):
        return None
    growth = {name: count - getattr(before, name, 0) for name, count in after if name not in ("epoch", "slices")}
    if min(growth.values()) < 0 or not any(growth.values()):
        return None
    return PairsSeen(epoch=after.epoch, slices=_grown(before.slices if before else {}, after.slices), **growth)


def _grown(before: Mapping[str, InSlice], after: Mapping[str, InSlice]) -> dict[str, InSlice]:
    slices = {}
    for name, (labelled, worse, better, both) in after.items():
        then = before.get(name, (0, 0, 0, 0))
        slices[name] = labelled - then[0], worse - then[1], better - then[2], both - then[3]
    return slices


def paired_evidence(rules: Sequence[Rule], growth: PairsSeen | None) -> dict[str, dict[str, Seen]]:
    """What a tick brings for each rule, empty where no pair came. Numbers that do not fit together are no evidence."""
    if growth is None:
        return {}
    found = {
        ERROR_RATE: (growth.pairs, growth.failed, growth.recovered, growth.both_failed),
        ACCURACY: (growth.labelled, growth.worse, growth.better, growth.both_wrong),
        AGREEMENT: (growth.compared, growth.unequal, 0, 0),
    }
    seen: dict[str, dict[str, Seen]] = {}
    for rule in rules:
        whole = {WHOLE: found[rule.metric]} if rule.metric in found else {}
        slices = {name: growth.slices[name] for name in rule.slices if name in growth.slices}
        of_rule: dict[str, Seen] = {}
        for name, counts in (whole | slices).items():
            if (pairs := _pairs(*counts)) is not None:
                of_rule[name] = pairs
        if WHOLE in of_rule:
            seen[rule.metric] = of_rule
    return seen


def _pairs(pairs: int, worse: int, better: int, both: int) -> Pairs | None:
    fits = min(worse, better, both) >= 0 and 0 < pairs >= worse + better + both
    return Pairs(pairs=pairs, worse=worse, better=better, both=both) if fits else None
