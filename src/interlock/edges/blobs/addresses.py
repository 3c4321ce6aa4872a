"""How content is addressed, and how a folder is written down.

A file's digest is the BLAKE3 of its bytes. A folder's is the BLAKE3 of its manifest, ``{"files": {path: [digest of
the file, is it executable]}}`` as canonical JSON, in BLAKE3's key derivation mode with ``FOLDER_CONTEXT``: no file can
be made that has the digest of a folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import orjson
from blake3 import blake3

from interlock.errors import ArtifactFault, Refused
from interlock.vocabulary import Digest, Json, canonical

FOLDER_CONTEXT = "interlock artifact folder 1"
DIGEST = re.compile(r"blake3:([0-9a-f]{64})")

Sort: TypeAlias = Literal["files", "folders"]


class Entry(NamedTuple):
    """One file of a folder."""

    digest: Digest
    is_executable: bool


Manifest: TypeAlias = Mapping[str, Entry]
"""The files of a folder by path relative to it, ``/`` between parts."""


class Hasher:
    """The digest of content that comes in pieces: a file's bytes, or a folder's manifest."""

    def __init__(self, sort: Sort) -> None:
        self._hash = blake3() if sort == "files" else blake3(derive_key_context=FOLDER_CONTEXT)

    def update(self, piece: bytes) -> None:
        """Takes the next piece."""
        self._hash.update(piece)

    def digest(self) -> Digest:
        """The digest of all pieces so far."""
        return Digest(f"blake3:{self._hash.hexdigest()}")


def digest_of(sort: Sort, content: bytes) -> Digest:
    """The digest of content that is at hand as a whole."""
    hasher = Hasher(sort)
    hasher.update(content)
    return hasher.digest()


def digits_of(digest: Digest) -> str:
    """The hexadecimal digits of a digest. ArtifactFault where it is none: it becomes part of a path."""
    match = DIGEST.fullmatch(digest)
    if match is None:
        raise ArtifactFault(f"{digest!r} is no digest")
    return match[1]


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical text of a manifest. Refused for paths that are not those of files in one folder."""
    _check_paths(manifest)
    files: dict[str, Json] = {path: [entry.digest, entry.is_executable] for path, entry in manifest.items()}
    try:
        return canonical({"files": files})
    except UnicodeEncodeError as problem:
        near = problem.object[max(problem.start - 20, 0) : problem.end + 20]
        raise Refused("a file's name is not UTF-8", where=repr(near), remedy="rename it") from problem


def decode_manifest(content: bytes) -> dict[str, Entry]:
    """The manifest of a text whose digest was checked. Refused as by ``encode_manifest``."""
    files = json.loads(content)["files"]
    manifest = {path: Entry(Digest(digest), bool(is_executable)) for path, (digest, is_executable) in files.items()}
    _check_paths(manifest)
    return manifest


def digests_in(content: bytes) -> list[Digest]:
    """The digests of the files of a manifest whose own digest was checked."""
    return [Digest(digest) for digest, _ in orjson.loads(content)["files"].values()]


def _check_paths(paths: Iterable[str]) -> None:
    files = set(paths)
    for path in files:
        parts = path.split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise Refused("this is not the path of a file in a folder", where=repr(path), remedy="use a relative path")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))} & files
        if above:
            raise Refused(f"{above.pop()} is a file and a folder", where=path, remedy="rename one of them")
