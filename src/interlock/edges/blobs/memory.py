"""Content-addressed bytes in memory: the fake, for tests of what stands above it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from interlock.edges.blobs.addresses import Entry, Manifest, digest_of, digits_of, encode_manifest
from interlock.edges.blobs.scan import find_files
from interlock.errors import ArtifactFault
from interlock.ports import KnownFile
from interlock.vocabulary import Digest


class MemoryBlobs:
    """The port ``Blobs`` in two dictionaries; it ends with its process."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._turn = threading.RLock()
        self._files: dict[Digest, bytes] = {}
        self._folders: dict[Digest, Manifest] = {}
        self._used: dict[Digest, float] = {}

    def put(self, path: str) -> Digest:
        """Stores a file or a whole folder. Refused for symbolic links that leave it, devices and sockets."""
        found = find_files(Path(path))
        contents = {name: file.place.read_bytes() for name, file in found.items()}
        if "" in found:
            return self.put_bytes(contents[""])
        return self._put_folder(contents, {name for name, file in found.items() if file.is_executable})

    def put_bytes(self, content: bytes) -> Digest:
        """Stores bytes as a file."""
        digest = digest_of("files", content)
        with self._turn:
            self._files[digest] = bytes(content)
            self._used[digest] = self._now()
        return digest

    def put_files(self, files: Mapping[str, bytes]) -> Digest:
        """Stores bytes as a folder, none of them executable. Refused for paths that leave it."""
        return self._put_folder(files, set())

    def put_known(self, files: Mapping[str, KnownFile]) -> Digest:
        """Stores files whose digests are known; see the port."""
        new = {file.digest: Path(file.place) for file in files.values() if file.digest not in self._files}
        for digest, place in new.items():
            if self.put_bytes(place.read_bytes()) != digest:
                raise ArtifactFault(f"{place} has changed: its content is not that of {digest}")
        contents = {name: self._files[file.digest] for name, file in files.items()}
        if "" in files:
            return self.put_bytes(contents[""])
        return self._put_folder(contents, {name for name, file in files.items() if file.is_executable})

    def read(self, digest: Digest) -> bytes:
        """A file's bytes. ArtifactFault where missing."""
        digits_of(digest)
        if digest not in self._files:
            raise ArtifactFault(f"the artifact {digest} is missing")
        return self._files[digest]

    def files(self, digest: Digest) -> dict[str, Digest]:
        """The files of a folder by relative path; a file answers itself under the empty path."""
        if digest in self._folders:
            return {path: entry.digest for path, entry in self._folders[digest].items()}
        self.read(digest)
        return {"": digest}

    def materialise(
        self,
        digest: Digest,
        target: str,
        *,
        shown_from: int | None = None,  # noqa: ARG002 - nothing lies anywhere here
    ) -> dict[str, str]:
        """Writes the artifact at ``target`` (which must not exist) as a private copy of every file."""
        aim = Path(target)
        if os.path.lexists(aim):
            raise ArtifactFault(f"{aim} exists already")
        contents = {path: self.read(one) for path, one in self.files(digest).items()}
        aim.parent.mkdir(parents=True, exist_ok=True)
        if digest not in self._folders:
            aim.write_bytes(contents[""])
            return {}
        aim.mkdir()
        for path, content in contents.items():
            (aim / path).parent.mkdir(parents=True, exist_ok=True)
            (aim / path).write_bytes(content)
            (aim / path).chmod(0o755 if self._folders[digest][path].is_executable else 0o644)
        return {}

    def has(self, digest: Digest) -> bool:
        """Whether all of it is there; asking for it counts as using it."""
        with self._turn:
            parts = [entry.digest for entry in self._folders.get(digest, {}).values()]
            is_there = digest in self._folders or digest in self._files
            if not is_there or any(part not in self._files for part in parts):
                return False
            self._used.update(dict.fromkeys([digest, *parts], self._now()))
            return True

    def collect(self, keep: Callable[[Digest], bool], older_than: float) -> tuple[int, int]:
        """Removes what ``keep`` does not want and no folder that stays holds, if last used before ``older_than``.

        Answers how many files, manifests of folders included, and how many bytes went.
        """
        with self._turn:
            going = {digest for digest, used in self._used.items() if used < older_than and not keep(digest)}
            sizes = [len(encode_manifest(self._folders.pop(digest))) for digest in going & self._folders.keys()]
            held = {entry.digest for manifest in self._folders.values() for entry in manifest.values()}
            sizes += [len(self._files.pop(digest)) for digest in (going & self._files.keys()) - held]
            for digest in going - self._files.keys():
                self._used.pop(digest)
            return len(sizes), sum(sizes)

    def _put_folder(self, files: Mapping[str, bytes], executable: set[str]) -> Digest:
        with self._turn:
            manifest = {name: Entry(self.put_bytes(content), name in executable) for name, content in files.items()}
            digest = digest_of("folders", encode_manifest(manifest))
            self._folders[digest] = manifest
            self._used[digest] = self._now()
            return digest
