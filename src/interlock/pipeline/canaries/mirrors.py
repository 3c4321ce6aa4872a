"""What must hold between the keys of a file that say how requests are copied to a candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interlock.pipeline.canaries.outside import ExternalMetricSpec
from interlock.pipeline.canaries.plan import AGREEMENT, LATENCY_QUANTILES
from interlock.pipeline.canaries.spec import LiveMetricSpec, ShadowSpec, StepSpec, StrategySpec
from interlock.pipeline.document import Path, Problem


def check_choice(strategy: StrategySpec, place: Path) -> Iterator[Problem]:
    """A strategy is one."""
    if len(strategy.model_fields_set) != 1:
        yield Problem(place, "a strategy has exactly one key", f"write {' or '.join(type(strategy).model_fields)}")


def check_mirror_steps(steps: Sequence[StepSpec], place: Path) -> Iterator[Problem]:
    """Requests are copied before the candidate is asked itself, and what follows begins with a weight."""
    is_before = [step.mirror is not None or step.approvals is not None for step in steps]
    first = is_before.index(False) if False in is_before else len(steps)
    if first == len(steps):
        yield Problem(place, "this canary gives no traffic", "add set_weight, or write `strategy: {shadow: ...}`")
    elif steps[first].set_weight is None:
        yield Problem(
            (*place, first), "nothing is to be seen before the first weight", "begin with set_weight or mirror"
        )
    for index, step in enumerate(steps[first:], start=first):
        if step.mirror is not None:
            problem = "a mirror after a weight copies what the candidate itself answers"
            yield Problem((*place, index), problem, "let it be before the first set_weight")


def check_agreement(metric: LiveMetricSpec, is_mirrored: bool, place: Path) -> Iterator[Problem]:
    """Agreement is of copied requests, and has bounds of its own."""
    if metric.metric != AGREEMENT:
        for key in ("min", "tolerance"):
            if getattr(metric, key) is not None:
                yield Problem((*place, key), f"{metric.metric} has no {key}", "remove it")
        return
    if not is_mirrored:
        problem = "agreement is of copied requests, and none are copied"
        yield Problem(place, problem, "begin with a step {mirror: {percent: 100, for: 5m}}")
    if metric.min is None:
        yield Problem(place, "agreement needs the least share of equal answers", "add `min: 0.98`")
    for key in ("max", "max_ratio"):
        if key in metric.model_fields_set:
            yield Problem((*place, key), f"agreement has no {key}", "write min")


def check_shadow(shadow: ShadowSpec, place: Path) -> Iterator[Problem]:
    """What is never asked by a caller cannot be timed, and is not on probation."""
    if shadow.duration >= shadow.deadline:
        problem = f"the trial takes {shadow.duration:g}s at least, and the deadline is {shadow.deadline:g}s"
        yield Problem((*place, "deadline"), problem, f"write a deadline well above {shadow.duration:g}s")
    for index, metric in enumerate(shadow.analysis.metrics):
        where = (*place, "analysis", "metrics", index)
        if isinstance(metric, ExternalMetricSpec):
            problem = f"{metric.metric} is asked while the candidate has traffic, and a shadow has none"
            yield Problem(where, problem, "remove it")
            continue
        if metric.metric in LATENCY_QUANTILES:
            yield Problem(where, f"{metric.metric} is not judged by copies, for which nobody waits", "remove it")
        if metric.delay is not None:
            problem = "a metric with a delay is judged in probation, and a shadow has none"
            yield Problem((*where, "delay"), problem, "remove delay")
