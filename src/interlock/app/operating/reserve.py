"""Disk space that is kept for the moment at which there is no other."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

RESERVED = 16 << 20
"""Bytes: many times what it takes to save a rollback and to write it to the proxy's files (about 200 KiB)."""
SHORT = 1 << 20
"""A disk with less space than this is full."""


class Reserve:
    """A file of ``RESERVED`` bytes in a folder, given up when a delivery cannot be saved or applied on a full disk."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "reserve"

    def keep(self) -> None:
        """Makes it, or makes it again, once the disk has room for it three times."""
        if self._file.exists() or shutil.disk_usage(self._file.parent).free < 3 * RESERVED:
            return
        part = self._file.with_suffix(".part")
        try:
            with part.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVED)
            part.replace(self._file)
        except OSError as problem:
            part.unlink(missing_ok=True)
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EOPNOTSUPP, errno.EINVAL):
                raise

    def give_up(self) -> bool:
        """Whether the disk is full and this has just made room."""
        if not self._file.exists() or shutil.disk_usage(self._file.parent).free >= SHORT:
            return False
        self._file.unlink()
        return True
