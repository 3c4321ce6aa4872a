"""Instant queries to the Prometheus servers that the settings name, and to no others.

A query of a pipeline file chooses what is asked, never whom: no address comes from it, redirects are not followed,
and a credential goes to its own server only.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.errors import TelemetryFault
from interlock.later import Later

if TYPE_CHECKING:
    import httpx
else:  # servers without such metrics never need it
    httpx = Later("httpx")

WHOLE_SECONDS = 10.0
MOST_BYTES = 1024 * 1024
"""Of one answer: what gives more than one number is refused anyway."""
MOST_TOLD = 300
"""Characters of what a server says is wrong with a query."""


class PrometheusServer(NamedTuple):
    """Its base ``url`` and the bearer ``token`` (``""``: none)."""

    url: str
    token: str = ""


class PrometheusServers:
    """The servers by name. Each question is over in ``seconds``, however slowly an answer drips."""

    def __init__(self, servers: Mapping[str, PrometheusServer], seconds: float = WHOLE_SECONDS) -> None:
        self._servers = servers
        self._seconds = seconds

    def ask(self, server: str | None, queries: Sequence[str], at: float) -> list[float]:
        """What each query gives at that moment (wall seconds): one finite number.

        TelemetryFault with the reason where it does not: no such server, no answer, a query that is none, no series or
        several, NaN. What is stale Prometheus itself leaves out: what a failed scrape did not bring at once, all else
        after five minutes.
        """
        name, chosen = self._choose(server)
        try:
            return asyncio.run(self._ask_all(name, chosen, queries, at))
        except (httpx.HTTPError, TimeoutError) as problem:
            is_late = isinstance(problem, TimeoutError | httpx.TimeoutException)
            told = f"no answer in {self._seconds:g} s" if is_late else "it cannot be reached"
            raise TelemetryFault(f"Prometheus server {name}: {told}") from problem

    def _choose(self, server: str | None) -> tuple[str, PrometheusServer]:
        if not self._servers:
            raise TelemetryFault("the settings name no Prometheus server: an operator adds it under prometheus")
        known = ", ".join(self._servers)
        if server is None and len(self._servers) > 1:
            raise TelemetryFault(f"the settings name several Prometheus servers: write server: one of {known}")
        name = next(iter(self._servers)) if server is None else server
        if name not in self._servers:
            raise TelemetryFault(f"no Prometheus server {name} is among the settings: there is {known}")
        return name, self._servers[name]

    async def _ask_all(self, name: str, server: PrometheusServer, queries: Sequence[str], at: float) -> list[float]:
        headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
        client = httpx.AsyncClient(
            timeout=self._seconds,
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "interlock", **headers},
        )
        async with asyncio.timeout(self._seconds), client:
            return [await self._ask_one(client, name, server, query, at) for query in queries]

    async def _ask_one(
        self, client: httpx.AsyncClient, name: str, server: PrometheusServer, query: str, at: float
    ) -> float:
        asked = {"query": query, "time": f"{at:.3f}"}
        request = client.build_request("POST", f"{server.url}/api/v1/query", data=asked)
        response = await client.send(request, stream=True)
        content = bytearray()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > MOST_BYTES:
                raise TelemetryFault(f"Prometheus server {name} answered more than {MOST_BYTES} bytes")
        try:
            return number_in(json.loads(content))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as odd:
            raise TelemetryFault(f"Prometheus server {name} answered {response.status_code}, no result") from odd


def number_in(answer: Any) -> float:
    """The one finite number of an answer. TelemetryFault where there is another result, else what odd JSON raises."""
    if answer["status"] != "success":
        told = "".join(letter for letter in str(answer["error"]) if letter.isprintable())[:MOST_TOLD]
        raise TelemetryFault(f"Prometheus refuses the query: {told}")
    kind, result = answer["data"]["resultType"], answer["data"]["result"]
    if kind not in ("vector", "scalar"):
        raise TelemetryFault(f"the query gives a {kind}, and one number is needed")
    if kind == "vector" and len(result) != 1:
        told = (
            "no series, or none that is fresh" if not result else f"{len(result)} series: aggregate them, as by sum()"
        )
        raise TelemetryFault(f"the query gives {told}")
    number = float((result[0]["value"] if kind == "vector" else result)[1])
    if not math.isfinite(number):
        raise TelemetryFault(f"the query gives {number}")
    return number
