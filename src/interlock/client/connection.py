"""The connection to one server: requests are tried again where that is safe, and lost streams are taken up again."""

from __future__ import annotations

import os
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from .errors import ApiError, Problem, Unreachable
from .stream import ServerSentEvent, parse_events, whole_lines

LOOPBACK = ("localhost", "127.0.0.1", "::1")
TRIES = 5
"""How often a request is sent at most."""
STREAM_TRIES = 10
"""How often a stream that is lost is asked for before it is given up, which takes some 40 s."""
FIRST_WAIT = 0.2
"""Seconds before the second try; each further wait is twice as long."""
LONGEST_WAIT = 10.0
"""Seconds, also where the server asks for more."""
STREAM_SILENCE = 60.0
"""Seconds without a word after which a stream counts as lost; the server says something more often."""

Parameters = Mapping[str, str | int | list[str] | None]


class Connection:
    """HTTP with one server. ``url`` is what messages call it."""

    def __init__(self, client: httpx.Client, url: str, descriptor: int | None = None) -> None:
        self.url = url
        self._client = client
        self._descriptor = descriptor

    @classmethod
    def to_url(cls, url: str, token: str | None, ca_file: str | Path | None, timeout: float) -> Connection:
        """Over TCP. ValueError for what is no URL of a server, and for a token that would be sent in the clear."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError(f"not the URL of a server: {url!r}: write https://HOST[:PORT]")
        is_secure = parts.scheme == "https"
        if token and not is_secure and parts.hostname not in LOOPBACK:
            raise ValueError(f"a token is never sent in the clear: use https://{parts.netloc}")
        client = httpx.Client(
            base_url=url,
            headers=_headers(token),
            verify=ssl.create_default_context(cafile=ca_file) if is_secure else False,
            timeout=timeout,
            trust_env=is_secure,
        )
        return cls(client, url)

    @classmethod
    def to_socket(cls, path: Path, timeout: float) -> Connection:
        """Over a Unix socket, wherever it is. OSError where its folder is not there."""
        # A socket's address holds 107 bytes; through the open folder it is short wherever the folder is.
        descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        transport = httpx.HTTPTransport(uds=f"/proc/self/fd/{descriptor}/{path.name}", verify=False, trust_env=False)
        client = httpx.Client(base_url="http://localhost", transport=transport, headers=_headers(None), timeout=timeout)
        return cls(client, str(path), descriptor)

    def close(self) -> None:
        """Closes what is open; a second call does nothing."""
        self._client.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def get(self, path: str, parameters: Parameters | None = None) -> Any:
        """The JSON that a resource answers."""
        return self._ask("GET", path, parameters=parameters).json()

    def post(self, path: str, body: object, *, key: str | None = None, is_repeatable: bool = True) -> Any:
        """The JSON answer to a request, or None.

        All tries carry the same idempotency key, ``key`` or a random one. What is not ``is_repeatable`` is sent again
        only where no connection came about.
        """
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        response = self._ask("POST", path, body=body, headers=headers, is_repeatable=is_repeatable)
        return response.json() if response.content else None

    def put(self, path: str, body: object) -> Any:
        """Writes a resource whole; the JSON answer, or None."""
        response = self._ask("PUT", path, body=body)
        return response.json() if response.content else None

    def delete(self, path: str, parameters: Parameters | None = None) -> None:
        """Removes a resource."""
        self._ask("DELETE", path, parameters=parameters)

    def follow(self, path: str, parameters: Parameters | None = None) -> Iterator[ServerSentEvent]:
        """The numbered events of a stream, each once and in order, until the server ends it.

        A stream that is lost is taken up behind the last number that came.
        """
        last: int | None = None
        silent = 0
        while True:
            wait = None
            try:
                for event in self._listen(path, parameters, last):
                    silent = 0
                    if event.name == "end":
                        return
                    if event.id and last is not None and int(event.id) <= last:
                        continue
                    last = int(event.id) if event.id else last
                    if event.data:
                        yield event
                problem = "the stream ended before its end"
            except httpx.TransportError as lost:
                problem = _told(lost)
            except ApiError as error:
                if error.status != 503:
                    raise
                problem, wait = str(error), error.retry_after
            silent += 1
            if silent >= STREAM_TRIES:
                raise Unreachable(self.url, problem)
            time.sleep(_wait(silent, wait))

    def _listen(self, path: str, parameters: Parameters | None, last: int | None) -> Iterator[ServerSentEvent]:
        headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": str(last)})
        timeout = httpx.Timeout(self._client.timeout.connect, read=STREAM_SILENCE)
        with self._client.stream(
            "GET", path, params=_written(parameters), headers=headers, timeout=timeout
        ) as response:
            if response.status_code != 200:
                response.read()
                raise _api_error(response)
            yield from parse_events(whole_lines(response.iter_text()))

    def _ask(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool = True,
    ) -> httpx.Response:
        for attempt in range(1, TRIES + 1):
            wait = None
            try:
                response = self._client.request(method, path, params=_written(parameters), json=body, headers=headers)
                if response.is_success:
                    return response
                error = _api_error(response)
                if error.status != 503 or attempt == TRIES or not is_repeatable:
                    raise error
                wait = error.retry_after
            except httpx.TransportError as lost:
                was_sent = not isinstance(lost, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                if attempt == TRIES or (was_sent and not is_repeatable):
                    is_certain = method == "GET" or not was_sent
                    raise Unreachable(self.url, _told(lost), is_certain=is_certain) from lost
            time.sleep(_wait(attempt, wait))
        raise AssertionError("every try returns or raises")


def _headers(token: str | None) -> dict[str, str]:
    return {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})


def _wait(attempt: int, asked: float | None) -> float:
    return min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1) if asked is None else asked)


def _written(parameters: Parameters | None) -> dict[str, Any]:
    return {name: value for name, value in (parameters or {}).items() if value not in (None, [])}


def _told(lost: httpx.TransportError) -> str:
    return f"no answer: {str(lost) or type(lost).__name__}"


def _api_error(response: httpx.Response) -> ApiError:
    try:
        told = response.json()
    except ValueError:
        told = None
    body = told if isinstance(told, dict) else {}
    title = str(body.get("title") or response.reason_phrase or f"status {response.status_code}")
    first = Problem(*(str(body.get(name) or "") for name in ("detail", "where", "remedy")))
    several = body.get("problems")
    problems = [
        Problem(*(str(one.get(name) or "") for name in ("problem", "where", "remedy")))
        for one in (several if isinstance(several, list) else [])
        if isinstance(one, dict)
    ]
    kind = str(body.get("type") or "").rstrip("/").rpartition("/")[2].rpartition(":")[2]
    after = response.headers.get("Retry-After", "")
    return ApiError(
        response.status_code,
        kind if kind not in ("", "blank") else f"status_{response.status_code}",
        title,
        problems or ([first] if first.problem else []),
        float(after) if after.isdecimal() else None,
    )
