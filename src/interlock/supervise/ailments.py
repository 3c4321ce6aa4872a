"""What a program suffers from that does not end it: it answers nobody any more, or takes more and more memory."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

REST = 1.0
"""Seconds from an answer to the next question."""
FIRST_REST = 0.1
"""The same while it has not answered yet."""
QUESTION = b"GET /v2/health/live HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n"
PAGE = os.sysconf("SC_PAGE_SIZE")


class Pulse:
    """Asks a program at its Unix socket whether it lives, again and again, and waits for nothing.

    Until it has answered once (``has_answered``) it may take its time. One that does not listen, as one that ends, is
    not asked.
    """

    def __init__(self, folder: Path, path: str, *, has_answered: bool) -> None:
        self._path = folder / path
        self.has_answered = has_answered
        self._next = 0.0
        self._since: float | None = None
        self._socket: socket.socket | None = None

    def look(self, now: float) -> float:
        """One look; the seconds that it has left a question unanswered."""
        if self._socket is not None:
            self._listen()
        elif now >= self._next:
            self._next = now + (REST if self.has_answered else FIRST_REST)
            self._ask(now)
        return now - self._since if self._since is not None and self.has_answered else 0.0

    def close(self) -> None:
        """Asks no more."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._since = None

    def _ask(self, now: float) -> None:
        asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # A socket's path may have 107 bytes; this one is short however deep the folder lies.
            folder = os.open(self._path.parent, os.O_PATH | os.O_CLOEXEC)
            try:
                asking.connect(f"/proc/self/fd/{folder}/{self._path.name}")
                asking.send(QUESTION)
            finally:
                os.close(folder)
        except BlockingIOError:  # so many wait to be let in that there is no room for one more
            asking.close()
            self._since = now if self._since is None else self._since
        except OSError:
            asking.close()
            self._since = None
        else:
            self._socket, self._since = asking, now if self._since is None else self._since

    def _listen(self) -> None:
        assert self._socket is not None
        try:
            is_answer = self._socket.recv(64).startswith(b"HTTP/")
        except BlockingIOError:
            return
        except OSError:
            is_answer = False
        self.has_answered = self.has_answered or is_answer
        self.close()


def memory_of(pid: int) -> int:
    """Bytes of memory that a process and all below it have in use (proc_pid_statm(5)); what ends meanwhile has none."""
    found, below = 0, [pid]
    for one in below:
        with contextlib.suppress(OSError, ValueError, IndexError):
            found += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * PAGE
            below += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
    return found
