"""Why a thing is as it is, told from the decisions that were stored. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from interlock.cli.output import Line
from interlock.cli.show import (
    PHASE_STYLES,
    environment_lines,
    format_seconds,
    format_time,
    gate_line,
    gate_lines,
    overridden_lines,
    override_lines,
    read_version,
    release_line,
    rollout_line,
    run_title,
    stage_line,
)
from interlock.control.rows import read_state
from interlock.delivery.analysis.engine import slices_of
from interlock.delivery.looks.replaying import LOOK, replay
from interlock.delivery.monitoring.monitor import Monitor
from interlock.delivery.monitoring.replaying import TURNS, replay_turns
from interlock.delivery.rollout import PROBATION_END, Rollout
from interlock.errors import NotFound, Refused
from interlock.gate.judgement import Checked, GateResult, Judgement
from interlock.run.run import Run
from interlock.run.scheduling.estimate import Estimate, roughly
from interlock.vocabulary import Digest, Event, Json, Kind, Row

SHOWN = 12
"""How many observations of one decision are printed; ``--json`` holds all."""
FORMS = (
    "run/12, run/12/train, train (a stage of the newest run), gate run/12, rollout/3, release/2, "
    "version/flights/3, flights/production or monitor/flights/production"
)


class Thing(NamedTuple):
    """What is to be explained: a row, and within a run perhaps one stage or its gates.

    A stage of a run without a key is that of the newest run.
    """

    kind: Kind
    key: str
    stage: str | None = None
    is_gate: bool = False


def parse_thing(words: Sequence[str]) -> Thing:
    """Reads ``run/12``, ``run 12``, ``run/12/train``, ``train``, ``gate run/12``, ``rollout/3``, ``flights/production``
    and so on.

    Refused where it is none of them.
    """
    parts = [part for word in words for part in word.split("/") if part]
    is_gate = parts[:1] == ["gate"]
    parts = parts[1:] if is_gate else parts
    if parts and parts[0].isdigit():
        parts = ["run", *parts]
    kind = parts[0] if parts else ""
    if kind == "run" and len(parts) in (2, 3) and parts[1].isdigit():
        return Thing(Kind.RUN, parts[1], parts[2] if len(parts) == 3 else None, is_gate)
    if is_gate:
        raise Refused(f"not a run: {' '.join(words)!r}", "explain gate", "write `interlock explain gate run/12`")
    if kind in ("rollout", "release") and len(parts) == 2 and parts[1].isdigit():
        return Thing(Kind(kind), parts[1])
    if kind in ("version", "environment", "monitor") and len(parts) == 3:
        return Thing(Kind(kind), "/".join(parts[1:]))
    if len(parts) == 2 and kind not in ("run", "rollout", "release"):
        return Thing(Kind.VERSION if parts[1].isdigit() else Kind.ENVIRONMENT, "/".join(parts))
    if len(parts) == 1 and kind not in ("run", "rollout", "release", "version", "environment", "monitor"):
        return Thing(Kind.RUN, "", kind)
    raise Refused(f"not a thing that can be explained: {' '.join(words)!r}", "explain", f"write {FORMS}")


def headline(row: Row) -> list[Line]:
    """How a row that is not a run stands now."""
    if row.kind is Kind.ENVIRONMENT:
        return environment_lines(row)
    if row.kind is Kind.RELEASE:
        return [release_line(row)]
    if row.kind is Kind.ROLLOUT:
        return [rollout_line(row), *slice_lines(row)]
    if row.kind is Kind.MONITOR:
        return monitor_lines(row)
    overridden = overridden_lines(read_version(row)) if row.kind is Kind.VERSION else []
    return [Line(f"{row.kind} {row.key}  {row.phase}", "title"), *overridden]


def monitor_lines(row: Row) -> list[Line]:
    """What is watched of what an environment serves, and what fires."""
    monitor = read_state(row, Monitor)
    lines = [Line(f"monitor of {monitor.environment}: {monitor.title}, since {format_time(monitor.started)}", "title")]
    plan = monitor.plan
    watched = ", ".join(rule.metric for rule in plan.rules) or "nothing"
    lines.append(Line(f"  watched    {watched}; one false alarm in {1.0 / plan.alpha:.3g} revisions at most", "dim"))
    if monitor.unwatched:
        lines.append(Line(f"  not monitored: {monitor.unwatched}", "warn"))
    for alert in monitor.alerts.values():
        acted = f", {alert.acted}" if alert.acted else ""
        lines.append(Line(f"  firing     {alert.key} since {format_time(alert.since)}: {alert.because}{acted}", "bad"))
    return lines if monitor.alerts else [*lines, Line("  nothing is found", "good")]


def slice_lines(row: Row) -> list[Line]:
    """What happened so far in each slice that a rollout judges."""
    analysis = read_state(row, Rollout).analysis
    return [Line(f"    {told}", "dim") for told in (slices_of(analysis) if analysis else ())]


def replayed_lines(row: Row, events: Sequence[Event]) -> list[Line]:
    """Whether the decisions of a rollout, or of a monitor's alerts, follow from what was stored of each look."""
    again = replay_turns(events) if row.kind is Kind.MONITOR else replay(read_state(row, Rollout), events)
    return [Line("decided again", "title"), Line(f"  {again}", "bad" if again.differences else "")]


