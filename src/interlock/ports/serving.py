"""The data plane: what serves, and what stands before it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from interlock.access.keys import Grant
    from interlock.delivery.revision import (
        CounterSeen,
        DataPlaneSeen,
        LateLabels,
        ObservedSeen,
        PairsSeen,
        ReplicaSeen,
        Revision,
    )


class Replicas(Protocol):
    """The processes that serve revisions. Calls are ensure-shaped and carry the row version they were decided at.

    An older version than the one in force for the revision raises StaleWrite and changes nothing.
    """

    def observe(self, environment: str) -> dict[str, ReplicaSeen]:
        """The replicas of ``model/environment`` by name."""

    def labelled(self, environment: str, late: LateLabels | None = None) -> dict[str, CounterSeen]:
        """By revision key the answers whose truth is known by now; ``errors`` of them were wrong.

        Counted as labels come, or as ``late`` says, which outlives the control plane. Empty where that is not known.
        Those in each slice that a revision logs are counted beside all.
        """

    def paired(self, environment: str, tolerance: float) -> dict[str, PairsSeen]:
        """By revision key what became of requests that were copied to it.

        Numbers are equal that differ by at most ``tolerance``, or by that share of the larger one.
        """

    def observed(self, environment: str) -> dict[str, ObservedSeen]:
        """By replica name what it was asked and answered, of those that count it and can say so now."""

    def ensure(self, revision: Revision, version: int) -> None:
        """All replicas of the revision are running or being started."""

    def remove(self, revision_key: str, version: int, beyond: int = 0) -> None:
        """Its replicas from number ``beyond`` on are stopped, gently, and will not come back by themselves."""

    def forbid(self, digests: Mapping[str, str], version: int) -> None:
        """No replica of these models starts any more, by digest with the reason; all others may.

        What runs goes on. ``version`` is that of the store, and an older one than was in force raises StaleWrite.
        """


class Proxy(Protocol):
    """What stands before the replicas. Calls are ensure-shaped and carry the row version they were decided at.

    An older version than the one in force raises StaleWrite and changes nothing.
    """

    def observe(self, environment: str) -> DataPlaneSeen:
        """All but ``replicas``. Never raises for a dead proxy: it says so in ``problem``."""

    def ensure_endpoints(
        self, revision_key: str, replicas: Sequence[str], draining: Collection[str], version: int
    ) -> None:
        """The proxy knows these replicas of the revision; those of them that are ``draining`` get no new requests."""

    def remove_endpoints(self, revision_key: str, version: int) -> None:
        """The proxy forgets the revision; ProxyFault while it has weight, or requests are copied to it."""

    def ensure_weights(self, environment: str, weights: Mapping[str, int], version: int) -> None:
        """Shares of traffic in percent by revision key, sum 100. No weights: the environment answers 503."""

    def ensure_mirrors(self, environment: str, copied: Mapping[str, int], version: int) -> None:
        """Percent of the requests, by revision key, that are copied to it beside their way; to one at most.

        No caller waits for a copy, sees its answer, or has it tried again; it is not counted as served.
        """

    def retire(self, environment: str, version: int) -> None:
        """No weights, and the environment answers 410 for the model, until it gets weights again."""

    def renew_lease(self, environment: str, candidate: str, stable: str) -> None:
        """For five more minutes the candidate keeps its weight if no control plane is there; then stable gets it.

        So it is with copies of requests: then there are none any more.
        """

    def end_lease(self, environment: str) -> None:
        """The weights and mirrors in force stay, whoever is there."""

    def endpoint(self, environment: str) -> str:
        """The base URL at which the environment answers, as ``http://127.0.0.1:8080``."""

    def allow_keys(self, grants: Sequence[Grant], version: int) -> None:
        """These API keys open what they are for, and no others do, with or without a control plane.

        ``version`` is that of the store, and an older one than was in force raises StaleWrite.
        """


class Telemetry(Protocol):
    """Numbers that somebody else measures."""

    def ask(self, server: str | None, queries: Sequence[str], at: float) -> list[float]:
        """What each query gives at that moment (wall seconds): one finite number. ``server`` is a name of the settings.

        TelemetryFault with the reason where one does not. It is over in seconds.
        """
