"""What is said of a run, its plan and its gates, and what a person can do about it: for statuses and comments alike."""

from __future__ import annotations

from collections.abc import Mapping

from interlock.gate.judgement import GateResult
from interlock.pipeline.plan import GatePlan, StagePlan
from interlock.run.run import Run
from interlock.vocabulary import Phase, Stored, Verdict


class Told(Stored):
    """``told`` are words of ours, ``reason`` holds words of others, ``way_out`` is what a person can do."""

    told: str
    reason: str = ""
    way_out: str = ""

    @property
    def sentence(self) -> str:
        """What is so and why, as plain text."""
        return f"{self.told}: {self.reason}" if self.reason else self.told


def tell_run(run: Run) -> Told:
    """How the run stands."""
    rerun = f"interlock rerun {run.number}"
    if run.phase is Phase.QUEUED:
        return Told(told="waits for its turn")
    if run.phase is Phase.RUNNING:
        return Told(told="runs")
    if run.phase is Phase.SUCCEEDED:
        return Told(told="passed", reason=run.because)
    if run.phase is Phase.CANCELLED:
        return Told(told="cancelled", reason=run.because, way_out=rerun)
    if run.phase is Phase.ERRORED:
        return Told(told="not your fault", reason=run.because, way_out=rerun)
    if run.phase is Phase.HELD:
        return _tell_held(run)
    if is_refused(run):
        return Told(told="failed", reason=run.because, way_out="mend it and push")
    return Told(told="failed", reason=run.because, way_out=f"interlock explain run/{run.number}")


def is_refused(run: Run) -> bool:
    """Whether its pipeline file could not be planned."""
    return not run.plan_digest


def is_for_approval(run: Run) -> bool:
    """Whether it waits for a person to let this very commit run."""
    return run.phase is Phase.HELD and run.needs_approval


def _tell_held(run: Run) -> Told:
    if is_for_approval(run):
        return Told(told="waits for a maintainer", way_out=f"interlock approve {run.number}")
    for result in run.judgement.results if run.judgement else ():
        if result.verdict is Verdict.UNDECIDED:
            return tell_gate(run, result)
    return Told(told="held", reason=run.because, way_out=f"interlock explain run/{run.number}")


def tell_gate(run: Run, result: GateResult) -> Told:
    """One gate's verdict, and for one that is undecided the way out; whoever overrode it is named first."""
    override = run.judgement.override_of(result) if run.judgement else None
    if override is not None:
        return Told(told=f"{result.verdict}, overridden", reason=f"{override.by}: {override.reason}; {result.because}")
    if result.verdict is not Verdict.UNDECIDED:
        return Told(told="passed" if result.verdict is Verdict.PASS else "failed", reason=result.because)
    rerun = f"interlock rerun {run.number}"
    more = result.evidence.get("more_rows_needed")
    if isinstance(more, int):
        rows = "row" if more == 1 else "rows"
        return Told(told=f"undecided: needs about {more} more {rows}", way_out=f"{rerun} or widen the margin")
    gate = {gate.title: gate for gate in run.plan.gates}.get(result.gate, GatePlan(metric=""))
    for key in gate.ratios:
        easier = "raise" if key == "max_ratio" else "lower"
        return Told(told="undecided", reason=result.because, way_out=f"{rerun} or {easier} {key}")
    return Told(told="undecided", reason=result.because, way_out=f"interlock explain gate run/{run.number}")


def tell_plan(run: Run) -> Told | None:
    """Which of the user's stages run and which are reused; None until it is known, which it is before they run."""
    if is_refused(run):
        return Told(told="the pipeline file is refused")
    stages = {stage.name: stage for stage in run.plan.stages if stage.kind == "stage"}
    if not stages:
        return Told(told=f"no stage is to run, {len(run.stages)} checks only")
    executed = _executed(run, stages)
    if executed is None:
        return None
    counted = f"{len(executed)} of {len(stages)} stages"
    if executed:
        first = executed[0]
        differences = run.stages[first].differences
        took = f", {run.estimate.duration}" if run.estimate and run.estimate.duration else ""
        return Told(told=f"{counted} run{took}", reason=differences[0] if differences else f"{first} never ran before")
    measures = [run.stages[stage.name] for stage in run.plan.stages if stage.kind == "measure"]
    serves = any(stage_run.attempt and not stage_run.reused for stage_run in measures)
    return Told(told=f"touches serving only: {counted}" if serves else f"{counted} run: all are reused")


def _executed(run: Run, stages: Mapping[str, StagePlan]) -> list[str] | None:
    """Those that run, in the order of the plan; None while that is neither decided nor follows from what they need."""
    executed: dict[str, None] = {}
    for name, stage in stages.items():
        stage_run = run.stages[name]
        if stage_run.reused:
            continue
        if not stage_run.attempt and not any(need in executed for need in stage.needs):
            return None
        executed[name] = None
    return list(executed)