def run_story(run: Run, events: Sequence[Event]) -> list[Line]:
    """A run: its stages with their reasons, its gates, and every decision."""
    lines = [run_title(run), *_warning_lines(run), Line("stages", "title")]
    lines += [stage_line(name, stage) for name, stage in run.stages.items()] or [Line("  none", "dim")]
    lines += cost_lines(run, events[-1].at - events[0].at if events else 0.0)
    if run.plan.gates:
        lines += [Line("gates", "title"), *gate_lines(run.judgement, run.plan.gates)]
    return [*lines, Line("decisions", "title"), *event_lines(events)]


def expected_lines(estimate: Estimate | None) -> list[Line]:
    """What a run is expected to take, and the stages that take the most of it."""
    if estimate is None or not estimate.stages:
        return []
    known = sorted(((seconds or 0.0, name) for name, seconds in estimate.stages.items() if seconds), reverse=True)
    longest = ", ".join(f"{name} {roughly(seconds)}" for seconds, name in known[:SHOWN])
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return [Line(f"expected {estimate}"), *([Line(f"         {longest}{more}", "dim")] if known else [])]


def cost_lines(run: Run, took: float) -> list[Line]:
    """Beside what a run was expected to take what it took: ``took`` seconds of wall time since it began."""
    estimate = run.estimate
    if estimate is None:
        return []
    cpu = [stage.cpu_seconds for stage in run.stages.values() if stage.attempt and stage.cpu_seconds is not None]
    used = f", {sum(cpu):.1f} CPU-s" if cpu else ""
    lines = [Line("cost", "title"), Line(f"  expected {estimate}"), Line(f"  {'took':<8} {format_seconds(took)}{used}")]
    for name, seconds in list(estimate.stages.items())[:SHOWN]:
        stage = run.stages[name]
        expected = "unknown" if seconds is None else format_seconds(seconds)
        measured = format_seconds(stage.seconds) if stage.attempt and stage.phase.is_final else "not yet"
        lines.append(Line(f"    {name:<14} expected {expected}, took {measured}", "dim"))
    if len(estimate.stages) > SHOWN:
        lines.append(Line(f"    and {len(estimate.stages) - SHOWN} more stages (--json shows all)", "dim"))
    return lines


def stage_story(run: Run, name: str, events: Sequence[Event], first: Run | None = None) -> list[Line]:
    """One stage: why it ran or did not, what differed, what was wrong, what it made. NotFound where there is none.

    ``first`` is the run in which a reused stage was executed.
    """
    stage = run.stages.get(name)
    if stage is None:
        raise NotFound(
            f"run {run.number} has no stage {name!r}", f"run/{run.number}", f"it has {', '.join(run.stages) or 'none'}"
        )
    lines = [run_title(run), stage_line(name, stage)]
    lines += [Line(f"      {difference}") for difference in stage.differences]
    lines += [Line(f"      {problem}", "warn" if problem.is_warning else "bad") for problem in stage.problems]
    if first is not None:
        lines.append(Line(f"      executed in {run_title(first).text}", "dim"))
    if stage.attempt:
        used = [f"{format_seconds(stage.seconds)} of wall time"]
        used += [f"{format_seconds(stage.cpu_seconds)} of CPU"] if stage.cpu_seconds is not None else []
        used += [f"{stage.peak_memory / 1e6:.0f} MB at most"] if stage.peak_memory is not None else []
        if stage.bytes_read is not None and stage.bytes_written is not None:
            used.append(f"read {stage.bytes_read / 1e6:.1f} MB, wrote {stage.bytes_written / 1e6:.1f} MB")
        used += [f"sandbox {stage.sandbox}"] if stage.sandbox else []
        lines.append(Line(f"  attempt {stage.attempt}: {', '.join(used)}"))
    lines += [Line(f"  made {path}: {digest}", "dim") for path, digest in stage.products.items()]
    if events:
        lines += [Line("decisions", "title"), *event_lines(events)]
    return lines


