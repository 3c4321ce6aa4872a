"""Replicas of dictionaries: they behave as the real ones do, and a test says when they are ready."""

from __future__ import annotations

from collections.abc import Mapping

from interlock.delivery.revision import CounterSeen, LateLabels, ObservedSeen, PairsSeen, ReplicaSeen, Revision
from interlock.errors import ServingFault, StaleWrite
from interlock.vocabulary import Digest


class FakeReplicas:
    """Stands in for replicas. New ones are ready unless ``is_ready_at_once`` is False.

    ``truths`` and ``pairs`` (by environment, then revision key) and ``asked`` (then replica name) may be set by tests;
    ``tolerance`` is what was last asked for; ``broken`` (by revision key and golden requests) what is not answered.
    """

    def __init__(self, is_ready_at_once: bool = True) -> None:
        self.truths: dict[str, dict[str, CounterSeen]] = {}
        self.pairs: dict[str, dict[str, PairsSeen]] = {}
        self.tolerance: float | None = None
        self.asked: dict[str, dict[str, ObservedSeen]] = {}
        self._is_ready_at_once = is_ready_at_once
        self._seen: dict[str, dict[str, dict[str, ReplicaSeen]]] = {}
        self._versions: dict[str, int] = {}
        self.silent: set[str] = set()
        self.broken: dict[tuple[str, Digest], str] = {}
        self.forbidden: dict[str, str] = {}

    def observe(self, environment: str) -> dict[str, ReplicaSeen]:
        """The replicas of ``model/environment`` by name."""
        revisions = self._seen.get(environment, {})
        return {name: seen for replicas in revisions.values() for name, seen in replicas.items()}

    def labelled(self, environment: str, late: LateLabels | None = None) -> dict[str, CounterSeen]:
        """What the test has set."""
        truths = self.truths.get(environment, {})
        return truths if late is None else {key: truths[key] for key in late.revisions if key in truths}

    def paired(self, environment: str, tolerance: float) -> dict[str, PairsSeen]:
        """What the test has set."""
        self.tolerance = tolerance
        return self.pairs.get(environment, {})

    def observed(self, environment: str) -> dict[str, ObservedSeen]:
        """What the test has set."""
        return self.asked.get(environment, {})

    def unanswered(self, revision: Revision, golden: Digest) -> str:
        """What the test has set in ``broken``, by revision key and golden requests; ``silent`` ones do not say."""
        if revision.key in self.silent:
            raise ServingFault(f"no replica of {revision.title} is ready")
        return self.broken.get((revision.key, golden), "")

    def ensure(self, revision: Revision, version: int) -> None:
        """The replicas that were not there are now."""
        self._advance(revision.key, version)
        replicas = self._seen.setdefault(revision.environment, {}).setdefault(revision.key, {})
        for index in range(revision.replicas):
            replicas.setdefault(revision.replica(index), ReplicaSeen(is_running=True, is_ready=self._is_ready_at_once))

    def remove(self, revision_key: str, version: int, beyond: int = 0) -> None:
        """Its replicas from number ``beyond`` on are gone."""
        self._advance(revision_key, version)
        for revisions in self._seen.values():
            kept = revisions.pop(revision_key, {})
            kept = {name: seen for name, seen in kept.items() if int(name.rpartition(".")[2]) < beyond}
            revisions.update({revision_key: kept} if kept else {})

    def forbid(self, digests: Mapping[str, str], version: int) -> None:
        """Remembered in ``forbidden``."""
        if dict(digests) != self.forbidden:
            self._advance("quarantined", version)
            self.forbidden = dict(digests)

    def set_seen(self, replica: str, seen: ReplicaSeen) -> None:
        """What the next observation says of a replica."""
        for revisions in self._seen.values():
            for replicas in revisions.values():
                if replica in replicas:
                    replicas[replica] = seen

    def _advance(self, revision_key: str, version: int) -> None:
        in_force = self._versions.get(revision_key, 0)
        if version < in_force:
            problem = f"an act of version {version} comes too late"
            raise StaleWrite(f"{revision_key} was decided at version {in_force}; {problem}")
        self._versions[revision_key] = version
