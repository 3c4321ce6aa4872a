"""One server under test: where it is, and how it is asked."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

TIMEOUT = 30.0


class Answered(NamedTuple):
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """The body's JSON; None where it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


class Target:
    """A server at ``http://host:port`` or ``unix:/path/of/a/socket``, and the model on it that is asked."""

    def __init__(self, url: str, model: str) -> None:
        self._socket = url.removeprefix("unix:") if url.startswith("unix:") else None
        parts = urlsplit(url)
        self._address = parts.hostname or "localhost", parts.port or 80
        self.model = model

    @property
    def infer(self) -> str:
        """The path of inference requests."""
        return f"/v2/models/{self.model}/infer"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answered:
        """One request on a connection of its own. OSError or HTTPException where nothing that is HTTP came back."""
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT)
        try:
            if self._socket is not None:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(TIMEOUT)
                connection.sock.connect(self._socket)
            connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, found, answer.read())
        finally:
            connection.close()

    def send(self, content: object, headers: Mapping[str, str] | None = None) -> Answered:
        """An inference request in JSON."""
        return self.ask("POST", self.infer, orjson.dumps(content), headers)
