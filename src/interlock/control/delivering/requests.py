"""What a person asks of the delivery: release, steer, roll back, lift a quarantine, freeze. The loop does the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pydantic import TypeAdapter

from interlock.access.audit import Deed
from interlock.access.caller import Action, Caller
from interlock.control.delivering.going_back import PERSON, go_back
from interlock.control.delivering.quarantine import blocked_because, lift
from interlock.control.front.retiring import refuse_retired
from interlock.control.people import LOCAL
from interlock.control.rows import load_state, read_state, write_environment, write_state
from interlock.delivery import release as releases
from interlock.delivery.environment import Environment
from interlock.delivery.holding import Freeze, frozen_because
from interlock.delivery.release import Release
from interlock.delivery.rollout import Order, OrderName, Rollout
from interlock.delivery.steering import ORDER, obey
from interlock.errors import AlreadyExists, Conflict, Forbidden, NotFound, Refused, StaleWrite
from interlock.ports import Store
from interlock.registry.version import ModelVersion
from interlock.run.run import Run
from interlock.source.commit import is_author
from interlock.vocabulary import Fact, Json, Kind, Write, canonical

ROLLED_BACK = "rolled back"
"""The space of what was answered to roll backs with an idempotency key: the environment, and what was told."""
Remembered = TypeAdapter(tuple[str, str])
TRIES = 5
"""How often a person's request is tried again when the loop saves the same rows at the same moment."""


