"""A run as statuses of its commit: the run, its plan, each gate, and each environment it was delivered to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from interlock.delivery.rollout import RolloutPhase
from interlock.feedback.status import LONGEST_DESCRIPTION, Status
from interlock.feedback.text import fit, one_line
from interlock.feedback.wording import Told, is_for_approval, is_refused, tell_gate, tell_plan, tell_run
from interlock.run.run import Run
from interlock.vocabulary import Phase, Stored, Verdict

LONGEST_CONTEXT = 200
"""GitLab keeps 255 characters."""

State = Literal["pending", "success", "failure", "error"]
_STATES: dict[Phase, State] = {
    Phase.QUEUED: "pending",
    Phase.RUNNING: "pending",
    Phase.HELD: "failure",
    Phase.SUCCEEDED: "success",
    Phase.FAILED: "failure",
    Phase.ERRORED: "error",
    Phase.SKIPPED: "error",
    Phase.CANCELLED: "error",
}
_OUTCOMES: dict[RolloutPhase, tuple[State, str]] = {
    RolloutPhase.PROMOTED: ("success", "delivered"),
    RolloutPhase.ROLLED_BACK: ("failure", "rolled back"),
}


class Delivery(Stored):
    """What became of the run's model in one environment; ``is_waiting``: for people, who have to hear of it."""

    environment: str
    phase: RolloutPhase
    because: str
    is_on_probation: bool = False
    is_waiting: bool = False

    @property
    def outcome(self) -> tuple[State, str] | None:
        """What is told of it, in a word; None where nothing is."""
        if self.is_waiting:
            return "pending", "waits"
        return _OUTCOMES.get(self.phase, ("pending", "passed all steps") if self.is_on_probation else None)


def statuses(run: Run, deliveries: Sequence[Delivery], url: str) -> tuple[Status, ...]:
    """Everything the commit's page should say of the run; ``url`` is where more is to be read."""
    return (*run_statuses(run, url), *delivery_statuses(run, deliveries, url))


def run_statuses(run: Run, url: str) -> tuple[Status, ...]:
    """The run itself, its plan and its gates."""
    state: State = "pending" if is_for_approval(run) else _STATES[run.phase]
    return _named(
        run,
        [
            ("interlock", _status(state, tell_run(run), url)),
            ("interlock/plan", _plan_status(run, state, url)),
            *((f"interlock/gate: {title}", status) for title, status in _gate_statuses(run, url)),
        ],
    )


def delivery_statuses(run: Run, deliveries: Sequence[Delivery], url: str) -> tuple[Status, ...]:
    """Each environment where the model was promoted or rolled back, is on probation or waits for people; the newest
    delivery to an environment counts.
    """
    newest = {delivery.environment: delivery for delivery in deliveries if delivery.outcome is not None}
    named = []
    for environment, delivery in newest.items():
        assert delivery.outcome is not None
        state, told = delivery.outcome
        status = _status(state, Told(told=told, reason=delivery.because), url)
        named.append((f"interlock/deploy: {environment}", status))
    return _named(run, named)


def _plan_status(run: Run, state: State, url: str) -> Status:
    told = tell_plan(run)
    if told is None:
        is_over = state != "pending"
        return _status(state, Told(told="not reached" if is_over else "known when the checks have passed"), url)
    return _status(state if is_refused(run) else "success", told, url)


def _gate_statuses(run: Run, url: str) -> list[tuple[str, Status]]:
    if run.judgement is not None:
        return [
            (
                result.gate,
                _status("success" if result.verdict is Verdict.PASS else "failure", tell_gate(run, result), url),
            )
            for result in run.judgement.results
        ]
    if run.phase is Phase.SUCCEEDED and run.version:
        unchanged = Told(told="passed", reason=f"the model is that of {run.version}, already gated")
        return [(gate.title, _status("success", unchanged, url)) for gate in run.plan.gates]
    return []


def _status(state: State, told: Told, url: str) -> Status:
    return Status(context="", state=state, description=fit(told.sentence, told.way_out, LONGEST_DESCRIPTION), url=url)


def _named(run: Run, named: Iterable[tuple[str, Status]]) -> tuple[Status, ...]:
    """Contexts are of one project, and no two are alike (to GitHub ``A`` and ``a`` are)."""
    project = f" ({one_line(run.plan.project, 60)})" if run.plan.project else ""
    found: dict[str, Status] = {}
    for name, status in named:
        context = base = f"{one_line(name, LONGEST_CONTEXT - len(project) - 6)}{project}"
        number = 1
        while context.lower() in found:
            number += 1
            context = f"{base} ({number})"
        found[context.lower()] = status.model_copy(update={"context": context})
    return tuple(found.values())
