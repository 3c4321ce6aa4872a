"""What the server answers, for programs: the fields that scripts need by name, and all others as they came."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

FINAL_PHASES = frozenset({"held", "succeeded", "failed", "errored", "skipped", "cancelled"})


class Answer(BaseModel):
    """A frozen value. Fields that this client does not know are kept, so that it can talk to a newer server."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)


class Commit(Answer):
    """The commit of a run, as the server resolved it."""

    repository: str
    ref: str
    sha: str
    subject: str = ""


class StageState(Answer):
    """One stage of a run. ``attempt`` counts from 1, 0 before the first; ``reused`` names the attempt it came from."""

    phase: str
    because: str = ""
    attempt: int = 0
    reused: str | None = None
    seconds: float = 0.0


class Estimate(Answer):
    """What a run was expected to take, in seconds; None where it is unknown, of ``stages`` by name."""

    seconds: float | None = None
    cpu_seconds: float | None = None
    stages: dict[str, float | None] = {}


class RunState(Answer):
    """A run: its commit, its stages by name, and the model version it made or found unchanged.

    ``estimate`` is there once it is known what of it runs.
    """

    number: int
    commit: Commit
    phase: str
    because: str = ""
    stages: dict[str, StageState] = {}
    estimate: Estimate | None = None
    version: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether it ended, or waits for a person."""
        return self.phase in FINAL_PHASES


class ReleaseState(Answer):
    """A model version on its way through the environments; ``rollouts`` are numbers by environment."""

    number: int
    version: str
    phase: str
    because: str = ""
    rollouts: dict[str, int] = {}


class RolloutState(Answer):
    """One environment's move to another revision. ``weight`` is the candidate's share of traffic in percent; when it
    ``is_on_probation`` its steps and checks are passed.
    """

    number: int
    environment: str
    phase: str
    because: str = ""
    weight: int = 0
    is_on_probation: bool = False


class EnvironmentState(Answer):
    """Where a model serves. ``weights`` are shares of traffic in percent by revision key."""

    name: str
    model: str
    weights: dict[str, int] = {}
    rollout: int | None = None
    because: str = ""


class AlertState(Answer):
    """What is not well, since when (seconds since 1970), why, and what was done about it."""

    key: str
    metric: str
    column: str
    since: float
    because: str
    acted: str = ""


class MonitorState(Answer):
    """How what serves in an environment is watched: the ``alerts`` that fire, and what is not watched."""

    environment: str
    title: str
    alerts: dict[str, AlertState] = {}
    unwatched: str = ""
    because: str = ""


class VersionState(Answer):
    """A registered model version."""

    model: str
    number: int
    commit: str
    metrics: dict[str, float] = {}


StateT = TypeVar("StateT")


class Row(Answer, Generic[StateT]):
    """One thing that the server keeps. ``version`` counts its changes; times are seconds since 1970."""

    kind: str
    key: str
    version: int
    phase: str
    state: StateT
    repository: str | None = None
    ref: str | None = None
    created: float
    updated: float


class Event(Answer):
    """One saved decision: what was seen, what followed, and why. ``number`` grows over all things."""

    number: int
    kind: str
    key: str
    version: int
    phase: str
    at: float
    because: str
    observed: dict[str, Any] = {}


class LogWindow(Answer):
    """Lines of a log; ``following`` is the number of the line after them, ``is_end`` whether none was there yet."""

    first: int
    lines: list[str]
    following: int
    is_end: bool


class Caller(Answer):
    """Who asks: name, role, and what the role is limited to (nothing: no limit)."""

    name: str
    role: str
    repositories: list[str] = []
    environments: list[str] = []


class RunSummary(Answer):
    """A run as lists show it. ``sha`` is its commit, ``pull_request`` a number, ``by`` the person who asked for it."""

    number: int
    repository: str
    ref: str
    sha: str
    subject: str = ""
    phase: str
    because: str = ""
    by: str | None = None
    pull_request: int | None = None
    created: float
    updated: float


class Repository(Answer):
    """A configured repository; ``trusted`` are the branches and refs whose runs may deliver."""

    name: str
    default_branch: str
    trusted: list[str]
    forge: str | None = None


class Token(Answer):
    """A token, without its text, which is shown once: when it is made. Times are seconds since 1970."""

    key: str
    name: str
    role: str
    repositories: list[str] = []
    environments: list[str] = []
    created: float
    expires: float | None = None
    last_used: float | None = None
    revoked: float | None = None


class ApiKey(Answer):
    """An API key of the front, without its text, which is shown once. ``models``: what it opens; none means all."""

    key: str
    name: str
    models: list[str] = []
    is_tester: bool = False
    created: float
    expires: float | None = None
    revoked: float | None = None


class RecentCaller(Answer):
    """Who asked a model lately: an API key's name or an address, and how many lines of the front's log are of them."""

    who: str
    environment: str
    lines: int
    last: str


class SecretName(Answer):
    """A secret, without its value. ``environment`` is ``model/environment``; None: it is of the whole repository."""

    repository: str
    environment: str | None = None
    name: str
    updated: float
    by: str


class AuditEntry(Answer):
    """One line of the audit log, chained to the one before it by its digest."""

    number: int
    at: float
    deed: dict[str, Any]
    previous: str
    digest: str


class AuditVerdict(Answer):
    """Whether the audit log is whole: ``problem`` is the first break of its chain, ``head`` stands for it as it is now.

    Keep the head elsewhere and give it again later: a log whose end was cut off is whole in itself.
    """

    problem: str | None
    head: str
