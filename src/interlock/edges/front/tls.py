"""TLS at the front: a certificate and its key, read and checked before the proxy hears of them.

The proxy is given the pair itself, not the names of its files: what it starts from is always a pair that was good, also
while a renewal is half written.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from interlock.errors import Refused
from interlock.later import Later

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
else:  # only where a front has a certificate
    x509 = Later("cryptography.x509")
    serialization = Later("cryptography.hazmat.primitives.serialization")

Document: TypeAlias = dict[str, Any]
_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


class Certificate(NamedTuple):
    """A certificate chain and its private key, as PEM files."""

    chain: Path
    key: Path

    def secret(self, name: str, now: float) -> Document:
        """The pair as the proxy takes it, under this name. ``now`` in wall seconds.

        Refused where a file cannot be read or is none, the key is another's, or the certificate does not hold now.
        """
        chain, key = _read(self.chain), _read(self.key)
        try:
            certificate = x509.load_pem_x509_certificates(chain)[0]
        except ValueError as problem:
            raise Refused(
                f"it is no certificate: {problem}", str(self.chain), "name a PEM file of a chain"
            ) from problem
        try:
            private = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError) as problem:
            told = f"it is no private key that can be used: {problem}"
            raise Refused(told, str(self.key), "name a PEM file of a key without a passphrase") from problem
        if certificate.public_key() != private.public_key():
            told = f"the private key in {self.key} is not that of the certificate"
            raise Refused(told, str(self.chain), "name the two files of one pair")
        if not certificate.not_valid_before_utc.timestamp() <= now <= certificate.not_valid_after_utc.timestamp():
            since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            told = f"the certificate holds from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"
            moment = datetime.fromtimestamp(now, UTC)
            raise Refused(f"{told}, and now is {moment:%Y-%m-%d %H:%M}", str(self.chain), "renew it")
        pair = {"certificate_chain": _inline(chain), "private_key": _inline(key)}
        return {"@type": f"{_TYPE}.Secret", "name": name, "tls_certificate": pair}


def transport_socket(name: str, source: Document) -> Document:
    """TLS 1.2 or newer with the pair of this name, which comes, and comes anew, from ``source``."""
    pair = {"name": name, "sds_config": source}
    context = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [pair],
    }
    typed = {"@type": f"{_TYPE}.DownstreamTlsContext", "common_tls_context": context}
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise Refused(f"it cannot be read: {problem.strerror}", str(path), "name a PEM file") from problem


def _inline(content: bytes) -> Document:
    return {"inline_string": content.decode("ascii")}
