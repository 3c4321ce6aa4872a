"""From rows to lines and JSON: all that the command line knows of how rows are shaped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from interlock.cli.output import ExitCode, Line, Style
from interlock.control.rows import read_state
from interlock.gate.judgement import GateResult, Judgement
from interlock.later import Later
from interlock.pipeline.keys import in_short
from interlock.pipeline.plan import GatePlan, Plan, StagePlan
from interlock.pipeline.trace import Lookup
from interlock.run.run import Run, StageRun
from interlock.vocabulary import Phase, Row, Verdict

if TYPE_CHECKING:
    from interlock.access import tokens as access
    from interlock.access.audit import AuditEntry
    from interlock.client.models import RunSummary
    from interlock.control.reusing.production import Against
    from interlock.delivery import environment as environments
    from interlock.delivery import holding
    from interlock.delivery import release as releases
    from interlock.delivery import rollout as rollouts
    from interlock.inference.joined import Joined
    from interlock.registry import version as versions
else:  # what is delivered: a run and a plan of a working tree are told without
    access = Later("interlock.access.tokens")
    environments, releases = Later("interlock.delivery.environment"), Later("interlock.delivery.release")
    holding = Later("interlock.delivery.holding")
    rollouts, versions = Later("interlock.delivery.rollout"), Later("interlock.registry.version")

PHASE_STYLES: dict[str, Style] = {
    "succeeded": "good",
    "promoted": "good",
    "done": "good",
    "failed": "bad",
    "errored": "bad",
    "rolled_back": "bad",
    "stopped": "bad",
    "held": "warn",
    "waiting": "warn",
    "cancelled": "warn",
    "superseded": "warn",
    "skipped": "dim",
    "queued": "dim",
}
VERDICT_STYLES: dict[Verdict, Style] = {Verdict.PASS: "good", Verdict.FAIL: "bad", Verdict.UNDECIDED: "warn"}
EXIT_CODES = {
    Phase.FAILED: ExitCode.FAILED,
    Phase.ERRORED: ExitCode.ERRORED,
    Phase.HELD: ExitCode.HELD,
    Phase.CANCELLED: ExitCode.INTERRUPTED,
}


def read_run(row: Row) -> Run:
    """The run a row holds."""
    return read_state(row, Run)


def read_version(row: Row) -> versions.ModelVersion:
    """The model version a row holds."""
    return read_state(row, versions.ModelVersion)


def exit_code_of(run: Run) -> ExitCode:
    """What a command ends with when the run ended so."""
    return EXIT_CODES.get(run.phase, ExitCode.SUCCESS)


def row_json(row: Row) -> dict[str, Any]:
    """A row as JSON: its state, and with it kind, key, phase and times."""
    about = {"kind": row.kind.value, "key": row.key, "phase": row.phase, "created": row.created, "updated": row.updated}
    return {**row.state, **about}


def format_seconds(seconds: float) -> str:
    """A duration for people: ``0.3 s``, ``42 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_time(at: float) -> str:
    """A moment for people, in local time."""
    return datetime.fromtimestamp(at, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def table(rows: Iterable[tuple[Sequence[str], Style]]) -> list[Line]:
    """Rows of cells as aligned lines."""
    listed = [(tuple(cells), style) for cells, style in rows]
    widths = [max(map(len, column)) for column in zip(*(cells for cells, _ in listed), strict=True)]
    return [
        Line("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip(), style)
        for cells, style in listed
    ]


def plan_lines(plan: Plan, stages: Sequence[tuple[StagePlan, Lookup | None]]) -> list[Line]:
    """What a plan would do: each stage with its reason, then gates and delivery."""
    rows: list[tuple[Sequence[str], Style]] = []
    for stage, lookup in stages:
        will = _will(lookup)
        style: Style = "dim" if will == "reuse" else "title" if will == "run" else "warn"
        because = lookup.because if lookup else "decided when the stages it needs have run"
        rows.append(((will, stage.name, stage.kind, because), style))
    lines = table(rows) if rows else [Line("no stages", "warn")]
    for gate in plan.gates:
        lines.append(Line(f"gate     {gate.title}"))
    if plan.model:
        lines.append(Line(f"model    {plan.model.name}: {plan.model.path} ({plan.model.format})"))
    for environment in plan.deploy:
        after = f", after {', '.join(environment.requires)}" if environment.requires else ""
        lines.append(Line(f"deploy   {environment.name}: {environment.strategy.kind}{after}"))
    lines += [Line(f"warning  {warning}", "warn") for warning in plan.warnings]
    return lines


def plan_summary(stages: Sequence[tuple[StagePlan, Lookup | None]], against: Against | None) -> Line:
    """How much would be executed, and how the commit stands against what is in production, where that is known."""
    wills = [_will(lookup) for _, lookup in stages]
    count = len(wills) - wills.count("reuse")
    upto = "up to " if "unknown" in wills else ""
    would = f"{upto}{count} of {len(wills)} stages would run" if count else f"none of {len(wills)} stages would run"
    if against is None:
        return Line(would)
    told = in_short(against.differences) if against.differences else "nothing that its stages use has changed"
    return Line(f"against {against.title} (run {against.run}): {told}; {would}")


def plan_json(plan: Plan, stages: Sequence[tuple[StagePlan, Lookup | None]]) -> dict[str, Any]:
    """The same as JSON; ``will`` is ``reuse``, ``run`` or ``unknown``."""
    return {
        "plan": plan.model_dump(mode="json"),
        "stages": [
            {
                "name": stage.name,
                "kind": stage.kind,
                "will": _will(lookup),
                "because": lookup.because if lookup else None,
                "differences": list(lookup.differences) if lookup else [],
                "reused": lookup.hit.attempt if lookup and lookup.hit else None,
            }
            for stage, lookup in stages
        ],
    }


def _will(lookup: Lookup | None) -> str:
    if lookup is None:
        return "unknown"
    return "reuse" if lookup.hit else "run"


def stage_line(name: str, stage: StageRun) -> Line:
    """One stage of a run: name, phase, time and reason."""
    took = f" {format_seconds(stage.seconds)}" if stage.seconds else ""
    return Line(
        f"  {name:<14} {stage.phase:<10}{took} {stage.because}".rstrip(),
        "dim" if stage.reused else PHASE_STYLES.get(stage.phase, ""),
    )


def stage_changes(before: Mapping[str, StageRun], after: Mapping[str, StageRun]) -> list[Line]:
    """What is new since the last look: a line for each stage whose phase or attempt moved, with its problems."""
    lines: list[Line] = []
    for name, stage in after.items():
        known = before.get(name)
        is_new = known is None or (known.phase, known.attempt) != (stage.phase, stage.attempt)
        if not is_new or (stage.phase is Phase.QUEUED and not stage.because):
            continue
        lines.append(stage_line(name, stage))
        lines += [Line(f"      {problem}", "warn" if problem.is_warning else "bad") for problem in stage.problems]
    return lines


class RunTeller:
    """Tells a run as it goes on: each time only what is new."""

    def __init__(self) -> None:
        self._told: dict[str, StageRun] | None = None

    def tell(self, run: Run) -> list[Line]:
        """The run's title the first time, then the stages that changed since."""
        lines = [run_title(run)] if self._told is None else []
        lines += stage_changes(self._told or {}, run.stages)
        self._told = dict(run.stages)
        return lines


def gate_line(result: GateResult) -> Line:
    """One gate's verdict and its evidence in words."""
    return Line(f"  {result.verdict:<10} {result.gate}: {result.because}", VERDICT_STYLES[result.verdict])


def gate_lines(judgement: Judgement | None, gates: Sequence[GatePlan] = ()) -> list[Line]:
    """Every gate's verdict; before they were judged, what they will ask."""
    if judgement is None:
        return [_not_judged(gate) for gate in gates]
    judged = {result.gate for result in judgement.results}
    left = [gate for gate in gates if gate.title not in judged]  # those of a run that ended before they were asked
    told = [line for result in judgement.results for line in (gate_line(result), *override_lines(judgement, result))]
    return [*told, *map(_not_judged, left)]


def override_lines(judgement: Judgement | None, result: GateResult) -> list[Line]:
    """Who let the model past a gate that did not pass, and why."""
    override = judgement.override_of(result) if judgement else None
    return [] if override is None else [Line(f"    {override}", "warn")]


def _not_judged(gate: GatePlan) -> Line:
    return Line(f"  {'not judged':<10} {gate.title}", "dim")


def run_end(run: Run) -> list[Line]:
    """How a run ended: gates, reason, version."""
    lines: list[Line] = []
    if run.judgement is not None and run.judgement.results:
        lines += [Line("gates", "title"), *gate_lines(run.judgement, run.plan.gates)]
    lines += [Line(f"  {problem}", "warn" if problem.is_warning else "bad") for problem in run.problems]
    lines.append(Line(f"run {run.number} {run.phase}: {run.because}", PHASE_STYLES.get(run.phase, "")))
    if run.version:
        lines.append(Line(f"model version {run.version}"))
    return lines


def run_title(run: Run) -> Line:
    """Which run this is."""
    commit = " ".join(part for part in (run.commit.ref, run.commit.sha[:10], run.commit.subject) if part)
    return Line(f"run {run.number} of {run.commit.repository} ({run.occasion.kind}): {commit}", "title")


def logs_of(run: Run, stage: str | None, attempt: int | None) -> list[tuple[str, str]]:
    """Pairs (title, attempt) of the logs that were asked for; a reused stage answers those of its first execution."""
    found: list[tuple[str, str]] = []
    for name, stage_run in run.stages.items():
        if stage not in (None, name):
            continue
        if attempt is not None:
            found.append((f"{name}, attempt {attempt}", f"{run.number}/{name}/{attempt}"))
        elif stage_run.reused:
            found.append((f"{name}, reused from {stage_run.reused}", stage_run.reused))
        elif stage_run.attempt:
            found.append((name, run.attempt_key(name)))
    return found


def environment_lines(row: Row, quality: Mapping[str, Joined] | None = None) -> list[Line]:
    """One environment: what is stable, what is on trial, with weights, replicas and live quality by revision key."""
    environment = read_state(row, environments.Environment)
    lines = [Line(environment.key, "title")]
    if not environments.desired(environment).revisions:
        return [*lines, Line(f"  nothing serves: {environment.because}", "warn")]
    for role, revision in (("stable", environment.stable), ("candidate", environment.candidate)):
        if revision is not None:
            weight = environment.weights.get(revision.key, 0)
            replicas = environments.scaled(environment, revision).replicas
            copied = environment.mirrors.get(revision.key, 0)
            share = f"{copied} % of the requests copied to it" if copied else f"weight {weight} %"
            about = f"{revision.title} (r{revision.number}), {share}, {replicas} replicas"
            lines.append(Line(f"  {role:<10} {about}", "good" if role == "stable" else "warn"))
            if quality and revision.key in quality:
                lines.append(quality_line(quality[revision.key]))
    if environment.freeze and (told := holding.frozen_because(environment.freeze, time.time())):
        lines.append(Line(f"  {told}", "warn"))
    if environment.trouble:
        lines.append(Line(f"  trouble    {environment.trouble}", "bad"))
    if environment.replicas_because:
        lines.append(Line(f"  replicas   {environment.replicas_because}", "dim"))
    return [*lines, Line(f"  because    {environment.because}", "dim")]


def quality_line(live: Joined) -> Line:
    """How right one revision was, as far as labels have come."""
    found = [("accuracy", live.accuracy), ("AUC", live.auc)]
    numbers = [f"{name} {value:.4f}" for name, value in found if value is not None]
    about = f"{live.labelled} labels for {live.predictions} predictions"
    return Line(f"  {'':<10} live: {', '.join([*numbers, about])}", "dim")


def release_line(row: Row) -> Line:
    """One release: where it is, and why."""
    release = read_state(row, releases.Release)
    here = release.here.name if release.phase.value in ("open", "waiting") and release.here else "-"
    return Line(
        f"  release {release.number}  {release.title}  {release.phase} (next: {here})  {release.because}",
        PHASE_STYLES.get(release.phase, ""),
    )


def rollout_line(row: Row) -> Line:
    """One rollout: how far it is, and why it does not move, or how it ended."""
    rollout = read_state(row, rollouts.Rollout)
    step = f"step {min(rollout.step + 1, len(rollout.steps))} of {len(rollout.steps)}, weight {rollout.weight} %"
    return Line(
        f"  rollout {rollout.number}  {rollout.environment}  {rollout.candidate.title}  {rollout.phase}"
        f"  {step}  {rollout.because}",
        PHASE_STYLES.get(rollout.phase, ""),
    )


def run_line(run: RunSummary) -> Line:
    """One run among the last ones."""
    return Line(
        f"  run {run.number}  {format_time(run.updated)}  {run.sha[:10]}  {run.phase}  {run.because}",
        PHASE_STYLES.get(run.phase, ""),
    )


def run_table(runs: Sequence[RunSummary]) -> list[Line]:
    """A list of runs; where each came from, how it stands, and why."""
    if not runs:
        return []
    head: tuple[Sequence[str], Style] = (("run", "repository", "ref", "commit", "changed", "phase", "because"), "title")
    listed = [head]
    for run in runs:
        ref = f"pull request {run.pull_request}" if run.pull_request else run.ref.removeprefix("refs/heads/")
        cells = (str(run.number), run.repository, ref, run.sha[:10], format_time(run.updated), run.phase, run.because)
        listed.append((cells, PHASE_STYLES.get(run.phase, "")))
    return table(listed)


def version_lines(rows: Sequence[Row], served: Sequence[Row]) -> list[Line]:
    """The registered model versions, newest last, and where each is stable."""
    where: dict[str, list[str]] = {}
    for row in served:
        environment = read_state(row, environments.Environment)
        if environment.stable is not None:
            where.setdefault(f"{environment.model}/{environment.stable.version}", []).append(environment.name)
    if not rows:
        return [Line("no model version is registered", "dim")]
    head: tuple[Sequence[str], Style] = (("version", "made", "run", "commit", "metrics", "stable in"), "title")
    listed: list[tuple[Sequence[str], Style]] = [head]
    for row in rows:
        version = read_version(row)
        metrics = " ".join(f"{name}={value:.4g}" for name, value in sorted(version.metrics.items())[:4])
        stable = ", ".join(where.get(version.key, []))
        cells = (version.key, format_time(version.made), version.run, version.commit[:10], metrics, stable or "-")
        listed.append((cells, "good" if stable else ""))
    return [*table(listed), *(line for row in rows for line in overridden_lines(read_version(row)))]


def overridden_lines(version: versions.ModelVersion) -> list[Line]:
    """The gates that the version did not pass and by whose word it is registered all the same."""
    told = [(result, version.judgement.override_of(result)) for result in version.judgement.results]
    return [
        Line(f"{version.key} {result.verdict:<10} {result.gate}: {override}", "warn")
        for result, override in told
        if override is not None
    ]


def token_lines(tokens: Sequence[access.Token], now: float) -> list[Line]:
    """All tokens: whose, what they may, where, until when, and when they were last used."""
    if not tokens:
        return [Line("no token was made yet", "dim")]
    head: tuple[Sequence[str], Style] = (("key", "name", "role", "only for", "expires", "last used"), "title")
    listed: list[tuple[Sequence[str], Style]] = [head]
    for token in tokens:
        invalid = access.why_invalid(token, now)
        scope = ", ".join((*token.repositories, *token.environments)) or "-"
        until = invalid or ("never" if token.expires is None else format_time(token.expires))
        used = "never" if token.last_used is None else format_time(token.last_used)
        listed.append(((token.key, token.name, token.role, scope, until, used), "dim" if invalid else ""))
    return table(listed)


def audit_line(entry: AuditEntry) -> Line:
    """One entry of the audit log."""
    deed = entry.deed
    detail = " ".join(f"{name}={value}" for name, value in deed.detail.items() if value not in (None, "", []))
    told = "  ".join(part for part in (deed.who, deed.action, deed.thing, detail) if part)
    return Line(f"  {entry.number}  {format_time(entry.at)}  {told}", "warn" if "refused" in deed.action else "")


def stable_version(row: Row) -> str | None:
    """The key of the model version that an environment serves; None while nothing does."""
    environment = read_state(row, environments.Environment)
    return f"{environment.model}/{environment.stable.version}" if environment.stable else None
