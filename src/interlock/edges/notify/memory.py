"""Receivers in memory: the fake, for tests of what stands above them."""

from __future__ import annotations


class MemoryReceivers:
    """The port ``Receivers``: ``taken`` is what came, by receiver; those in ``broken`` take nothing."""

    def __init__(self, *names: str) -> None:
        self.taken: dict[str, list[tuple[str, bytes]]] = {name: [] for name in names}
        self.broken: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self.taken)

    def send(self, receiver: str, identity: str, body: bytes) -> str | None:
        """Keeps the message."""
        if receiver in self.broken:
            return "answered 503"
        self.taken[receiver].append((identity, body))
        return None
