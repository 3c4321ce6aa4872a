"""The digest of all that a folder of installed packages holds."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from blake3 import blake3

COMPLETE = "interlock-complete.json"
"""Written last into an environment, with the digest of what it holds: one without it is half built."""


def digest_contents(folder: str) -> str:
    """One digest of every file's name, content and right to be executed, and of every link's target.

    ``COMPLETE`` does not count. OSError where something cannot be read.
    """
    whole = blake3()
    for name, entry in sorted(_files(folder, ""), key=lambda one: one[0]):
        if name == COMPLETE:
            continue
        if entry.is_symlink():
            told = f"link {os.readlink(entry.path)}"  # noqa: PTH115 - the same
        else:
            with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123 - thousands of files: no object for each
                kind = "program" if os.fstat(file.fileno()).st_mode & stat.S_IXUSR else "file"
                told = f"{kind} {blake3(file.read()).hexdigest()}"
        whole.update(f"{name}\0{told}\0".encode(errors="surrogateescape"))
    return f"blake3:{whole.hexdigest()}"


def _files(folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry
