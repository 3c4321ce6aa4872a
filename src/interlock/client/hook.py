"""The post-receive hook of git: tells the server what was pushed, and shows the pusher its answer.

Run by its path, as ``python -I -S hook.py STATE``, inside the repository. A push never fails because of it: it always
ends with 0. It imports little, because every push waits for it; that is why it speaks HTTP by hand.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

SOCKET = "control.sock"
PATH = "/hooks/git"
PATIENCE = 5.0
"""Seconds a push waits for the server's answer."""
LONGEST = 1 << 20
"""Bytes of an answer that are read at most."""
MOST_REFS = 100
"""Refs of one push that are told, so that the runs of it can be named."""
AWAY = "interlock: the server is not there; it will find this push when it is back"
SILENT = "interlock: the server gave no answer; it will find this push all the same"


def tell(state: str, git_directory: str, pushed: dict[str, str], patience: float = PATIENCE) -> list[str]:
    """Tells the server of a state folder of a push; the lines to show to the pusher, whatever came of it.

    ``pushed``, refs to commits, only says whose runs to tell of: the server asks the repository itself.
    """
    deadline = time.monotonic() + patience
    try:
        folder = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return [AWAY]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience)
            try:
                # A socket's address holds 107 bytes; this one is short wherever the folder is.
                connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            except OSError:
                return [AWAY]
            told = {"git_directory": git_directory, "pushed": pushed}
            connection.sendall(_request(json.dumps(told).encode()))
            return _lines(_read(connection, deadline))
    except (OSError, ValueError):
        return [SILENT]
    finally:
        os.close(folder)


def _request(body: bytes) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body


def _read(connection: socket.socket, deadline: float) -> bytes:
    """The whole answer: until the server closes, which it was asked to do."""
    answer = b""
    while len(answer) < LONGEST:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        piece = connection.recv(65536)
        if not piece:
            break
        answer += piece
    return answer


def _lines(answer: bytes) -> list[str]:
    """What an HTTP answer says to the pusher; a refusal is told with its reason. ValueError for what is no answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    version, _, status = head.partition(b"\r\n")[0].partition(b" ")
    told = json.loads(body)
    if not (version.startswith(b"HTTP/1.") and isinstance(told, dict)):
        raise ValueError("it is no answer")
    lines = told.get("lines")
    if status.startswith(b"2") and isinstance(lines, list):
        return [str(line) for line in lines]
    return [f"interlock: {told.get('detail') or told.get('title') or status.decode('latin-1')}"]


def visible(text: str) -> str:
    """Text that steers no terminal: what cannot be printed is written as an escape."""
    return "".join(
        letter if letter.isprintable() or letter == "\t" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def main(state: str) -> int:
    """Tells of one push; always 0."""
    # "old new ref" of each ref (githooks(5)); all is read, or git's pipe would break
    updates = [line.decode(errors="replace").split(" ", 2) for line in sys.stdin.buffer.read().splitlines()]
    pushed = {update[2]: update[1] for update in updates[:MOST_REFS] if len(update) == 3}
    git_directory = os.path.realpath(os.environ.get("GIT_DIR", "."))
    for line in tell(state, git_directory, pushed):
        sys.stdout.buffer.write(visible(line).encode() + b"\n")
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
