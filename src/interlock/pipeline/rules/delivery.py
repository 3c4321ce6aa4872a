"""What must hold between the keys of a file that say how a model is delivered."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from interlock.pipeline.canaries.blue_green import check_blue_green
from interlock.pipeline.canaries.outside import ExternalMetricSpec, check_external
from interlock.pipeline.canaries.spec import (
    LIVE_METRICS,
    AnalysisSpec,
    CanarySpec,
    LiveMetricSpec,
    StepSpec,
    StrategySpec,
)
from interlock.pipeline.document import Path, Problem
from interlock.pipeline.plan import ACCURACY, ERROR_RATE, LATENCY_QUANTILES
from interlock.pipeline.replicas.spec import replicas_of
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
        checks = [check.name for check in environment.checks]
        for index, check in enumerate(checks):
            if check in checks[:index]:
                place = ("deploy", name, "checks", index, "name")
                yield Problem(place, f"the check {check} is given twice", "remove one, or rename it")


def check_canaries(spec: FileSpec) -> Iterator[Problem]:
    """A canary's weights grow, and it looks before it promotes; blue and green are judged by limits."""
    for name, environment in spec.deploy.items():
        if not isinstance(environment.strategy, StrategySpec):
            continue
        place: Path = ("deploy", name, "strategy")
        canary, blue_green = environment.strategy.canary, environment.strategy.blue_green
        if len(environment.strategy.model_fields_set) != 1:
            yield Problem(place, "a strategy has exactly one key", "write canary or blue_green, or the text rolling")
        if canary is not None:
            yield from _check_steps(canary, (*place, "canary", "steps"))
            yield from _check_times(canary, (*place, "canary"))
            yield from _check_metrics(canary.analysis, (*place, "canary", "analysis", "metrics"))
        if blue_green is not None:
            yield from check_blue_green(blue_green, (*place, "blue_green"))
            if blue_green.analysis is not None:
                yield from _check_metrics(blue_green.analysis, (*place, "blue_green", "analysis", "metrics"))


def span_of(step: StepSpec) -> float:
    """Seconds that a step takes at least."""
    wait = step.analysis or step.pause
    return wait.duration if wait else 0.0


def _check_steps(canary: CanarySpec, place: Path) -> Iterator[Problem]:
    whole = [len(step.model_fields_set) == 1 for step in canary.steps]
    for index, is_whole in enumerate(whole):
        if not is_whole:
            yield Problem(
                (*place, index), "a step has exactly one key", "write set_weight, analysis, pause or approvals"
            )
    if not all(whole):
        return
    weights = [(index, step.set_weight) for index, step in enumerate(canary.steps) if step.set_weight is not None]
    if canary.steps[0].set_weight is None:
        yield Problem((*place, 0), "nothing is to be seen before the first weight", "begin with set_weight")
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


def _check_metrics(analysis: AnalysisSpec, place: Path) -> Iterator[Problem]:
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
        if (metric.source == "labels") != (metric.metric == ACCURACY):
            problem = f"{metric.metric} comes from {'labels' if metric.metric == ACCURACY else 'the proxy'}"
            remedy = "add `source: labels`" if metric.metric == ACCURACY else "remove source"
            yield Problem((*place, index), problem, remedy)
        yield from _check_limit(metric, (*place, index, "max"))


def _counts(metric: LiveMetricSpec | ExternalMetricSpec) -> bool:
    """Whether it counts requests, and decides."""
    return not metric.dry_run and (isinstance(metric, LiveMetricSpec) or metric.is_counted)


def _check_limit(metric: LiveMetricSpec, place: Path) -> Iterator[Problem]:
    if metric.max is None:
        return
    if metric.metric not in LATENCY_QUANTILES and metric.max >= 1.0:
        yield Problem(place, f"max is {metric.max:g}, and every rate is below 1", "write a share: 0.02 for 2 %")
    elif metric.metric in LATENCY_QUANTILES and metric.max < 1.0:
        problem = f"max is {metric.max:g} ms, and the proxy counts whole milliseconds"
        yield Problem(place, problem, "write 1 or more")
