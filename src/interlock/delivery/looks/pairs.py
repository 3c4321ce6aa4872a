"""Evidence of copied requests, which both sides were asked: what grew between two looks, by metric."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.delivery.analysis.streams import Rule
from interlock.delivery.analysis.ticks import WHOLE, Pairs, Seen
from interlock.delivery.revision import PairsSeen
from interlock.pipeline.canaries.plan import ACCURACY, AGREEMENT, AnalysisMetricPlan

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
    growth = {name: count - getattr(before, name, 0) for name, count in after if name != "epoch"}
    if min(growth.values()) < 0 or not any(growth.values()):
        return None
    return PairsSeen(epoch=after.epoch, **growth)


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
        pairs, worse, better, both = found.get(rule.metric, (0, 0, 0, 0))
        if 0 < pairs >= worse + better + both:
            seen[rule.metric] = {WHOLE: Pairs(pairs=pairs, worse=worse, better=better, both=both)}
    return seen
