"""Decides which stages of a run start, which are reused, and how the run ends.

``advance`` in one table; the first row that fits decides, and the loop asks again until nothing moves:

====================================================  =============================================================
seen                                                  then
====================================================  =============================================================
it needs an approval                                  nothing, whatever else is seen
somebody wishes it cancelled                          cancelled, with who and why
a newer run of its group that cancels older ones      cancelled, superseded
another run of its group goes first                   it waits, unless it has begun
an attempt ended                                      its stage takes the outcome; after a fault it is queued again,
                                                      to be tried after a pause, as often as its ``retries`` say
an attempt's executor is gone                         its stage is queued again, as the next attempt, 10 times
a stage failed or errored for good                    the others are cancelled or skipped, the run ends as it did
a check of the data fails                             failed, before anything is trained on it
a limit on a metric is broken for good                failed, before any other stage goes on
a queued stage that pauses after a fault              nothing, until the pause is over
a queued stage, all it needs succeeded, cache hit     succeeded, reused, unless it is asked for anew
a queued stage, no hit, and no room for it            it stays queued, with what it waits for
a queued stage, no hit, and room for it               running, as a new attempt
the user's stages are done, same serving as a version succeeded: nothing to measure, gate or register
all stages succeeded                                  judged, what is overridden left out; fail -> failed, undecided ->
                                                      held
judged pass or overridden, and sealed (or no need)    succeeded
====================================================  =============================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from interlock.gate.judgement import Checked, GateResult, Judgement
from interlock.gate.reuse.counting import with_uses
from interlock.gate.serving.consistency import judge_serving
from interlock.later import Later
from interlock.pipeline.plan import StagePlan
from interlock.pipeline.trace import Lookup
from interlock.run.attempting import after_attempt, after_break, after_loss, reused, started
from interlock.run.run import Run, RunSeen, StageRun, ready_stages
from interlock.run.stage import Problem
from interlock.vocabulary import Decision, Phase, Verdict

if TYPE_CHECKING:
    from interlock.gate import judge as gates
    from interlock.gate.data import judge as data_gates
else:  # its arithmetic takes a tenth of a second to load, and most runs are asked for no gate
    gates, data_gates = Later("interlock.gate.judge"), Later("interlock.gate.data.judge")


AS_BEFORE = ", as in production"
"""What the title of a gate or check ends with that the plan has no more, and the run of the model in production had."""


def advance(run: Run, seen: RunSeen, now: float) -> Decision[Run]:
    """The next state of the run, and why (the table above). ``now`` in seconds since 1970."""
    if run.needs_approval:
        return Decision(state=run, because=run.because)
    for rule in RULES:
        decision = rule(run, seen, now)
        if decision is not None:
            return decision
    return Decision(state=run, because="waiting for stages that run")


def _obey(run: Run, _seen: RunSeen, _now: float) -> Decision[Run] | None:
    return None if run.wish is None else stop(run, Phase.CANCELLED, run.wish, run.wish)


def _give_way(run: Run, seen: RunSeen, _now: float) -> Decision[Run] | None:
    group = run.plan.concurrency.group if run.plan.concurrency else ""
    if seen.superseded_by is not None:
        because = f"superseded by run {seen.superseded_by} of group {group}"
        return stop(run, Phase.CANCELLED, because, because)
    if seen.ahead is None or run.has_begun:
        return None
    because = f"waits for run {seen.ahead} of group {group}"
    return Decision(state=run.model_copy(update={"because": because}), because=because)


def _replace(run: Run, **stages: StageRun) -> Run:
    return run.model_copy(update={"phase": Phase.RUNNING, "stages": {**run.stages, **stages}})


def _take_outcomes(run: Run, seen: RunSeen, now: float) -> Decision[Run] | None:
    changed: dict[str, StageRun] = {}
    for stage in run.plan.stages:
        name, stage_run = stage.name, run.stages[stage.name]
        if stage_run.phase is not Phase.RUNNING:
            continue
        if name in seen.outcomes:
            changed[name] = after_attempt(
                stage_run,
                seen.outcomes[name],
                seen.flaky.get(name),
                attempt=run.attempt_key(name),
                retries=stage.retries,
                now=now,
            )
        elif name in seen.lost:
            changed[name] = after_loss(stage_run)
    if not changed:
        return None
    because = "; ".join(f"{name} {stage_run.phase}: {stage_run.because}" for name, stage_run in changed.items())
    return Decision(state=_replace(run, **changed), because=because)


def stop(run: Run, phase: Phase, because: str, told: str) -> Decision[Run]:
    """The run ended in ``phase``: what runs is cancelled, what waits is skipped, each with ``told`` as its reason."""
    stages = {name: after_break(stage_run, told) for name, stage_run in run.stages.items()}
    state = run.model_copy(update={"phase": phase, "because": because, "stages": stages})
    return Decision(state=state, because=because)


def _end_broken(run: Run, _seen: RunSeen, _now: float) -> Decision[Run] | None:
    for phase in (Phase.FAILED, Phase.ERRORED, Phase.CANCELLED):
        for name, stage_run in run.stages.items():
            if stage_run.phase is phase:
                return stop(run, phase, f"{name} {phase}: {stage_run.because}", f"{name} did not succeed")
    return None


def _judge_data(run: Run, seen: RunSeen, now: float) -> Decision[Run] | None:
    """The checks of datasets, as soon as these were measured. What is undecided holds the run up at its end."""
    if run.data is not None or "data" not in seen.reports:
        return None
    checked = [
        data_gates.judge_data(datasets, seen.reports["data"], seen.accepted, seen.production, now)
        for datasets in (run.plan.data, run.data_guards)
    ]
    data = _with_guards(*checked)
    told = data_gates.tell_replaced(run.plan.data, seen.reports["data"], seen.accepted)
    warnings = [Problem(message=message, is_warning=True) for message in told]
    problems = tuple(dict.fromkeys((*run.problems, *warnings)))  # a run again was told before
    judged = run.model_copy(update={"data": data, "problems": problems})
    if data.verdict is not Verdict.FAIL:
        return Decision(state=judged, because=f"data checks {data.verdict}: {data.because}")
    because = f"data checks {data.verdict}: {data.because}"
    judged = judged.model_copy(update={"judgement": Judgement(results=data.objections)})
    return stop(judged, Phase.FAILED, because, "the data is not to be trained on")


def _stop_hopeless(run: Run, seen: RunSeen, _now: float) -> Decision[Run] | None:
    """The limits on metrics, as soon as every file they may come from was measured: no later stage changes them."""
    if "measurements" not in seen.reports or not is_worth_judging_early(run):
        return None
    limits = gates.judge_limits(run.plan.gates, seen.reports["measurements"])
    limits = with_uses(run.plan.gates, limits, seen.asked, run.guards)
    if limits.verdict is not Verdict.FAIL:
        return Decision(state=run.model_copy(update={"limits": limits}), because=f"so far {limits.because}")
    because = f"gates {limits.verdict}: {limits.because}"
    update = {"limits": limits, "judgement": limits}
    return stop(run.model_copy(update=update), Phase.FAILED, because, f"a gate cannot pass any more: {limits.because}")


def is_worth_judging_early(run: Run) -> bool:
    """Whether the metrics are measured, some other stage is not done, and their limits were not judged yet."""
    if run.limits is not None or run.judgement is not None:
        return False
    if not any(gates.is_limit_on_metric(gate) for gate in run.plan.gates):
        return False
    measured = run.stages.get("measurements")
    is_there = measured is not None and measured.phase is Phase.SUCCEEDED
    return is_there and any(stage_run.phase is not Phase.SUCCEEDED for stage_run in run.stages.values())


def _start_ready(run: Run, seen: RunSeen, now: float) -> Decision[Run] | None:
    changed: dict[str, StageRun] = {}
    told: list[str] = []
    baseline, production = run.baseline, run.production
    for stage in ready_stages(run, now):
        lookup = _asked_anew(run, stage, seen.lookups.get(stage.name))
        if lookup is None or (stage.kind == "measure" and seen.twin is not None):
            continue
        before = run.stages[stage.name]
        after = reused(before, lookup) or started(
            before, lookup, seen.waits.get(stage.name), seen.gpus.get(stage.name, ())
        )
        if after == before:
            continue
        if stage.kind == "measure" and production is None and after.phase is not Phase.QUEUED:
            baseline, production = seen.baseline, seen.production
        changed[stage.name] = after
        begins = {Phase.QUEUED: "", Phase.RUNNING: "starts: "}.get(after.phase, "reused: ")
        told.append(f"{stage.name} {begins}{after.because}")
    if not changed:
        return None
    update = {"baseline": baseline, "production": production, "estimate": run.estimate or seen.estimate}
    state = _replace(run, **changed).model_copy(update=update)
    if all(after.phase is Phase.QUEUED for after in changed.values()):
        state = state.model_copy(update={"phase": run.phase})
    return Decision(state=state, because="; ".join(told))


def _asked_anew(run: Run, stage: StagePlan, lookup: Lookup | None) -> Lookup | None:
    """The look-up, without its hit where the stage is to be executed all the same; a frozen one never is."""
    if lookup is None or stage.name not in run.fresh or stage.frozen:
        return lookup
    because = run.occasion.why_anew(run.fresh[0])
    return Lookup(key=lookup.key, hit=None, because=because, differences=(because,))


def _stop_unchanged(run: Run, seen: RunSeen, _now: float) -> Decision[Run] | None:
    if seen.twin is None or run.judgement is not None:
        return None
    phases = {stage.name: run.stages[stage.name].phase for stage in run.plan.stages}
    is_made = all(phases[stage.name].is_final for stage in run.plan.stages if stage.kind != "measure")
    if not is_made or Phase.RUNNING in phases.values():
        return None
    waiting = [name for name, phase in phases.items() if not phase.is_final]
    executed = [name for name, stage_run in run.stages.items() if stage_run.attempt]
    told = f"{', '.join(executed)} ran" if executed else "no stage ran"
    because = f"nothing to deliver: {told}, and the model is that of {seen.twin}, already gated"
    skipped = {
        name: run.stages[name].model_copy(update={"phase": Phase.SKIPPED, "because": f"as measured for {seen.twin}"})
        for name in waiting
    }
    state = _replace(run, **skipped)
    return Decision(
        state=state.model_copy(update={"phase": Phase.SUCCEEDED, "because": because, "version": seen.twin}),
        because=because,
    )


def _judge(run: Run, seen: RunSeen, _now: float) -> Decision[Run] | None:
    if run.judgement is not None or any(s.phase is not Phase.SUCCEEDED for s in run.stages.values()):
        return None
    results: list[GateResult] = []
    for asked, beside, where in ((run.plan.gates, run.guards, ""), (run.guards, run.plan.gates, AS_BEFORE)):
        if asked:  # each for itself: more slices in a plan must not weaken what those of its guards prove
            judged = gates.judge(asked, seen.reports, production=run.production or "unknown")
            judged = with_uses(asked, judged, seen.asked, beside)
            results += [result.model_copy(update={"gate": f"{result.gate}{where}"}) for result in judged.results]
    model = run.plan.model
    labels = tuple(dict.fromkeys(data.label for data in run.plan.data if data.label))
    served = None
    if model is not None:
        report = seen.reports.get("served")
        sliced = tuple(dict.fromkeys(column for one in run.plan.deploy for column in one.strategy.analysis.slices))
        own = judge_serving(model.checks, report, model.name, labels, sliced)
        served = _with_guards(own, judge_serving(run.model_guards, report, model.name, labels))
    objections = [result for checked in (run.data, served) if checked for result in checked.objections]
    judgement = Judgement(results=(*results, *objections), overrides=run.overrides)
    because = f"gates {judgement.verdict}: {judgement.because}"
    phase = {Verdict.FAIL: Phase.FAILED, Verdict.UNDECIDED: Phase.HELD, Verdict.PASS: Phase.RUNNING}[judgement.standing]
    state = run.model_copy(update={"judgement": judgement, "served": served, "phase": phase, "because": because})
    return Decision(state=state, because=because)


def _with_guards(own: Checked, guards: Checked) -> Checked:
    """The checks of the plan, and beside them those of the run that made the model in production."""
    stay = [result.model_copy(update={"gate": f"{result.gate}{AS_BEFORE}"}) for result in guards.results]
    left_out = {f"{title}{AS_BEFORE}": because for title, because in guards.left_out.items()}
    return Checked(results=(*own.results, *stay), left_out={**own.left_out, **left_out})


def _finish(run: Run, seen: RunSeen, _now: float) -> Decision[Run] | None:
    if not run.is_judged_good or (seen.needs_seal and seen.sealed is None):
        return None
    executed = sum(1 for stage_run in run.stages.values() if stage_run.attempt)
    because = f"{executed} of {len(run.stages)} stages ran; {run.judgement.because if run.judgement else ''}"
    return Decision(state=run.model_copy(update={"phase": Phase.SUCCEEDED, "because": because}), because=because)


RULES: tuple[Callable[[Run, RunSeen, float], Decision[Run] | None], ...] = (
    _obey,
    _give_way,
    _take_outcomes,
    _end_broken,
    _judge_data,
    _stop_hopeless,
    _start_ready,
    _stop_unchanged,
    _judge,
    _finish,
)
"""The rows of the table, in order."""
