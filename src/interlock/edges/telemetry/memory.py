"""Numbers in memory: the fake, for tests of what stands above it."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.errors import TelemetryFault


class MemoryTelemetry:
    """The port ``Telemetry`` over numbers that a test puts, by query."""

    def __init__(self) -> None:
        self._numbers: dict[str, float] = {}

    def put(self, query: str, number: float | None) -> None:
        """The query gives this number; None: nothing."""
        if number is None:
            self._numbers.pop(query, None)
        else:
            self._numbers[query] = number

    def ask(self, server: str | None, queries: Sequence[str], _at: float) -> list[float]:
        """The numbers. TelemetryFault where there is none for a query, or a server is named."""
        if server is not None:
            raise TelemetryFault(f"no Prometheus server {server} is among the settings")
        missing = [query for query in queries if query not in self._numbers]
        if missing:
            raise TelemetryFault(f"no series: {missing[0]}")
        return [self._numbers[query] for query in queries]
