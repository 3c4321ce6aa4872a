"""What commands ask for of the front, of the server that is there or of the state folder itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from interlock.access.keys import ApiKey
from interlock.access.recent import RecentCaller
from interlock.cli.reading import shaped

if TYPE_CHECKING:
    from interlock.access.caller import Caller
    from interlock.app.reading import Reading as StateReading
    from interlock.client.api import Client


class KeyRequests(Protocol):
    """API keys: made, listed and ended."""

    def all(self) -> list[ApiKey]:
        """All of them."""

    def create(self, name: str, models: Sequence[str], is_tester: bool, expires: float | None) -> tuple[ApiKey, str]:
        """A new key, and its text, which is never shown again. ``expires``: seconds since 1970."""

    def revoke(self, key: str) -> None:
        """The key opens nothing from now on."""


class StateKeys:
    """Straight to the state folder; the front hears of it from the next server."""

    def __init__(self, state: StateReading, caller: Caller) -> None:
        self._keys = state.keys
        self._caller = caller

    def all(self) -> list[ApiKey]:
        """All of them."""
        return self._keys.keys(self._caller)

    def create(self, name: str, models: Sequence[str], is_tester: bool, expires: float | None) -> tuple[ApiKey, str]:
        """A new key and its text."""
        return self._keys.create(self._caller, name, models, is_tester=is_tester, expires=expires)

    def revoke(self, key: str) -> None:
        """Ends a key."""
        self._keys.revoke(self._caller, key)


class ServerKeys:
    """Of the server that was named, or that runs on this machine."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def all(self) -> list[ApiKey]:
        """All of them."""
        return [shaped(ApiKey, one) for one in self._client.keys.all()]

    def create(self, name: str, models: Sequence[str], is_tester: bool, expires: float | None) -> tuple[ApiKey, str]:
        """A new key and its text."""
        made, text = self._client.keys.create(name, models, is_tester=is_tester, expires=expires)
        return shaped(ApiKey, made), text

    def revoke(self, key: str) -> None:
        """Ends a key."""
        self._client.keys.revoke(key)


class RetiringRequests(Protocol):
    """Models: who asks them, and whether they are there at all."""

    def callers(self, model: str) -> list[RecentCaller]:
        """Who asked it lately."""

    def retire(self, model: str, reason: str) -> str:
        """Takes it away; says what that means."""

    def restore(self, model: str, reason: str) -> str:
        """Brings it back; says what that means."""


class StateRetiring:
    """Straight to the state folder; the next server carries it out."""

    def __init__(self, state: StateReading, caller: Caller) -> None:
        self._retiring = state.retiring
        self._caller = caller

    def callers(self, model: str) -> list[RecentCaller]:
        """Who asked it lately."""
        return self._retiring.callers(self._caller, model)

    def retire(self, model: str, reason: str) -> str:
        """Takes it away."""
        return self._retiring.retire(self._caller, model, reason)

    def restore(self, model: str, reason: str) -> str:
        """Brings it back."""
        return self._retiring.restore(self._caller, model, reason)


class ServerRetiring:
    """Of the server that was named, or that runs on this machine."""

    def __init__(self, client: Client) -> None:
        self._models = client.models

    def callers(self, model: str) -> list[RecentCaller]:
        """Who asked it lately."""
        return [shaped(RecentCaller, one) for one in self._models.callers(model)]

    def retire(self, model: str, reason: str) -> str:
        """Takes it away."""
        return self._models.retire(model, reason)

    def restore(self, model: str, reason: str) -> str:
        """Brings it back."""
        return self._models.restore(model, reason)
