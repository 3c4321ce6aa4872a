"""Requests to one forge's API: its credentials go to its own address only, and nothing it answers is taken on trust."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from interlock.edges.forge.answers import check_answer
from interlock.errors import ForgeFault, Refused
from interlock.later import Later
from interlock.vocabulary import Json

if TYPE_CHECKING:
    import httpx
else:  # servers without a forge never need it
    httpx = Later("httpx")

CONNECT_SECONDS = 5.0
WHOLE_SECONDS = 8.0
MOST_BYTES = 16 * 1024 * 1024
"""Of one answer: a page of 50 comments, each as long as they get, in characters that JSON writes long."""


class Answer(NamedTuple):
    """A status that was asked for, and the JSON document that came with it (None for none)."""

    status: int
    document: Any


class Wire:
    """One forge's API at ``api`` (https, or http on this machine). ``headers`` makes those that carry the token.

    Redirects are not followed, certificates are checked, and proxies of the environment are not used.
    """

    def __init__(
        self,
        api: str,
        token: Callable[[], str],
        headers: Callable[[str], Mapping[str, str]],
        seconds: float = WHOLE_SECONDS,
    ) -> None:
        self._api = check_address(api)
        self._token = token
        self._headers = headers
        self._seconds = seconds
        self._certificates = httpx.create_ssl_context()

    def ask(self, method: str, path: str, body: Json = None, also: Collection[int] = ()) -> Answer:
        """The answer, where its status is a success or one of ``also``; else Refused or ForgeFault with a remedy."""
        token = self._token().strip()
        if not token.isascii() or not token.isprintable() or not token:
            raise Refused("the token is empty or holds characters that no token has", self._api, "give another token")
        try:
            response, content = asyncio.run(self._exchange(method, path, body, token))
        except (httpx.TransportError, TimeoutError) as problem:
            raise ForgeFault(f"{self._api} cannot be reached: {self._tell(problem)}") from problem
        check_answer(self._api, f"{method} {path.partition('?')[0]}", response, also)
        return Answer(response.status_code, self._read(content))

    async def _exchange(self, method: str, path: str, body: Json, token: str) -> tuple[httpx.Response, bytes]:
        """One request, over in the seconds of the wire however slowly its answer drips."""
        client = httpx.AsyncClient(
            verify=self._certificates,
            timeout=httpx.Timeout(self._seconds, connect=min(CONNECT_SECONDS, self._seconds)),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "interlock", "Accept-Encoding": "identity", **self._headers(token)},
        )
        async with asyncio.timeout(self._seconds), client:
            request = client.build_request(method, f"{self._api}{path}", json=body)
            response = await client.send(request, stream=True)
            content = bytearray()
            async for part in response.aiter_raw():
                content += part
                if len(content) > MOST_BYTES:
                    raise ForgeFault(f"{self._api} answered more than {MOST_BYTES} bytes")
            return response, bytes(content)

    def _tell(self, problem: Exception) -> str:
        """In words of this machine: others could hold what the forge sent, and with it the token."""
        if isinstance(problem, TimeoutError | httpx.TimeoutException):
            return f"no answer in {self._seconds:g} s"
        return str(problem) if isinstance(problem, httpx.ConnectError) else "the connection broke"

    def _read(self, content: bytes) -> Any:
        try:
            return json.loads(content) if content else None
        except ValueError as problem:
            raise ForgeFault(f"{self._api} answered something that is not JSON") from problem


def check_address(api: str) -> str:
    """The address without a slash at its end. Refused where a token sent to it could be read on the way."""
    parts = urlsplit(api)
    if parts.username is not None or parts.query or parts.fragment or not parts.hostname:
        raise Refused("the address is not a plain one", "forge.api", "write it as https://HOST/PATH")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_this_machine(parts.hostname)):
        raise Refused(f"tokens are not sent over {parts.scheme}", api, "write an https address")
    return api.rstrip("/")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
