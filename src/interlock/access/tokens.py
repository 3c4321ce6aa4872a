"""Tokens: what a person or program shows to be known. Only a token's digest is ever stored."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode

from interlock.access.caller import Caller, Role
from interlock.vocabulary import Stored

PREFIX = "ilk_"
"""Every token begins with it, so that one that was left somewhere is recognised."""
RANDOM_BYTES = 32
CLOCK_TOLERANCE = 60.0
"""Seconds by which clocks may differ before an expiry counts."""


class Token(Stored):
    """One token, without its text. Times are seconds of wall time; no ``expires``: it holds until it is revoked.

    ``repositories`` and ``environments`` as of a Caller: none means all.
    """

    key: str
    name: str
    role: Role
    repositories: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    created: float
    expires: float | None = None
    last_used: float | None = None
    revoked: float | None = None

    @property
    def caller(self) -> Caller:
        """Who shows it."""
        return Caller(name=self.name, role=self.role, repositories=self.repositories, environments=self.environments)


def why_invalid(token: Token, now: float) -> str | None:
    """Why the token is not good at this moment; None where it is."""
    if token.revoked is not None:
        return "the token was revoked"
    if token.expires is not None and now > token.expires + CLOCK_TOLERANCE:
        return "the token has expired"
    return None


def is_valid(token: Token, now: float) -> bool:
    """Whether the token is good at this moment."""
    return why_invalid(token, now) is None


def token_text(random: bytes, prefix: str = PREFIX) -> str:
    """The text of a new token, or of an API key with its own prefix, from 32 random bytes."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a token takes {RANDOM_BYTES} random bytes, not {len(random)}")
    return prefix + urlsafe_b64encode(random).rstrip(b"=").decode()


def token_digest(text: str) -> str:
    """What is stored of a token. It is as random as the token itself, so a plain SHA-256 cannot be guessed back."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
