"""What must hold between the keys of a file that say how a model is delivered."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from interlock.pipeline.canaries.blue_green import check_blue_green
from interlock.pipeline.canaries.mirrors import check_agreement, check_choice, check_mirror_steps, check_shadow
from interlock.pipeline.canaries.outside import ExternalMetricSpec, check_external
from interlock.pipeline.canaries.plan import ACCURACY, AGREEMENT, ERROR_RATE, LATENCY_QUANTILES
from interlock.pipeline.canaries.probation import check_probation
from interlock.pipeline.canaries.slices import check_slices
from interlock.pipeline.canaries.spec import (
    LIVE_METRICS,
    AnalysisSpec,
    CanarySpec,
    LiveMetricSpec,
    StepSpec,
    StrategySpec,
)
from interlock.pipeline.document import Path, Problem
from interlock.pipeline.monitoring.resolution import check_monitoring
from interlock.pipeline.replicas.spec import ReplicasSpec, replicas_of
from interlock.pipeline.spec import FileSpec


def check_deployed_model(spec: FileSpec) -> Iterator[Problem]:
    """There is something to deliver."""
    if spec.deploy and spec.model is None:
        yield Problem(("deploy",), "there is no model to deliver", "add `model: model/`, or remove deploy", at_key=True)


def check_environments(spec: FileSpec) -> Iterator[Problem]:
    """An environment requires environments above it, its bounds are in order, its checks have names of their own."""
    names = list(spec.deploy)
    for position, (name, environment) in enumerate(spec.deploy.items()):
        above = names[:position]
        for index, required in enumerate(environment.requires):
            if required not in above:
                remedy = f"use one of: {', '.join(above)}" if above else "remove it: this is the first environment"
                problem = f"{name} requires {required}, which is no environment above it"
                yield Problem(("deploy", name, "requires", index), problem, remedy)
        replicas = replicas_of(environment.replicas)
        if replicas.max is not None and replicas.max < replicas.min:
            problem = f"max is {replicas.max}, less than min, which is {replicas.min}"
            yield Problem(("deploy", name, "replicas", "max"), problem, f"write {replicas.min} or more, or remove it")
        yield from check_monitoring(environment.monitoring, ("deploy", name, "monitoring"))
        yield from _check_surge(replicas, environment.strategy, ("deploy", name, "replicas"))
        checks = [check.name for check in environment.checks]
        for index, check in enumerate(checks):
            if check in checks[:index]:
                place = ("deploy", name, "checks", index, "name")
                yield Problem(place, f"the check {check} is given twice", "remove one, or rename it")


def _check_surge(replicas: ReplicasSpec, strategy: str | StrategySpec, place: Path) -> Iterator[Problem]:
    """Replicas can be replaced as it is written, and somebody serves meanwhile."""
    if replicas.max_surge is None and replicas.max_unavailable == 0:
        return
    key = "max_unavailable" if replicas.max_surge is None else "max_surge"
    if strategy != "rolling":
        kind = strategy if isinstance(strategy, str) else "canary"
        problem = f"{key} is of no use with strategy: {kind}"
        yield Problem((*place, key), problem, "remove it, or write strategy: rolling", at_key=True)
    elif replicas.max_surge is None:
        problem = "max_unavailable bounds nothing without max_surge: all new replicas stand beside the old ones"
        yield Problem((*place, key), problem, "add max_surge: 0", at_key=True)
    elif replicas.max_surge == 0 and replicas.max_unavailable == 0:
        problem = "with neither more nor fewer replicas none can be replaced"
        yield Problem((*place, key), problem, "write max_surge: 1, or max_unavailable: 1")
    elif replicas.max_unavailable >= replicas.min:
        problem = f"with {replicas.max_unavailable} of {replicas.min} replicas away nobody serves"
        remedy = "write strategy: recreate if that may be" if replicas.min == 1 else f"write less than {replicas.min}"
        yield Problem((*place, "max_unavailable"), problem, remedy)


def check_canaries(spec: FileSpec) -> Iterator[Problem]:
    """A canary's weights grow, and it looks before it promotes; copies judge a shadow, limits blue and green."""
    for name, environment in spec.deploy.items():
        if not isinstance(environment.strategy, StrategySpec):
            continue
        place: Path = ("deploy", name, "strategy")
        yield from check_choice(environment.strategy, place)
        labels = {dataset.label for dataset in spec.data.values() if dataset.label is not None}
        yield from _check_strategy(environment.strategy, labels, place)
        if environment.strategy.shadow is not None and environment.checks:
            problem = "checks ask the live endpoint, where a shadow does not answer"
            remedy = "remove them, or choose another strategy"
            yield Problem(("deploy", name, "checks"), problem, remedy, at_key=True)


