"""Content-addressed bytes. ``LocalBlobs`` is the real one, in a folder; ``MemoryBlobs`` the fake."""

from interlock.edges.blobs.local import LocalBlobs
from interlock.edges.blobs.memory import MemoryBlobs

__all__ = ["LocalBlobs", "MemoryBlobs"]
