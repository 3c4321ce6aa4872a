"""Content-addressed bytes in a folder of this machine."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from secrets import token_hex

from interlock.edges.blobs.addresses import (
    Entry,
    Hasher,
    Manifest,
    Sort,
    decode_manifest,
    digests_in,
    digits_of,
    encode_manifest,
)
from interlock.edges.blobs.collection import Collection, storing
from interlock.edges.blobs.known import copy_known
from interlock.edges.blobs.scan import find_files
from interlock.errors import ArtifactFault
from interlock.ports import KnownFile
from interlock.system.files import sync_folder, write_all
from interlock.system.hashing import hash_file
from interlock.vocabulary import Digest

PIECE = 1 << 20
MOST_SHOWN = 100
"""Large files of one folder that are not copied: each of them costs the sandbox a mount."""
ABANDONED_SECONDS = 24 * 3600
"""Age after which a file that never got its name was left by a process that died."""


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise ArtifactFault(f"an artifact could not be read or written: {problem}") from problem


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece


class LocalBlobs:
    """The port ``Blobs`` in a folder, for several processes at once.

    Files lie at ``files/ab/cdef...``, manifests of folders at ``folders/ab/cdef...``, named by their digests and never
    changed. What ``put`` answered is on the disk; without ``is_durable``, only once the system has written it. Content
    that no longer fits its name is set aside as ``....torn`` when it is met, so that storing the same artifact again
    mends it. A file's modification time is when it was last stored or asked for.
    """

    def __init__(self, folder: str | Path, *, is_durable: bool = True) -> None:
        self._folder = Path(folder)
        self._is_durable = is_durable
        self._incoming = self._folder / "incoming"
        self._files = str(self._folder / "files")
        with _faults():
            for name in ("incoming", "files", "folders"):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
            sync_folder(self._folder)
            for left in self._incoming.iterdir():
                with suppress(FileNotFoundError):  # another process may just have given it its name
                    if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                        left.unlink()

    def put(self, path: str) -> Digest:
        """Stores a file or a whole folder. Refused for symbolic links that leave it, devices and sockets."""
        with _faults(), storing(self._folder):
            found = find_files(Path(path))
            if "" in found:
                return self._used(self._take(found[""].place))
            entries = {name: Entry(self._take(file.place), file.is_executable) for name, file in found.items()}
            return self._used(self._write("folders", [encode_manifest(entries)]), entries)

    def put_bytes(self, content: bytes) -> Digest:
        """Stores bytes as a file."""
        with _faults(), storing(self._folder):
            return self._used(self._write("files", [content]))

    def put_files(self, files: Mapping[str, bytes]) -> Digest:
        """Stores bytes as a folder, none of them executable. Refused for paths that leave it."""
        with _faults(), storing(self._folder):
            entries = {name: Entry(self._write("files", [content]), False) for name, content in files.items()}
            return self._used(self._write("folders", [encode_manifest(entries)]), entries)

    def put_known(self, files: Mapping[str, KnownFile]) -> Digest:
        """Stores files whose digests are known; see the port. All new ones become durable together."""
        with _faults(), storing(self._folder):
            new = {file.digest: file.place for file in files.values() if not self._is_stored(file.digest)}
            copy_known(new.items(), self._incoming, lambda digest: self._place("files", digest))
            if "" in files:
                return self._used(files[""].digest)
            entries = {name: Entry(file.digest, file.is_executable) for name, file in files.items()}
            return self._used(self._write("folders", [encode_manifest(entries)]), entries)

    def read(self, digest: Digest) -> bytes:
        """A file's bytes, checked against the digest. ArtifactFault where missing or torn."""
        with _faults():
            return b"".join(self._checked("files", digest))

    def files(self, digest: Digest) -> dict[str, Digest]:
        """The files of a folder by relative path; a file answers itself under the empty path."""
        with _faults():
            manifest = self._manifest(digest)
            if manifest is not None:
                return {path: entry.digest for path, entry in manifest.items()}
            if not self._place("files", digest).exists():
                raise ArtifactFault(f"the artifact {digest} is missing")
            return {"": digest}

    def materialise(self, digest: Digest, target: str, *, shown_from: int | None = None) -> dict[str, str]:
        """Writes the artifact at ``target``; see the port. Of one folder at most ``MOST_SHOWN`` files are not copied.

        A lone file is not executable. Where it raises, nothing is left at ``target``.
        """
        aim = Path(target)
        with _faults():
            if os.path.lexists(aim):
                raise ArtifactFault(f"{aim} exists already")
            manifest = self._manifest(digest)
            aim.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._copy_out(digest, manifest, aim, shown_from)
            except BaseException:
                if manifest is None:
                    aim.unlink(missing_ok=True)
                else:
                    shutil.rmtree(aim, ignore_errors=True)
                raise

    def has(self, digest: Digest) -> bool:
        """Whether all of it is there; asking for it counts as using it."""
        with _faults(), storing(self._folder):
            try:
                needed = self._parts_of(digest)
            except ArtifactFault:
                return False
            if not all(self._is_stored(one) for one in ([digest] if needed is None else needed)):
                return False
            self._used(digest, None if needed is None else {})  # as long as a folder stays, so do its files
        return True

    def places(self, digest: Digest) -> list[str]:
        """The files that hold an artifact, those of a folder and the folder's own. ArtifactFault where it is torn."""
        with _faults():
            parts = self._parts_of(digest)
        if parts is None:
            return [self._file(digest)]
        return [*sorted({self._file(part) for part in parts}), str(self._place("folders", digest))]

    def collect(self, keep: Callable[[Digest], bool], older_than: float) -> tuple[int, int]:
        """Removes what ``keep`` does not want and no folder that stays holds, if last used before ``older_than``.

        Answers how many files, manifests of folders included, and how many bytes went. A folder goes before its files:
        whenever this is killed, every folder that is there is whole.
        """
        collection = Collection(self._folder, older_than)
        with _faults():
            for digest in list(collection.stored("folders")):
                if keep(digest) or not collection.remove("folders", digest):
                    with suppress(ArtifactFault):  # a torn one holds nothing that could be had
                        collection.hold(entry.digest for entry in (self._manifest(digest) or {}).values())
            for digest in list(collection.stored("files")):
                if not keep(digest):
                    collection.remove("files", digest)
            collection.sweep()
        return collection.count, collection.size

    def _parts_of(self, digest: Digest) -> list[Digest] | None:
        """The files of a folder; None where the digest is not a folder's."""
        if not self._place("folders", digest).exists():
            return None
        return digests_in(b"".join(self._checked("folders", digest)))

    def _is_stored(self, digest: Digest) -> bool:
        return os.access(self._file(digest), os.F_OK)

    def _file(self, digest: Digest) -> str:
        """Where a file is kept, as a text: a folder may hold very many."""
        digits = digest.removeprefix("blake3:")
        return f"{self._files}/{digits[:2]}/{digits[2:]}"

    def _place(self, sort: Sort, digest: Digest) -> Path:
        digits = digits_of(digest)
        return self._folder / sort / digits[:2] / digits[2:]

    def _used(self, digest: Digest, manifest: Manifest | None = None) -> Digest:
        """Marks an artifact as used now: not before it is all there, so that no part is older than the whole."""
        now = time.time_ns()  # the time that a file system takes by itself lags behind the clock
        sort: Sort = "files" if manifest is None else "folders"
        parts = {part.digest for part in manifest.values()} if manifest else ()
        for place in (str(self._place(sort, digest)), *map(self._file, parts)):
            os.utime(place, ns=(now, now))
        return digest

    def _take(self, path: Path) -> Digest:
        """Stores a file's bytes. They are read before they are copied: most are there already."""
        hasher, kept, size = Hasher("files"), list[bytes](), 0
        for piece in _pieces(path):
            hasher.update(piece)
            size += len(piece)
            kept = [*kept, piece] if size <= PIECE else []
        if self._is_stored(hasher.digest()):
            return hasher.digest()
        return self._write("files", kept if size <= PIECE else _pieces(path))

    def _write(self, sort: Sort, pieces: Iterable[bytes]) -> Digest:
        hasher = Hasher(sort)
        incoming = f"{self._incoming}/{token_hex(8)}"
        descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for piece in pieces:
                hasher.update(piece)
                write_all(descriptor, piece)
            place = self._place(sort, hasher.digest())
            if not place.exists():
                os.fchmod(descriptor, 0o444)
                if self._is_durable:
                    os.fsync(descriptor)
                self._publish(incoming, place)
                incoming = ""
        finally:
            os.close(descriptor)
            if incoming:
                Path(incoming).unlink(missing_ok=True)
        return hasher.digest()

    def _publish(self, incoming: str, place: Path) -> None:
        """Gives content its name. Two that do so at once bring the same bytes: whoever comes second changes nothing."""
        try:
            os.replace(incoming, place)  # noqa: PTH105 - most folders are there
        except FileNotFoundError:
            place.parent.mkdir(exist_ok=True)
            os.replace(incoming, place)  # noqa: PTH105
        if self._is_durable:
            sync_folder(place.parent)
            sync_folder(place.parent.parent)  # always: another process may have made the folder just now

    def _checked(self, sort: Sort, digest: Digest) -> Iterator[bytes]:
        """The content in pieces; what was taken counts only when the last piece raised no ArtifactFault."""
        place, hasher = self._place(sort, digest), Hasher(sort)
        try:
            for piece in _pieces(place):
                hasher.update(piece)
                yield piece
        except FileNotFoundError as problem:
            raise ArtifactFault(f"the artifact {digest} is missing") from problem
        if hasher.digest() != digest:
            raise self._set_aside(place, digest, digits_of(hasher.digest()))

    @staticmethod
    def _set_aside(place: Path, digest: Digest, found: str) -> ArtifactFault:
        """Content that is not what its name says goes out of the way, so that it can be stored again."""
        place.rename(place.with_name(f"{place.name}.torn"))
        return ArtifactFault(f"the artifact {digest} is torn: its bytes are those of blake3:{found}")

    def _manifest(self, digest: Digest) -> Manifest | None:
        """The files of a folder; None where the digest is not a folder's."""
        if not self._place("folders", digest).exists():
            return None
        return decode_manifest(b"".join(self._checked("folders", digest)))

    def _copy_out(self, digest: Digest, manifest: Manifest | None, aim: Path, shown_from: int | None) -> dict[str, str]:
        files = {"": Entry(digest, is_executable=False)} if manifest is None else manifest
        lying = {} if shown_from is None else dict(islice(self._large(files, shown_from), MOST_SHOWN))
        if manifest is not None:
            aim.mkdir()
            for folder in {(aim / path).parent for path in manifest}:
                folder.mkdir(parents=True, exist_ok=True)
        for path, entry in files.items():
            if path in lying:
                (aim / path).touch(0o444)
            else:
                self._copy_file(entry, aim / path)
        return lying

    def _large(self, files: Manifest, at_least: int) -> Iterator[tuple[str, str]]:
        """By path where each file of so many bytes lies, all of it read and checked now, and marked as used."""
        for path, entry in files.items():
            place = self._file(entry.digest)
            if entry.is_executable or not self._is_stored(entry.digest) or Path(place).stat().st_size < at_least:
                continue  # one that is missing is told of where it is copied
            with storing(self._folder), Path(place).open("rb", buffering=0) as file:
                found = hash_file(file.fileno())
                if f"blake3:{found}" != entry.digest:
                    raise self._set_aside(Path(place), entry.digest, found)
                self._used(entry.digest)
            yield path, place

    def _copy_file(self, entry: Entry, aim: Path) -> None:
        mode = 0o755 if entry.is_executable else 0o644
        with os.fdopen(os.open(aim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb", buffering=0) as file:
            for piece in self._checked("files", entry.digest):
                write_all(file.fileno(), piece)
