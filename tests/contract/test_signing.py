"""A signature holds over exactly the files that were signed, by exactly the key that signed them."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from interlock.edges.signing import LocalSigning
from interlock.errors import Refused, SignatureInvalid, SigningFault
from interlock.vocabulary import Json

STATEMENT: dict[str, Json] = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "flights v3", "digest": {"blake3": "00"}}],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {"by": "Zoë", "numbers": [1, 2.5]},
}


@pytest.fixture
def signing(tmp_path: Path) -> LocalSigning:
    return LocalSigning(tmp_path / "keys")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights.skops").write_bytes(bytes(range(256)) * 1000)
    (folder / "deep" / "words.txt").write_text("words")
    (folder / "empty").touch()
    return folder


def link_out(model: Path) -> None:
    (model / "deep" / "words.txt").rename(model.parent / "words.txt")
    (model / "deep" / "words.txt").symlink_to("../../words.txt")


def swap(model: Path) -> None:
    (model / "deep" / "words.txt").rename(model / "aside")
    (model / "empty").rename(model / "deep" / "words.txt")
    (model / "aside").rename(model / "empty")


def flip_a_bit(model: Path) -> None:
    content = bytearray((model / "weights.skops").read_bytes())
    content[1234] ^= 1
    (model / "weights.skops").write_bytes(content)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "edited": (flip_a_bit, "weights.skops"),
    "longer": (lambda model: (model / "empty").write_text("x"), "empty"),
    "missing": (lambda model: (model / "deep" / "words.txt").unlink(), "deep/words.txt"),
    "renamed": (lambda model: (model / "empty").rename(model / "void"), "void"),
    "swapped": (swap, "words.txt"),
    "extra": (lambda model: (model / "extra.py").touch(), "extra.py"),
    "extra, one that git uses": (lambda model: (model / ".gitattributes").touch(), ".gitattributes"),
    "extra, in a git folder": (lambda model: shutil.copytree(model / "deep", model / ".git"), ".git/words.txt"),
    "linked": (link_out, "words.txt"),
    "extra link": (lambda model: (model / "link").symlink_to("empty"), "link"),
    "extra link to a folder": (lambda model: (model / "link").symlink_to("deep"), "link"),
}


def test_a_signature_holds_over_what_was_signed(signing: LocalSigning, model: Path) -> None:
    bundle = signing.sign(str(model))
    signing.verify(str(model), bundle)
    assert json.loads(bundle)["mediaType"].startswith("application/vnd.dev.sigstore.bundle")


def test_it_holds_over_a_copy_and_after_a_restart(signing: LocalSigning, model: Path, tmp_path: Path) -> None:
    bundle = signing.sign(str(model))
    shutil.copytree(model, tmp_path / "elsewhere" / "other name")
    LocalSigning(tmp_path / "keys").verify(str(tmp_path / "elsewhere" / "other name"), bundle)


@pytest.mark.parametrize("change", CHANGES)
def test_it_does_not_hold_over_anything_else(signing: LocalSigning, model: Path, change: str) -> None:
    bundle = signing.sign(str(model))
    act, name = CHANGES[change]
    act(model)
    with pytest.raises(SignatureInvalid, match=name):
        signing.verify(str(model), bundle)


def test_another_signer_is_refused(signing: LocalSigning, model: Path, tmp_path: Path) -> None:
    other = LocalSigning(tmp_path / "other keys")
    with pytest.raises(SignatureInvalid, match="Key mismatch"):
        signing.verify(str(model), other.sign(str(model)))


def test_another_signer_who_claims_to_be_ours_is_refused(signing: LocalSigning, model: Path, tmp_path: Path) -> None:
    ours = json.loads(signing.sign(str(model)))
    theirs = json.loads(LocalSigning(tmp_path / "other keys").sign(str(model)))
    theirs["verificationMaterial"] = ours["verificationMaterial"]
    with pytest.raises(SignatureInvalid):
        signing.verify(str(model), json.dumps(theirs).encode())


def test_what_a_bundle_says_cannot_be_changed(signing: LocalSigning, model: Path) -> None:
    bundle = json.loads(signing.sign(str(model)))
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    assert b"deep/words.txt" in payload
    (model / "deep" / "words.txt").rename(model / "deep" / "wordz.txt")
    changed = base64.b64encode(payload.replace(b"deep/words.txt", b"deep/wordz.txt"))
    bundle["dsseEnvelope"]["payload"] = changed.decode()
    with pytest.raises(SignatureInvalid):
        signing.verify(str(model), json.dumps(bundle).encode())


@pytest.mark.parametrize("bundle", [b"", b"{}", b"[]", b"\xff\x00", b'{"dsseEnvelope": {}}', b"null"])
def test_what_is_no_bundle_is_refused(signing: LocalSigning, model: Path, bundle: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        signing.verify(str(model), bundle)


def test_a_cut_bundle_is_refused(signing: LocalSigning, model: Path) -> None:
    bundle = signing.sign(str(model))
    with pytest.raises(SignatureInvalid):
        signing.verify(str(model), bundle[:-20])


def test_what_is_not_there_cannot_be_signed_and_does_not_hold(
    signing: LocalSigning, model: Path, tmp_path: Path
) -> None:
    bundle = signing.sign(str(model))
    with pytest.raises(SigningFault):
        signing.sign(str(tmp_path / "nothing"))
    with pytest.raises((SignatureInvalid, SigningFault)):
        signing.verify(str(tmp_path / "nothing"), bundle)
    (tmp_path / "bare").mkdir()
    with pytest.raises(SignatureInvalid):
        signing.verify(str(tmp_path / "bare"), bundle)


def test_a_link_cannot_be_signed(signing: LocalSigning, model: Path) -> None:
    link_out(model)
    with pytest.raises(SigningFault, match=r"words\.txt"):
        signing.sign(str(model))


def test_the_key_is_made_once_and_only_its_owner_reads_it(signing: LocalSigning, model: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert not keys.exists()
    bundles: list[bytes] = []
    threads = [threading.Thread(target=lambda: bundles.append(LocalSigning(keys).sign(str(model)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for bundle in bundles:
        signing.verify(str(model), bundle)
    assert len(bundles) == 4
    assert stat.S_IMODE((keys / "signing-key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    key = serialization.load_pem_private_key((keys / "signing-key.pem").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_key_that_others_can_read_is_refused(signing: LocalSigning, model: Path, tmp_path: Path, mode: int) -> None:
    signing.sign(str(model))
    (tmp_path / "keys" / "signing-key.pem").chmod(mode)
    with pytest.raises(Refused, match=r"signing-key\.pem"):
        signing.sign(str(model))
    with pytest.raises(Refused):
        signing.attest(STATEMENT)


def test_a_spoilt_key_is_a_fault(signing: LocalSigning, model: Path, tmp_path: Path) -> None:
    signing.sign(str(model))
    (tmp_path / "keys" / "signing-key.pem").write_text("no key")
    with pytest.raises(SigningFault):
        signing.attest(STATEMENT)
    with pytest.raises(SigningFault):
        signing.sign(str(model))


def test_a_public_key_of_somebody_else_is_not_believed(signing: LocalSigning, model: Path, tmp_path: Path) -> None:
    other = LocalSigning(tmp_path / "other keys")
    signing.sign(str(model))
    shutil.copy(other.public_key(), tmp_path / "keys" / "signing-key.pub.pem")
    with pytest.raises(SignatureInvalid):
        signing.verify(str(model), other.sign(str(model)))


def check_envelope(content: bytes, key: ec.EllipticCurvePublicKey) -> Json:
    """DSSE as its specification has it, in words of its own: the signature is over a framing of type and payload."""
    envelope = json.loads(content)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"])
    framed = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
    (signature,) = envelope["signatures"]
    key.verify(base64.b64decode(signature["sig"]), framed, ec.ECDSA(hashes.SHA256()))
    statement: Json = json.loads(payload)
    return statement


def public_key(signing: LocalSigning) -> ec.EllipticCurvePublicKey:
    key = serialization.load_pem_public_key(signing.public_key().read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def test_an_attestation_carries_the_statement_and_our_signature(signing: LocalSigning, tmp_path: Path) -> None:
    envelope = signing.attest(STATEMENT)
    assert check_envelope(envelope, public_key(signing)) == STATEMENT
    with pytest.raises(InvalidSignature):
        check_envelope(envelope, public_key(LocalSigning(tmp_path / "other keys")))
    changed = json.loads(envelope)
    changed["payload"] = base64.b64encode(b"{}").decode()
    with pytest.raises(InvalidSignature):
        check_envelope(json.dumps(changed).encode(), public_key(signing))


def test_other_tools_can_verify_with_the_public_key(signing: LocalSigning, model: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(signing.sign(str(model)))
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(model), "--no-ignore-git-paths"]
    more = ["--signature", str(tmp_path / "bundle"), "--public_key", str(signing.public_key())]
    ended = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "succeeded" in ended.stdout
