"""Places with data, looked at for change. ``ObjectWatch`` is the real one; ``MemoryWatch`` the fake."""

from interlock.edges.watch.memory import MemoryWatch
from interlock.edges.watch.objects import ObjectWatch

__all__ = ["MemoryWatch", "ObjectWatch"]