class Requests:
    """Writes what was asked into rows; a server that runs acts on them, one that starts later does then.

    ``guarded`` are the names of the environments for which nobody approves who wrote the commit or asked for the run.
    """

    def __init__(self, store: Store, now: Callable[[], float], guarded: Collection[str] = ()) -> None:
        self._store = store
        self._now = now
        self._guarded = guarded

    def start_release(self, caller: Caller, version_key: str, because: str, key: str = "") -> Release:
        """A release of a registered version, asked for by a person. NotFound and Refused as it says.

        ``key`` is an idempotency key: the same one of the same caller answers the same release, and Conflict for
        another version.
        """
        version, _ = load_state(self._store, Kind.VERSION, version_key, ModelVersion)
        if version is None:
            raise NotFound(f"there is no model version {version_key}", remedy="interlock models lists them")
        _require_release(caller, version)
        identity = canonical([caller.name, key]).decode() if key else None
        known = self._find(identity, version)
        if known is not None:
            return known
        refuse_retired(self._store, version.model)
        if not version.deploy:
            raise Refused(f"{version.title} has no deploy section", version.commit, "add deploy to interlock.yaml")
        release = releases.begin(self._store.number(Kind.RELEASE), version, version.run)
        detail: dict[str, Json] = {"release": release.key, "because": because}
        deed = Deed(who=caller.name, action="start release", thing=f"version/{version.key}", detail=detail)
        return self._begin(_write_release(release, version, because, identity), version, [deed])

    def roll_back(self, caller: Caller, environment_key: str, reason: str, key: str = "") -> str:
        """Brings an environment back: ends its rollout, or rolls out its previous revision. Says what it did.

        It is frozen from then on, so that the next push does not bring the fault again.

        ``key`` is an idempotency key: the same one of the same caller says again what was done, and does no more;
        Conflict for another environment.
        """
        caller.require(Action.ROLL_BACK, environment=environment_key)
        identity = canonical([caller.name, key]).decode() if key else None
        for _ in range(TRIES):
            told = self._recall(identity, environment_key)
            try:
                return told if told is not None else self._roll_back(caller, environment_key, reason, identity)
            except (StaleWrite, AlreadyExists):
                continue
        raise StaleWrite(f"{environment_key} is moved by others all the time")

    def approve(self, caller: Caller, release: int, reason: str) -> str:
        """One person's approval of a release, for the environment that it waits before. Says so.

        Conflict where it waits for none, or this person gave theirs.
        """
        for _ in range(TRIES):
            found, expected = load_state(self._store, Kind.RELEASE, str(release), Release)
            if found is None:
                raise NotFound(f"there is no release {release}", remedy="interlock status lists them")
            where = found.environment_key(found.here.name) if found.here else None
            self._require_approval(caller, found.version, where)
            decision = releases.approve(found, caller.name, reason)
            write = write_state(
                Kind.RELEASE,
                found.key,
                decision.state,
                expected=expected,
                phase=found.phase,
                because=decision.because,
            )
            deed = Deed(who=caller.name, action="approve", thing=f"release/{release}", detail={"reason": reason})
            try:
                self._store.save(write, audit=[deed])
            except StaleWrite:
                continue
            return f"release {release} is {decision.because}"
        raise StaleWrite(f"release {release} is moved by others all the time")

    def _require_approval(self, caller: Caller, version_key: str, environment: str | None) -> None:
        """Forbidden for who may not approve there, or wrote or asked for what is approved where that is guarded."""
        version, _ = load_state(self._store, Kind.VERSION, version_key, ModelVersion)
        caller.require(Action.APPROVE, repository=version.repository if version else None, environment=environment)
        if version is None or environment is None or environment.rpartition("/")[2] not in self._guarded:
            return
        run, _ = load_state(self._store, Kind.RUN, version.run, Run)
        name = caller.name.removeprefix(LOCAL)
        if run is not None and (is_author(name, run.commit.author) or run.occasion.by == caller.name):
            problem = f"{caller.name} wrote or asked for {version.title}, and may not approve it"
            raise Forbidden(problem, environment, "somebody else has to approve")

    def steer(self, caller: Caller, rollout: int, name: OrderName, reason: str) -> str:
        """Pauses a rollout under way, resumes, promotes or aborts it. Says so; Refused where it cannot be.

        To abort it is to roll its environment back, and never anything but this rollout.
        """
        for _ in range(TRIES):
            try:
                return self._steer(caller, str(rollout), Order(name=name, by=caller.name, reason=reason))
            except StaleWrite:
                continue
        raise StaleWrite(f"rollout {rollout} is moved by others all the time")

    def retry(
        self, caller: Caller, rollout: int, reason: str, lift_because: str | None = None, key: str = ""
    ) -> Release:
        """A release that begins a rollout anew, of the same digest, where it ended without promotion.

        Refused where it did not, and where the digest is quarantined, unless ``lift_because`` says why that is lifted.
        ``key`` is an idempotency key, as of a release.
        """
        ended, _ = load_state(self._store, Kind.ROLLOUT, str(rollout), Rollout)
        release, _ = load_state(self._store, Kind.RELEASE, str(ended.release), Release) if ended else (None, 0)
        version, _ = load_state(self._store, Kind.VERSION, release.version, ModelVersion) if release else (None, 0)
        if ended is None or release is None or version is None:
            raise NotFound(f"no release brought a rollout {rollout}", remedy="interlock status lists them")
        _require_release(caller, version)
        identity = canonical([caller.name, key]).decode() if key else None
        known = self._find(identity, version)
        if known is not None:
            return known
        refuse_retired(self._store, version.model)
        begun = releases.again(self._store.number(Kind.RELEASE), release, ended, reason)
        lifted = lift(self._store, version.digest, lift_because) if lift_because else None
        blocked = blocked_because(self._store, version.digest)
        if blocked is not None and lifted is None:
            remedy = "say why that is lifted: --lift-quarantine REASON"
            raise Refused(f"{version.title} is quarantined: {blocked}", f"rollout {rollout}", remedy)
        detail: dict[str, Json] = {"release": begun.key, "reason": reason}
        deeds = [Deed(who=caller.name, action="retry", thing=f"rollout/{rollout}", detail=detail)]
        if lifted:
            deeds.append(_lift_deed(caller, version, lifted, str(lift_because)))
        write = _write_release(begun, version, begun.because, identity)
        return self._begin(write, version, deeds, *([lifted] if lifted else []))

    def freeze(self, caller: Caller, environment_key: str, reason: str, until: float | None = None) -> str:
        """Lets nothing go forward in an environment until then (wall seconds), or until it is unfrozen. Says so.

        A rollout under way keeps its weight and its replicas, and is still rolled back for harm.
        """
        now = self._now()
        if until is not None and until <= now:
            raise Refused("that moment has passed", "until", "name one to come, or none: then until it is unfrozen")
        freeze = Freeze(by=caller.name, reason=reason, until=until)
        self._set_freeze(caller, environment_key, freeze, "freeze", reason)
        return f"{environment_key} is {frozen_because(freeze, now)}"

    def unfreeze(self, caller: Caller, environment_key: str, reason: str) -> str:
        """Lets an environment go forward again. Says so; Refused where it is not frozen."""
        self._set_freeze(caller, environment_key, None, "unfreeze", reason)
        return f"{environment_key} may go forward again"

    def _set_freeze(self, caller: Caller, key: str, freeze: Freeze | None, action: str, reason: str) -> None:
        caller.require(Action.FREEZE, environment=key)
        for _ in range(TRIES):
            environment, expected = self._load(caller, key, Action.FREEZE)
            if freeze is None and frozen_because(environment.freeze, self._now()) is None:
                raise Refused("it is not frozen", key, "nothing is to be done")
            after = environment.model_copy(update={"freeze": freeze})
            detail: dict[str, Json] = {"reason": reason, "until": freeze.until if freeze else None}
            deed = Deed(who=caller.name, action=action, thing=f"environment/{key}", detail=detail)
            try:
                self._store.save(write_environment(after, expected, environment.because), audit=[deed])
            except StaleWrite:
                continue
            return
        raise StaleWrite(f"{key} is moved by others all the time")

    def lift_quarantine(self, caller: Caller, version_key: str, reason: str) -> None:
        """Lets a rolled-back digest be released again, on a person's word."""
        version, _ = load_state(self._store, Kind.VERSION, version_key, ModelVersion)
        if version is not None:
            _require_release(caller, version)
        write = None if version is None else lift(self._store, version.digest, reason)
        if version is None or write is None:
            raise NotFound(f"{version_key} is not quarantined")
        self._store.save(write, audit=[_lift_deed(caller, version, write, reason)])

    def _recall(self, identity: str | None, environment_key: str) -> str | None:
        """What was done when the roll back of this identity was asked for first."""
        known = self._store.recall(ROLLED_BACK, identity, newest=1) if identity else []
        if not known:
            return None
        environment, told = Remembered.validate_python(known[0])
        if environment != environment_key:
            where, remedy = environment_key, "choose another key for another request"
            raise Conflict(f"this idempotency key rolled {environment} back", where, remedy)
        return told

    def _begin(self, release: Write, version: ModelVersion, deeds: list[Deed], *others: Write) -> Release:
        """Saves a release; answers that which was begun under its identity at the same moment, if there is one."""
        try:
            (row, *_) = self._store.save(release, *others, audit=deeds)
        except AlreadyExists:
            known = self._find(release.identity, version)
            if known is None:
                raise
            return known
        return read_state(row, Release)

    def _find(self, identity: str | None, version: ModelVersion) -> Release | None:
        """The release that was begun under this identity."""
        row = None if identity is None else self._store.find(Kind.RELEASE, identity)
        if row is None:
            return None
        release = read_state(row, Release)
        if release.version != version.key:
            where, remedy = f"release {release.key}", "choose another key for another request"
            raise Conflict(f"this idempotency key began a release of {release.title}", where, remedy)
        return release

    def _roll_back(self, caller: Caller, environment_key: str, reason: str, identity: str | None) -> str:
        environment, expected = self._load(caller, environment_key, Action.ROLL_BACK)
        refuse_retired(self._store, environment.model)
        if environment.rollout is not None:
            order = Order(name=OrderName.ABORT, by=caller.name, reason=reason)
            return self._steer(caller, str(environment.rollout), order, identity)
        frozen = _frozen(environment, caller, reason)
        rollout, writes = go_back(self._store, frozen, expected, reason, PERSON, self._now())
        told = f"rollout {rollout.number} brings {environment_key} back to {rollout.candidate.title}"
        self._store.save(
            *writes,
            audit=[_roll_back_deed(caller, environment, rollout.number, reason)],
            facts=_remember(identity, environment_key, told),
        )
        return told

    def _load(self, caller: Caller, key: str, action: Action) -> tuple[Environment, int]:
        """The environment and the version of its row, for a caller who may do this there."""
        environment, expected = load_state(self._store, Kind.ENVIRONMENT, key, Environment)
        if environment is None:
            raise NotFound(f"there is no environment {key}", remedy="interlock status lists them")
        revision = environment.stable or environment.candidate
        key = f"{revision.model}/{revision.version}" if revision else ""
        version, _ = load_state(self._store, Kind.VERSION, key, ModelVersion)
        if version is not None:
            caller.require(action, repository=version.repository)
        return environment, expected

    def _steer(self, caller: Caller, key: str, order: Order, identity: str | None = None) -> str:
        """The rollout as it is wanted. Aborted, it leaves its environment frozen, as a rollback by hand does."""
        rollout, expected = load_state(self._store, Kind.ROLLOUT, key, Rollout)
        if rollout is None:
            raise NotFound(f"there is no rollout {key}", remedy="interlock status lists them")
        is_aborted = order.name is OrderName.ABORT
        action = {OrderName.ABORT: Action.ROLL_BACK, OrderName.APPROVE: Action.APPROVE}.get(order.name, Action.STEER)
        caller.require(action, environment=rollout.environment)
        environment, environment_expected = self._load(caller, rollout.environment, action)
        if order.name is OrderName.APPROVE:
            version_key = f"{rollout.candidate.model}/{rollout.candidate.version}"
            self._require_approval(caller, version_key, rollout.environment)
        decision = obey(rollout, order)
        observed = {ORDER: order.model_dump(mode="json")}
        because, phase = decision.because, rollout.phase
        writes = [
            write_state(
                Kind.ROLLOUT, key, decision.state, expected=expected, phase=phase, because=because, observed=observed
            )
        ]
        deed = Deed(who=caller.name, action=order.name, thing=f"rollout/{key}", detail={"reason": order.reason})
        if is_aborted:
            frozen = _frozen(environment, caller, order.reason)
            writes.append(write_environment(frozen, environment_expected, environment.because))
            deed = _roll_back_deed(caller, environment, rollout.number, order.reason)
        told = f"rollout {key} of {rollout.candidate.title} is {because}"
        self._store.save(*writes, audit=[deed], facts=_remember(identity, environment.key, told))
        return told


