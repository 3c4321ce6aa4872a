"""API keys: what a program shows to be answered by models at the front. Only a key's digest is ever stored."""

from __future__ import annotations

from interlock.access.tokens import CLOCK_TOLERANCE
from interlock.vocabulary import Stored

KEY_PREFIX = "ilm_"
"""Every API key begins with it, so that one that was left somewhere is recognised, and told from a token."""


class ApiKey(Stored):
    """One API key, without its text. Times are seconds of wall time; no ``expires``: it holds until it is revoked.

    ``models`` are ``model`` or ``model/environment``; none means all. A tester may say which revision answers.
    """

    key: str
    name: str
    models: tuple[str, ...] = ()
    is_tester: bool = False
    created: float
    expires: float | None = None
    revoked: float | None = None


class Grant(Stored):
    """What the front knows of a key that holds. ``digest`` is the SHA-256 of its text, ``until`` in wall seconds."""

    digest: str
    name: str
    models: tuple[str, ...] = ()
    is_tester: bool = False
    until: float | None = None

    def is_for(self, model: str, environment_name: str) -> bool:
        """Whether it opens this model there."""
        return not self.models or model in self.models or f"{model}/{environment_name}" in self.models


def holds(key: ApiKey, now: float) -> bool:
    """Whether the key is good at this moment."""
    return key.revoked is None and (key.expires is None or now <= key.expires + CLOCK_TOLERANCE)


def grant(key: ApiKey, digest: str) -> Grant:
    """What the front is told of a key."""
    until = None if key.expires is None else key.expires + CLOCK_TOLERANCE
    return Grant(digest=digest, name=key.name, models=key.models, is_tester=key.is_tester, until=until)
