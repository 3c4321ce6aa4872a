"""The signing key: made once, kept where only its owner can read it."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from interlock.errors import Refused, SigningFault
from interlock.system.files import locked, write_atomically


class KeyPair:
    """An EC P-256 key in a folder: ``signing-key.pem`` and beside it ``signing-key.pub.pem``, both of mode 0600."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._private = folder / "signing-key.pem"
        self._public = folder / "signing-key.pub.pem"

    def private(self) -> ec.EllipticCurvePrivateKey:
        """The private key, made at the first call.

        Refused where others than its owner can read it; SigningFault where its file holds no key of this kind.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self._folder / "signing-key.lock"):
                if not self._private.exists():
                    write_atomically(self._private, _make(), mode=0o600)
            self._refuse_an_open_file()
            key = serialization.load_pem_private_key(self._private.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as problem:
            raise SigningFault(f"there is no usable key in {self._private}: {problem}") from problem
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SigningFault(f"{self._private} holds a key of another kind")
        return key

    def _refuse_an_open_file(self) -> None:
        mode = stat.S_IMODE(self._private.stat().st_mode)
        if mode & 0o077:
            raise Refused(
                f"others can read or change the signing key (mode {mode:o})",
                where=str(self._private),
                remedy="chmod 600 it, or remove it and have a new one made if somebody may have read it",
            )

    def private_path(self) -> Path:
        """The private key's file, for tools that read it themselves; checked as by ``private``."""
        self.private()
        return self._private

    def public_path(self) -> Path:
        """The public key's file, always that of the private key."""
        content = (
            self.private()
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        try:
            if not self._public.is_file() or self._public.read_bytes() != content:
                write_atomically(self._public, content, mode=0o600)
        except OSError as problem:
            raise SigningFault(f"the public key could not be written: {problem}") from problem
        return self._public


def _make() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
