"""The model itself: its bytes checked, and what is asked of it once ``formats`` has made a model of them.

The bytes are hashed while they are copied, each file opened once: what is loaded is what was hashed, whatever happens
to the original meanwhile. A model is loaded as code is: whoever can choose its bytes can run anything here. That is why
the digest is checked first, and why all this runs in a sandbox.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from .inputs import Array, Batch, Signature

FOLDER_CONTEXT = "interlock artifact folder 1"
"""Keeps digests of folders apart from those of files; the artifact store uses the same."""


class DigestDiffers(Exception):
    """The bytes are not the ones that were admitted."""


class Unloadable(Exception):
    """The bytes are right, and still no model can be made of them here."""


class Model(Protocol):
    """A model that is loaded. Whatever its own code raises is let through."""

    @property
    def outputs(self) -> frozenset[str]:
        """The names of what it can answer."""

    @property
    def signature(self) -> Signature:
        """What the model itself knows of its inputs; without columns where that is nothing."""

    def answer(self, batch: Batch) -> dict[str, Array]:
        """The wanted outputs by name, one entry for every row. ValueError where the model gave another number."""


@contextmanager
def copy_checked(model: Path, digest: str) -> Iterator[Path]:
    """A private copy of a model's file or folder, whose digest is ``digest``; it is gone afterwards.

    DigestDiffers where the digest is another, or where there is nothing that has one.
    """
    with tempfile.TemporaryDirectory(prefix="interlock-model-") as private:
        target = Path(private) / (model.resolve().name or "model")
        try:
            found = _copy_folder(model, target) if model.is_dir() else _copy_file(model, target)[0]
        except (OSError, UnicodeEncodeError) as fault:
            raise DigestDiffers(f"{model} cannot be read: {fault}") from fault
        if found != digest:
            raise DigestDiffers(f"{model} has the digest {found}, not the admitted {digest}")
        yield target


def digest_of(folder: Path) -> str:
    """The digest by which the artifact store knows the folder."""
    with tempfile.TemporaryDirectory(prefix="interlock-model-") as private:
        return _copy_folder(folder, Path(private) / "copy")


def _copy_file(source: Path, target: Path) -> tuple[str, bool]:
    """Copies; answers the digest of what was copied, and whether its owner may execute it."""
    hasher = blake3()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(1 << 20):
            hasher.update(chunk)
            writer.write(chunk)
        is_executable = bool(os.fstat(reader.fileno()).st_mode & stat.S_IXUSR)
    target.chmod(0o700 if is_executable else 0o600)
    return f"blake3:{hasher.hexdigest()}", is_executable


def _copy_folder(source: Path, target: Path) -> str:
    """Copies every file; answers the digest of their manifest, by which the artifact store knows the folder."""
    files = {}
    for path in source.rglob("*"):
        if path.is_file():
            name = path.relative_to(source).as_posix()
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            files[name] = _copy_file(path, target / name)
    manifest = json.dumps({"files": files}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"blake3:{blake3(manifest.encode(), derive_key_context=FOLDER_CONTEXT).hexdigest()}"
