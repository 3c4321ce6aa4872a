"""Who may see what. A token for one repository sees nothing of another, wherever it is mentioned."""

from __future__ import annotations

from interlock.access.caller import Action, Caller
from interlock.errors import Forbidden
from interlock.ports import Store
from interlock.vocabulary import Event, Kind, Row

OF_ENVIRONMENTS = (Kind.ROLLOUT, Kind.MONITOR, Kind.ALERT, Kind.REVERT)
"""Kinds of which each row belongs to the environment that its state names."""
NEEDED = {Kind.TOKEN: Action.MANAGE_TOKENS, Kind.SECRET: Action.MANAGE_SECRETS, Kind.API_KEY: Action.MANAGE_KEYS}
"""What it takes to see rows of a kind, where more than reading."""
REVISIONS = ("stable", "candidate")
"""Of an environment or rollout: whose model serves, else whose is to. Another repository may use the model's name."""


def may_see(store: Store, caller: Caller, row: Row) -> bool:
    """Whether the caller may see the row."""
    repository = repository_of(store, row) if caller.repositories else None
    if caller.repositories and repository is None:
        return False
    action = NEEDED.get(row.kind, Action.READ)
    return caller.may(action, repository=repository, environment=_environment_of(row))


def require_sight(store: Store, caller: Caller, row: Row) -> None:
    """Forbidden unless the caller may see the row."""
    if not may_see(store, caller, row):
        raise Forbidden(f"{caller.name} may not see it", f"{row.kind} {row.key}", "use a token that is for it")


class EventSight:
    """Which events a caller may see; what was found out of a row is remembered as long as this value."""

    def __init__(self, store: Store, caller: Caller) -> None:
        self._store = store
        self._caller = caller
        self._known: dict[tuple[Kind, str], bool] = {}

    def may_see(self, event: Event) -> bool:
        """Whether the caller may see the event, which is of a row that may be gone."""
        thing = (event.kind, event.key)
        if thing not in self._known:
            self._known[thing] = self._look(event)
        return self._known[thing]

    def _look(self, event: Event) -> bool:
        if not self._caller.repositories and not self._caller.environments:
            return self._caller.may(NEEDED.get(event.kind, Action.READ))
        row = self._store.load(event.kind, event.key)
        return row is not None and may_see(self._store, self._caller, row)


def repository_of(store: Store, row: Row) -> str | None:
    """The repository a row belongs to; None where that cannot be told."""
    if row.repository is not None:
        return row.repository
    match row.kind:
        case Kind.REPOSITORY:
            return row.key
        case Kind.RUN:
            commit = row.state.get("commit")
            return str(commit.get("repository")) if isinstance(commit, dict) else None
        case Kind.VERSION:
            return str(row.state.get("repository"))
        case Kind.ATTEMPT:
            return _of(store, store.load(Kind.RUN, row.key.partition("/")[0]))
        case Kind.RELEASE:
            return _of(store, store.load(Kind.VERSION, str(row.state.get("version"))))
        case Kind.ROLLOUT | Kind.ENVIRONMENT:
            revision = next((held for name in REVISIONS if isinstance(held := row.state.get(name), dict)), {})
            return _of(store, store.load(Kind.VERSION, f"{revision.get('model')}/{revision.get('version')}"))
        case _:
            return None


def _of(store: Store, row: Row | None) -> str | None:
    return None if row is None else repository_of(store, row)


def _environment_of(row: Row) -> str | None:
    if row.kind is Kind.ENVIRONMENT:
        return row.key
    return str(row.state.get("environment")) if row.kind in OF_ENVIRONMENTS else None
