"""Secrets at rest."""

from interlock.edges.vault.local import LocalVault
from interlock.edges.vault.memory import MemoryVault

__all__ = ["LocalVault", "MemoryVault"]
