"""An environment: where one stable revision of a model serves, and what the data plane should look like for it.

Only an environment desires weights and replicas, and it is asked for ever; a rollout says which weights while it
lasts. ``follow`` takes over what a rollout decided; ``differences`` compares with the world and answers acts.

A revision that is no longer wanted leaves in this order, one act at a time, each only after the one before is seen in
the world: no weight -> draining -> no request in flight -> no endpoints -> no replicas. A revision that is wanted
comes in the reverse order. So does a replica that the load no longer needs, or needs again. While the proxy cannot be
read nothing is taken away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from interlock.delivery.holding import Freeze, Retirement
from interlock.delivery.replacing import replicas_of
from interlock.delivery.revision import DataPlaneSeen, Revision
from interlock.delivery.rollout import CRASHES, Rollout, RolloutPhase
from interlock.vocabulary import Stored

ActName = Literal[
    "ensure_replicas",
    "ensure_endpoints",
    "ensure_weights",
    "ensure_mirrors",
    "retire",
    "renew_lease",
    "end_lease",
    "drain_endpoints",
    "remove_endpoints",
    "remove_replicas",
]


class Act(Stored):
    """One thing to make so. ``revision`` is a revision key; ``weights`` and ``mirrors`` percent by revision key.

    ``replicas`` are those that the proxy shall know, ``draining`` those of them that get no new requests; all from
    number ``beyond`` on are to be removed.
    """

    name: ActName
    revision: str = ""
    replicas: tuple[str, ...] = ()
    draining: tuple[str, ...] = ()
    beyond: int = 0
    weights: dict[str, int] = {}
    mirrors: dict[str, int] = {}


class Environment(Stored):
    """``model/environment``. ``rollout`` is the number of the one under way; ``rollouts`` counts them all.
    ``weights`` are shares of the traffic, ``mirrors`` of the requests that are copied beside it.

    ``replicas`` is how many the load asks for of each revision that scales (None: nobody has looked yet), and
    ``replicas_because`` why. ``previous`` is the last that was stable with another model. ``trouble`` is what keeps
    replicas of the stable revision from living; empty where all do; ``is_dead``: it keeps all of them. ``freeze`` may
    be over by now. With a ``retirement`` nothing of it serves; what is stable is what a restored one serves again.
    While replicas are replaced, ``counts`` is how many there shall be of each revision, by its key; ``room`` is how
    many there may be at once after a rollout that replaced them.
    """

    name: str
    model: str
    stable: Revision | None = None
    candidate: Revision | None = None
    previous: Revision | None = None
    weights: dict[str, int] = {}
    mirrors: dict[str, int] = {}
    rollout: int | None = None
    revisions: int = 0
    because: str = "nothing was delivered yet"
    replicas: int | None = None
    replicas_because: str = ""
    trouble: str = ""
    is_dead: bool = False
    freeze: Freeze | None = None
    retirement: Retirement | None = None
    counts: dict[str, int] = {}
    room: int | None = None

    @property
    def key(self) -> str:
        """Its key in the store."""
        return f"{self.model}/{self.name}"


class Desired(Stored):
    """What the data plane should look like: these revisions have replicas and endpoints, and these shares of traffic.

    ``mirrors`` are shares of the requests that are copied; ``leased`` is the candidate whose share, of traffic or of
    copies, has to be renewed by a living control plane.
    """

    revisions: tuple[Revision, ...]
    weights: dict[str, int]
    mirrors: dict[str, int] = {}
    leased: str | None = None
    is_retired: bool = False


def desired(environment: Environment) -> Desired:
    """What the data plane should look like for this environment, now and for ever."""
    if environment.retirement is not None:
        return Desired(revisions=(), weights={}, is_retired=True)
    stable, candidate = environment.stable, environment.candidate
    given = {**environment.mirrors, **environment.weights}
    has_way_back = stable is not None and environment.counts.get(stable.key, stable.replicas) > 0
    is_leased = has_way_back and candidate is not None and given.get(candidate.key, 0) > 0
    sized = (scaled(environment, revision) for revision in (stable, candidate) if revision is not None)
    return Desired(
        revisions=tuple(revision for revision in sized if revision.replicas > 0),
        weights=environment.weights,
        mirrors=environment.mirrors,
        leased=candidate.key if is_leased and candidate is not None else None,
    )


def scaled(environment: Environment, revision: Revision) -> Revision:
    """The revision with as many replicas as the load asks for, within its own bounds, or as its replacement says."""
    if (count := environment.counts.get(revision.key)) is not None:
        return revision.model_copy(update={"replicas": count})
    if revision.scaling is None or environment.replicas is None:
        return revision
    replicas = max(revision.replicas, min(environment.replicas, revision.scaling.most))
    return revision.model_copy(update={"replicas": replicas})


def examine(environment: Environment, seen: DataPlaneSeen) -> Environment:
    """The environment with what keeps replicas of its stable revision from living: they end again and again.

    A candidate that cannot live is rolled back by its rollout; a stable one of which no replica can, for the previous.
    """
    if environment.stable is None or environment.retirement is not None:
        return environment
    stable = scaled(environment, environment.stable)
    names = [stable.replica(index) for index in range(stable.replicas)]
    ill = [(name, replica) for name in names if (replica := seen.replicas.get(name)) is not None and replica.problem]
    told = [f"{name} was started {replica.restarts + 1} times: {replica.problem}" for name, replica in ill]
    trouble = f"{len(ill)} of {len(names)} replicas cannot live: {told[0]}" if told else ""
    is_dead = 0 < len(ill) == len(names) and all(replica.restarts >= CRASHES for _, replica in ill)
    return environment.model_copy(update={"trouble": trouble, "is_dead": is_dead})


def needs_previous(environment: Environment) -> bool:
    """Whether it has to go back because what it serves cannot live, and there is something to go back to."""
    return environment.is_dead and environment.rollout is None and environment.previous is not None


def enter(environment: Environment, rollout: Rollout) -> Environment:
    """The environment with this rollout begun in it."""
    return environment.model_copy(
        update={
            "candidate": rollout.candidate,
            "rollout": rollout.number,
            "revisions": rollout.candidate.number,
            "because": rollout.because,
            "counts": rollout.counts,
            "room": rollout.replacement.room if rollout.replacement else None,
        }
    )


def follow(environment: Environment, rollout: Rollout) -> Environment:
    """The environment after what its rollout decided; the same value when that changes nothing."""
    if environment.rollout != rollout.number:
        return environment
    if not rollout.phase.is_final:
        return environment.model_copy(
            update={"weights": rollout.weights, "mirrors": rollout.mirrors, "counts": rollout.counts}
        )
    if rollout.phase is RolloutPhase.PROMOTED:
        return environment.model_copy(
            update={
                "stable": rollout.candidate,
                "previous": _way_back(environment, rollout.candidate),
                "candidate": None,
                "rollout": None,
                "weights": {rollout.candidate.key: 100},
                "mirrors": {},
                "because": rollout.because,
                "trouble": "",
                "is_dead": False,
                "counts": {},
            }
        )
    return environment.model_copy(
        update={
            "candidate": None,
            "rollout": None,
            "freeze": _freeze_after(environment, rollout),
            "weights": {environment.stable.key: 100} if environment.stable else {},
            "mirrors": {},
            "because": f"rollout {rollout.number} {rollout.phase}: {rollout.because}",
            "counts": {},
        }
    )


def _freeze_after(environment: Environment, rollout: Rollout) -> Freeze | None:
    """What was found on probation would be shipped again by the next push."""
    freeze = environment.freeze
    is_frozen_for_good = freeze is not None and freeze.until is None
    if rollout.phase is not RolloutPhase.ROLLED_BACK or not rollout.is_on_probation or is_frozen_for_good:
        return freeze
    return Freeze(by="interlock", reason=f"rolled back on probation: {rollout.because}")


def _way_back(environment: Environment, promoted: Revision) -> Revision | None:
    """What can be gone back to from the promoted revision: the same bytes again are no way back."""
    stable = environment.stable
    is_same = stable is None or stable.model_digest == promoted.model_digest
    return environment.previous if is_same else stable


def differences(environment: Environment, seen: DataPlaneSeen) -> tuple[Act, ...]:
    """What must be made so now, in this order."""
    wish = wished(environment, seen)
    acts = [Act(name="ensure_replicas", revision=revision.key) for revision in wish.revisions]
    acts += [_endpoints(revision, seen) for revision in wish.revisions if _may_have_endpoints(revision, seen)]
    if wish.mirrors != seen.mirrors and all(_has_healthy(key, seen) for key in wish.mirrors):
        acts.append(Act(name="ensure_mirrors", mirrors=wish.mirrors))
    if wish.is_retired:
        acts += [] if seen.is_retired and not any(seen.weights.values()) else [Act(name="retire")]
    elif _weights_may_change(wish, seen):
        acts.append(Act(name="ensure_weights", weights=wish.weights))
    acts.append(Act(name="renew_lease", revision=wish.leased) if wish.leased else Act(name="end_lease"))
    if seen.problem is None:
        acts += [
            Act(name="remove_replicas", revision=revision.key, beyond=revision.replicas)
            for revision in wish.revisions
            if _surplus(revision, seen.replicas) - set(seen.endpoints.get(revision.key, {}))
        ]
        acts += _departures(wish, seen)
    return tuple(acts)


def wished(environment: Environment, seen: DataPlaneSeen) -> Desired:
    """What the data plane should look like now: on the way back, where there is no room for two copies, replicas come
    as those that are not wanted leave.
    """
    wish, room = desired(environment), environment.room
    if room is None or len(wish.revisions) != 1:
        return wish
    (wanted,) = wish.revisions
    own = replicas_of(wanted, seen)
    others = len(seen.replicas) - own
    if others == 0:
        return wish
    replicas = min(wanted.replicas, max(own, room - others))
    revisions = (wanted.model_copy(update={"replicas": replicas}),) if replicas > 0 else ()
    return wish.model_copy(update={"revisions": revisions})


def _surplus(revision: Revision, names: Iterable[str]) -> set[str]:
    """Those of the revision's replicas that are more than it shall have."""
    wanted = {revision.replica(index) for index in range(revision.replicas)}
    return {name for name in names if name.rpartition(".")[0] == revision.key} - wanted


