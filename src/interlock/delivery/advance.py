"""Decides when a rollout moves, and how it ends.

``advance`` in one table; the first row that fits decides:

==================================================  ==========================================================
seen                                                then
==================================================  ==========================================================
it ended                                            nothing
a person asked for the way back                     rolled back
a newer release (on probation: the rows below)      superseded
its digest was quarantined meanwhile                rolled back
it is a shadow, and nothing serves here yet         cancelled: there is nothing to copy
one of both does not answer the other's golden      cancelled: callers would notice, or there would be no way
requests                                            back
the candidate's replicas keep crashing              rolled back
proven harm (the analysis)                          rolled back
a person paused it, or the environment is frozen,   wait; its clocks stand still
or its windows are shut, or its step waits for
approvals
it is on probation                                  the table of ``stages/probation.py``
the deadline passed                                 rolled back: undecided is not good enough
replicas are replaced one after the other           as ``replacing.following`` says
the candidate is not healthy in the proxy's eyes    wait
whether both answer the other's golden requests is  wait
not known yet
a step's weight or mirror is not yet in force       wait
a person promotes it, the candidate is healthy      all traffic, without further steps or proof
an analysis or pause is not over, or shows nothing  wait
a mirror begins                                     requests are copied; once they are, its time begins
a mirror's time is not over, or no pairs have come  wait (``looks.mirroring``)
the next step gives 100 %, harmlessness not proven  wait (hold until the deadline); where stable is kept that has
                                                    to be proven at 100 %, when its time is over
checks come before traffic, not all passed          run them; one that fails, or asks the candidate nothing,
                                                    rolls back
the step is over                                    the next step
no step is left, it is a shadow                     cancelled once safety is proven: it gets no traffic
no step is left, checks not all passed              run them; one that fails rolls back
no step is left, all checks passed, a probation     on probation: all but the holdback
is planned and nobody promoted it
no step is left, all checks passed                  promoted
==================================================  ==========================================================
"""

from __future__ import annotations

from interlock.delivery.analysis.engine import Analysis, conclude, observe
from interlock.delivery.analysis.ticks import Tick
from interlock.delivery.external.answers import counted_between, heed_limits, new_counts
from interlock.delivery.looks.evidence import (
    TICK_SECONDS,
    Sources,
    evidence_of,
    sources_of,
    tick_seconds,
    youngest_of,
)
from interlock.delivery.looks.interface import breach, rehearsal_waits_for, rehearsed
from interlock.delivery.looks.mirroring import mirror_waits_for
from interlock.delivery.looks.pairs import ON_PAIRS, growth_of, paired_evidence
from interlock.delivery.replacing import following, look, waits_for
from interlock.delivery.revision import DataPlaneSeen
from interlock.delivery.rollout import CRASHES, CheckRun, Rollout, RolloutPhase, RolloutSeen
from interlock.delivery.stages.probation import begin_probation, judge_probation
from interlock.pipeline.canaries.plan import StepPlan
from interlock.vocabulary import Decision, Phase, Verdict

BLIND_SECONDS = 15.0
"""Without counters for so long nobody knows how the candidate fares with all traffic: what was proven is old."""


