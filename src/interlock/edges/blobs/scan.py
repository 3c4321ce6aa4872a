"""What lies in a folder that is to be stored."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from interlock.errors import NotFound, Refused


class Found(NamedTuple):
    """One file: where its bytes are, and whether its owner may execute it."""

    place: Path
    is_executable: bool


def find_files(source: Path) -> dict[str, Found]:
    """The files at ``source``: those of a folder by relative path, a lone file under the empty path.

    A symbolic link to a file of the same folder counts as that file. An empty folder within leaves no trace. NotFound
    where there is nothing; Refused for every other link, for devices, pipes and sockets.
    """
    if not os.path.lexists(source):
        raise NotFound("there is no such file or folder", where=str(source))
    if source.is_symlink() or not source.is_dir():
        return {"": _find(source, source.parent if source.is_symlink() else source)}
    found = {}
    for parent, folders, names in os.walk(source, onerror=_refuse_to_skip):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in [*names, *links]:
            place = Path(parent, name)
            found[place.relative_to(source).as_posix()] = _find(place, source)
    return found


def _refuse_to_skip(problem: OSError) -> None:
    raise problem


def _find(place: Path, within: Path) -> Found:
    aim = place
    if place.is_symlink():
        aim = Path(os.path.realpath(place))  # unlike resolve(), it answers for a circle of links too
        if not aim.is_relative_to(within.resolve()):
            raise Refused("the symbolic link leaves the folder", where=str(place), remedy="copy what it points to")
        if not aim.is_file():
            raise Refused(
                "the symbolic link points to no file", where=str(place), remedy="remove it, or copy the folder"
            )
    mode = aim.stat().st_mode
    if not stat.S_ISREG(mode):
        raise Refused("this is neither a file nor a folder", where=str(place), remedy="remove it")
    return Found(aim, bool(mode & stat.S_IXUSR))
