"""Content-addressed bytes in memory: the fake, for tests of what stands above it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from interlock.edges.blobs.addresses import Entry, Manifest, digest_of, digits_of, encode_manifest
from interlock.edges.blobs.scan import find_files
from interlock.errors import ArtifactFault
from interlock.vocabulary import Digest


class MemoryBlobs:
    """The port ``Blobs`` in two dictionaries; it ends with its process."""

    def __init__(self) -> None:
        self._files: dict[Digest, bytes] = {}
        self._folders: dict[Digest, Manifest] = {}

    def put(self, path: str) -> Digest:
        """Stores a file or a whole folder. Refused for symbolic links that leave it, devices and sockets."""
        found = find_files(Path(path))
        if "" in found:
            return self.put_bytes(found[""].place.read_bytes())
        return self._put_folder(
            {name: Entry(self.put_bytes(file.place.read_bytes()), file.is_executable) for name, file in found.items()}
        )

    def put_bytes(self, content: bytes) -> Digest:
        """Stores bytes as a file."""
        digest = digest_of("files", content)
        self._files[digest] = bytes(content)
        return digest

    def put_files(self, files: Mapping[str, bytes]) -> Digest:
        """Stores bytes as a folder, none of them executable. Refused for paths that leave it."""
        return self._put_folder({name: Entry(self.put_bytes(content), False) for name, content in files.items()})

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

    def materialise(self, digest: Digest, target: str) -> None:
        """Writes the artifact at ``target`` (which must not exist) as a private copy."""
        aim = Path(target)
        if os.path.lexists(aim):
            raise ArtifactFault(f"{aim} exists already")
        contents = {path: self.read(one) for path, one in self.files(digest).items()}
        aim.parent.mkdir(parents=True, exist_ok=True)
        if digest not in self._folders:
            aim.write_bytes(contents[""])
            return
        aim.mkdir()
        for path, content in contents.items():
            (aim / path).parent.mkdir(parents=True, exist_ok=True)
            (aim / path).write_bytes(content)
            (aim / path).chmod(0o755 if self._folders[digest][path].is_executable else 0o644)

    def has(self, digest: Digest) -> bool:
        """Whether all of it is there."""
        return digest in self._files or digest in self._folders

    def _put_folder(self, manifest: Manifest) -> Digest:
        digest = digest_of("folders", encode_manifest(manifest))
        self._folders[digest] = manifest
        return digest
