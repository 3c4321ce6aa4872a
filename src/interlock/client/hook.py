"""The post-receive hook of git: tells the server what was pushed, and shows the pusher its answer.

Run by its path, as ``python -I -S hook.py STATE``, inside the repository, with lines ``old new ref`` on standard input.
A push never fails because of it: it always ends with 0. It imports little, because every push waits for it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

SOCKET = "control.sock"
PATIENCE = 5.0
"""Seconds a push waits for the server's answer."""
LONGEST = 1 << 20
"""Bytes of an answer that are read at most."""


def ask(state: str, message: dict[str, object], patience: float = PATIENCE) -> dict[str, object] | None:
    """Sends one message to the server of a state folder, as one line of JSON, and answers its line of JSON.

    None where it is not there, or gave no answer within ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    try:
        folder = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience)
            # A socket's address holds 107 bytes; this one is short wherever the folder is.
            connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            connection.sendall(json.dumps(message).encode() + b"\n")
            answer = json.loads(_read_line(connection, deadline))
    except (OSError, ValueError):
        return None
    finally:
        os.close(folder)
    return answer if isinstance(answer, dict) else None


def _read_line(connection: socket.socket, deadline: float) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < LONGEST:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        piece = connection.recv(65536)
        if not piece:
            break
        line += piece
    return line


def read_updates(lines: list[str]) -> list[dict[str, str]]:
    """What git says on the hook's standard input, as updates of refs."""
    parts = [line.split(" ", 2) for line in lines]
    return [{"old": old, "new": new, "ref": ref} for old, new, ref in (part for part in parts if len(part) == 3)]


def main(state: str) -> int:
    """Tells of one push; always 0."""
    updates = read_updates(sys.stdin.buffer.read().decode("utf-8", "surrogateescape").splitlines())
    git_directory = os.path.realpath(os.environ.get("GIT_DIR", "."))
    answer = ask(state, {"kind": "push", "git_directory": git_directory, "updates": updates})
    if answer is None:
        lines: object = ["interlock: the server is not there; it will find this push when it is back"]
    else:
        lines = answer.get("lines", [f"interlock: {answer.get('error', 'the server gave no word')}"])
    for line in lines if isinstance(lines, list) else []:
        sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
