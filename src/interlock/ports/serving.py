"""The data plane: what serves, and what stands before it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from interlock.access.keys import Grant
    from interlock.delivery.revision import CounterSeen, DataPlaneSeen, ReplicaSeen, Revision


class Replicas(Protocol):
    """The processes that serve revisions. Calls are ensure-shaped and carry the row version they were decided at.

    An older version than the one in force for the revision raises StaleWrite and changes nothing.
    """

    def observe(self, environment: str) -> dict[str, ReplicaSeen]:
        """The replicas of ``model/environment`` by name."""

    def labelled(self, environment: str) -> dict[str, CounterSeen]:
        """By revision key the answers whose truth is known by now; ``errors`` of them were wrong."""

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
        """The proxy forgets the revision."""

    def ensure_weights(self, environment: str, weights: Mapping[str, int], version: int) -> None:
        """Shares of traffic in percent by revision key, sum 100. No weights: the environment answers 503."""

    def retire(self, environment: str, version: int) -> None:
        """No weights, and the environment answers 410 for the model, until it gets weights again."""

    def renew_lease(self, environment: str, candidate: str, stable: str) -> None:
        """For five more minutes the candidate keeps its weight if no control plane is there; then stable gets it."""

    def end_lease(self, environment: str) -> None:
        """The weights in force stay, whoever is there."""

    def endpoint(self, environment: str) -> str:
        """The base URL at which the environment answers, as ``http://127.0.0.1:8080``."""

    def allow_keys(self, grants: Sequence[Grant], version: int) -> None:
        """These API keys open what they are for, and no others do, with or without a control plane.

        ``version`` is that of the store, and an older one than was in force raises StaleWrite.
        """
