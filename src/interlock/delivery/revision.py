"""A revision: one model version with its serving configuration, immutable and deployable."""

from __future__ import annotations

from typing import NamedTuple

from interlock.pipeline.plan import PythonPlan, ScalingPlan, SurgePlan
from interlock.vocabulary import Digest, Stored


class Revision(Stored):
    """``environment`` is ``model/environment``; ``number`` counts that environment's rollouts, so no key is used twice.

    ``model_digest``, ``lock``, ``golden``, ``reference`` (what is asked of it is counted beside that) and
    ``provenance``, the version's signed statement, are artifacts;
    ``replicas`` how many processes serve it, the fewest where ``scaling`` lets the load decide. ``service_ms`` and
    ``memory_mb`` are what the gates measured of one process; ``memory`` (bytes) and ``cpu`` (cores) are what one may
    use. ``surge``: how its replicas take the place of others, None where there is room for both. ``slices`` are the
    values that its replicas log beside their predictions, by column of the request.
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
    reference: Digest | None = None
    provenance: Digest | None = None
    replicas: int = 2
    scaling: ScalingPlan | None = None
    service_ms: float | None = None
    memory_mb: float | None = None
    memory: int | None = None
    cpu: float | None = None
    surge: SurgePlan | None = None
    slices: dict[str, tuple[str, ...]] = {}

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

    ``errors`` are answers of 5xx and attempts that got no answer. Of labelled answers ``slices`` has (requests, errors)
    by slice (``slice_name``); one that is missing had none.
    """

    epoch: str
    requests: int
    errors: int
    slices: dict[str, tuple[int, int]] = {}

    def within(self, name: str) -> CounterSeen:
        """Those of one slice."""
        requests, errors = self.slices.get(name, (0, 0))
        return CounterSeen(epoch=self.epoch, requests=requests, errors=errors)


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


class PairsSeen(Stored):
    """Requests of stable that were copied to one revision, since counting began (``epoch``), by what became of both.

    ``failed``: only the copy got no answer, an error, or a refusal of what stable answers; ``recovered``: only stable
    failed. Of the ``failed`` and ``both_failed`` so many were ``unanswered``: the copy got no answer in time.
    ``compared`` have an answer of both, ``unequal`` of them differ beyond the tolerance. ``labelled`` rows have their
    truth: of those ``worse`` are wrong of the copy alone, ``better`` of stable alone; ``slices`` has (labelled, worse,
    better, both wrong) by slice (``slice_name``). Told and not judged: copies
    without their request (``unmatched``), second answers to one request (``duplicated``), those that came too ``late``.
    """

    epoch: str
    pairs: int = 0
    failed: int = 0
    recovered: int = 0
    both_failed: int = 0
    unanswered: int = 0
    compared: int = 0
    unequal: int = 0
    labelled: int = 0
    worse: int = 0
    better: int = 0
    both_wrong: int = 0
    unmatched: int = 0
    duplicated: int = 0
    late: int = 0
    slices: dict[str, tuple[int, int, int, int]] = {}


class LateLabels(NamedTuple):
    """What a rollout asks of labels that are late: an answer to a request counts once that is ``delay`` seconds old.

    Of ``revisions`` alone, and of requests since this was asked first for the ``rollout``.
    """

    rollout: int
    delay: float
    revisions: tuple[str, ...]


class ObservedSeen(Stored):
    """What one replica has been asked and has answered since its process began (``epoch``): so many ``rows``.

    ``columns`` has, by the column's name after ``input.`` or ``output.``, how many values were missing, strange, and in
    each bin of its reference.
    """

    epoch: str
    rows: int
    columns: dict[str, tuple[int, ...]] = {}


class DataPlaneSeen(Stored):
    """One ``model/environment`` as it is in the world.

    ``replicas`` by replica name; ``endpoints`` by revision key, then replica name; ``weights`` in percent by revision
    key as the proxy's configuration has them, ``mirrors`` likewise: requests that are copied to it. ``counters``,
    ``loads`` and ``latencies`` are by revision key, and so is ``labelled``: answers whose truth is known, of which
    ``errors`` were wrong; ``paired`` by that of the revision that was given copies. ``is_retired``: the proxy answers
    that the model is gone. ``problem`` is set where the proxy cannot be read or rejected its configuration; then the
    others are what could still be seen.
    """

    replicas: dict[str, ReplicaSeen] = {}
    endpoints: dict[str, dict[str, EndpointSeen]] = {}
    weights: dict[str, int] = {}
    mirrors: dict[str, int] = {}
    counters: dict[str, CounterSeen] = {}
    loads: dict[str, LoadSeen] = {}
    latencies: dict[str, LatencySeen] = {}
    labelled: dict[str, CounterSeen] = {}
    paired: dict[str, PairsSeen] = {}
    is_retired: bool = False
    problem: str | None = None