def _may_have_endpoints(revision: Revision, seen: DataPlaneSeen) -> bool:
    if revision.key in seen.endpoints:
        return True
    # A proxy that cannot be read may know replicas that are to leave: to write the others would cut them off.
    return _is_ready(revision, seen) and not (seen.problem and _surplus(revision, seen.replicas))


def _endpoints(revision: Revision, seen: DataPlaneSeen) -> Act:
    """The replicas that it shall have, and of those that leave the ones that are not yet drained and done."""
    known = seen.endpoints.get(revision.key, {})
    leaving = sorted(
        name for name in _surplus(revision, known) if not known[name].is_draining or known[name].active > 0
    )
    wanted = [revision.replica(index) for index in range(revision.replicas)]
    return Act(name="ensure_endpoints", revision=revision.key, replicas=(*wanted, *leaving), draining=tuple(leaving))


def _is_ready(revision: Revision, seen: DataPlaneSeen) -> bool:
    return all(
        (replica := seen.replicas.get(revision.replica(index))) is not None and replica.is_ready
        for index in range(revision.replicas)
    )


def _weights_may_change(wish: Desired, seen: DataPlaneSeen) -> bool:
    """Traffic is only sent where the proxy already has somebody healthy, or had sent it before."""
    if wish.weights == {key: weight for key, weight in seen.weights.items() if weight > 0} and not seen.is_retired:
        return False
    return all(
        seen.weights.get(key, 0) > 0 or _has_healthy(key, seen) for key, weight in wish.weights.items() if weight > 0
    )


def _has_healthy(key: str, seen: DataPlaneSeen) -> bool:
    return any(endpoint.is_healthy for endpoint in seen.endpoints.get(key, {}).values())


def _departures(wish: Desired, seen: DataPlaneSeen) -> list[Act]:
    wanted = {revision.key for revision in wish.revisions}
    with_replicas = {replica.rpartition(".")[0] for replica in seen.replicas}
    acts: list[Act] = []
    for key in sorted((with_replicas | set(seen.endpoints)) - wanted):
        endpoints = seen.endpoints.get(key, {})
        if seen.weights.get(key, 0) > 0 or key in seen.mirrors:
            continue
        if any(not endpoint.is_draining for endpoint in endpoints.values()):
            names = tuple(sorted(endpoints))
            acts.append(Act(name="drain_endpoints", revision=key, replicas=names, draining=names))
        elif any(endpoint.active for endpoint in endpoints.values()):
            continue
        elif key in seen.endpoints:
            acts.append(Act(name="remove_endpoints", revision=key))
        else:
            acts.append(Act(name="remove_replicas", revision=key))
    return acts
