"""A run: one execution of a plan. Decides which stages start, which are reused, and how the run ends.

``advance`` in one table; the first row that fits decides, and the loop asks again until nothing moves:

====================================================  =============================================================
seen                                                  then
====================================================  =============================================================
it needs an approval                                  nothing, whatever else is seen
somebody wishes it cancelled                          cancelled, with who and why
a newer run of its group that cancels older ones      cancelled, superseded
another run of its group goes first                   it waits, unless it has begun
an attempt ended                                      its stage takes the outcome; a fault is retried up to 3 times
an attempt's executor is gone                         its stage is queued again, as the next attempt, 10 times
a stage failed or errored for good                    the others are cancelled or skipped, the run ends as it did
a queued stage, all it needs succeeded, cache hit     succeeded, reused, unless it is asked for anew
a queued stage, no hit, and no room for it            it stays queued, with what it waits for
a queued stage, no hit, and room for it               running, as a new attempt
the user's stages are done, same serving as a version succeeded: nothing to measure, gate or register
all stages succeeded                                  judged; fail -> failed, undecided -> held
judged pass, and sealed (or nothing to seal)          succeeded
====================================================  =============================================================
"""

from __future__ import annotations

from interlock.gate.judge import judge
from interlock.gate.judgement import Judgement
from interlock.pipeline.plan import Plan, StagePlan
from interlock.pipeline.trace import Lookup
from interlock.run.stage import Baseline, Problem, StageOutcome
from interlock.source.commit import Commit, Occasion
from interlock.source.repository import PullRequest
from interlock.vocabulary import Decision, Digest, Json, Phase, Stored, Verdict

ATTEMPTS = 3
"""How often a stage is tried when the fault is ours; a failure of the user's is never retried."""
LOSSES = 10
"""The attempt after whose loss a stage is not tried again: perhaps it is what ends its executor."""


class StageRun(Stored):
    """One stage of a run.

    ``attempt`` counts from 1, 0 before the first; ``reused`` names the attempt it was reused from; ``report`` is the
    artifact of what a built-in stage measured.
    """

    phase: Phase = Phase.QUEUED
    because: str = ""
    attempt: int = 0
    reused: str | None = None
    key: str | None = None
    differences: tuple[str, ...] = ()
    products: dict[str, Digest] = {}
    report: Digest | None = None
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    sandbox: str = ""


class Sealed(Stored):
    """What was made once the gates had passed: signature and provenance, as artifacts."""

    signature: Digest
    provenance: Digest


class Run(Stored):
    """``driver`` says whose loop moves it: the server's, or that of one ``interlock run``.

    ``scope`` is where its results are remembered: shared where empty, else for runs of the same scope only (a pull
    request from outside). ``fresh`` names stages that are executed whatever is remembered. ``needs_approval``: it is
    held until a person, ``approved_by``, lets this very commit run. ``wish`` is who wants it cancelled, and why.
    ``reruns`` are the runs that it runs again, the first one first. ``production`` is what was in production when the
    measuring began: ``unknown`` without a server, ``none``, or a version's title; ``lock`` the artifact of the files
    its environment is made of; ``version`` the model version it made or found unchanged.
    """

    number: int
    commit: Commit
    occasion: Occasion
    plan: Plan
    plan_digest: Digest
    driver: str
    is_trusted: bool
    pull_request: PullRequest | None = None
    scope: str = ""
    fresh: tuple[str, ...] = ()
    needs_approval: bool = False
    approved_by: str | None = None
    wish: str | None = None
    reruns: tuple[int, ...] = ()
    lock: Digest | None = None
    phase: Phase = Phase.QUEUED
    because: str = ""
    stages: dict[str, StageRun] = {}
    baseline: Baseline | None = None
    production: str | None = None
    judgement: Judgement | None = None
    version: str | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def key(self) -> str:
        """Its key in the store."""
        return str(self.number)

    @property
    def age(self) -> int:
        """The number of the run that was the first of its commit: of two runs, what is newer has the greater one."""
        return self.reruns[0] if self.reruns else self.number

    @property
    def has_begun(self) -> bool:
        """Whether anything of it was executed or reused."""
        return any(stage_run.attempt or stage_run.phase is not Phase.QUEUED for stage_run in self.stages.values())

    @property
    def may_deliver(self) -> bool:
        """Whether a model of this run may be registered and released: never that of a pull request or reproduction."""
        return self.is_trusted and self.pull_request is None and self.occasion.kind != "reproduce"

    def attempt_key(self, stage: str) -> str:
        """``run/stage/number`` of the stage's present attempt."""
        return f"{self.number}/{stage}/{self.stages[stage].attempt}"

    def product(self, path: str) -> Digest | None:
        """The artifact some stage made at ``path``; None while there is none."""
        wanted = path.rstrip("/")
        for stage_run in self.stages.values():
            for made, digest in stage_run.products.items():
                if made.rstrip("/") == wanted:
                    return digest
        return None

    @property
    def is_judged_good(self) -> bool:
        """Whether every gate passed, so that only the seal is missing."""
        return self.judgement is not None and self.judgement.verdict is Verdict.PASS


