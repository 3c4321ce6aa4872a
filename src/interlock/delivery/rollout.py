"""A rollout: moving one environment from its stable revision to a candidate, step by step, on evidence."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import model_validator

from interlock.delivery.analysis.engine import Analysis, conclude
from interlock.delivery.external.measured import Measured
from interlock.delivery.holding import Approval, unapproved_because
from interlock.delivery.looks.baseline import NOTHING_KNOWN, Baseline, spread_of
from interlock.delivery.looks.evidence import TICK_SECONDS, analysis_of, forecast_of, unsliced_because
from interlock.delivery.replacing import Replacement
from interlock.delivery.replacing import begin as begin_replacement
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, LateLabels, LatencySeen, PairsSeen, Revision
from interlock.pipeline.canaries.external import ExternalMetricPlan
from interlock.pipeline.canaries.plan import (
    ACCURACY,
    AGREEMENT,
    AnalysisMetricPlan,
    AnalysisPlan,
    StepPlan,
    StrategyPlan,
)
from interlock.pipeline.plan import CommandPlan, EnvironmentPlan, WindowPlan
from interlock.vocabulary import Json, Phase, Stored

CRASHES = 3
"""Restarts of one candidate replica that count as a crash loop."""


PROBATION_END = "on_probation_until"
"""Where the summary of a rollout on probation says when that is over."""


class RolloutPhase(StrEnum):
    """Where a rollout is."""

    PROGRESSING = "progressing"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing moves from here."""
        return self is not RolloutPhase.PROGRESSING


