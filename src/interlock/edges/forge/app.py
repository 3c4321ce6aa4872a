"""Tokens of a GitHub App's installation, made from its private key."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from datetime import datetime

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from interlock.edges.forge.comments import field
from interlock.edges.forge.github import github_headers
from interlock.edges.forge.wire import Wire
from interlock.errors import ForgeFault, Refused
from interlock.vocabulary import Json, canonical

CLOCK_SKEW = 60.0
"""Seconds by which this machine's clock may be ahead of GitHub's."""
JWT_SECONDS = 540.0
"""GitHub takes ten minutes at most, counted by its own clock."""
TOKEN_SECONDS = 3600.0
"""How long GitHub lets an installation's token live."""


class GitHubApp:
    """Answers a token of the installation, a new one shortly before the last expires. ``now`` is wall time.

    ``key_pem`` is the app's private key as GitHub gave it.
    """

    def __init__(
        self, api: str, app_id: int | str, installation_id: int | str, key_pem: str | bytes, now: Callable[[], float]
    ) -> None:
        self._app_id = str(app_id)
        self._path = f"/app/installations/{installation_id}/access_tokens"
        self._key = _read_key(key_pem)
        self._now = now
        self._wire = Wire(api, self._make_jwt, github_headers)
        self._turn = threading.Lock()
        self._token = ""
        self._until = 0.0

    def __call__(self) -> str:
        """The token. ForgeFault or Refused where GitHub gives none."""
        with self._turn:
            if self._now() >= self._until:
                document = self._wire.ask("POST", self._path).document
                self._until = self._now() + _lifetime(field(document, "expires_at", str), self._now())
                self._token = field(document, "token", str)
            return self._token

    def _make_jwt(self) -> str:
        """A JSON Web Token signed by RS256 (RFC 7519, RFC 7518 section 3.3)."""
        now = int(self._now())
        claims: dict[str, Json] = {
            "iat": now - int(CLOCK_SKEW),
            "exp": now + int(JWT_SECONDS - CLOCK_SKEW),
            "iss": self._app_id,
        }
        signed = b".".join((_encode(canonical({"alg": "RS256", "typ": "JWT"})), _encode(canonical(claims))))
        return b".".join((signed, _encode(self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())))).decode()


def _lifetime(expires_at: str, now: float) -> float:
    """Seconds for which the token is used: never beyond what GitHub gives, and never beyond what it says."""
    try:
        says = datetime.fromisoformat(expires_at).timestamp() - now
    except ValueError as problem:
        raise ForgeFault("GitHub gave a token without saying until when") from problem
    return min(says, TOKEN_SECONDS) - 2 * CLOCK_SKEW


def _read_key(key_pem: str | bytes) -> rsa.RSAPrivateKey:
    content = key_pem.encode() if isinstance(key_pem, str) else key_pem
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        key = None  # what the library says of it could hold parts of the key
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Refused("it is no private RSA key in PEM", "the app's key", "download one from the app's settings")
    return key


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
