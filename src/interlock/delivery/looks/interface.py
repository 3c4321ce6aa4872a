"""Whether callers would notice a change of versions: each of both has to answer the other's golden requests.

The candidate answers those of stable, which callers send today; and stable those of the candidate, which they will send
once they know it: else there would be no way back from it. Each is asked as soon as it can be, before any traffic.
"""

from __future__ import annotations

from typing import NamedTuple

from interlock.delivery.revision import DataPlaneSeen, Revision
from interlock.delivery.rollout import Rollout, RolloutSeen
from interlock.vocabulary import Digest

REMEDY = (
    "let it answer them (new inputs may have defaults), or give the model a name of its own, with its own path and "
    "stable revision beside this one"
)


class Rehearsal(NamedTuple):
    """Whose golden requests, an artifact, are asked of a revision."""

    revision: Revision
    other: Revision
    golden: Digest


def rehearsals(rollout: Rollout, plane: DataPlaneSeen) -> tuple[Rehearsal, ...]:
    """What is to be asked now. Who has no replica that is ready cannot be asked, nor be gone back to.

    The way back, which no release brings, asks nothing; nor do two with the same golden requests, which each replica
    answers at its start.
    """
    stable, candidate = rollout.stable, rollout.candidate
    if stable is None or rollout.release is None or rollout.weight or rollout.mirrored:
        return ()
    ready = {name.rpartition(".")[0] for name, replica in plane.replicas.items() if replica.is_ready}
    return tuple(
        Rehearsal(one, other, other.golden)
        for one, other in ((stable, candidate), (candidate, stable))
        if other.golden not in (None, one.golden) and one.key in ready and one.key not in rollout.answering
    )


def rehearsed(rollout: Rollout, seen: RolloutSeen) -> Rollout:
    """The rollout that knows who has answered all that it was asked: who has not is a ``breach``, which ends it."""
    found = [key for key in seen.unanswered if key not in rollout.answering]
    return rollout.model_copy(update={"answering": (*rollout.answering, *found)}) if found else rollout


def breach(rollout: Rollout, seen: RolloutSeen) -> str | None:
    """Why callers would notice, and what to do about it; None where nothing is known against the candidate."""
    for one, other in ((rollout.candidate, rollout.stable), (rollout.stable, rollout.candidate)):
        unanswered = seen.unanswered.get(one.key) if one is not None else None
        if one is not None and other is not None and unanswered:
            why = "" if one is rollout.candidate else ", so there would be no way back to it"
            return f"{one.title} does not answer golden requests of {other.title}{why}: {unanswered}; {REMEDY}"
    return None


def rehearsal_waits_for(rollout: Rollout, plane: DataPlaneSeen) -> str | None:
    """What is not known yet of whom can be asked."""
    for one in rehearsals(rollout, plane):
        return f"whether {one.revision.title} answers the golden requests of {one.other.title} is not known yet"
    return None
