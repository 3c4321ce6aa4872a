"""Taking a model away: the front answers that it is gone, its replicas are freed, and all that is known of it stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from interlock.access.audit import Deed
from interlock.access.caller import Action, Caller
from interlock.access.recent import RecentCaller, recent_callers
from interlock.control.rows import load_state, read_state, write_environment
from interlock.delivery.environment import Environment
from interlock.delivery.holding import Retirement, retired_because
from interlock.errors import NotFound, Refused, StaleWrite
from interlock.ports import Store
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Json, Kind

TRIES = 5
"""How often it is tried again when the loop saves the same rows at the same moment."""


class Retiring:
    """Retires and restores models, each in all its environments at once.

    ``front_log`` answers the lines that the front keeps of requests; ``ring`` wakes the loop.
    """

    def __init__(
        self,
        store: Store,
        now: Callable[[], float],
        front_log: Callable[[], Iterable[Mapping[str, Json]]],
        ring: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._now = now
        self._front_log = front_log
        self._ring = ring

    def callers(self, caller: Caller, model: str) -> list[RecentCaller]:
        """Who asked the model lately, as far as the front's log says. NotFound where it is in no environment."""
        self._environments(caller, model)
        return recent_callers(self._front_log(), model)

    def retire(self, caller: Caller, model: str, reason: str) -> str:
        """From now on nothing of the model serves, and no release brings it in. Says so.

        Refused while a rollout is under way, and where it is retired already.
        """
        retirement = Retirement(by=caller.name, reason=reason, at=self._now())
        return self._set(caller, model, retirement, reason)

    def restore(self, caller: Caller, model: str, reason: str) -> str:
        """The model serves again what it served when it was retired. Says so; Refused where it is not retired."""
        return self._set(caller, model, None, reason)

    def _set(self, caller: Caller, model: str, retirement: Retirement | None, reason: str) -> str:
        for _ in range(TRIES):
            found = self._environments(caller, model)
            changing = [one for one in found if (one[0].retirement is None) is (retirement is not None)]
            if not changing:
                told = "it is retired already" if retirement else "it is not retired"
                raise Refused(told, model, "nothing is to be done")
            _refuse_under_way(environment for environment, _ in changing)
            done = "retire" if retirement else "restore"
            because = f"{done}d by {caller.name}: {reason}"
            update = {"retirement": retirement, "because": because, "trouble": "", "is_dead": False}
            writes = [
                write_environment(environment.model_copy(update=update), expected, because)
                for environment, expected in changing
            ]
            names = ", ".join(environment.key for environment, _ in changing)
            deed = Deed(who=caller.name, action=done, thing=f"model/{model}", detail={"reason": reason})
            try:
                self._store.save(*writes, audit=[deed])
            except StaleWrite:
                continue
            self._ring()
            return f"{model} is {done}d in {names}"
        raise StaleWrite(f"{model} is moved by others all the time")

    def _environments(self, caller: Caller, model: str) -> list[tuple[Environment, int]]:
        """The model's environments and the versions of their rows, for a caller who may do this in each."""
        caller.require(Action.RETIRE)
        rows = self._store.rows(Kind.ENVIRONMENT, prefix=f"{model}/")
        if not rows:
            raise NotFound(f"there is no environment of {model}", remedy="interlock status lists them")
        first, _ = load_state(self._store, Kind.VERSION, f"{model}/1", ModelVersion)
        for row in rows:
            caller.require(Action.RETIRE, repository=first.repository if first else None, environment=row.key)
        return [(read_state(row, Environment), row.version) for row in rows]


def why_retired(store: Store, model: str) -> str | None:
    """Who retired the model and why; None where nobody did."""
    environments = (read_state(row, Environment) for row in store.rows(Kind.ENVIRONMENT, prefix=f"{model}/"))
    return next((retired_because(one.retirement) for one in environments if one.retirement), None)


def refuse_retired(store: Store, model: str) -> None:
    """Refused where the model is retired: to bring it back is a decision of its own."""
    because = why_retired(store, model)
    if because is not None:
        raise Refused(f"{model} is {because}", model, f"interlock models restore {model} --reason TEXT, then again")


def _refuse_under_way(environments: Iterable[Environment]) -> None:
    for environment in environments:
        if environment.rollout is not None:
            remedy = f"wait for its end, or: interlock rollout abort {environment.rollout} --reason TEXT"
            raise Refused(f"rollout {environment.rollout} is under way", environment.key, remedy)
