"""A rollout: moving one environment from its stable revision to a candidate, step by step, on evidence."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import model_validator

from interlock.delivery.analysis.engine import Analysis, conclude
from interlock.delivery.external.measured import Measured
from interlock.delivery.holding import Approval, unapproved_because
from interlock.delivery.looks.baseline import NOTHING_KNOWN, Baseline, spread_of
from interlock.delivery.looks.evidence import TICK_SECONDS, analysis_of, forecast_of
from interlock.delivery.revision import CounterSeen, DataPlaneSeen, LatencySeen, Revision
from interlock.pipeline.canaries.external import ExternalMetricPlan
from interlock.pipeline.plan import AnalysisPlan, CommandPlan, EnvironmentPlan, StepPlan, StrategyPlan, WindowPlan
from interlock.vocabulary import Json, Phase, Stored

CRASHES = 3
"""Restarts of one candidate replica that count as a crash loop."""


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
    ``windows`` are those of its environment. ``external`` are the metrics that are asked elsewhere, ``measured`` the
    counts that they answered last. ``approvals`` are those given so far, each for one step.
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
    external: tuple[ExternalMetricPlan, ...] = ()
    measured: dict[str, Measured] = {}
    approvals: tuple[Approval, ...] = ()
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
        if self.stable is not None:
            shares[self.stable.key] = 100 - self.weight
        return {key: share for key, share in shares.items() if share > 0}

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
    ``measured`` are the newest answers of metrics that are asked elsewhere.
    """

    plane: DataPlaneSeen
    checks: dict[str, CheckOutcome] = {}
    lost: tuple[str, ...] = ()
    superseded_by: int | None = None
    quarantine: str | None = None
    held: str | None = None
    measured: dict[str, Measured] = {}


def steps_of(strategy: StrategyPlan, has_stable: bool) -> tuple[StepPlan, ...]:
    """The steps really taken. Without a stable revision there is nothing to compare with, so all traffic at once."""
    everything = StepPlan(set_weight=100)
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
) -> Rollout:
    """A rollout of ``candidate`` with its plan frozen; ``replicas`` as in ``Rollout``.

    ``baseline`` is what is known of the stable revision: evidence is worth less where its replicas differ.
    """
    strategy = plan.strategy
    is_compared = strategy.kind != "rolling" and stable is not None
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
        analysis=analysis_of(strategy.analysis, strategy.deadline, spread_of(baseline)) if is_compared else None,
        check_runs={check.name: CheckRun() for check in plan.checks},
        replicas=replicas,
        windows=plan.windows,
        external=strategy.analysis.external if is_compared else (),
        because=f"{candidate.title} starts"
        + (f" beside {stable.title}" if stable else ": the first here")
        + (forecast_of(strategy, baseline) if is_compared and not strategy.analysis.is_alone else ""),
    )


def judges(rollout: Rollout, metric: str) -> bool:
    """Whether its analysis asks for a metric."""
    return rollout.analysis is not None and any(rule.metric == metric for rule in rollout.analysis.rules)


def summary(rollout: Rollout) -> dict[str, Json]:
    """The evidence so far, for people and events."""
    return {} if rollout.analysis is None else conclude(rollout.analysis).evidence
