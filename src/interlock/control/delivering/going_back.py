"""The way back from a stable revision to the one before it: an ordinary rollout."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from interlock.control.delivering.quarantine import BLOCKED, blocked_because, quarantine
from interlock.control.rows import write_environment, write_state
from interlock.delivery import rollout as rollouts
from interlock.delivery.environment import Environment, enter, scaled
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import Rollout, RolloutPhase
from interlock.errors import Refused
from interlock.pipeline.plan import EnvironmentPlan
from interlock.ports import Store
from interlock.vocabulary import Digest, Kind, Write

KEPT_READY = 2
"""How many good revisions before the one that serves can be gone back to at once."""
PAGE = 100
PERSON = "a person"
"""Who asks for a way back that is no finding against what serves."""


def go_back(
    store: Store, environment: Environment, expected: int, reason: str, by: str, now: float
) -> tuple[Rollout, list[Write]]:
    """The rollout to the previous revision, and the saves that begin it and quarantine the stable one. Where that is
    quarantined, to the newest good one before.

    Refused where there is no previous revision, or no good one.
    """
    if environment.previous is None or environment.stable is None:
        raise Refused("there is no previous revision to go back to", environment.key, "release another version")
    target: Revision | None = environment.previous
    blocked = blocked_because(store, environment.previous.model_digest)
    if blocked is not None:
        good = good_revisions(store, [environment.key])[environment.key]
        target = next((one for one in good if one.model_digest != environment.stable.model_digest), None)
    if target is None:
        raise Refused(
            f"the previous revision, {environment.previous.title}, is quarantined: {blocked}",
            environment.key,
            "release another version, or lift the quarantine with a reason",
        )
    number = store.number(Kind.ROLLOUT)
    back = target.model_copy(update={"number": environment.revisions + 1})
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


def good_revisions(store: Store, environments: Collection[str]) -> dict[str, list[Revision]]:
    """By environment the newest revisions that were promoted there, none of them quarantined and each of another model:
    the one that serves, and as many before it as are kept ready to serve again.
    """
    blocked = {row.key for row in store.rows(Kind.QUARANTINE, phases=(BLOCKED,))}
    found: dict[str, dict[Digest, Revision]] = {environment: {} for environment in environments}
    for revision in _promoted(store):
        known = found.get(revision.environment, {})
        if len(known) <= KEPT_READY and revision.model_digest not in blocked:
            known.setdefault(revision.model_digest, revision)
        if all(len(known) > KEPT_READY for known in found.values()):
            break
    return {environment: list(known.values()) for environment, known in found.items()}


def _promoted(store: Store) -> Iterator[Revision]:
    """What was promoted anywhere, the newest first."""
    page = store.rows(Kind.ROLLOUT, phases=(RolloutPhase.PROMOTED,), newest=PAGE)
    while page:
        yield from (Revision.model_validate(row.state["candidate"]) for row in page)
        page = store.rows(Kind.ROLLOUT, phases=(RolloutPhase.PROMOTED,), newest=PAGE, before=page[-1].place)
