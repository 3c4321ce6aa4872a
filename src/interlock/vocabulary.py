"""The words every room shares: digests, verdicts, phases, rows and decisions.

Nothing here does anything; it only gives one name to each idea (see docs/glossary.md).
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Generic, NamedTuple, NewType, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

Digest = NewType("Digest", str)
"""Address of content: ``blake3:`` and 64 hexadecimal digits."""

Json: TypeAlias = JsonValue
"""What JSON can hold: None, bool, int, float, str, and lists and string-keyed mappings of these."""


def canonical(value: Json) -> bytes:
    """The one way a JSON value is written when its bytes are compared or hashed: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


class Stored(BaseModel):
    """A frozen value that can be written to the store and read back unchanged.

    Unknown fields are refused, so that a value of another shape is never read as this one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Verdict(StrEnum):
    """What a gate says. ``undecided`` is a value of its own: it is never read as ``pass``."""

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"


class Phase(StrEnum):
    """Where a run or one of its stages is."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ERRORED = "errored"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing moves from here by itself."""
        return self not in (Phase.QUEUED, Phase.RUNNING)


class Kind(StrEnum):
    """The kinds of row that the store keeps."""

    REPOSITORY = "repository"
    RUN = "run"
    ATTEMPT = "attempt"
    VERSION = "version"
    RELEASE = "release"
    ROLLOUT = "rollout"
    ENVIRONMENT = "environment"
    QUARANTINE = "quarantine"
    MONITOR = "monitor"
    ALERT = "alert"
    REVERT = "revert"
    PULL_REQUEST = "pull_request"
    REPORT = "report"
    TOKEN = "token"
    SECRET = "secret"
    API_KEY = "api_key"


class Row(Stored):
    """One stored thing. ``version`` counts its saves: 1 after the insert.

    ``identity`` is unique within its kind where it is not None (a run's repository, ref, commit, plan
    and occasion; an attempt's stage run and number), so that inserting the same thing twice cannot succeed.
    ``place`` is the order of creation over all rows; ``repository`` and ``ref`` are labels by which lists are filtered.
    """

    kind: Kind
    key: str
    version: int
    phase: str
    state: dict[str, Json]
    identity: str | None = None
    place: int = 0
    repository: str | None = None
    ref: str | None = None
    created: float
    updated: float


class Write(Stored):
    """One row to save. ``expected`` is the version it was loaded at; 0 inserts it.

    ``because`` and ``observed`` are appended to the row's events in the same transaction. ``identity`` and the labels
    ``repository`` and ``ref`` stay as they were where a later write leaves them None.
    """

    kind: Kind
    key: str
    expected: int
    phase: str
    state: dict[str, Json]
    because: str
    observed: dict[str, Json] = {}
    identity: str | None = None
    repository: str | None = None
    ref: str | None = None


class Fact(NamedTuple):
    """Something remembered under a space and a key; facts are appended and never changed."""

    space: str
    key: str
    fact: Json


class Event(Stored):
    """One saved decision: what was seen, what followed, and why. ``number`` grows over all rows."""

    number: int
    kind: Kind
    key: str
    version: int
    phase: str
    at: float
    because: str
    observed: dict[str, Json]


StateT = TypeVar("StateT")


class Decision(Stored, Generic[StateT]):
    """What ``advance`` answers: the next state, and why."""

    state: StateT
    because: str
