"""The door of the control plane: a Unix socket at which hooks and commands knock with one line of JSON."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from interlock.system.sockets import listen
from interlock.vocabulary import Json

SOCKET_NAME = "control.sock"
LONGEST_MESSAGE = 1 << 20
PATIENCE_SECONDS = 5.0


class Door:
    """Answers each message by calling ``answer``; a knock that makes no sense is answered with an error."""

    def __init__(self, folder: Path, answer: Callable[[dict[str, Json]], dict[str, Json]]) -> None:
        self._answer = answer
        self._listener = listen(folder, SOCKET_NAME)
        self._path = folder / SOCKET_NAME
        self._thread = threading.Thread(target=self._serve, name="door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening; who is inside is answered."""
        # shutdown wakes the thread that waits in accept; close alone would leave it there
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_SECONDS)
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(PATIENCE_SECONDS)
            try:
                with connection.makefile("rb") as lines:
                    message = json.loads(lines.readline(LONGEST_MESSAGE))
                if not isinstance(message, dict):
                    raise TypeError("it is no JSON object")
                answer = self._answer(message)
            except (ValueError, TypeError, RecursionError, TimeoutError) as nonsense:
                answer = {"error": f"not understood: {nonsense}"}
            try:
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                return  # who knocked has left; what was asked is done all the same
