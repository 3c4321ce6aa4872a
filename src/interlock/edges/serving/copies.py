"""Copies of artifacts and of the model server's program, each once, below the data-plane folder."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from interlock.vocabulary import Digest

PROGRAM = "interlock/inference"
"""Where the program is below the folder that goes on Python's path."""


class ArtifactCopies:
    """Artifacts on the file system by their digest. ``place`` writes one to a path that does not exist."""

    def __init__(self, folder: Path, place: Callable[[Digest, Path], None]) -> None:
        self._folder = folder / "models"
        self._place = place

    def ensure(self, digest: Digest) -> Path:
        """The artifact's copy. Never seen half written: a crash leaves a part, which is made again."""
        path = self._folder / _name(digest)
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            _remove(part)
            self._place(digest, part)
            part.rename(path)
        return path

    def renew(self, digest: Digest) -> None:
        """Another copy in the place of one whose bytes have changed. Who has it open keeps what was there."""
        path = self._folder / _name(digest)
        gone = path.with_name(f".{path.name}.gone")
        _remove(gone)
        if path.exists():
            path.rename(gone)
        self.ensure(digest)
        _remove(gone)

    def forget_unless_named(self, texts: Iterable[str]) -> None:
        """Removes copies whose names are in none of the texts."""
        named = "\n".join(texts)
        for path in self._folder.glob("*") if self._folder.exists() else ():
            if path.name not in named:
                _remove(path)


def copy_program(source: Path, folder: Path) -> Path:
    """A copy of the model server's program below ``folder``, named by its content; answers what goes on Python's path.

    A replica that starts again tomorrow runs what it ran today, also when Interlock was upgraded in between.
    """
    files = sorted(path for path in source.rglob("*.py") if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(source)} {len(content)}\n".encode() + content)
    target = folder / "server" / digest.hexdigest()[:16]
    if not target.exists():
        part = target.with_name(f".{target.name}.part")
        _remove(part)
        for path in files:
            copy = part / PROGRAM / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        part.rename(target)
    return target


def _name(digest: Digest) -> str:
    return digest.replace(":", "-")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
