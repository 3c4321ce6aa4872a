"""The door of the control plane: a Unix socket at which hooks and commands knock with one line of JSON."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from interlock.system.sockets import listen
from interlock.vocabulary import Json

SOCKET_NAME = "control.sock"
LONGEST_MESSAGE = 1 << 20
PATIENCE_SECONDS = 5.0
"""How long a visitor may take to say its message, and to take the answer."""
REST_SECONDS = 0.05
"""Until the next try where this process has no descriptor left for a visitor."""


class Door:
    """Answers each message by calling ``answer``; nonsense, and trouble behind the door, are answered with an error."""

    def __init__(self, folder: Path, answer: Callable[[dict[str, Json]], dict[str, Json]]) -> None:
        self._answer = answer
        self._is_closed = False
        self._listener = listen(folder, SOCKET_NAME)
        self._path = folder / SOCKET_NAME
        self._thread = threading.Thread(target=self._serve, name="door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening; who is inside is answered."""
        self._is_closed = True
        # shutdown wakes the thread that waits in accept; close alone would leave it there
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_SECONDS)
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._is_closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                time.sleep(REST_SECONDS)  # closed, or too many are inside just now
                continue
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        with connection:
            answer = self._answer_to(connection)
            try:
                connection.settimeout(PATIENCE_SECONDS)
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                return  # who knocked has left; what was asked is done all the same

    def _answer_to(self, connection: socket.socket) -> dict[str, Json]:
        try:
            message = json.loads(_read_line(connection))
            if not isinstance(message, dict):
                raise TypeError("it is no JSON object")
        except (ValueError, TypeError, RecursionError, OSError) as nonsense:
            return {"error": f"not understood: {nonsense}"}
        try:
            return self._answer(message)
        except Exception as trouble:  # noqa: BLE001 - whoever knocks is answered, whatever broke behind the door
            return {"error": f"{type(trouble).__name__}: {trouble}"}


def _read_line(connection: socket.socket) -> bytes:
    """One line, or what came before the visitor stopped. TimeoutError for one who takes longer than patience lasts."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    line = bytearray()
    while len(line) < LONGEST_MESSAGE and not line.endswith(b"\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        piece = connection.recv(65536)
        if not piece:
            break
        line += piece
    return bytes(line).partition(b"\n")[0]
