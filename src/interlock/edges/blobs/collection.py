"""Taking away what nobody needs any more, beside processes that store and read.

Whoever stores holds the folder's lock together with others who do; what is removed is looked at once more, and removed,
while nobody stores. So nothing that was just found to be there is gone when it has been stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock.edges.blobs.addresses import DIGEST, Sort
from interlock.system.sharing import sharing
from interlock.vocabulary import Digest


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Nothing is removed while the block lasts."""
    with sharing(folder):
        yield


class Collection:
    """One collection of what lies in ``folder``. ``count`` and ``size`` are the files and bytes that went so far."""

    def __init__(self, folder: Path, older_than: float) -> None:
        self._folder = folder
        self._older_than = older_than
        self._held: set[Digest] = set()
        self.count = 0
        self.size = 0

    def stored(self, sort: Sort) -> Iterator[Digest]:
        """What there is of one sort; what is stored meanwhile may be missing."""
        for path in (self._folder / sort).glob("??/*"):
            digest = f"blake3:{path.parent.name}{path.name}"
            if DIGEST.fullmatch(digest):
                yield Digest(digest)

    def hold(self, digests: Iterable[Digest]) -> None:
        """These files are part of a folder that stays."""
        self._held.update(digests)

    def remove(self, sort: Sort, digest: Digest) -> bool:
        """Removes it, unless it was used lately or a folder that stays holds it; whether it is gone."""
        if sort == "files" and digest in self._held:
            return False
        digits = digest.removeprefix("blake3:")
        return self._unlink(self._folder / sort / digits[:2] / digits[2:])

    def sweep(self) -> None:
        """Removes what is torn, and what those who died left half stored."""
        for path in (*self._folder.glob("f*/??/*.torn"), *(self._folder / "incoming").iterdir()):
            self._unlink(path)

    def _unlink(self, path: Path) -> bool:
        with sharing(self._folder, is_alone=True):
            try:
                facts = path.stat()
            except FileNotFoundError:  # another collection was first
                return True
            if facts.st_mtime >= self._older_than:
                return False
            path.unlink()
        self.count += 1
        self.size += facts.st_size
        return True
