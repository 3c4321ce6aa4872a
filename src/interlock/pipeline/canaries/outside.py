"""The keys of a live metric whose numbers come from elsewhere, what must hold between them, and their plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from interlock.pipeline.canaries.external import (
    EVENTS,
    OF_A_SIDE,
    OF_A_VALUE,
    REQUESTS,
    VALUE,
    ExternalMetricPlan,
    placeholders_in,
)
from interlock.pipeline.document import Path, Problem
from interlock.pipeline.rules.values import Choice, Duration, ModelName, Secrets, Section, Text, named

SOURCES = ("prometheus", "command")
COUNTED_KEYS = ("max_ratio", "margin")
QUERY_KEYS = ("query", "events", "requests", "server")
MetricName = Annotated[Text, *named("[a-z][a-z0-9_]{0,62}", "lower-case letters, digits and _, a letter first")]


class ExternalMetricSpec(Section):
    """A live metric of your own, asked while the candidate has traffic. Counts of both sides (`events` and `requests`,
    or a command with `margin`) are judged as `error_rate` is, under the same `alpha`. A value alone has a plain limit:
    the candidate is rolled back when it was beyond it, and may be promoted when it was within it, at every look of the
    time `for`; no chance of a false alarm is claimed of that.
    """

    metric: MetricName
    """Its name, one that is not measured here."""
    source: Annotated[str, Choice(SOURCES)]
    """Where its numbers are from: `prometheus`, a server of the settings; `command`, what a command prints."""
    server: ModelName | None = None
    """Which of the Prometheus servers of the server's settings is asked. Without this key: the only one there is."""
    query: Text | None = None
    """PromQL for one value. `$candidate` and `$stable` are replaced by the names of the revisions, `$model` and
    `$environment` by theirs."""
    events: Text | None = None
    """PromQL for how many bad events a revision has had so far, asked for each side: `$revision` is its name."""
    requests: Text | None = None
    """PromQL for how many requests it has had so far, the events among them."""
    cmd: Text | None = None
    """The command line, run as checks of an environment are. It prints a number, or `{"value": 0.97}`; with `margin` or
    `max_ratio` the counts so far: `{"candidate": {"events": 1, "requests": 400}, "stable": {...}}`."""
    secrets: Secrets = []
    """Secrets of the environment, or of its repository, that the command is given as environment variables."""
    min: float | None = None
    """The least that its value may be."""
    max: float | None = None
    """The most that its value may be; of counts, the most that the candidate's rate may be at all."""
    held_for: Annotated[Duration, Field(alias="for")] = 60.0
    """How long a value is beyond its limit before the candidate is rolled back, or within before it is promoted."""
    max_ratio: Annotated[float, Field(ge=1.0)] = 1.5
    """Of counts: the most that the candidate's rate may be of the stable one's."""
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.01
    """Of counts: how much worse the candidate's rate may be at most; must be proven to promote."""
    every: Duration = 15.0
    """How often it is asked."""
    dry_run: bool = False
    """Whether it is only told what it would decide."""

    @property
    def is_counted(self) -> bool:
        """Whether it counts events of both sides."""
        if self.source == "command":
            return bool(self.model_fields_set & set(COUNTED_KEYS))
        return self.events is not None or self.requests is not None


def check_external(metric: ExternalMetricSpec, place: Path, known: tuple[str, ...]) -> Iterator[Problem]:
    """Its keys fit its source and each other. ``known`` are the metrics that are measured here."""
    if metric.metric in known:
        problem = f"{metric.metric} is measured here"
        yield Problem((*place, "metric"), problem, "choose another name, or remove the source")
    is_command = metric.source == "command"
    for key in QUERY_KEYS if is_command else ("cmd",):
        if getattr(metric, key) is not None:
            yield Problem((*place, key), f"{key} is for another source than {metric.source}", "remove it")
    if not is_command and metric.secrets:
        yield Problem((*place, "secrets"), "secrets are for a command", "remove them")
    if is_command and metric.cmd is None:
        yield Problem(place, f"{metric.metric} names no command", "add `cmd: ...`")
    if not is_command:
        yield from _check_queries(metric, place)
    yield from _check_counted(metric, place) if metric.is_counted else _check_value(metric, place)


def _check_queries(metric: ExternalMetricSpec, place: Path) -> Iterator[Problem]:
    given = tuple(key for key in ("query", "events", "requests") if getattr(metric, key) is not None)
    if given not in (("query",), ("events", "requests")):
        problem = f"{metric.metric} has {' and '.join(given) or 'no query'}"
        yield Problem(place, problem, "write `query` for one value, or `events` and `requests` for counts")
    for key in given:
        known = OF_A_VALUE if key == "query" else OF_A_SIDE
        written = placeholders_in(getattr(metric, key))
        for name in sorted(written - set(known)):
            remedy = f"use {', '.join(f'${one}' for one in known)}"
            yield Problem((*place, key), f"${name} stands for nothing here", remedy)
        if key != "query" and "revision" not in written:
            problem = f"{key} asks the same of both sides"
            yield Problem((*place, key), problem, 'choose by the side\'s name: {revision="$revision"}')


def _check_counted(metric: ExternalMetricSpec, place: Path) -> Iterator[Problem]:
    for key, name in (("min", "min"), ("for", "held_for")):
        if name in metric.model_fields_set:
            yield Problem((*place, key), f"{key} is for a value, and {metric.metric} is counted", "remove it")
    if metric.max is not None and not 0.0 < metric.max < 1.0:
        yield Problem((*place, "max"), f"max is {metric.max:g}, and a rate is between 0 and 1", "write 0.02 for 2 %")


def _check_value(metric: ExternalMetricSpec, place: Path) -> Iterator[Problem]:
    for key in COUNTED_KEYS:
        if key in metric.model_fields_set:
            problem = f"{key} is for counts, and {metric.metric} is one value"
            yield Problem((*place, key), problem, "write min or max, or ask for `events` and `requests`")
    if metric.min is None and metric.max is None:
        yield Problem(place, f"{metric.metric} has no limit", "write min or max")
    if metric.min is not None and metric.max is not None and metric.min > metric.max:
        yield Problem((*place, "min"), f"min is {metric.min:g}, above max", f"write at most {metric.max:g}")
    if metric.held_for < metric.every:
        problem = f"it is asked every {metric.every:g}s, and has to hold for {metric.held_for:g}s only"
        yield Problem((*place, "for"), problem, f"write {metric.every:g}s or more, or ask more often")


def external_plan_of(metric: ExternalMetricSpec) -> ExternalMetricPlan:
    """Its plan."""
    written = {VALUE: metric.query, EVENTS: metric.events, REQUESTS: metric.requests}
    return ExternalMetricPlan(
        metric=metric.metric,
        source="command" if metric.source == "command" else "prometheus",
        server=metric.server,
        queries={what: query for what, query in written.items() if query is not None},
        command=metric.cmd,
        secrets=tuple(metric.secrets),
        is_counted=metric.is_counted,
        every=metric.every,
        seconds=metric.held_for,
        min=metric.min,
        max=metric.max,
        max_ratio=metric.max_ratio,
        margin=metric.margin,
        dry_run=metric.dry_run,
    )