def of_stage(events: Sequence[Event], name: str) -> list[Event]:
    """The decisions of a run that looked at this stage, with only what they saw of it."""
    found: list[Event] = []
    for event in events:
        seen = {what: part[name] for what, part in event.observed.items() if isinstance(part, dict) and name in part}
        if seen:
            found.append(event.model_copy(update={"observed": seen}))
    return found


def gate_story(run: Run) -> list[Line]:
    """Every gate of a run with all the numbers that led to its verdict."""
    judgement = run.judgement
    checks = _check_lines("checks of data", run.data, judgement)
    checks += _check_lines("checks as served", run.served, judgement)
    lines = [run_title(run), *_warning_lines(run), *checks, *([Line("gates", "title")] if checks else [])]
    if judgement is None:
        return [
            *lines,
            Line(f"not judged: the run is {run.phase}: {run.because}", "warn"),
            *gate_lines(None, run.plan.gates),
        ]
    if not judgement.results:
        return [*lines, Line("no gate was asked for", "warn")]
    told = {result.gate for checked in (run.data, run.served) if checked for result in checked.results}
    for result in judgement.results:
        lines += _result_lines(result, judgement) if result.gate not in told else []
    return [*lines, *(Line(f"  measured by {name}: {digest}", "dim") for name, digest in measured(run).items())]


def measured(run: Run) -> dict[str, Digest]:
    """By stage what was measured, as artifacts: all that the run was judged by can be computed again from them."""
    return {name: stage.report for name, stage in run.stages.items() if stage.report is not None}


def _warning_lines(run: Run) -> list[Line]:
    """What of its plan is to be looked at, and what it has not as the base branch or production has it."""
    told = [*run.plan.warnings, *(str(problem) for problem in run.problems if problem.is_warning)]
    return [Line(f"  warning: {warning}", "warn") for warning in told]


def _check_lines(title: str, checked: Checked | None, judgement: Judgement | None) -> list[Line]:
    """The checks that were asked with all their numbers, and why others were not."""
    if checked is None:
        return []
    asked = [line for result in checked.results for line in _result_lines(result, judgement)]
    left = [Line(f"  {'not asked':<10} {name}: {because}", "dim") for name, because in checked.left_out.items()]
    return [Line(title, "title"), *asked, *left] if asked or left else []


def _result_lines(result: GateResult, judgement: Judgement | None) -> list[Line]:
    numbers = [Line(f"      {name}: {format_value(value)}", "dim") for name, value in flatten(result.evidence)]
    return [gate_line(result), *override_lines(judgement, result), *numbers]


def event_lines(events: Sequence[Event]) -> list[Line]:
    """Each decision with its time, its reason, and what was observed; of a probation the first and the last one."""
    if not events:
        return [Line("  no decision is stored", "dim")]
    lines: list[Line] = []
    for is_probation, group in groupby(events, lambda event: PROBATION_END in event.observed):
        some = list(group)
        told = [some[0], some[-1]] if is_probation and len(some) > 2 else some
        for event in told:
            lines += _event_lines(event)
        if len(some) > len(told):
            lines.append(Line(f"      {len(some) - len(told)} more looks in between (--json shows all)", "dim"))
    return lines


def _event_lines(event: Event) -> list[Line]:
    reason = f"  {format_time(event.at)}  {event.phase:<11}  {event.because}"
    observed = list(flatten({name: what for name, what in event.observed.items() if name not in (LOOK, TURNS)}))
    lines = [Line(reason, PHASE_STYLES.get(event.phase, ""))]
    lines += [Line(f"      {name}: {format_value(value)}", "dim") for name, value in observed[:SHOWN]]
    if len(observed) > SHOWN:
        lines.append(Line(f"      and {len(observed) - SHOWN} more observations (--json shows all)", "dim"))
    return lines


def flatten(value: dict[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    """Nested mappings as pairs (dotted name, value); empty ones are left out."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from flatten(inner, f"{prefix}{name}.")
        elif inner not in (None, [], ""):
            yield f"{prefix}{name}", inner


def format_value(value: Json) -> str:
    """A stored number or word for people, on one line of at most 200 characters."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return _shorten(", ".join(format_value(item) for item in value))
    return _shorten(" ".join(str(value).split()))


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"
