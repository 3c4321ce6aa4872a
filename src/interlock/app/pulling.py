"""`interlock models pull`: the files of a registered version, after its signature was checked over them."""

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
