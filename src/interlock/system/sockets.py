"""Unix sockets in folders of any depth, HTTP over them, and free ports.

A socket's address holds 107 bytes. The folder is therefore opened first, and the socket addressed through
``/proc/self/fd``, which is short wherever the folder is.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


@contextmanager
def _short_address(folder: Path, name: str) -> Iterator[str]:
    if "/" in name or len(os.fsencode(name)) > 80:
        raise ValueError(f"not the name of a socket: {name!r}")
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def connect(folder: Path, name: str, timeout: float) -> socket.socket:
    """A connection to the socket ``name`` in ``folder``, with ``timeout`` seconds for each operation on it."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        with _short_address(folder, name) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def listen(folder: Path, name: str, mode: int = 0o600) -> socket.socket:
    """A listening socket ``name`` in ``folder``; one that a dead process left there is replaced.

    It takes no connection before it has its ``mode``. Who may listen is for a lock to decide, not for this call.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_address(folder, name) as address:
            Path(address).unlink(missing_ok=True)
            listener.bind(address)
            Path(address).chmod(mode)
            listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


class Answer(NamedTuple):
    """An HTTP answer; the names of ``headers`` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, folder: Path, name: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._folder, self._name, self._seconds = folder, name, timeout

    def connect(self) -> None:
        self.sock = connect(self._folder, self._name, self._seconds)


def http_over(
    folder: Path,
    name: str,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 5.0,
) -> Answer:
    """One HTTP request over a Unix socket. OSError for all that goes wrong, ``timeout`` seconds for each operation."""
    connection = _UnixConnection(folder, name, timeout)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
    except http.client.HTTPException as problem:
        raise ConnectionError(f"no HTTP answer from {folder / name}: {problem!r}") from problem
    finally:
        connection.close()
    return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, content)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
