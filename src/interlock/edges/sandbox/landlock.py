"""Landlock: rights that a thread gives up, for itself and for all that it starts from then on (landlock(7)).

It needs no privileges, and nothing that is started can take it back. Only what does not stand in a sandbox's way is
given up here: a domain with rules for files would forbid the mounts that bubblewrap makes.
"""

from __future__ import annotations

import ctypes
import os

CREATE_RULESET, RESTRICT_SELF = 444, 446
"""Numbers of the system calls, the same on every processor."""
ASK_VERSION = 1
BIND_TCP, CONNECT_TCP = 1, 2
ABSTRACT_UNIX_SOCKET, SIGNAL = 1, 2
NETWORK_SINCE, SCOPES_SINCE = 4, 6
NO_NEW_PRIVILEGES = 38


class _Ruleset(ctypes.Structure):
    """``struct landlock_ruleset_attr`` of <linux/landlock.h>."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def version() -> int:
    """The version of Landlock that this kernel offers; 0 where it has none or it is switched off."""
    found: int = _libc().syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(ASK_VERSION))
    return max(0, found)


def restrict_thread(*, has_network: bool) -> None:
    """From now on the calling thread and what it starts reach nothing that was started before or beside them.

    They cannot signal it, not trace it or read its memory, environment and descriptors, and not connect to its abstract
    Unix sockets. Without ``has_network`` TCP is denied as well. OSError where the kernel is older than version 6.
    """
    network = 0 if has_network else BIND_TCP | CONNECT_TCP
    rights = _Ruleset(0, network, ABSTRACT_UNIX_SOCKET | SIGNAL)
    libc = _libc()
    ruleset = libc.syscall(
        CREATE_RULESET, ctypes.byref(rights), ctypes.c_size_t(ctypes.sizeof(rights)), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "no Landlock ruleset can be made")
    try:
        if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.syscall(RESTRICT_SELF, ruleset, ctypes.c_uint32(0)):
            raise OSError(ctypes.get_errno(), "Landlock cannot be put on")
    finally:
        os.close(ruleset)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
