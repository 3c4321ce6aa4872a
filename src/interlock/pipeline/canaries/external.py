"""The plan of a live metric whose numbers come from elsewhere: a Prometheus server, or a command."""

from __future__ import annotations

import re
from typing import Literal

from interlock.vocabulary import Stored

VALUE, EVENTS, REQUESTS = "value", "events", "requests"
OF_A_VALUE = ("candidate", "stable", "model", "environment")
"""The placeholders of a query for one value."""
OF_A_SIDE = ("revision", "model", "environment")
"""Those of queries that are asked for each side by itself."""
_PLACEHOLDER = re.compile(r"\$([A-Za-z_]\w*)")


class ExternalMetricPlan(Stored):
    """One such metric. ``queries`` by what they are for: ``value``, or ``events`` and ``requests``, asked for each
    side; a ``command`` has none, and is given its ``secrets`` by name. ``server`` names one of the Prometheus servers
    of the settings.

    Where it ``is_counted`` it is judged as a rate is: by ``max_ratio``, ``max`` and ``margin``. Else its value has to
    be from ``min`` to ``max``, and is beyond or within once it was so for ``seconds``. It is asked ``every`` so many
    seconds.
    """

    metric: str
    source: Literal["prometheus", "command"]
    server: str | None = None
    queries: dict[str, str] = {}
    command: str | None = None
    secrets: tuple[str, ...] = ()
    is_counted: bool = False
    every: float = 15.0
    seconds: float = 60.0
    min: float | None = None
    max: float | None = None
    max_ratio: float = 1.5
    margin: float = 0.01
    dry_run: bool = False


def placeholders_in(query: str) -> set[str]:
    """The names behind ``$``. The ``$`` that ends a pattern has none."""
    return set(_PLACEHOLDER.findall(query))


def filled(query: str, values: dict[str, str]) -> str:
    """The query with its placeholders replaced; values hold letters, digits, points and hyphens only."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], query)
