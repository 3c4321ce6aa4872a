"""Secrets: kept sealed, told by name only, and opened for the one stage that is trusted with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from interlock.access.audit import Deed
from interlock.access.caller import Action, Caller
from interlock.access.forms import SHORTEST, warning_about
from interlock.control.rows import read_state, write_state
from interlock.errors import AlreadyExists, Conflict, NotFound, Refused, SeveralRefused, StaleWrite
from interlock.ports import Store, Vault
from interlock.vocabulary import Kind, Row, Stored

KEPT, REMOVED = "kept", "removed"
NAME = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
ENVIRONMENT = re.compile(r"[^/\s]+/[^/\s]+")
LONGEST = 16 * 1024
"""Bytes of a value."""
RESERVED = re.compile(
    r"PATH|HOME|LANG|TZ|IFS|ENV|VIRTUAL_ENV|(LD|PYTHON|INTERLOCK|BASH)_?[A-Z0-9_]*|[A-Z]+_(NUM|MAXIMUM)_THREADS"
)
"""Variables by which a stage finds its programs, or that Interlock sets."""


class SecretName(Stored):
    """A secret without its value. ``environment`` is ``model/environment``, None for the whole repository.

    ``updated`` is seconds of wall time; ``by`` who set it last.
    """

    repository: str
    environment: str | None = None
    name: str
    updated: float
    by: str


class Secret(Stored):
    """A secret as it is stored; ``sealed`` is empty once it was removed."""

    repository: str
    environment: str
    name: str
    updated: float
    by: str
    sealed: str

    @property
    def key(self) -> str:
        """Its key in the store, to which its value is bound."""
        return key_of(self.repository, self.environment, self.name)


def key_of(repository: str, environment: str, name: str) -> str:
    """``repository//NAME``, or ``repository/model/environment/NAME``: no repository's name holds a slash."""
    return f"{repository}/{environment}/{name}"


class Secrets:
    """Secrets in the store, sealed by a vault."""

    def __init__(self, store: Store, vault: Vault, now: Callable[[], float]) -> None:
        self._store = store
        self._vault = vault
        self._now = now

    def put(self, caller: Caller, repository: str, environment: str | None, name: str, value: str) -> str | None:
        """Sets a secret of a repository, or of one ``model/environment`` of it; answers a warning about the value.

        Refused for a value that is too short to be masked or cannot be a variable's.
        """
        place = environment or None
        caller.require(Action.MANAGE_SECRETS, repository=repository, environment=place)
        _check(repository, environment or "", name, value)
        key = key_of(repository, environment or "", name)
        secret = Secret(
            repository=repository,
            environment=environment or "",
            name=name,
            updated=self._now(),
            by=caller.name,
            sealed=self._vault.seal(value, key),
        )
        self._save(secret, KEPT, self._store.load(Kind.SECRET, key), "set")
        return warning_about(value)

    def remove(self, caller: Caller, repository: str, environment: str | None, name: str) -> None:
        """Forgets the value of a secret. NotFound where there is none."""
        caller.require(Action.MANAGE_SECRETS, repository=repository, environment=environment or None)
        key = key_of(repository, environment or "", name)
        row = self._store.load(Kind.SECRET, key)
        if row is None or row.phase != KEPT:
            raise NotFound(f"there is no secret {name}", environment or repository, "interlock secret list shows them")
        gone = {"sealed": "", "by": caller.name, "updated": self._now()}
        secret = read_state(row, Secret).model_copy(update=gone)
        self._save(secret, REMOVED, row, "remove")

    def names(self, caller: Caller, repository: str) -> list[SecretName]:
        """The secrets of a repository that the caller may set, by name."""
        caller.require(Action.MANAGE_SECRETS, repository=repository)
        found = []
        for row in self._store.rows(Kind.SECRET, phases=[KEPT], repository=repository):
            secret = read_state(row, Secret)
            place = secret.environment or None
            if caller.may(Action.MANAGE_SECRETS, repository=repository, environment=place):
                found.append(
                    SecretName(
                        repository=repository, environment=place, name=secret.name, updated=secret.updated, by=secret.by
                    )
                )
        return sorted(found, key=lambda one: (one.environment or "", one.name))

    def values(self, secrets_of: str, names: Sequence[str]) -> dict[str, str]:
        """Values by name for a stage. ``secrets_of`` is ``repository`` or ``repository/model/environment``.

        An environment's own secret goes before its repository's. Refused, all at once, for those that are not there;
        VaultFault where one cannot be opened. That they were given is written into the audit log, by name.
        """
        repository, _, environment = secrets_of.partition("/")
        kept = {name: self._kept(repository, environment, name) for name in dict.fromkeys(names)}
        missing = [_missing(name, repository) for name, secret in kept.items() if secret is None]
        if missing:
            raise missing[0] if len(missing) == 1 else SeveralRefused(missing)
        found = [secret for secret in kept.values() if secret is not None]
        values = {secret.name: self._vault.open(secret.sealed, secret.key) for secret in found}
        detail = {"names": sorted(values)}
        if values:
            self._store.save(audit=[Deed(who="interlock", action="give secrets", thing=secrets_of, detail=detail)])
        return values

    def _kept(self, repository: str, environment: str, name: str) -> Secret | None:
        for place in dict.fromkeys((environment, "")):
            row = self._store.load(Kind.SECRET, key_of(repository, place, name))
            if row is not None and row.phase == KEPT:
                return read_state(row, Secret)
        return None

    def _save(self, secret: Secret, phase: str, row: Row | None, deed: str) -> None:
        write = write_state(
            Kind.SECRET,
            secret.key,
            secret,
            expected=row.version if row else 0,
            phase=phase,
            because=f"{deed} by {secret.by}",
            repository=secret.repository,
        )
        told = Deed(who=secret.by, action=f"{deed} secret", thing=f"secret/{secret.key}")
        try:
            self._store.save(write, audit=[told])
        except (StaleWrite, AlreadyExists) as raced:
            raise Conflict("somebody else changed this secret just now", secret.key, "look, and try again") from raced


def _missing(name: str, repository: str) -> Refused:
    return NotFound(f"there is no secret {name}", f"secrets of {repository}", "set it: interlock secret set")


def _check(repository: str, environment: str, name: str, value: str) -> None:
    if not repository or "/" in repository:
        raise Refused("a repository with secrets has a name without a slash", repository, "rename it in server.yaml")
    if environment and not ENVIRONMENT.fullmatch(environment):
        raise Refused("an environment is named MODEL/ENVIRONMENT", environment, "write flights/production")
    if not NAME.fullmatch(name) or RESERVED.fullmatch(name):
        problem = "this is no name of a secret: capital letters, digits and _, and no variable that programs depend on"
        raise Refused(problem, name, "write something like API_TOKEN")
    if len(value) < SHORTEST or len(value.strip()) < SHORTEST:
        raise Refused(
            f"a secret has at least {SHORTEST} characters: a shorter one cannot be masked", name, "lengthen it"
        )
    if len(value.encode("utf-8", "replace")) > LONGEST:
        raise Refused(f"a secret has at most {LONGEST // 1024} KiB", name, "keep the file elsewhere, and its key here")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Refused("the value is no text that a variable can hold", name, "encode it, with base64 for example")
