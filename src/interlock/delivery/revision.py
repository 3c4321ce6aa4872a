"""A revision: one model version with its serving configuration, immutable and deployable."""

from __future__ import annotations

from interlock.pipeline.plan import PythonPlan, ScalingPlan, SurgePlan
from interlock.vocabulary import Digest, Stored


class Revision(Stored):
    """``environment`` is ``model/environment``; ``number`` counts that environment's rollouts, so no key is used twice.

    ``model_digest``, ``lock``, ``golden`` and ``provenance``, the version's signed statement, are artifacts;
    ``replicas`` how many processes serve it, the fewest where ``scaling`` lets the load decide. ``service_ms`` and
    ``memory_mb`` are what the gates measured of one process; ``memory`` is what one may use, in bytes. ``surge``:
    how its replicas take the place of others, None where there is room for both.
    """

    environment: str
    number: int
    version: int
    model: str
    model_digest: Digest
    lock: Digest
    python: PythonPlan = PythonPlan()
    format: str
    golden: Digest | None = None
    provenance: Digest | None = None
    replicas: int = 2
    scaling: ScalingPlan | None = None
    service_ms: float | None = None
    memory_mb: float | None = None
    memory: int | None = None
    surge: SurgePlan | None = None

    @property
    def footprint(self) -> float:
        """The memory that one of its replicas needs, in bytes: what it may use, else what was measured; 0: unknown."""
        return self.memory or (self.memory_mb or 0.0) * 2**20

    @property
    def key(self) -> str:
        """``model.environment.rN``: names its cluster in the proxy."""
        return f"{self.environment.replace('/', '.')}.r{self.number}"

    @property
    def title(self) -> str:
        """``flights v3``: what people call it."""
        return f"{self.model} v{self.version}"

    def replica(self, index: int) -> str:
        """The name of its replica number ``index`` (from 0)."""
        return f"{self.key}.{index}"


class ReplicaSeen(Stored):
    """One replica as its supervisor and its own health endpoint show it. ``age`` in seconds, of its present process."""

    is_running: bool
    is_ready: bool
    restarts: int = 0
    age: float | None = None
    problem: str | None = None


class EndpointSeen(Stored):
    """One replica as the proxy sees it. ``active`` counts requests in flight, the others all that were."""

    is_healthy: bool
    is_draining: bool
    active: int = 0
    requests: int = 0
    errors: int = 0


class CounterSeen(Stored):
    """Requests answered by one revision since the proxy's process began (``epoch``), counted per upstream attempt.

    ``errors`` are answers of 5xx and attempts that got no answer.
    """

    epoch: str
    requests: int
    errors: int


class LoadSeen(Stored):
    """What one revision has answered since the proxy's process began (``epoch``), and what it has in flight now.

    ``seconds`` adds up how long the answers took; ``within`` counts those that took at most so many milliseconds.
    """

    epoch: str
    answered: int
    active: int
    seconds: float
    within: tuple[tuple[float, int], ...] = ()


class LatencySeen(Stored):
    """How long one revision's answers took since the proxy's process began (``epoch``).

    ``answers`` are at least so many milliseconds, at most so many, and how many took that. Requests that were given up
    at the proxy's time limit are among them, with that time.
    """

    epoch: str
    answers: tuple[tuple[float, float, int], ...] = ()


class DataPlaneSeen(Stored):
    """One ``model/environment`` as it is in the world.

    ``replicas`` by replica name; ``endpoints`` by revision key, then replica name; ``weights`` in percent by revision
    key as the proxy's configuration has them; ``counters``, ``loads`` and ``latencies`` by revision key, and so is
    ``labelled``: answers whose truth is known, of which ``errors`` were wrong. ``problem`` is set where the proxy
    cannot be read or rejected its configuration; then the others are what could still be seen.
    """

    replicas: dict[str, ReplicaSeen] = {}
    endpoints: dict[str, dict[str, EndpointSeen]] = {}
    weights: dict[str, int] = {}
    counters: dict[str, CounterSeen] = {}
    loads: dict[str, LoadSeen] = {}
    latencies: dict[str, LatencySeen] = {}
    labelled: dict[str, CounterSeen] = {}
    problem: str | None = None
