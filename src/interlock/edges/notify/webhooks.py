"""Messages posted to webhooks, each signed with the webhook's secret.

``X-Interlock-Signature-256`` is ``sha256=`` and the HMAC-SHA256 of the body under the secret, in hexadecimal digits;
``X-Interlock-Delivery`` is the message's id, the same whenever it comes again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from interlock.later import Later

if TYPE_CHECKING:
    import httpx
else:  # servers without a webhook never need it
    httpx = Later("httpx")

SECONDS = 10.0
"""How long one post may take altogether, however slowly it is answered."""


class Webhook(NamedTuple):
    """Where to post, and the secret under which the body is signed."""

    url: str
    secret: bytes


class Webhooks:
    """Webhooks by name. Redirects are not followed, proxies of the environment not used, and answers not read."""

    def __init__(self, webhooks: Mapping[str, Webhook], seconds: float = SECONDS) -> None:
        self._webhooks = webhooks
        self._seconds = seconds

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._webhooks)

    def send(self, receiver: str, identity: str, body: bytes) -> str | None:
        """Posts the message. An answer other than 2xx means that it was not taken; its text is never shown."""
        webhook = self._webhooks[receiver]
        try:
            status = asyncio.run(self._post(webhook, identity, body))
        except (httpx.TransportError, TimeoutError) as problem:
            return self._tell(webhook, problem)
        return None if 200 <= status < 300 else f"answered {status}"

    async def _post(self, webhook: Webhook, identity: str, body: bytes) -> int:
        headers = {
            "User-Agent": "interlock",
            "Content-Type": "application/json",
            "X-Interlock-Delivery": identity,
            "X-Interlock-Signature-256": f"sha256={hmac.new(webhook.secret, body, hashlib.sha256).hexdigest()}",
        }
        client = httpx.AsyncClient(timeout=self._seconds, follow_redirects=False, trust_env=False, headers=headers)
        async with asyncio.timeout(self._seconds), client, client.stream("POST", webhook.url, content=body) as answer:
            return answer.status_code

    def _tell(self, webhook: Webhook, problem: Exception) -> str:
        """In words of this machine: a URL may hold a token after its host."""
        host = urlsplit(webhook.url).hostname
        if isinstance(problem, TimeoutError | httpx.TimeoutException):
            return f"{host} gave no answer in {self._seconds:g} s"
        return f"{host} cannot be reached"