class RunSeen(Stored):
    """What the loop saw of the world before it asked ``advance``.

    ``lookups`` by name for the stages that could start now, ``waits`` why some of them have to wait; ``flaky`` what is
    odd about an outcome, by stage. ``ahead`` is the run of its group that goes first, ``superseded_by`` the newer one
    that takes its place. ``reports`` what the measuring stages found, by built-in name, once all stages succeeded;
    ``twin`` the version that would serve just as this run's model does; ``needs_seal`` whether a good model of this run
    is to be registered.
    """

    outcomes: dict[str, StageOutcome] = {}
    lost: tuple[str, ...] = ()
    lookups: dict[str, Lookup] = {}
    waits: dict[str, str] = {}
    flaky: dict[str, str] = {}
    ahead: int | None = None
    superseded_by: int | None = None
    reports: dict[str, Json] = {}
    baseline: Baseline | None = None
    production: str = "unknown"
    twin: str | None = None
    needs_seal: bool = False
    sealed: Sealed | None = None


def begin(
    number: int,
    commit: Commit,
    occasion: Occasion,
    plan: Plan,
    plan_digest: Digest,
    *,
    driver: str,
    is_trusted: bool,
    needs_approval: bool = False,
) -> Run:
    """A new run, all its stages queued; one that needs an approval is held first."""
    waits = f"waits for a maintainer to approve commit {commit.sha}"
    return Run(
        number=number,
        commit=commit,
        occasion=occasion,
        plan=plan,
        plan_digest=plan_digest,
        driver=driver,
        is_trusted=is_trusted,
        needs_approval=needs_approval,
        phase=Phase.HELD if needs_approval else Phase.QUEUED,
        stages={stage.name: StageRun() for stage in plan.stages},
        because=waits if needs_approval else f"{occasion.kind} of {commit.sha[:10]}",
    )


def ready_stages(run: Run) -> tuple[StagePlan, ...]:
    """The queued stages whose needs have all succeeded."""
    return tuple(
        stage
        for stage in run.plan.stages
        if run.stages[stage.name].phase is Phase.QUEUED
        and all(run.stages[need].phase is Phase.SUCCEEDED for need in stage.needs)
    )


def desired(run: Run) -> tuple[StagePlan, ...]:
    """The stages whose present attempt should be running."""
    return tuple(stage for stage in run.plan.stages if run.stages[stage.name].phase is Phase.RUNNING)


def advance(run: Run, seen: RunSeen) -> Decision[Run]:
    """The next state of the run, and why (the table above)."""
    if run.needs_approval:
        return Decision(state=run, because=run.because)
    for rule in (_obey, _give_way, _take_outcomes, _end_broken, _start_ready, _stop_unchanged, _judge, _finish):
        decision = rule(run, seen)
        if decision is not None:
            return decision
    return Decision(state=run, because="waiting for stages that run")


def _obey(run: Run, _seen: RunSeen) -> Decision[Run] | None:
    return None if run.wish is None else stop(run, Phase.CANCELLED, run.wish, run.wish)


def _give_way(run: Run, seen: RunSeen) -> Decision[Run] | None:
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


def _take_outcomes(run: Run, seen: RunSeen) -> Decision[Run] | None:
    changed: dict[str, StageRun] = {}
    for name, stage_run in run.stages.items():
        if stage_run.phase is not Phase.RUNNING:
            continue
        if name in seen.outcomes:
            changed[name] = _after_attempt(stage_run, seen.outcomes[name], seen.flaky.get(name))
        elif name in seen.lost:
            phase = Phase.QUEUED if stage_run.attempt < LOSSES else Phase.ERRORED
            because = f"attempt {stage_run.attempt} was lost with its executor"
            changed[name] = stage_run.model_copy(update={"phase": phase, "because": because})
    if not changed:
        return None
    because = "; ".join(f"{name} {stage_run.phase}: {stage_run.because}" for name, stage_run in changed.items())
    return Decision(state=_replace(run, **changed), because=because)


def _after_attempt(stage_run: StageRun, outcome: StageOutcome, flaky: str | None) -> StageRun:
    phase = outcome.phase
    because = f"{outcome.because}; {flaky}" if flaky else outcome.because
    if phase is Phase.ERRORED and stage_run.attempt < ATTEMPTS:
        phase, because = Phase.QUEUED, f"attempt {stage_run.attempt} errored and is tried again: {because}"
    return stage_run.model_copy(
        update={
            "phase": phase,
            "because": because,
            "products": outcome.products,
            "report": outcome.report,
            "problems": outcome.problems,
            "seconds": outcome.seconds,
            "cpu_seconds": outcome.cpu_seconds,
            "peak_memory": outcome.peak_memory,
            "sandbox": outcome.sandbox,
        }
    )


