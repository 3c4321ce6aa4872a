"""Which places may be read, and for whom."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from interlock.errors import Forbidden


class Places:
    """``allowed`` lists, by repository, the absolute paths and prefixes of object stores that its runs may read.

    None: the runs are those of a person on a machine of their own, who may read whatever the machine lets them.
    """

    def __init__(self, allowed: Mapping[str, Sequence[str]] | None) -> None:
        self._allowed = allowed

    @property
    def is_open(self) -> bool:
        """Whether everything may be read."""
        return self._allowed is None

    def refuse(self, place: str, data_of: str | None, path: str) -> None:
        """Forbidden for a place that is not listed. Paths count as what they really are, with all links followed.

        ``path`` is where stages see the data, for the message.
        """
        if self._allowed is None:
            return
        if data_of is None:
            problem = f"it lives at {place}, which a pull request from outside may not read"
            raise Forbidden(problem, path, "a member can push the commit to a branch of the repository")
        listed = self._allowed.get(data_of, ())
        is_store = "://" in place
        wanted = place if is_store else os.path.realpath(place)
        for one in listed:
            if ("://" in one) == is_store and _is_below(wanted, one if is_store else os.path.realpath(one)):
                return
        problem = f"it lives at {place}, which the server's settings do not let {data_of} read"
        remedy = f"an administrator lists it in server.yaml: repositories.{data_of}.data: [{place}]"
        raise Forbidden(problem, path, remedy)


def _is_below(place: str, folder: str) -> bool:
    return place.rstrip("/") == folder.rstrip("/") or place.startswith(f"{folder.rstrip('/')}/")
