"""How replicas are replaced where the machine does not hold two copies of them.

``following`` in one table; the first row that fits decides:

=====================================================  =======================================================
seen                                                   then
=====================================================  =======================================================
replicas of stable that were to leave are there        wait
the candidate's that were asked for are not healthy    wait
the share of those that have traffic is not in force   wait
others are healthy, and have no traffic                they get their share of it, as many of stable leave
all are replaced                                       the rollout goes on, with all traffic at the candidate
``max_unavailable`` lets more of stable leave          they leave
else                                                   as many of the candidate's start as there is room for
=====================================================  =======================================================

So there are never more than ``replicas + max_surge``, and never fewer with traffic than ``replicas - max_unavailable``.
"""

from __future__ import annotations

from typing import NamedTuple

from interlock.delivery.revision import DataPlaneSeen, Revision
from interlock.vocabulary import Stored


class Replacement(Stored):
    """``replicas`` of stable that become as many of the candidate. ``stable`` and ``candidate`` are how many there
    shall be of each now, ``moved`` how many of the candidate's have traffic.
    """

    replicas: int
    max_surge: int
    max_unavailable: int
    stable: int
    candidate: int = 0
    moved: int = 0

    @property
    def is_over(self) -> bool:
        """Whether all are replaced."""
        return self.moved == self.replicas

    @property
    def weight(self) -> int:
        """The candidate's share of traffic in percent: each replica has as much as every other."""
        return round(100 * self.moved / (self.moved + self.stable)) if self.moved else 0

    @property
    def is_gap(self) -> bool:
        """Whether nobody serves."""
        return self.moved + self.stable == 0

    @property
    def room(self) -> int:
        """How many there may be at once; one more than replicas at least, for the way back."""
        return self.replicas + max(1, self.max_surge)

    @property
    def told(self) -> str:
        """How it goes, for people."""
        if self.max_unavailable >= self.replicas:
            return "replaced all at once: nobody serves until the new ones are healthy"
        fewer = f", {self.max_unavailable} fewer" if self.max_unavailable else ""
        return f"replaced with {self.max_surge} more{fewer} at a time"


class ReplacementSeen(NamedTuple):
    """How many replicas of stable exist, those that leave among them; how many of the candidate's the proxy finds
    healthy; and the candidate's share that is in force, in percent.
    """

    stable: int
    healthy: int
    weight: int


def begin(candidate: Revision, replicas: int) -> Replacement | None:
    """How ``replicas`` are replaced; None where the candidate's may all stand beside stable's."""
    surge = candidate.surge
    if surge is None:
        return None
    fewer = min(surge.max_unavailable, replicas)
    return Replacement(replicas=replicas, max_surge=surge.max_surge, max_unavailable=fewer, stable=replicas)


def look(replacement: Replacement, stable: Revision, candidate: Revision, plane: DataPlaneSeen) -> ReplacementSeen:
    """What there is to see of it."""
    endpoints = plane.endpoints.get(candidate.key, {})
    asked = [candidate.replica(index) for index in range(replacement.candidate)]
    return ReplacementSeen(
        stable=replicas_of(stable, plane),
        healthy=sum(name in endpoints and endpoints[name].is_healthy for name in asked),
        weight=plane.weights.get(candidate.key, 0),
    )


def replicas_of(revision: Revision, plane: DataPlaneSeen) -> int:
    """How many of its replicas exist, in whatever state."""
    return sum(name.rpartition(".")[0] == revision.key for name in plane.replicas)


def waits_for(replacement: Replacement, seen: ReplacementSeen) -> str | None:
    """What the next move has to wait for; None where nothing holds it back."""
    if seen.stable > replacement.stable:
        return f"{seen.stable - replacement.stable} replicas of stable are leaving"
    missing = replacement.candidate - seen.healthy
    if missing > 0:
        return f"{missing} of {replacement.candidate} replicas of the candidate are starting"
    if seen.weight != replacement.weight:
        return f"weight {replacement.weight} % is not yet in force ({seen.weight} %)"
    return None


def following(replacement: Replacement) -> tuple[Replacement, str]:
    """The next move, with nothing left to wait for, and what it is. Not asked once it is over."""
    all_, moved = replacement.replicas, replacement.moved
    if replacement.candidate > moved:
        moved = replacement.candidate
        after = replacement.model_copy(update={"moved": moved, "stable": min(replacement.stable, all_ - moved)})
        return after, f"{moved} of {all_} replicas are replaced, weight {after.weight} %"
    fewest = max(0, all_ - replacement.max_unavailable - moved)
    if replacement.stable > fewest:
        leaving = replacement.stable - fewest
        return replacement.model_copy(update={"stable": fewest}), f"{leaving} replicas of stable make room"
    room = all_ + replacement.max_surge - replacement.stable - replacement.candidate
    starting = min(room, all_ - replacement.candidate)
    after = replacement.model_copy(update={"candidate": replacement.candidate + starting})
    return after, f"{starting} more replicas of the candidate start"


def lack_of_room(stable: Revision | None, candidate: Revision, replicas: int, memory: float) -> str | None:
    """Why ``memory`` bytes do not hold what the candidate's rollout needs at once, and what to write; None if they do.

    What is not known to need any memory needs none.
    """
    each = candidate.footprint
    beside = stable.footprint if stable else 0.0
    plan = begin(candidate, replicas)
    if stable is None or plan is None:
        needed = replicas * (each + beside)
    else:
        most = replicas + (plan.max_surge if plan.max_unavailable < replicas else 0)
        needed = most * max(each, beside)
    if needed <= memory:
        return None
    larger = max(each, beside)
    held = int(memory / larger)
    asks = f"{_mebibytes(needed)} MiB for {replicas} replicas of {candidate.title}"
    asks += "" if stable is None else f" and those of {stable.title} that stand beside them"
    return f"without room: this needs {asks}, and {_mebibytes(memory)} MiB are left: {_choice(held, replicas)}"


def _choice(held: int, replicas: int) -> str:
    """What can be written where so many replicas are held at once."""
    recreate = "strategy: recreate, with nobody serving meanwhile"
    if held > replicas:
        return f"write replicas: {{max_surge: {held - replicas}}} with strategy: rolling"
    if held == replicas > 1:
        return f"write replicas: {{max_surge: 0, max_unavailable: 1}} with strategy: rolling, or {recreate}"
    if held == replicas:
        return f"write {recreate}"
    return f"only {held} of them are held: write fewer replicas, or less memory for each"


def _mebibytes(count: float) -> str:
    return f"{count / 2**20:.0f}"
