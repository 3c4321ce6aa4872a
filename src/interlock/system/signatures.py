"""What the file system says of files, taken to see later whether any of them has changed. Quick to import.

A file that was written, replaced, renamed or given other rights, and a folder that gained or lost a name, has another
signature. The time of the last change of a file's inode is part of it: no program can set it back.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Sequence
from typing import NamedTuple

FIELDS = 6
"""Numbers of one signature: device, inode, mode, size, and in nanoseconds the times of content and inode."""
ABSENT = (0,) * FIELDS
DENIED = (-1,) * FIELDS
"""Of what this user may not look at: a folder of the search path that is another's, say."""
FINE_NANOSECONDS = 100_000_000
"""More than a kernel's clock tick, by which file times are rounded."""
COARSE_NANOSECONDS = 2_100_000_000
"""More than the two seconds to which the coarsest file system rounds."""
SECOND = 1_000_000_000


class Moment(NamedTuple):
    """One moment by two clocks, in nanoseconds: one that can be set, and one that only runs."""

    wall: int
    running: int

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        return cls(time.time_ns(), time.monotonic_ns())


def sign(paths: Sequence[str], folder: int | None = None) -> array[int]:
    """The signatures of these paths, one after the other; links are not followed.

    What is not there has ABSENT, what this user may not look at DENIED. Relative paths are below the open ``folder``.
    OSError where the file system gives no answer, OverflowError for an odd one.
    """
    found = array("q")
    for path in paths:
        try:
            seen = os.lstat(path, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            found.extend(ABSENT)
        except PermissionError:
            found.extend(DENIED)
        else:
            found.extend((seen.st_dev, seen.st_ino, seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))
    return found


def are_settled(signatures: array[int], began: Moment, now: Moment) -> bool:
    """Whether all of these, taken by ``now``, tell of a last change that was clearly before ``began``.

    Otherwise something may have changed between the two moments, or may change again without getting another time. A
    clock that was set in between can tell nothing.
    """
    if abs((now.wall - began.wall) - (now.running - began.running)) > FINE_NANOSECONDS:
        return False
    for at in signatures[FIELDS - 1 :: FIELDS]:
        grain = COARSE_NANOSECONDS if at % SECOND == 0 else FINE_NANOSECONDS
        if at + grain > began.wall:
            return False
    return True
