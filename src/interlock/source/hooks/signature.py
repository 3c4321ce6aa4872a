"""Whether a hook call is genuine: made by somebody who knows one of the repository's secrets.

- GitHub: ``x-hub-signature-256``, ``sha256=`` and the HMAC-SHA256 of the body
  (https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries). SHA-1 is no signature here.
- Gitea and Forgejo: ``x-gitea-signature`` or ``x-forgejo-signature``, the same HMAC alone; they send GitHub's as well.
- GitLab: ``webhook-signature`` for a signing token (``whsec_...``): ``v1,`` and the HMAC-SHA256 in base64 of id,
  timestamp and body (https://www.standardwebhooks.com). Else ``x-gitlab-token``, the secret itself.

A call that is sent again is as good as the first: it is a hint to look, so its timestamp is not judged.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from interlock.errors import Unauthenticated
from interlock.source.repository import ForgeKind

SIGNING_TOKEN = b"whsec_"
_HEADERS = MappingProxyType(
    {
        "github": ("x-hub-signature-256",),
        "gitea": ("x-gitea-signature", "x-forgejo-signature", "x-hub-signature-256"),
    }
)


def verify(forge: ForgeKind, headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> None:
    """Nothing, for a genuine call; ``headers`` by lower-case name. Several secrets are valid while they are rotated.

    Unauthenticated for any other, and where there is no secret. Each comparison takes as long whatever is sent.
    """
    keys = [secret for secret in secrets if secret]
    if not keys:
        raise Unauthenticated("this repository has no secret for hooks", "settings", "set one here and at the forge")
    if forge == "gitlab":
        _verify_gitlab(headers, body, keys)
        return
    sent = {name: headers[name] for name in _HEADERS[forge] if name in headers}
    if not sent:
        raise _refuse(_HEADERS[forge][0], "the call is not signed")
    digests = [hmac.digest(key, body, "sha256").hex() for key in keys]
    for name, value in sent.items():
        prefix = "sha256=" if name == "x-hub-signature-256" else ""
        if not _is_one_of(value, [f"{prefix}{digest}".encode() for digest in digests]):
            raise _refuse(name, "the signature is not one of the body with this repository's secret")


def _verify_gitlab(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes]) -> None:
    signing = [key for token in keys if token.startswith(SIGNING_TOKEN) and (key := _signing_key(token))]
    signatures = headers.get("webhook-signature", "").split()
    if signing and signatures:
        signed = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}.".encode() + body
        expected = [b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256")) for key in signing]
        if not any(_is_one_of(signature, expected) for signature in signatures):
            raise _refuse("webhook-signature", "the signature is not one of the body with this repository's token")
        return
    tokens = [key for key in keys if not key.startswith(SIGNING_TOKEN)]
    if not _is_one_of(headers.get("x-gitlab-token", ""), tokens):
        raise _refuse("x-gitlab-token", "the token is not this repository's")


def _signing_key(token: bytes) -> bytes:
    """The key that a signing token carries; nothing where it carries none."""
    try:
        return base64.b64decode(token.removeprefix(SIGNING_TOKEN), validate=True)
    except binascii.Error:
        return b""


def _is_one_of(sent: str, expected: Sequence[bytes]) -> bool:
    """Compares with every one, so that the time taken does not tell which came close."""
    given = sent.encode("latin-1", "replace")  # as headers are read off the wire
    return sum(hmac.compare_digest(given, one) for one in expected) > 0


def _refuse(header: str, problem: str) -> Unauthenticated:
    return Unauthenticated(problem, header, "set the same secret at the forge and here")
