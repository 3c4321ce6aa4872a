"""The store: rows, their events, numbers and facts. ``SqlStore`` is the real one, ``MemoryStore`` the fake."""

from interlock.edges.store.database import copy_database, restore_database
from interlock.edges.store.memory import MemoryStore
from interlock.edges.store.sql import SqlStore

__all__ = ["MemoryStore", "SqlStore", "copy_database", "restore_database"]
