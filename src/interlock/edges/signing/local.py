"""Signatures by a key on this machine, as OpenSSF model signing defines them.

The libraries that make them take half a second to load, and are loaded when the first model is signed or verified.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from interlock.edges.signing.keys import KeyPair
from interlock.errors import SignatureInvalid, SigningFault
from interlock.later import Later
from interlock.vocabulary import Json, canonical

if TYPE_CHECKING:
    from model_signing import hashing, signing, verifying
    from securesystemslib import dsse, signer
else:
    hashing, signing, verifying = map(
        Later, ("model_signing.hashing", "model_signing.signing", "model_signing.verifying")
    )
    dsse, signer = map(Later, ("securesystemslib.dsse", "securesystemslib.signer"))

STATEMENT_TYPE = "application/vnd.in-toto+json"


def _hashing() -> hashing.Config:
    """Every file counts: by default the library passes over those that git would use."""
    config = hashing.Config()  # type: ignore[no-untyped-call]  # its constructor has no annotations
    return config.set_ignored_paths(paths=[], ignore_git_paths=False)


def _signer(private_key: Path) -> signing.Config:
    config = signing.Config()  # type: ignore[no-untyped-call]  # the same
    return config.use_elliptic_key_signer(private_key=private_key).set_hashing_config(_hashing())


def _verifier(public_key: Path) -> verifying.Config:
    config = verifying.Config()  # type: ignore[no-untyped-call]  # the same
    return config.use_elliptic_key_verifier(public_key=public_key).set_hashing_config(_hashing())


class LocalSigning:
    """The port ``Signing`` with the key in ``key_folder``, which is made when it is first needed."""

    def __init__(self, key_folder: str | Path) -> None:
        self._keys = KeyPair(Path(key_folder))

    def public_key(self) -> Path:
        """The file with the public key, for whoever wants to verify with other tools."""
        return self._keys.public_path()

    def sign(self, folder: str) -> bytes:
        """A sigstore bundle over every file of the folder. SigningFault where it cannot be made."""
        signing_key = _signer(self._keys.private_path())
        with tempfile.TemporaryDirectory() as scratch:
            bundle = Path(scratch) / "bundle"
            try:
                signing_key.sign(Path(folder), bundle)
                return bundle.read_bytes()
            except (OSError, ValueError) as problem:
                raise SigningFault(f"{folder} could not be signed: {problem}") from problem

    def verify(self, folder: str, bundle: bytes) -> None:
        """SignatureInvalid where a file differs, is missing or extra, or the signer is another.

        SigningFault where the files could not be read: nothing is known about them then.
        """
        verifier = _verifier(self._keys.public_path())
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "bundle"
            try:
                path.write_bytes(bundle)
                verifier.verify(Path(folder), path)
            except OSError as problem:
                raise SigningFault(f"{folder} could not be verified: {problem}") from problem
            except Exception as problem:  # whatever the library meets in a bundle, it does not hold
                said = str(problem) or type(problem).__name__
                raise SignatureInvalid(f"the signature does not hold over {folder}: {said}") from problem

    def attest(self, statement: dict[str, Json]) -> bytes:
        """A DSSE envelope, as JSON, around an in-toto statement."""
        envelope = dsse.Envelope(canonical(statement), STATEMENT_TYPE, {})
        envelope.sign(signer.CryptoSigner(self._keys.private()))  # type: ignore[attr-defined]  # exported without saying so
        return orjson.dumps(envelope.to_dict())

    def read(self, envelope: bytes) -> dict[str, Json]:
        """The statement in such an envelope. SignatureInvalid where this key did not sign just that."""
        key = signer.SSlibKey.from_crypto(self._keys.private().public_key())  # type: ignore[attr-defined]  # the same
        try:
            signed = dsse.Envelope.from_dict(orjson.loads(envelope))
            signed.verify([key], 1)
            statement = orjson.loads(signed.payload)
        except Exception as problem:  # whatever the library meets in an envelope, it does not hold
            raise SignatureInvalid(f"it is not signed by this installation: {problem}") from problem
        if signed.payload_type != STATEMENT_TYPE or not isinstance(statement, dict):
            raise SignatureInvalid(f"it is no statement, but {signed.payload_type}")
        return statement
