"""A run: one execution of a plan, with its stages, and what is seen of the world before it is decided on."""

from __future__ import annotations

from collections.abc import Mapping

from interlock.gate.judgement import Checked, Judgement, Override
from interlock.gate.reuse.counting import Asked
from interlock.pipeline.gates.served import Measuring, measuring_for
from interlock.pipeline.plan import CheckPlan, DataPlan, GatePlan, Plan, StagePlan
from interlock.pipeline.trace import Lookup
from interlock.run.scheduling.estimate import Estimate
from interlock.run.stage import Baseline, Problem, StageOutcome
from interlock.source.commit import Commit, Occasion
from interlock.source.repository import PullRequest
from interlock.vocabulary import Digest, Json, Phase, Stored, Verdict

LONGEST_PAUSE = 60.0
"""Seconds between two attempts of a stage that errs, at most."""


class StageRun(Stored):
    """One stage of a run.

    ``attempt`` counts from 1, 0 before the first; ``faults`` of them were ours, and the next one begins ``not_before``
    a moment (seconds since 1970). ``reused`` names the attempt it was reused from; ``report`` is the artifact of what a
    built-in stage measured; ``gpus`` are the graphics processors that its attempt was given, by name.
    """

    phase: Phase = Phase.QUEUED
    because: str = ""
    attempt: int = 0
    faults: int = 0
    not_before: float | None = None
    gpus: tuple[str, ...] = ()
    reused: str | None = None
    key: str | None = None
    differences: tuple[str, ...] = ()
    products: dict[str, Digest] = {}
    report: Digest | None = None
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    sandbox: str = ""

    def is_paused(self, now: float) -> bool:
        """Whether it waits for time to pass before it is tried again; a clock that was set back holds nothing up."""
        return self.not_before is not None and 0 < self.not_before - now <= LONGEST_PAUSE + 1


class Sealed(Stored):
    """What was made once the gates had passed: signature, provenance and summary, as artifacts."""

    signature: Digest
    provenance: Digest
    summary: Digest | None = None


class Run(Stored):
    """``driver`` says whose loop moves it: the server's, or that of one ``interlock run``.

    ``scope`` is where its results are remembered: shared where empty, else for runs of the same scope only (a pull
    request from outside). ``fresh`` names stages that are executed whatever is remembered. ``needs_approval``: it is
    held until a person, ``approved_by``, lets this very commit run. ``wish`` is who wants it cancelled, and why.
    ``reruns`` are the runs that it runs again, the first one first. ``production`` is what was in production when the
    measuring began: ``unknown`` without a server, ``none``, or a version's title; ``lock`` the artifact of the files
    its environment is made of; ``version`` the model version it made or found unchanged. ``estimate`` is what it was
    expected to cost when it was known what runs; ``limits`` what the limits on metrics said while stages still ran;
    ``data`` what the checks of its datasets said, once they were measured, and ``served`` those of its model.
    ``guards`` are the gates of the run that made the model in production, where the plan has them no more: they judge
    it too, and so do the checks of its datasets and of its model that are ``data_guards`` and ``model_guards``.
    ``overrides`` are gates that it goes on past by a person's word.
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
    estimate: Estimate | None = None
    limits: Judgement | None = None
    data: Checked | None = None
    served: Checked | None = None
    judgement: Judgement | None = None
    guards: tuple[GatePlan, ...] = ()
    data_guards: tuple[DataPlan, ...] = ()
    model_guards: tuple[CheckPlan, ...] = ()
    overrides: tuple[Override, ...] = ()
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
    def measuring(self) -> Measuring:
        """What its gates, and those of its guards, need of the served model."""
        return measuring_for((*self.plan.gates, *self.guards))

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
        """Whether every gate passed or was overridden, so that only the seal is missing."""
        return self.judgement is not None and self.judgement.standing is Verdict.PASS


class RunSeen(Stored):
    """What the loop saw of the world before it asked ``advance``.

    ``lookups`` by name for the stages that could start now, ``waits`` why some of them have to wait, ``gpus`` what the
    others are given; ``estimate`` what the run will cost, once it is known what runs. ``flaky`` is what is odd about an
    outcome, by stage. ``ahead`` is the run of its group that goes first, ``superseded_by`` the newer one that
    takes its place. ``reports`` what the measuring stages found, by built-in name, once there is something to judge;
    ``accepted`` what ``data`` found in the run that made the model in production; ``asked`` who asked its holdout;
    ``twin`` the version that would serve just as this run's model does; ``needs_seal`` whether a good model of this run
    is to be registered.
    """

    outcomes: dict[str, StageOutcome] = {}
    lost: tuple[str, ...] = ()
    lookups: dict[str, Lookup] = {}
    waits: dict[str, str] = {}
    gpus: dict[str, tuple[str, ...]] = {}
    estimate: Estimate | None = None
    flaky: dict[str, str] = {}
    ahead: int | None = None
    superseded_by: int | None = None
    reports: dict[str, Json] = {}
    accepted: Json = None
    asked: Asked | None = None
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


def ready_stages(run: Run, now: float | None = None) -> tuple[StagePlan, ...]:
    """The queued stages whose needs have all succeeded; with ``now`` (seconds since 1970) without those that pause."""
    return tuple(
        stage
        for stage in run.plan.stages
        if run.stages[stage.name].phase is Phase.QUEUED
        and all(run.stages[need].phase is Phase.SUCCEEDED for need in stage.needs)
        and not (now is not None and run.stages[stage.name].is_paused(now))
    )


def desired(run: Run) -> tuple[StagePlan, ...]:
    """The stages whose present attempt should be running."""
    return tuple(stage for stage in run.plan.stages if run.stages[stage.name].phase is Phase.RUNNING)


def executed_stages(run: Run, lookups: Mapping[str, Lookup]) -> frozenset[str] | None:
    """The stages that were or will be executed; None while that is not known of every stage.

    It is known of a stage that was executed or reused, that has a look-up, or that needs one which is executed.
    """
    executed: set[str] = set()
    is_known = True
    for stage in run.plan.stages:
        stage_run, lookup = run.stages[stage.name], lookups.get(stage.name)
        is_reused = not stage_run.attempt and (stage_run.phase is Phase.SUCCEEDED or _is_hit(run, stage, lookup))
        if stage_run.attempt or executed.intersection(stage.needs) or (lookup is not None and not is_reused):
            executed.add(stage.name)
        elif not is_reused:
            is_known = False
    return frozenset(executed) if is_known else None


def _is_hit(run: Run, stage: StagePlan, lookup: Lookup | None) -> bool:
    return lookup is not None and lookup.hit is not None and (stage.frozen or stage.name not in run.fresh)