def advance(rollout: Rollout, seen: RolloutSeen, now: float) -> Decision[Rollout]:
    """The next state of the rollout, and why (the table above)."""
    if rollout.phase.is_final:
        return Decision(state=rollout, because=rollout.because)
    ended = _ends_at_once(rollout, seen)
    if ended is not None:
        return _end(rollout, *ended)
    rollout = _count(_heed(rehearsed(rollout, seen), seen, now), seen, now)
    harm = _harm(rollout, seen.plane)
    if harm is not None:
        return _found_bad(rollout, harm)
    held = seen.held if rollout.pause is None else rollout.pause.because
    held = rollout.unapproved(rollout.step) if held is None else held
    if held is not None:
        since = now if rollout.held_since is None else rollout.held_since
        return Decision(state=rollout.model_copy(update={"held_since": since, "because": held}), because=held)
    rollout = _timed(_going_on(rollout, now), seen.plane, now)
    if rollout.is_on_probation:
        return _on_probation(rollout, seen, now)
    if now - rollout.started - rollout.stood > rollout.deadline:
        missing = _step_waits_for(rollout, seen.plane, now) or _checks_wait_for(rollout) or "the last step"
        # A shadow has done nobody harm: its digest is not quarantined for what stayed open.
        phase = RolloutPhase.CANCELLED if rollout.is_shadow else RolloutPhase.ROLLED_BACK
        return _end(rollout, phase, f"deadline of {rollout.deadline:g} s passed, still waiting: {missing}")
    waits_for = _step_waits_for(rollout, seen.plane, now)
    if waits_for is not None:
        return Decision(state=rollout.model_copy(update={"because": waits_for}), because=waits_for)
    if rollout.step < len(rollout.steps):
        return _checks_before_traffic(rollout, seen) or _next_step(rollout, now)
    if rollout.is_shadow:
        because = f"{rollout.candidate.title} was tried beside stable and gets no traffic{_evidence(rollout)}"
        return _end(rollout, RolloutPhase.CANCELLED, because)
    return _check(rollout, seen) or _passed(rollout, now)


def _ends_at_once(rollout: Rollout, seen: RolloutSeen) -> tuple[RolloutPhase, str] | None:
    """How it ends by what others decided, or because callers would notice it."""
    if rollout.wish is not None:
        return RolloutPhase.ROLLED_BACK, rollout.wish
    if seen.superseded_by is not None and not rollout.is_on_probation:
        return RolloutPhase.SUPERSEDED, f"superseded by release {seen.superseded_by}"
    if seen.quarantine is not None:
        return RolloutPhase.ROLLED_BACK, f"its digest is quarantined: {seen.quarantine}"
    if rollout.is_shadow and rollout.stable is None:
        return RolloutPhase.CANCELLED, "nothing serves here yet whose requests could be copied"
    broken = breach(rollout, seen)
    return None if broken is None else (RolloutPhase.CANCELLED, broken)


def _going_on(rollout: Rollout, now: float) -> Rollout:
    """The rollout with its clocks set forward by the time that it was held."""
    if rollout.held_since is None:
        return rollout
    stood = now - rollout.held_since
    return rollout.model_copy(
        update={"stood": rollout.stood + stood, "since": rollout.since + stood, "held_since": None}
    )


def _timed(rollout: Rollout, plane: DataPlaneSeen, now: float) -> Rollout:
    """The time of a mirror begins when it is seen in force, and anew after it was not."""
    is_copying = bool(rollout.mirrored) and plane.mirrors.get(rollout.candidate.key) == rollout.mirrored
    if is_copying == rollout.is_copying:
        return rollout
    since = now if is_copying else rollout.since
    return rollout.model_copy(update={"is_copying": is_copying, "since": since})


def _end(rollout: Rollout, phase: RolloutPhase, because: str) -> Decision[Rollout]:
    weight = 100 if phase is RolloutPhase.PROMOTED else 0
    return Decision(
        state=rollout.model_copy(update={"phase": phase, "because": because, "weight": weight, "mirrored": 0}),
        because=because,
    )


def _found_bad(rollout: Rollout, harm: str) -> Decision[Rollout]:
    """Rolled back for what was found against the candidate itself."""
    return _end(rollout.model_copy(update={"harm": harm}), RolloutPhase.ROLLED_BACK, harm)


def _harm(rollout: Rollout, plane: DataPlaneSeen) -> str | None:
    for index in range(rollout.candidate.replicas):
        replica = plane.replicas.get(rollout.candidate.replica(index))
        if replica is not None and replica.restarts >= CRASHES:
            return (
                f"{rollout.candidate.replica(index)} crashed {replica.restarts} times: {replica.problem or 'no word'}"
            )
    return proven_harm(rollout)


