"""Which refs are trusted. The server's settings say it, never a repository or a payload."""

from __future__ import annotations

from interlock.source.commit import branch_of
from interlock.source.patterns import Pattern
from interlock.source.repository import Watched


def is_trusted(ref: str, watched: Watched) -> bool:
    """Whether runs of this full ref may deliver and have secrets: the last pattern that matches decides.

    Only branches and tags can be: whatever else a forge keeps as refs (``refs/pull/7/head``), anybody may have written.
    """
    branch = branch_of(ref)
    if branch is None and not ref.startswith("refs/tags/"):
        return False
    for text in reversed(watched.trusted):
        pattern = text.removeprefix("!")
        name = ref if pattern.startswith("refs/") else branch
        if name is not None and Pattern(pattern).matches(name):
            return not text.startswith("!")
    return False
