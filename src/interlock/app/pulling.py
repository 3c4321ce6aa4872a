"""What leaves the registry: the files of a version, its signature checked over them, and what is attested of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from interlock.app.folder import StateFolder
from interlock.control.running.sealing import materialise_folder
from interlock.edges.blobs import LocalBlobs
from interlock.edges.signing import LocalSigning
from interlock.registry.version import ModelVersion


def pull(state: Path, version: ModelVersion, folder: Path) -> None:
    """Writes the version's files into ``folder``, which must not exist or be empty.

    SignatureInvalid where they are not the ones that were signed; then nothing is left behind.
    """
    place = StateFolder(state.resolve())
    blobs = LocalBlobs(place.artifacts)
    if folder.exists():
        folder.rmdir()
    try:
        materialise_folder(blobs, version.digest, folder)
        LocalSigning(place.keys).verify(str(folder), blobs.read(version.signature))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def export_attestations(state: Path, version: ModelVersion, folder: Path) -> list[str]:
    """Writes what is signed of the version into ``folder``, which must not exist or be empty; the names of the files.

    Other tools can verify them: the bundle of OpenSSF model signing over the model's files, the in-toto statements in
    DSSE envelopes, and the public key. SignatureInvalid where a statement is not signed; then nothing is written.
    """
    place = StateFolder(state.resolve())
    blobs, signing = LocalBlobs(place.artifacts), LocalSigning(place.keys)
    kept = {"model.sig": version.signature, "provenance.dsse.json": version.provenance}
    kept |= {"summary.dsse.json": version.summary} if version.summary else {}
    files = {name: blobs.read(digest) for name, digest in kept.items()}
    for name in files.keys() - {"model.sig"}:
        signing.read(files[name])
    files["signing-key.pub.pem"] = signing.public_key().read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return sorted(files)