def proven_harm(rollout: Rollout) -> str | None:
    """What the analysis has proven against the candidate; None where it has proven nothing."""
    if rollout.analysis is not None:
        result = conclude(rollout.analysis)
        if result.verdict is Verdict.FAIL:
            return result.because
    return None


def _heed(rollout: Rollout, seen: RolloutSeen, now: float) -> Rollout:
    """With what the plain limits on values of elsewhere are known to be now."""
    if rollout.analysis is None or not rollout.analysis.limits:
        return rollout
    return rollout.model_copy(update={"analysis": heed_limits(rollout.analysis, seen.measured, now)})


def _count(rollout: Rollout, seen: RolloutSeen, now: float) -> Rollout:
    """Feeds what grew since the last look to the analysis; what began anew is no evidence."""
    plane = seen.plane
    least = tick_seconds(rollout.probation) if rollout.is_on_probation else TICK_SECONDS
    if rollout.analysis is None or rollout.stable is None or now - rollout.counted_at < least:
        return rollout
    after = sources_of(plane, rollout.stable, rollout.candidate)
    if not after.counted:
        return rollout
    before = Sources(counted=rollout.counted, timed=rollout.timed, labelled=rollout.labelled)
    analysis = rollout.analysis
    measured = new_counts(rollout.measured, seen.measured)
    found = {} if rollout.is_previewed else evidence_of(analysis.rules, before, after)
    if rollout.mirrored:
        found = {metric: counts for metric, counts in found.items() if metric not in ON_PAIRS}
    found |= counted_between(analysis.rules, rollout.measured, measured)
    growth = growth_of(rollout.paired, after.paired)
    seconds = now - rollout.counted_at
    youngest = max(0.0, youngest_of(plane, [rollout.stable, rollout.candidate]) - seconds)
    for brought in (found, paired_evidence(analysis.rules, growth)):
        if brought:
            tick = Tick(number=analysis.last + 1, seconds=seconds, youngest=youngest, seen=brought)
            analysis = observe(analysis, tick)
    return rollout.model_copy(
        update={
            "analysis": analysis,
            "counted_at": now,
            "counted": after.counted,
            "timed": after.timed or before.timed,
            "labelled": after.labelled or before.labelled,
            "paired": after.paired or rollout.paired,
            "pairs": rollout.pairs + (growth.pairs if growth is not None else 0),
            "measured": {**rollout.measured, **measured},
        }
    )


def _is_healthy(rollout: Rollout, plane: DataPlaneSeen) -> bool:
    candidate = rollout.candidate
    endpoints = plane.endpoints.get(candidate.key, {})
    asked_for = 0 if rollout.is_on_probation else rollout.replicas  # the load may be less by now
    return all(
        (endpoint := endpoints.get(candidate.replica(index))) is not None and endpoint.is_healthy
        for index in range(max(candidate.replicas, asked_for))
    )


def _step_waits_for(rollout: Rollout, plane: DataPlaneSeen, now: float) -> str | None:
    """What the present step still waits for; None when it is over (or none is left and the weight is in force)."""
    if plane.problem is not None:
        return f"the proxy cannot be read: {plane.problem}"
    unknown = rehearsal_waits_for(rollout, plane)
    if unknown is not None:
        return unknown
    if rollout.stable is not None and rollout.replacement is not None and not rollout.replacement.is_over:
        return waits_for(rollout.replacement, look(rollout.replacement, rollout.stable, rollout.candidate, plane))
    if rollout.weight == 0 and not _is_healthy(rollout, plane):
        return f"{rollout.candidate.title} is starting"
    missing = _not_in_force(rollout, plane)
    if missing is not None or rollout.step >= len(rollout.steps):
        return missing
    if rollout.promotion is not None:
        return None if _is_healthy(rollout, plane) else f"{rollout.candidate.title} is not healthy"
    step = rollout.steps[rollout.step]
    if step.set_weight is not None:
        return _weight_waits_for(rollout, step.set_weight)
    if step.mirror is not None:
        is_begun = rollout.mirrored == step.mirror.percent
        return mirror_waits_for(rollout, step.mirror, _evidence(rollout), now) if is_begun else None
    return _span_waits_for(rollout, step, now)


