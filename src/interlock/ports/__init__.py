"""What the loop needs from the world, in domain words.

Each port has a real edge and a fake beside it in ``edges/``; both pass the same tests in ``tests/contract``.
Paths are strings: the domain does not touch the file system.
"""

from interlock.ports.isolation import Bounds, Cell, CellSeen, Isolation, Sandbox, Start
from interlock.ports.keeping import Blobs, KnownFile, Logs, LogWindow, Notices, Store, Vault
from interlock.ports.serving import Proxy, Replicas, Telemetry
from interlock.ports.working import Environments, Executor, Forge, Git, Receivers, Reverts, Signing, Watch

__all__ = [
    "Blobs",
    "Bounds",
    "Cell",
    "CellSeen",
    "Environments",
    "Executor",
    "Forge",
    "Git",
    "Isolation",
    "KnownFile",
    "LogWindow",
    "Logs",
    "Notices",
    "Proxy",
    "Receivers",
    "Replicas",
    "Reverts",
    "Sandbox",
    "Signing",
    "Start",
    "Store",
    "Telemetry",
    "Vault",
    "Watch",
]