def stop(run: Run, phase: Phase, because: str, told: str) -> Decision[Run]:
    """The run ended in ``phase``: what runs is cancelled, what waits is skipped, each with ``told`` as its reason."""
    stages = {name: _after_break(stage_run, told) for name, stage_run in run.stages.items()}
    state = run.model_copy(update={"phase": phase, "because": because, "stages": stages})
    return Decision(state=state, because=because)


def _end_broken(run: Run, _seen: RunSeen) -> Decision[Run] | None:
    for phase in (Phase.FAILED, Phase.ERRORED, Phase.CANCELLED):
        for name, stage_run in run.stages.items():
            if stage_run.phase is phase:
                return stop(run, phase, f"{name} {phase}: {stage_run.because}", f"{name} did not succeed")
    return None


def _after_break(stage_run: StageRun, told: str) -> StageRun:
    if stage_run.phase is Phase.QUEUED:
        return stage_run.model_copy(update={"phase": Phase.SKIPPED, "because": told})
    if stage_run.phase is Phase.RUNNING:
        return stage_run.model_copy(update={"phase": Phase.CANCELLED, "because": told})
    return stage_run


def _start_ready(run: Run, seen: RunSeen) -> Decision[Run] | None:
    changed: dict[str, StageRun] = {}
    told: list[str] = []
    baseline, production = run.baseline, run.production
    for stage in ready_stages(run):
        lookup = _asked_anew(run, stage, seen.lookups.get(stage.name))
        if lookup is None or (stage.kind == "measure" and seen.twin is not None):
            continue
        before = run.stages[stage.name]
        after = _reused(before, lookup) or _started(before, lookup, seen.waits.get(stage.name))
        if after == before:
            continue
        if stage.kind == "measure" and production is None and after.phase is not Phase.QUEUED:
            baseline, production = seen.baseline, seen.production
        changed[stage.name] = after
        begins = {Phase.QUEUED: "", Phase.RUNNING: "starts: "}.get(after.phase, "reused: ")
        told.append(f"{stage.name} {begins}{after.because}")
    if not changed:
        return None
    state = _replace(run, **changed).model_copy(update={"baseline": baseline, "production": production})
    if all(after.phase is Phase.QUEUED for after in changed.values()):
        state = state.model_copy(update={"phase": run.phase})
    return Decision(state=state, because="; ".join(told))


def _asked_anew(run: Run, stage: StagePlan, lookup: Lookup | None) -> Lookup | None:
    """The look-up, without its hit where the stage is to be executed all the same; a frozen one never is."""
    if lookup is None or stage.name not in run.fresh or stage.frozen:
        return lookup
    because = run.occasion.why_anew(run.fresh[0])
    return Lookup(key=lookup.key, hit=None, because=because, differences=(because,))


def _started(stage_run: StageRun, lookup: Lookup, waits: str | None) -> StageRun:
    if waits is not None:
        return stage_run.model_copy(update={"because": waits})
    return stage_run.model_copy(
        update={
            "phase": Phase.RUNNING,
            "because": lookup.because,
            "attempt": stage_run.attempt + 1,
            "key": lookup.key,
            "differences": lookup.differences,
        }
    )


def _reused(stage_run: StageRun, lookup: Lookup) -> StageRun | None:
    if lookup.hit is None:
        return None
    return stage_run.model_copy(
        update={
            "phase": Phase.SUCCEEDED,
            "because": lookup.because,
            "key": lookup.key,
            "reused": lookup.hit.attempt,
            "products": lookup.hit.products,
            "report": lookup.hit.report,
        }
    )


def _stop_unchanged(run: Run, seen: RunSeen) -> Decision[Run] | None:
    waiting = [name for name, stage_run in run.stages.items() if not stage_run.phase.is_final]
    if seen.twin is None or any(run.plan.stage(name).kind != "measure" for name in waiting):
        return None
    if any(run.stages[name].phase is Phase.RUNNING for name in waiting) or not waiting:
        return None
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


def _judge(run: Run, seen: RunSeen) -> Decision[Run] | None:
    if run.judgement is not None or any(s.phase is not Phase.SUCCEEDED for s in run.stages.values()):
        return None
    judgement = judge(run.plan.gates, seen.reports, production=run.production or "unknown")
    because = f"gates {judgement.verdict}: {judgement.because}"
    phase = {Verdict.FAIL: Phase.FAILED, Verdict.UNDECIDED: Phase.HELD, Verdict.PASS: Phase.RUNNING}[judgement.verdict]
    state = run.model_copy(update={"judgement": judgement, "phase": phase, "because": because})
    return Decision(state=state, because=because)


def _finish(run: Run, seen: RunSeen) -> Decision[Run] | None:
    if not run.is_judged_good or (seen.needs_seal and seen.sealed is None):
        return None
    executed = sum(1 for stage_run in run.stages.values() if stage_run.attempt)
    because = f"{executed} of {len(run.stages)} stages ran; {run.judgement.because if run.judgement else ''}"
    return Decision(state=run.model_copy(update={"phase": Phase.SUCCEEDED, "because": because}), because=because)
