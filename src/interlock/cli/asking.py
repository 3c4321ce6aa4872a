"""What commands ask for, of the server that is there; without one, of the state folder itself."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from pydantic_core import PydanticCustomError

from interlock.access.caller import Role
from interlock.access.tokens import Token
from interlock.cli.front.asking import (
    KeyRequests,
    RetiringRequests,
    ServerKeys,
    ServerRetiring,
    StateKeys,
    StateRetiring,
)
from interlock.cli.reading import shaped
from interlock.control.people import local_caller
from interlock.control.secrets import SecretName
from interlock.errors import Refused
from interlock.pipeline.rules.values import seconds

if TYPE_CHECKING:
    from interlock.app.reading import Reading as StateReading
    from interlock.client.api import Client


class Requests(Protocol):
    """Requests that need no running server. To be used as a context."""

    has_server: bool
    """Whether somebody is there to carry them out now."""
    keys: KeyRequests
    """What is asked of API keys."""
    retiring: RetiringRequests
    """What is asked of models that are to be taken away."""

    def release(self, version: str, lift_because: str | None) -> str:
        """Begins the release of a model version, lifting its quarantine first where a reason is given. Its number."""

    def steer(self, rollout: int, order: str, reason: str, lift_because: str | None) -> str:
        """Pauses, resumes, promotes, aborts or retries a rollout; says what that means.

        To retry it lifts its quarantine first where a reason is given.
        """

    def roll_back(self, environment: str, reason: str) -> str:
        """Brings ``model/environment`` back; says what that means."""

    def freeze(self, environment: str, reason: str, until: float | None) -> str:
        """Lets nothing go forward in ``model/environment`` until then (wall seconds), or until it is unfrozen."""

    def unfreeze(self, environment: str, reason: str) -> str:
        """Lets ``model/environment`` go forward again."""

    def tokens(self) -> list[Token]:
        """All tokens."""

    def create_token(
        self,
        name: str,
        role: Role,
        repositories: Sequence[str],
        environments: Sequence[str],
        expires: float | None,
    ) -> tuple[Token, str]:
        """A new token, and its text, which is never shown again. ``expires``: seconds since 1970."""

    def revoke_token(self, key: str) -> None:
        """The token is good for nothing from now on."""

    def secrets(self, repository: str) -> list[SecretName]:
        """The names of a repository's secrets."""

    def put_secret(self, repository: str, environment: str | None, name: str, value: str) -> str | None:
        """Keeps a secret; one of this name is replaced. Answers a warning about the value, where one is due."""

    def remove_secret(self, repository: str, environment: str | None, name: str) -> None:
        """Forgets a secret."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class StateRequests:
    """Straight to the state folder, as the user of this machine who owns it."""

    has_server = False

    def __init__(self, state: StateReading) -> None:
        self._state = state
        self._caller = local_caller(_person())
        self.keys: KeyRequests = StateKeys(state, self._caller)
        self.retiring: RetiringRequests = StateRetiring(state, self._caller)

    def release(self, version: str, lift_because: str | None) -> str:
        """Begins a release, for the next server to carry out."""
        requests = self._state.requests
        if lift_because:
            requests.lift_quarantine(self._caller, version, lift_because)
        return requests.start_release(self._caller, version, f"{self._caller.name} asked for it").key

    def steer(self, rollout: int, order: str, reason: str, lift_because: str | None) -> str:
        """Steers a rollout, once a server is there."""
        from interlock.delivery.rollout import OrderName

        if order == "retry":
            return _anew(rollout, self._state.requests.retry(self._caller, rollout, reason, lift_because).key)
        return self._state.requests.steer(self._caller, rollout, OrderName(order), reason)

    def roll_back(self, environment: str, reason: str) -> str:
        """Brings an environment back, once a server is there."""
        return self._state.requests.roll_back(self._caller, environment, reason)

    def freeze(self, environment: str, reason: str, until: float | None) -> str:
        """Freezes an environment."""
        return self._state.requests.freeze(self._caller, environment, reason, until)

    def unfreeze(self, environment: str, reason: str) -> str:
        """Unfreezes an environment."""
        return self._state.requests.unfreeze(self._caller, environment, reason)

    def tokens(self) -> list[Token]:
        """All tokens."""
        return self._state.people.tokens(self._caller)

    def create_token(
        self,
        name: str,
        role: Role,
        repositories: Sequence[str],
        environments: Sequence[str],
        expires: float | None,
    ) -> tuple[Token, str]:
        """A new token and its text."""
        return self._state.people.create_token(self._caller, name, role, repositories, environments, expires)

    def revoke_token(self, key: str) -> None:
        """Revokes a token."""
        self._state.people.revoke_token(self._caller, key)

    def secrets(self, repository: str) -> list[SecretName]:
        """The names of a repository's secrets."""
        return self._state.secrets.names(self._caller, repository)

    def put_secret(self, repository: str, environment: str | None, name: str, value: str) -> str | None:
        """Keeps a secret."""
        return self._state.secrets.put(self._caller, repository, environment, name, value)

    def remove_secret(self, repository: str, environment: str | None, name: str) -> None:
        """Forgets a secret."""
        self._state.secrets.remove(self._caller, repository, environment, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._state.close()


def open_state(state: Path) -> StateRequests:
    """What asks a state folder; the store is imported here, because a server is asked without it."""
    from interlock.app.reading import Reading as StateReading

    return StateRequests(StateReading.open(state))


class ServerRequests:
    """Of the server that was named, or that runs on this machine."""

    has_server = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self.keys: KeyRequests = ServerKeys(client)
        self.retiring: RetiringRequests = ServerRetiring(client)

    def release(self, version: str, lift_because: str | None) -> str:
        """Begins a release."""
        if lift_because:
            self._client.deliveries.lift_quarantine(version, lift_because)
        return self._client.deliveries.release(version).key

    def steer(self, rollout: int, order: str, reason: str, lift_because: str | None) -> str:
        """Steers a rollout."""
        if order == "retry":
            return _anew(rollout, self._client.deliveries.retry(rollout, reason, lift_because).key)
        return self._client.deliveries.steer(rollout, order, reason)

    def roll_back(self, environment: str, reason: str) -> str:
        """Brings an environment back."""
        return self._client.environments.roll_back(environment, reason)

    def freeze(self, environment: str, reason: str, until: float | None) -> str:
        """Freezes an environment."""
        return self._client.environments.freeze(environment, reason, until)

    def unfreeze(self, environment: str, reason: str) -> str:
        """Unfreezes an environment."""
        return self._client.environments.unfreeze(environment, reason)

    def tokens(self) -> list[Token]:
        """All tokens."""
        return [shaped(Token, one) for one in self._client.tokens.all()]

    def create_token(
        self,
        name: str,
        role: Role,
        repositories: Sequence[str],
        environments: Sequence[str],
        expires: float | None,
    ) -> tuple[Token, str]:
        """A new token and its text."""
        made, text = self._client.tokens.create(
            name, role, repositories=repositories, environments=environments, expires=expires
        )
        return shaped(Token, made), text

    def revoke_token(self, key: str) -> None:
        """Revokes a token."""
        self._client.tokens.revoke(key)

    def secrets(self, repository: str) -> list[SecretName]:
        """The names of a repository's secrets."""
        return [shaped(SecretName, one) for one in self._client.secrets.names(repository)]

    def put_secret(self, repository: str, environment: str | None, name: str, value: str) -> str | None:
        """Keeps a secret."""
        return self._client.secrets.put(repository, environment, name, value)

    def remove_secret(self, repository: str, environment: str | None, name: str) -> None:
        """Forgets a secret."""
        self._client.secrets.remove(repository, environment, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


def read_moment(text: str, option: str, now: float) -> float:
    """Seconds since 1970 of a moment as people write it: a duration from ``now`` on (12h), or a date with or without
    time, of this machine's time zone where it names none. Refused for anything else.
    """
    try:
        return now + seconds(text)
    except PydanticCustomError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        remedy = "write 12h, 90d, 2027-01-31 or 2027-01-31T18:00+01:00"
        raise Refused(f"{text!r} is no moment", option, remedy) from None


def _anew(rollout: int, release: str) -> str:
    return f"release {release} begins rollout {rollout} anew"


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
