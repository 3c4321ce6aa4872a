"""Writing a tree's files into a folder."""

from __future__ import annotations

import os
from pathlib import Path

from interlock.edges.git.objects import open_contents, read_contents
from interlock.errors import Refused
from interlock.source.commit import Tree

SYMLINK = "120000"
EXECUTABLE = "100755"


def write_files(git_directory: str, tree: Tree, target: Path) -> None:
    """Writes the files of a tree below ``target``, by content alone: no filter and no conversion is applied.

    Refused for a path or a symbolic link that leaves ``target``; what was written by then is for the caller to remove.
    """
    for path in tree:
        if any(part.lower() in {"", ".", "..", ".git"} for part in path.split("/")):
            raise Refused("the path is not one of a working tree", where=path, remedy="remove it from the repository")
    for folder in sorted({os.path.dirname(path) for path in tree}):  # noqa: PTH120  # git's paths are text
        (target / folder).mkdir(parents=True, exist_ok=True)
    files = {path: entry for path, entry in tree.items() if entry.mode != SYMLINK}
    links = [path for path, entry in tree.items() if entry.mode == SYMLINK]
    with open_contents(git_directory, [entry.blob for entry in files.values()]) as contents:
        for path, entry in files.items():
            mode = 0o755 if entry.mode == EXECUTABLE else 0o644
            descriptor = os.open(target / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                contents.copy(entry.blob, file)
    aims = read_contents(git_directory, {path: tree[path].blob for path in links})
    for path in links:  # after all files, so that nothing is ever written through one
        (target / path).symlink_to(os.fsdecode(aims[path]))
    for path in links:
        _refuse_a_way_out(target, path)


def _refuse_a_way_out(target: Path, path: str) -> None:
    try:
        is_inside = (target / path).resolve().is_relative_to(target.resolve())
    except (OSError, RuntimeError):  # a loop: it leads nowhere
        is_inside = True
    if not is_inside:
        remedy = "link only to files of the same project, by a relative path"
        raise Refused("the symbolic link leaves the project", where=path, remedy=remedy)
