"""What is to be asked of sources of elsewhere for one rollout, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from interlock.delivery.rollout import Rollout
from interlock.pipeline.canaries.external import ExternalMetricPlan, filled

CANDIDATE, STABLE = "candidate", "stable"


class Question(NamedTuple):
    """One metric of one rollout. ``queries`` by side and by what they are for; a value is of no side (``""``).

    ``variables`` are what a command is told by its environment.
    """

    rollout: int
    plan: ExternalMetricPlan
    queries: Mapping[tuple[str, str], str]
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        """Tells it from others."""
        return f"{self.rollout}/{self.plan.metric}"


def questions_of(rollout: Rollout, asked: Mapping[str, float], now: float) -> list[Question]:
    """Those that are due: while the candidate has traffic each is asked ``every`` so many seconds.

    ``asked`` says by name when each was asked last.
    """
    if rollout.weight == 0 or rollout.stable is None:
        return []
    questions = [_question(rollout, plan) for plan in rollout.external]
    return [one for one in questions if one.name not in asked or now - asked[one.name] >= one.plan.every]


def _question(rollout: Rollout, plan: ExternalMetricPlan) -> Question:
    assert rollout.stable is not None
    model, _, environment = rollout.environment.partition("/")
    where = {"model": model, "environment": environment}
    sides = {CANDIDATE: rollout.candidate.key, STABLE: rollout.stable.key}
    if plan.is_counted:
        queries = {
            (side, what): filled(query, {**where, "revision": revision})
            for side, revision in sides.items()
            for what, query in plan.queries.items()
        }
    else:
        queries = {("", what): filled(query, {**where, **sides}) for what, query in plan.queries.items()}
    variables = {f"INTERLOCK_{name.upper()}": value for name, value in {**where, **sides}.items()}
    return Question(rollout.number, plan, queries, variables)
