"""Writing a tree's files into a folder."""

from __future__ import annotations

import os
from pathlib import Path

from interlock.edges.git.objects import SmallContents, open_contents, read_contents
from interlock.errors import Refused
from interlock.source.commit import FileEntry, Tree
from interlock.system.files import write_all

SYMLINK = "120000"
EXECUTABLE = "100755"
NAME_BYTES = 255
PATH_BYTES = 3000
"""Together with the folder it is written to, a path must stay below the 4096 bytes of Linux."""
TREE_BYTES = 64 << 30
READ_BYTES = 32 << 20
"""What is read into memory of a tree; the rest is copied from git in pieces."""


def write_files(git_directory: str, tree: Tree, target: Path, small: SmallContents) -> None:
    """Writes the files of a tree below ``target``, by content alone: no filter and no conversion is applied.

    Refused for a path or a symbolic link that leaves ``target``, for paths that no file system holds, and for more than
    64 GiB; what was written by then is for the caller to remove.
    """
    for path in tree:
        _refuse_odd_path(path)
    size = sum(entry.size for entry in tree.values())
    if size > TREE_BYTES:
        remedy = "keep large data outside of the repository"
        raise Refused(f"the commit's files are {size >> 30} GiB together; at most 64 are written", "", remedy)
    for folder in sorted({os.path.dirname(path) for path in tree}):  # noqa: PTH120  # git's paths are text
        if folder:
            (target / folder).mkdir(parents=True, exist_ok=True)
    files = {path: entry for path, entry in tree.items() if entry.mode != SYMLINK}
    links = [path for path, entry in tree.items() if entry.mode == SYMLINK]
    _write_contents(git_directory, files, target, small)
    for path in links:
        if tree[path].size > PATH_BYTES:
            raise Refused(f"the symbolic link points further than {PATH_BYTES} bytes", path, "make it a relative path")
    aims = read_contents(git_directory, {path: tree[path].blob for path in links}, small)
    for path in links:  # after all files, so that nothing is ever written through one
        (target / path).symlink_to(os.fsdecode(aims[path]))
    for path in links:
        _refuse_a_way_out(target, path)


def _write_contents(git_directory: str, files: Tree, target: Path, small: SmallContents) -> None:
    read = read_contents(git_directory, _small_of(files, small), small)
    for path, content in read.items():
        descriptor = _create(target, path, files[path])
        try:
            write_all(descriptor, content)
        finally:
            os.close(descriptor)
    streamed = {path: entry for path, entry in files.items() if path not in read}
    if streamed:
        with open_contents(git_directory, [entry.blob for entry in streamed.values()]) as contents:
            for path, entry in streamed.items():
                with os.fdopen(_create(target, path, entry), "wb") as file:
                    contents.copy(entry.blob, file)


def _small_of(files: Tree, small: SmallContents) -> dict[str, str]:
    """The blobs of small files by path, no more of them than are read into memory at once."""
    found: dict[str, str] = {}
    size = 0
    for path, entry in files.items():
        if small.is_small(entry.size) and size + entry.size <= READ_BYTES:
            found[path] = entry.blob
            size += entry.size
    return found


def _create(target: Path, path: str, entry: FileEntry) -> int:
    mode = 0o755 if entry.mode == EXECUTABLE else 0o644
    return os.open(f"{target}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def _refuse_odd_path(path: str) -> None:
    remedy = "rename it, or remove it from the repository"
    parts = path.split("/")
    if any(part.lower() in {"", ".", "..", ".git"} for part in parts):
        raise Refused("the path is not one of a working tree", where=path, remedy="remove it from the repository")
    if len(path.encode()) > PATH_BYTES:
        raise Refused(f"the path is longer than {PATH_BYTES} bytes", where=f"{path[:80]}...", remedy=remedy)
    if any(len(part.encode()) > NAME_BYTES for part in parts):
        raise Refused(f"a name in the path is longer than {NAME_BYTES} bytes", where=f"{path[:80]}...", remedy=remedy)


def _refuse_a_way_out(target: Path, path: str) -> None:
    try:
        is_inside = (target / path).resolve().is_relative_to(target.resolve())
    except (OSError, RuntimeError):  # a loop: it leads nowhere
        is_inside = True
    if not is_inside:
        remedy = "link only to files of the same project, by a relative path"
        raise Refused("the symbolic link leaves the project", where=path, remedy=remedy)