def _span_waits_for(rollout: Rollout, step: StepPlan, now: float) -> str | None:
    """What a step waits for that lasts some time."""
    duration = step.analysis if step.analysis is not None else step.pause or step.keep or 0.0
    left = duration - (now - rollout.since)
    told = _evidence(rollout)
    if left > 0:
        what = "analysis" if step.analysis is not None else "pause" if step.keep is None else "stable is kept"
        return f"{what} at {rollout.weight} %, {left:.0f} s left{told}"
    if step.keep is not None:
        blind = now - rollout.counted_at
        return _proof_waits_for(rollout) if blind < BLIND_SECONDS else f"nothing was counted for {blind:.0f} s{told}"
    if step.analysis is not None and rollout.analysis is not None and not _was_exposed(rollout, rollout.analysis):
        return f"no request has reached {rollout.candidate.title} yet"
    return None


def _not_in_force(rollout: Rollout, plane: DataPlaneSeen) -> str | None:
    in_force = plane.weights.get(rollout.candidate.key, 0)
    if in_force != rollout.weight:
        return f"weight {rollout.weight} % is not yet in force ({in_force} %)"
    copied = plane.mirrors.get(rollout.candidate.key, 0)
    if copied != rollout.mirrored:
        return f"mirror of {rollout.mirrored} % is not yet in force ({copied} %)"
    return None


def _weight_waits_for(rollout: Rollout, weight: int) -> str | None:
    if weight < 100 or rollout.keeps_stable:
        return None
    return _proof_waits_for(rollout)


def _proof_waits_for(rollout: Rollout) -> str | None:
    if rollout.analysis is None:
        return None
    result = conclude(rollout.analysis)
    return None if result.verdict is Verdict.PASS else f"not promoted without proof: {result.because}"


def _was_exposed(rollout: Rollout, analysis: Analysis) -> bool:
    """Whether a caller's request has reached the candidate; copies are none."""
    answered = rollout.counted.get("candidate")
    if rollout.is_mirrored and (answered is None or answered.requests == 0):
        return False
    return any(stream.totals.candidate_requests for stream in analysis.streams)


def _evidence(rollout: Rollout) -> str:
    return f"; {conclude(rollout.analysis).because}" if rollout.analysis is not None else ""


def _next_step(rollout: Rollout, now: float) -> Decision[Rollout]:
    if rollout.replacement is not None and not rollout.replacement.is_over:
        after, because = following(rollout.replacement)
        moved = {"replacement": after, "weight": after.weight, "because": because}
        return Decision(state=rollout.model_copy(update=moved), because=because)
    if rollout.promotion is not None:
        because = f"weight 100 %: {rollout.promotion.because}{_evidence(rollout)}"
        update = {"step": len(rollout.steps), "since": now, "weight": 100, "mirrored": 0, "because": because}
        return Decision(state=rollout.model_copy(update=update), because=because)
    step = rollout.steps[rollout.step]
    if step.mirror is not None and rollout.mirrored != step.mirror.percent:
        because = f"{step.mirror.percent} % of the requests are copied to {rollout.candidate.title}"
        update = {"since": now, "mirrored": step.mirror.percent, "because": because}
        return Decision(state=rollout.model_copy(update=update), because=because)
    weight = rollout.weight if step.set_weight is None else step.set_weight
    told = (
        f"weight {weight} %"
        if step.set_weight is not None
        else f"step {rollout.step + 1} of {len(rollout.steps)} is over"
    )
    because = told + _evidence(rollout)
    update = {"step": rollout.step + 1, "since": now, "weight": weight, "mirrored": 0, "because": because}
    return Decision(state=rollout.model_copy(update=update), because=because)


def _checks_wait_for(rollout: Rollout) -> str | None:
    waiting = [name for name, check in rollout.check_runs.items() if check.phase is not Phase.SUCCEEDED]
    return f"check {', '.join(waiting)}" if waiting else None


def _checks_before_traffic(rollout: Rollout, seen: RolloutSeen) -> Decision[Rollout] | None:
    """What comes of the checks that a step runs; None where it runs none, or they have all passed."""
    step = rollout.steps[rollout.step]
    if not step.checks or rollout.promotion is not None:
        return None
    counter = seen.plane.counters.get(rollout.candidate.key)
    if rollout.checks and _checks_wait_for(rollout) is None and (counter is None or counter.requests == 0):
        asked = f"the header x-interlock-revision: {rollout.candidate.key} ($INTERLOCK_REVISION) asks it"
        because = f"the checks passed, and asked {rollout.candidate.title} nothing: {asked}"
        return _end(rollout, RolloutPhase.ROLLED_BACK, because)
    return _check(rollout, seen)


def _check(rollout: Rollout, seen: RolloutSeen) -> Decision[Rollout] | None:
    """The next thing to be done about checks; None where all have passed."""
    for check in rollout.checks:
        run = rollout.check_runs[check.name]
        outcome = seen.checks.get(check.name)
        if run.phase is Phase.SUCCEEDED:
            continue
        if run.phase is Phase.RUNNING and check.name in seen.lost:
            return _set_check(rollout, check.name, CheckRun(attempt=run.attempt), "its executor is gone")
        if run.phase is Phase.RUNNING and outcome is None:
            because = f"check {check.name} is running"
            return Decision(state=rollout.model_copy(update={"because": because}), because=because)
        if run.phase is Phase.RUNNING and outcome is not None:
            if outcome.phase is not Phase.SUCCEEDED:
                because = f"check {check.name} {outcome.phase}: {outcome.because}"
                is_verdict = outcome.phase is Phase.FAILED
                return _found_bad(rollout, because) if is_verdict else _end(rollout, RolloutPhase.ROLLED_BACK, because)
            done = run.model_copy(update={"phase": Phase.SUCCEEDED, "because": outcome.because})
            return _set_check(rollout, check.name, done, f"passed: {outcome.because}")
        started = CheckRun(phase=Phase.RUNNING, attempt=run.attempt + 1)
        return _set_check(rollout, check.name, started, "starts against the live endpoint")
    return None


def _passed(rollout: Rollout, now: float) -> Decision[Rollout]:
    """What comes after all steps and checks."""
    if rollout.probation and rollout.promotion is None:
        state = begin_probation(rollout, now)
        return Decision(state=state, because=state.because)
    proven = "" if rollout.analysis is None else f": {conclude(rollout.analysis).because}"
    passed = f", {len(rollout.checks)} checks passed" if rollout.checks else ""
    asked = "" if rollout.promotion is None else f", {rollout.promotion.because}"
    return _end(rollout, RolloutPhase.PROMOTED, f"{rollout.candidate.title} has all traffic{passed}{asked}{proven}")


def _on_probation(rollout: Rollout, seen: RolloutSeen, now: float) -> Decision[Rollout]:
    waits_for = _step_waits_for(rollout, seen.plane, now)
    if waits_for is None and not _is_healthy(rollout, seen.plane):
        waits_for = f"{rollout.candidate.title} is not healthy"
    outcome = judge_probation(rollout, seen.superseded_by, waits_for, now)
    if outcome.phase.is_final:
        return _end(rollout, outcome.phase, outcome.because)
    return Decision(state=rollout.model_copy(update={"because": outcome.because}), because=outcome.because)


def _set_check(rollout: Rollout, name: str, run: CheckRun, told: str) -> Decision[Rollout]:
    because = f"check {name} {told}"
    state = rollout.model_copy(update={"check_runs": {**rollout.check_runs, name: run}, "because": because})
    return Decision(state=state, because=because)
