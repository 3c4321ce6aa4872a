"""Places in memory: the fake, for tests of what stands above it."""

from __future__ import annotations

from interlock.edges.watch.listing import Entry, fingerprint_of


class MemoryWatch:
    """The port ``Watch`` over contents that a test puts and removes."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def put(self, path: str, content: bytes) -> None:
        """There is a file of this content at ``path``."""
        self._contents[path] = content

    def remove(self, path: str) -> None:
        """There is no file at ``path``."""
        self._contents.pop(path, None)

    def fingerprint(self, location: str) -> str:
        """The digest of what lies at or below ``location``. WatchFault where there is nothing."""
        place = location.rstrip("/")
        return fingerprint_of(
            location,
            [
                Entry(path.removeprefix(place), len(content), content.hex())
                for path, content in self._contents.items()
                if path == place or path.startswith(f"{place}/")
            ],
        )
