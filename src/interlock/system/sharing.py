"""A folder that many use at once, and that one at a time may tidy. Quick to import."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sharing(folder: str | os.PathLike[str], *, is_alone: bool = False) -> Iterator[None]:
    """Holds the folder together with others in the block; ``is_alone``: with nobody. Waits until that can be."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