def _check_strategy(strategy: StrategySpec, labels: Collection[str], place: Path) -> Iterator[Problem]:
    canary, blue_green, shadow = strategy.canary, strategy.blue_green, strategy.shadow
    if canary is not None:
        yield from _check_steps(canary, (*place, "canary", "steps"))
        yield from _check_times(canary, (*place, "canary"))
        is_mirrored = any(step.mirror for step in canary.steps)
        yield from _check_metrics(canary.analysis, is_mirrored, labels, (*place, "canary", "analysis", "metrics"))
        yield from check_probation(canary, (*place, "canary"))
    if blue_green is not None:
        yield from check_blue_green(blue_green, (*place, "blue_green"))
        if blue_green.analysis is not None:
            yield from _check_metrics(blue_green.analysis, False, labels, (*place, "blue_green", "analysis", "metrics"))
    if shadow is not None:
        yield from check_shadow(shadow, (*place, "shadow"))
        yield from _check_metrics(shadow.analysis, True, labels, (*place, "shadow", "analysis", "metrics"))


def span_of(step: StepSpec) -> float:
    """Seconds that a step takes at least."""
    wait = step.analysis or step.pause or step.mirror
    return wait.duration if wait else 0.0


def _check_steps(canary: CanarySpec, place: Path) -> Iterator[Problem]:
    whole = [len(step.model_fields_set) == 1 for step in canary.steps]
    for index, is_whole in enumerate(whole):
        if not is_whole:
            remedy = "write set_weight, analysis, pause, approvals or mirror"
            yield Problem((*place, index), "a step has exactly one key", remedy)
    if not all(whole):
        return
    weights = [(index, step.set_weight) for index, step in enumerate(canary.steps) if step.set_weight is not None]
    yield from check_mirror_steps(canary.steps, place)
    for (_, lower), (index, weight) in pairwise(weights):
        if weight <= lower:
            problem = f"the weight {weight} does not follow {lower}: weights grow"
            yield Problem((*place, index, "set_weight"), problem, f"write more than {lower}, or remove the step")
    full = next((index for index, weight in weights if weight == 100), len(canary.steps))
    if full < len(canary.steps) - 1:
        problem = "a step after set_weight: 100 has no stable revision to compare with"
        yield Problem((*place, full + 1), problem, "let set_weight: 100 be the last step")
    if not any(step.analysis for step in canary.steps):
        yield Problem(place, "this canary never looks at the evidence", "add a step {analysis: {for: 5m}}")


def _check_times(canary: CanarySpec, place: Path) -> Iterator[Problem]:
    least = sum(span_of(step) for step in canary.steps)
    if least >= canary.deadline:
        problem = f"the steps take {least:g}s at least, and the deadline is {canary.deadline:g}s"
        yield Problem((*place, "deadline"), problem, f"write a deadline well above {least:g}s")


def _check_metrics(
    analysis: AnalysisSpec, is_mirrored: bool, labels: Collection[str], place: Path
) -> Iterator[Problem]:
    metrics = [metric.metric for metric in analysis.metrics]
    if all(metric.dry_run for metric in analysis.metrics):
        yield Problem(place, "every metric is a dry run, so nothing is judged", "let one metric count", at_key=True)
    elif not any(_counts(metric) for metric in analysis.metrics):
        problem = "plain limits alone do not show that the candidate was asked anything"
        yield Problem(place, problem, f"add {{metric: {ERROR_RATE}}}", at_key=True)
    for index, metric in enumerate(analysis.metrics):
        if metric.metric in metrics[:index]:
            yield Problem((*place, index), f"the metric {metric.metric} is given twice", "remove one")
        if isinstance(metric, ExternalMetricSpec):
            yield from check_external(metric, (*place, index), LIVE_METRICS)
            continue
        yield from check_agreement(metric, is_mirrored, (*place, index))
        if (metric.source == "labels") != (metric.metric == ACCURACY):
            problem = f"{metric.metric} comes from {'labels' if metric.metric == ACCURACY else 'the proxy'}"
            remedy = "add `source: labels`" if metric.metric == ACCURACY else "remove source"
            yield Problem((*place, index), problem, remedy)
        yield from _check_limit(metric, (*place, index, "max"))
        yield from check_slices(metric.metric, metric.slices, labels, (*place, index, "slices"))


def _counts(metric: LiveMetricSpec | ExternalMetricSpec) -> bool:
    """Whether it counts requests, and decides."""
    return not metric.dry_run and (isinstance(metric, LiveMetricSpec) or metric.is_counted)


def _check_limit(metric: LiveMetricSpec, place: Path) -> Iterator[Problem]:
    if metric.max is None or metric.metric == AGREEMENT:
        return
    if metric.metric not in LATENCY_QUANTILES and metric.max >= 1.0:
        yield Problem(place, f"max is {metric.max:g}, and every rate is below 1", "write a share: 0.02 for 2 %")
    elif metric.metric in LATENCY_QUANTILES and metric.max < 1.0:
        problem = f"max is {metric.max:g} ms, and the proxy counts whole milliseconds"
        yield Problem(place, problem, "write 1 or more")
