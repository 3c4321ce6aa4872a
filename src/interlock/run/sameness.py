"""Whether two executions of a stage made the same: file by file, by their bytes.

One kind of file is looked into, because its bytes are never the same twice: a skops archive dates its members and names
them by where they were in memory. Two of those that hold the same parts are ``rewritten``, and not different.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from blake3 import blake3

from interlock.run.stage import Problem, StageOutcome
from interlock.vocabulary import Digest, Phase, canonical

ARCHIVE = ".skops"
MOST_BYTES = 1 << 30
"""What an archive may hold, unpacked, to be looked into; a larger one is compared by its bytes."""
WHY_REWRITTEN = "skops writes dates and memory addresses into it"


class Kept(Protocol):
    """Artifacts, as the port ``Blobs`` has them."""

    def files(self, digest: Digest) -> dict[str, Digest]:
        """The files of a folder by relative path; a file answers itself under the empty path."""

    def read(self, digest: Digest) -> bytes:
        """A file's bytes."""

    def has(self, digest: Digest) -> bool:
        """Whether all of it is there."""


class Differences(NamedTuple):
    """Paths of files that are something else, and of those that are the same in other bytes."""

    files: tuple[str, ...]
    rewritten: tuple[str, ...]


def compare(before: Mapping[str, Digest], after: Mapping[str, Digest], kept: Kept) -> Differences:
    """What differs between the products of two executions; of what is not kept any more, the product as a whole."""
    changed = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    files: list[str] = []
    rewritten: list[str] = []
    for path in changed:
        digests = [products[path] for products in (before, after) if path in products]
        if len(digests) < 2 or not all(kept.has(digest) for digest in digests):
            files.append(path)
            continue
        one, other = ({_join(path, name): digest for name, digest in kept.files(each).items()} for each in digests)
        for name in sorted({*one, *other}):
            if one.get(name) == other.get(name):
                continue
            is_same = (
                name in one and name in other and _essence(name, one[name], kept) == _essence(name, other[name], kept)
            )
            (rewritten if is_same else files).append(name)
    return Differences(tuple(files), tuple(rewritten))


def essence_of(products: Mapping[str, Digest], kept: Kept) -> dict[str, str]:
    """What counts as the same of the products, by file: their digests, or those of what archives hold."""
    files = {
        _join(path, name): digest for path, whole in products.items() for name, digest in kept.files(whole).items()
    }
    return {name: _essence(name, digest, kept) for name, digest in files.items()}


def compared(first: StageOutcome, second: StageOutcome, kept: Kept) -> StageOutcome:
    """The outcome of a stage that succeeded and was executed once more: failed unless both made the same."""
    both = {
        "seconds": first.seconds + second.seconds,
        "cpu_seconds": (first.cpu_seconds or 0.0) + (second.cpu_seconds or 0.0),
        "peak_memory": max(first.peak_memory or 0, second.peak_memory or 0) or None,
        "bytes_read": (first.bytes_read or 0) + (second.bytes_read or 0),
        "bytes_written": (first.bytes_written or 0) + (second.bytes_written or 0),
    }
    if second.phase is not Phase.SUCCEEDED:
        because = f"executed again, to see whether it is deterministic: {second.because}"
        return second.model_copy(update={**both, "because": because})
    files, rewritten = compare(first.products, second.products, kept)
    if not files:
        but = f" (other bytes in {', '.join(rewritten)}: {WHY_REWRITTEN})" if rewritten else ""
        because = f"{first.because}; executed again, it made the same{but}"
        return first.model_copy(update={**both, "because": because, "is_deterministic": True})
    because = f"it is not deterministic: executed twice, it made different {', '.join(files)}"
    problems = tuple(Problem(message="the second execution made another one", path=path) for path in files)
    failed = {"phase": Phase.FAILED, "because": because, "is_deterministic": False, "products": {}}
    return first.model_copy(update={**both, **failed, "problems": (*problems, *first.problems)})


def contents_of_archive(content: bytes) -> str | None:
    """A digest of what a skops archive holds, whatever its members are called; None for what is none, or too large.

    Nothing of it is loaded as an object: only the archive's directory and its JSON are read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                return None
            parts = {
                name: blake3(archive.read(name)).hexdigest() for name in archive.namelist() if name != "schema.json"
            }
            schema = json.loads(archive.read("schema.json"))
            return blake3(canonical(_without_names(schema, parts))).hexdigest()
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError):
        return None  # among the last is a nesting too deep, and a compression that is not known


def _without_names(node: Any, parts: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_without_names(value, parts) for value in node]
    if not isinstance(node, dict):
        return parts.get(node, node) if isinstance(node, str) else node
    return {key: _without_names(value, parts) for key, value in node.items() if key != "__id__"}


def _essence(name: str, digest: Digest, kept: Kept) -> str:
    return (contents_of_archive(kept.read(digest)) if name.endswith(ARCHIVE) else None) or digest


def _join(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}" if name else path