class OrderName(StrEnum):
    """What a person may want of a rollout under way."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    APPROVE = "approve"


class Order(Stored):
    """What a person wants of a rollout, who it is and why."""

    name: OrderName
    by: str
    reason: str

    @property
    def because(self) -> str:
        """It as a reason."""
        told = {
            OrderName.PAUSE: f"paused by {self.by} until it is resumed",
            OrderName.RESUME: f"resumed by {self.by}",
            OrderName.PROMOTE: f"promoted past its further steps by {self.by}",
            OrderName.ABORT: "rolled back by a person",
            OrderName.APPROVE: f"approved by {self.by}",
        }
        return f"{told[self.name]}: {self.reason}"


class CheckRun(Stored):
    """One check against the live endpoint. ``attempt`` counts from 1, 0 before the first."""

    phase: Phase = Phase.QUEUED
    attempt: int = 0
    because: str = ""


class Rollout(Stored):
    """``step`` indexes ``steps``; ``since`` is when it was entered, ``started`` when the rollout began (wall seconds).

    ``weight`` is the candidate's share in percent; ``analysis`` all evidence so far, with the rules it is judged by;
    ``counted``, ``timed`` and ``labelled`` the counters, latencies and labels at the last look. ``wish`` is a person's
    request for the way back. ``replicas`` is how many of the candidate's have to be healthy before it gets traffic: as
    many as the load asks of the stable side; 0: its own.
    ``pause`` is who holds it, ``promotion`` who left its further steps out.
    While it is held, ``held_since`` is since when (wall seconds); ``stood`` is how long its clocks stood still before.
    ``windows`` are those of its environment.
    ``mirrored`` is what share of the requests is copied to the candidate, in percent, and it ``is_copying`` once that
    was seen in force; ``paired`` is what became of copies at the last look, ``pairs`` how many were counted so far, and
    ``tolerance`` how far equal numbers may be apart.
    It ``is_on_probation`` from ``since`` on, for ``probation`` seconds (0: never), with ``holdback`` percent of the
    traffic left to stable. ``external`` are the metrics that are asked elsewhere, ``measured`` the counts that they
    answered last. ``approvals`` are those given so far, each for one step. ``replacement``: the replicas are replaced,
    where there is no room for two copies. ``answering`` are the keys of the revisions that are known to answer the
    other's golden requests. ``harm`` is what was found against the revision that leaves; empty unless just that makes
    it leave, and not a person, a deadline, or what was decided elsewhere.
    """

    number: int
    environment: str
    release: int | None
    stable: Revision | None
    candidate: Revision
    steps: tuple[StepPlan, ...]
    deadline: float
    checks: tuple[CommandPlan, ...] = ()
    started: float
    since: float
    step: int = 0
    weight: int = 0
    analysis: Analysis | None = None
    counted: dict[str, CounterSeen] = {}
    counted_at: float = 0.0
    timed: dict[str, LatencySeen] = {}
    labelled: dict[str, CounterSeen] = {}
    check_runs: dict[str, CheckRun] = {}
    wish: str | None = None
    pause: Order | None = None
    promotion: Order | None = None
    replicas: int = 0
    windows: tuple[WindowPlan, ...] = ()
    held_since: float | None = None
    stood: float = 0.0
    mirrored: int = 0
    is_copying: bool = False
    paired: PairsSeen | None = None
    pairs: int = 0
    tolerance: float = 1e-6
    probation: float = 0.0
    holdback: int = 5
    is_on_probation: bool = False
    external: tuple[ExternalMetricPlan, ...] = ()
    measured: dict[str, Measured] = {}
    approvals: tuple[Approval, ...] = ()
    replacement: Replacement | None = None
    answering: tuple[str, ...] = ()
    harm: str = ""
    phase: RolloutPhase = RolloutPhase.PROGRESSING
    because: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_releases(cls, value: Any) -> Any:
        """A rollout that another test had judged is judged anew, without evidence: wealth is never carried over."""
        if not isinstance(value, dict) or "test" not in value:
            return value
        kept = {name: what for name, what in value.items() if name != "test"}
        if value["test"] is None:
            return kept
        plan = AnalysisPlan.model_validate(value["test"]["analysis"])
        return {**kept, "analysis": analysis_of(plan, value["test"]["horizon"] * TICK_SECONDS)}

    @property
    def key(self) -> str:
        """Its key in the store."""
        return str(self.number)

    @property
    def weights(self) -> dict[str, int]:
        """Percent of traffic by revision key, only those above 0; empty when nothing may be served yet."""
        shares = {self.candidate.key: self.weight}
        if self.stable is not None and not (self.replacement and self.replacement.is_gap):
            shares[self.stable.key] = 100 - self.weight
        return {key: share for key, share in shares.items() if share > 0}

    @property
    def mirrors(self) -> dict[str, int]:
        """Percent of requests, by revision key, that are copied to it."""
        return {self.candidate.key: self.mirrored} if self.mirrored else {}

    @property
    def is_mirrored(self) -> bool:
        """Whether requests are copied in one of its steps."""
        return any(step.mirror is not None for step in self.steps)

    @property
    def is_shadow(self) -> bool:
        """Whether it ends without ever giving the candidate traffic."""
        return all(step.set_weight is None for step in self.steps)

    @property
    def is_previewed(self) -> bool:
        """Whether its candidate is asked by nobody yet but its checks, and testers: that is no evidence of traffic."""
        return self.weight == 0 and any(step.checks for step in self.steps)

    @property
    def keeps_stable(self) -> bool:
        """Whether stable is kept beside the candidate that has all traffic, which is judged then."""
        return any(step.keep is not None for step in self.steps)

    def unapproved(self, step: int) -> str | None:
        """What is missing of the approvals of a step; None where it waits for none, or all were given."""
        needed = self.steps[step].approvals if step < len(self.steps) else None
        return unapproved_because(needed or 0, self.approvals, str(step), f"rollout/{self.key}")

    @property
    def counts(self) -> dict[str, int]:
        """How many replicas there shall be by revision key, while they are replaced; empty where they are not."""
        if self.replacement is None or self.stable is None:
            return {}
        return {self.stable.key: self.replacement.stable, self.candidate.key: self.replacement.candidate}

    def check_key(self, name: str) -> str:
        """``rollout-N/check/attempt`` of the check's present attempt."""
        return f"rollout-{self.number}/{name}/{self.check_runs[name].attempt}"


class CheckOutcome(Stored):
    """How a check against the live endpoint ended."""

    phase: Phase
    because: str