def _require_release(caller: Caller, version: ModelVersion) -> None:
    """A release goes through all of a version's environments, so the caller must be allowed each."""
    caller.require(Action.RELEASE, repository=version.repository)
    for environment in version.deploy:
        caller.require(Action.RELEASE, repository=version.repository, environment=f"{version.model}/{environment.name}")


def _write_release(release: Release, version: ModelVersion, because: str, identity: str | None) -> Write:
    return write_state(
        Kind.RELEASE,
        release.key,
        release,
        expected=0,
        phase=release.phase,
        because=because,
        identity=identity,
        repository=version.repository,
        ref=version.ref,
    )


def _lift_deed(caller: Caller, version: ModelVersion, lifted: Write, reason: str) -> Deed:
    detail: dict[str, Json] = {"digest": lifted.key, "reason": reason}
    return Deed(who=caller.name, action="lift quarantine", thing=f"version/{version.key}", detail=detail)


def _remember(identity: str | None, environment_key: str, told: str) -> list[Fact]:
    """What is kept of a roll back with an idempotency key, in the transaction that does it."""
    return [] if identity is None else [Fact(ROLLED_BACK, identity, [environment_key, told])]


def _frozen(environment: Environment, caller: Caller, reason: str) -> Environment:
    freeze = Freeze(by=caller.name, reason=f"rolled back: {reason}")
    return environment.model_copy(update={"freeze": freeze})


def _roll_back_deed(caller: Caller, environment: Environment, rollout: int, reason: str) -> Deed:
    thing = f"environment/{environment.key}"
    return Deed(who=caller.name, action="roll back", thing=thing, detail={"rollout": rollout, "reason": reason})
