"""API keys in the store: made, listed and ended by people; what holds of them is what the front is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from secrets import token_bytes

from interlock.access.audit import Deed
from interlock.access.caller import Action, Caller
from interlock.access.keys import KEY_PREFIX, ApiKey, Grant, grant, holds
from interlock.access.tokens import RANDOM_BYTES, token_digest, token_text
from interlock.control.people import LONGEST_NAME, REVOKED, VALID
from interlock.control.rows import load_state, read_state, write_state
from interlock.errors import Conflict, Forbidden, NotFound, Refused, StaleWrite
from interlock.ports import Store
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Kind

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
"""It is a header's value, and a word in lists."""
PLACE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(/[a-z0-9][a-z0-9_-]{0,62})?")


class Keys:
    """API keys in the store. A key's text is answered once, when it is made, and kept nowhere.

    ``ring`` wakes whoever tells the front.
    """

    def __init__(self, store: Store, now: Callable[[], float], ring: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._now = now
        self._ring = ring

    def create(
        self,
        caller: Caller,
        name: str,
        models: Sequence[str] = (),
        *,
        is_tester: bool = False,
        expires: float | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its text. ``models`` are ``model`` or ``model/environment``, none: all.

        ``expires`` in wall time. Forbidden for more than the caller may operate; Conflict where a key that holds has
        the name.
        """
        self._require(caller, models)
        _check(name, models)
        now = self._now()
        if expires is not None and expires <= now:
            raise Refused("the key would have expired already", name, "name a time to come, or none")
        if any(key.name == name and holds(key, now) for key in self._all()):
            raise Conflict("a key that holds has this name", name, "choose another name, or revoke that key")
        text = token_text(token_bytes(RANDOM_BYTES), KEY_PREFIX)
        number = str(self._store.number(Kind.API_KEY))
        key = ApiKey(key=number, name=name, models=tuple(models), is_tester=is_tester, created=now, expires=expires)
        write = write_state(
            Kind.API_KEY,
            number,
            key,
            expected=0,
            phase=VALID,
            because=f"made by {caller.name} for {name}",
            identity=token_digest(text),
        )
        detail = key.model_dump(mode="json", include={"name", "models", "is_tester", "expires"})
        self._store.save(
            write, audit=[Deed(who=caller.name, action="create key", thing=f"key/{number}", detail=detail)]
        )
        self._ring()
        return key, text

    def revoke(self, caller: Caller, number: str) -> ApiKey:
        """From now on the key opens nothing; a second call changes nothing. NotFound where there is none."""
        while True:
            key, expected = load_state(self._store, Kind.API_KEY, number, ApiKey)
            if key is None:
                raise NotFound(f"there is no API key {number}", remedy="interlock key list shows them")
            self._require(caller, key.models)
            if key.revoked is not None:
                return key
            revoked = key.model_copy(update={"revoked": self._now()})
            because = f"revoked by {caller.name}"
            write = write_state(Kind.API_KEY, number, revoked, expected=expected, phase=REVOKED, because=because)
            deed = Deed(who=caller.name, action="revoke key", thing=f"key/{number}", detail={"name": key.name})
            try:
                self._store.save(write, audit=[deed])
            except StaleWrite:
                continue
            self._ring()
            return revoked

    def keys(self, caller: Caller) -> list[ApiKey]:
        """Every key that the caller could have made, in order of creation; revoked ones too."""
        caller.require(Action.MANAGE_KEYS)
        return [key for key in self._all() if self._may(caller, key.models)]

    def _all(self) -> list[ApiKey]:
        return [read_state(row, ApiKey) for row in self._store.rows(Kind.API_KEY)]

    def _require(self, caller: Caller, models: Sequence[str]) -> None:
        caller.require(Action.MANAGE_KEYS)
        if not self._may(caller, models):
            scope = ", ".join(caller.repositories + caller.environments)
            asked = ", ".join(models) or "all models"
            raise Forbidden(f"{caller.name} may not make keys for more than {scope}", asked, "ask an operator of it")

    def _may(self, caller: Caller, models: Sequence[str]) -> bool:
        if caller.environments and not (models and set(models) <= set(caller.environments)):
            return False
        return not caller.repositories or (
            bool(models) and all(self._owner(one) in caller.repositories for one in models)
        )

    def _owner(self, place: str) -> str | None:
        """The repository that a model's name belongs to."""
        first, _ = load_state(self._store, Kind.VERSION, f"{place.partition('/')[0]}/1", ModelVersion)
        return first.repository if first else None


def granted(store: Store) -> list[Grant]:
    """What the front shall know: every key that was not revoked. When one expires the front sees by itself."""
    rows = store.rows(Kind.API_KEY, phases=(VALID,))
    return [grant(read_state(row, ApiKey), row.identity) for row in rows if row.identity is not None]


def _check(name: str, models: Sequence[str]) -> None:
    if len(name) > LONGEST_NAME or not NAME.fullmatch(name):
        told = "a key's name is 1 to 100 letters, digits, and any of . _ @ -"
        raise Refused(told, repr(name), "name the program that will use it")
    odd = [one for one in models if not PLACE.fullmatch(one)]
    if odd:
        raise Refused(f"{odd[0]!r} is no model", name, "write MODEL or MODEL/ENVIRONMENT, as flights/production")