class RolloutSeen(Stored):
    """What the loop saw. ``lost`` names checks whose executor is gone; ``superseded_by`` is a newer release;
    ``quarantine`` why the candidate's digest may come in nowhere; ``held`` is why nothing may go forward;
    ``measured`` are the newest answers of metrics that are asked elsewhere; ``unanswered`` by revision key, of those
    that were asked the other's golden requests, what they did not answer, empty where that is nothing. On probation
    ``superseded_by`` is one that waits for this very environment.
    """

    plane: DataPlaneSeen
    checks: dict[str, CheckOutcome] = {}
    lost: tuple[str, ...] = ()
    superseded_by: int | None = None
    quarantine: str | None = None
    held: str | None = None
    measured: dict[str, Measured] = {}
    unanswered: dict[str, str] = {}


def steps_of(strategy: StrategyPlan, has_stable: bool) -> tuple[StepPlan, ...]:
    """The steps really taken. Without a stable revision there is nothing to compare with, so all traffic at once."""
    everything = StepPlan(set_weight=100)
    if strategy.kind == "shadow":
        return strategy.steps
    if strategy.kind == "rolling" or not has_stable:
        return (everything,)
    if any(step.set_weight == 100 for step in strategy.steps):
        return strategy.steps
    return (*strategy.steps, everything)


def begin(
    number: int,
    candidate: Revision,
    stable: Revision | None,
    plan: EnvironmentPlan,
    *,
    release: int | None,
    now: float,
    replicas: int = 0,
    baseline: Baseline = NOTHING_KNOWN,
    harm: str = "",
) -> Rollout:
    """A rollout of ``candidate`` with its plan frozen; ``replicas`` and ``harm`` as in ``Rollout``.

    ``baseline`` is what is known of the stable revision: evidence is worth less where its replicas differ.
    """
    strategy = plan.strategy
    is_compared = strategy.kind != "rolling" and stable is not None
    agreement = next((one for one in strategy.analysis.metrics if one.metric == AGREEMENT), None)
    probation = strategy.probation if is_compared else 0.0
    spread = spread_of(baseline)
    replacement = begin_replacement(candidate, replicas or candidate.replicas) if stable is not None else None
    return Rollout(
        number=number,
        environment=candidate.environment,
        release=release,
        stable=stable,
        candidate=candidate,
        steps=steps_of(strategy, stable is not None),
        deadline=strategy.deadline,
        checks=plan.checks,
        started=now,
        since=now,
        analysis=analysis_of(strategy.analysis, strategy.deadline, spread, probation) if is_compared else None,
        check_runs={check.name: CheckRun() for check in plan.checks},
        replicas=replicas,
        windows=plan.windows,
        tolerance=(agreement or AnalysisMetricPlan(metric=AGREEMENT)).tolerance,
        probation=probation,
        holdback=strategy.holdback,
        external=strategy.analysis.external if is_compared else (),
        replacement=replacement,
        harm=harm,
        because=f"{candidate.title} starts"
        + (f" beside {stable.title}" if stable else ": the first here")
        + (forecast_of(strategy, baseline) if is_compared and not strategy.analysis.is_alone else "")
        + (unsliced_because(stable, candidate) if stable is not None else "")
        + (f"; its replicas are {replacement.told}" if replacement else ""),
    )


def judges(rollout: Rollout, metric: str) -> bool:
    """Whether its analysis asks for a metric."""
    return rollout.analysis is not None and any(rule.metric == metric for rule in rollout.analysis.rules)


def late_labels(rollout: Rollout) -> LateLabels | None:
    """Which labels its analysis asks for where they are late."""
    rules = rollout.analysis.rules if rollout.analysis is not None else ()
    delay = next((rule.delay for rule in rules if rule.delay and rule.metric == ACCURACY), None)
    if delay is None or rollout.stable is None:
        return None
    return LateLabels(rollout=rollout.number, delay=delay, revisions=(rollout.stable.key, rollout.candidate.key))


def summary(rollout: Rollout) -> dict[str, Json]:
    """The evidence so far, for people and events; on probation also until when it is (wall seconds)."""
    if rollout.analysis is None:
        return {}
    until: dict[str, Json] = {PROBATION_END: rollout.since + rollout.probation} if rollout.is_on_probation else {}
    return conclude(rollout.analysis).evidence | until
