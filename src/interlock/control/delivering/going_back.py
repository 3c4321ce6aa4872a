"""The way back from a stable revision to the one before it: an ordinary rollout."""

from __future__ import annotations

from interlock.control.delivering.quarantine import blocked_because, quarantine
from interlock.control.rows import write_environment, write_state
from interlock.delivery import rollout as rollouts
from interlock.delivery.environment import Environment, enter, scaled
from interlock.delivery.rollout import Rollout
from interlock.errors import Refused
from interlock.pipeline.plan import EnvironmentPlan
from interlock.ports import Store
from interlock.vocabulary import Kind, Write

PERSON = "a person"
"""Who asks for a way back that is no finding against what serves."""


def go_back(
    store: Store, environment: Environment, expected: int, reason: str, by: str, now: float
) -> tuple[Rollout, list[Write]]:
    """The rollout to the previous revision, and the saves that begin it and quarantine the stable one.

    Refused where there is no previous revision, or it is quarantined.
    """
    if environment.previous is None or environment.stable is None:
        raise Refused("there is no previous revision to go back to", environment.key, "release another version")
    blocked = blocked_because(store, environment.previous.model_digest)
    if blocked is not None:
        raise Refused(
            f"the previous revision, {environment.previous.title}, is quarantined: {blocked}",
            environment.key,
            "release another version, or lift the quarantine with a reason",
        )
    number = store.number(Kind.ROLLOUT)
    back = environment.previous.model_copy(update={"number": environment.revisions + 1})
    plan = EnvironmentPlan(name=environment.name, replicas=back.replicas)
    replicas = scaled(environment, back).replicas
    harm = "" if by == PERSON else reason
    rollout = rollouts.begin(
        number, back, environment.stable, plan, release=None, now=now, replicas=replicas, harm=harm
    )
    because = f"back to {back.title}: {reason}"
    return rollout, [
        write_state(Kind.ROLLOUT, rollout.key, rollout, expected=0, phase=rollout.phase, because=because),
        write_environment(enter(environment, rollout), expected, because),
        quarantine(store, environment.stable, f"rolled back by {by}: {reason}"),
    ]
