"""Secrets sealed with a key that is kept in a file of this machine."""

from __future__ import annotations

import hashlib
import os
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.errors import Refused, VaultFault
from interlock.later import Later
from interlock.system.files import locked, write_atomically

if TYPE_CHECKING:
    from cryptography import exceptions
    from cryptography.hazmat.primitives.ciphers import aead
else:  # most runs have no secret
    exceptions = Later("cryptography.exceptions")
    aead = Later("cryptography.hazmat.primitives.ciphers.aead")

KEY_NAME = "vault-key"
KEY_BYTES = 32
NONCE_BYTES = 12
FORMAT = "v1"


class LocalVault:
    """The port ``Vault``: AES-256-GCM with the key in ``key_folder``, made (mode 0600) when it is first needed.

    A sealed text is ``v1.KEY.CONTENT``: which key it takes (a fingerprint), and nonce and ciphertext. Whoever has the
    key's file and the database has the secrets; whoever loses the key has lost them.
    """

    def __init__(self, key_folder: str | Path) -> None:
        self._folder = Path(key_folder)
        self._path = self._folder / KEY_NAME

    def seal(self, value: str, bound_to: str) -> str:
        """The encrypted text. Refused where others can read the key; VaultFault where there is no usable one."""
        key = self._key()
        nonce = os.urandom(NONCE_BYTES)
        content = nonce + aead.AESGCM(key).encrypt(nonce, value.encode(), bound_to.encode())
        return f"{FORMAT}.{_fingerprint(key)}.{urlsafe_b64encode(content).decode()}"

    def open(self, sealed: str, bound_to: str) -> str:
        """The value. VaultFault where the key is another, or the text was changed or is bound to something else."""
        key = self._key()
        try:
            version, fingerprint, content = sealed.split(".")
            sealed_bytes = urlsafe_b64decode(content)
        except ValueError as problem:
            raise VaultFault(
                f"the secret {bound_to} is no sealed text: restore it from a backup, or set it again"
            ) from problem
        if (version, fingerprint) != (FORMAT, _fingerprint(key)):
            raise VaultFault(
                f"the secret {bound_to} was sealed with another key ({fingerprint}) than {self._path} "
                f"({_fingerprint(key)}): restore that key's file, or set the secret again"
            )
        try:
            nonce, ciphertext = sealed_bytes[:NONCE_BYTES], sealed_bytes[NONCE_BYTES:]
            return aead.AESGCM(key).decrypt(nonce, ciphertext, bound_to.encode()).decode()
        except (exceptions.InvalidTag, ValueError) as problem:
            raise VaultFault(
                f"the secret {bound_to} was changed, or sealed for something else: restore it from a backup, "
                "or set it again"
            ) from problem

    def _key(self) -> bytes:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._path.exists():
                with locked(self._folder / f"{KEY_NAME}.lock"):
                    if not self._path.exists():
                        write_atomically(self._path, urlsafe_b64encode(os.urandom(KEY_BYTES)) + b"\n", mode=0o600)
            mode = stat.S_IMODE(self._path.stat().st_mode)
            key = urlsafe_b64decode(self._path.read_bytes())
        except (OSError, ValueError) as problem:
            raise VaultFault(f"the vault's key cannot be read from {self._path}: {problem}") from problem
        if mode & 0o077:
            remedy = "chmod 600 it, and change the secrets if somebody may have read it"
            raise Refused(f"others can read or change the vault's key (mode {mode:o})", str(self._path), remedy)
        if len(key) != KEY_BYTES:
            raise VaultFault(f"{self._path} holds no key of {KEY_BYTES} bytes: restore it from a backup")
        return key


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(b"interlock vault key" + key).hexdigest()[:8]
