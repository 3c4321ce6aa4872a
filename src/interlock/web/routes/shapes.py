"""What the API takes and answers. States of rows are the domain's own values."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from interlock.access.caller import Role
from interlock.access.keys import ApiKey
from interlock.access.tokens import Token
from interlock.source.commit import Occasion
from interlock.vocabulary import Event, Kind, Stored

StateT = TypeVar("StateT")
ItemT = TypeVar("ItemT")


class Resource(Stored, Generic[StateT]):
    """One thing that the server keeps. ``version`` counts its changes, and is its ETag; times are in seconds."""

    kind: Kind
    key: str
    version: int
    phase: str
    repository: str | None
    ref: str | None
    created: float
    updated: float
    state: StateT


class Page(Stored, Generic[ItemT]):
    """A part of a list. ``next`` is the cursor of the following part; null where nothing follows."""

    items: tuple[ItemT, ...]
    next: str | None


class RunSummary(Stored):
    """A run as lists show it. ``pull_request`` is its number."""

    number: int
    repository: str
    ref: str
    sha: str
    subject: str
    phase: str
    because: str
    occasion: Occasion
    by: str | None
    is_trusted: bool
    pull_request: int | None
    version: int
    created: float
    updated: float


class WatchedRepository(Stored):
    """A configured repository, without the places and credentials that are the server's own business."""

    name: str
    forge: str | None
    default_branch: str
    trusted: tuple[str, ...]
    forks: str
    most_runs: int | None


class Lines(Stored):
    """What a person is told."""

    lines: tuple[str, ...]


class Told(Stored):
    """What was done, in one sentence."""

    because: str


class Warned(Stored):
    """It was done; ``warning`` is what to think about all the same."""

    warning: str | None


class NewToken(Stored):
    """A token and its text, which is shown this once."""

    token: Token
    text: str


class NewKey(Stored):
    """An API key and its text, which is shown this once."""

    key: ApiKey
    text: str


class AuditVerdict(Stored):
    """Whether the audit log is whole: ``problem`` is the first break of its chain, ``head`` stands for it as it is now.

    Keep the head elsewhere and give it again later: a log whose end was cut off is whole in itself.
    """

    problem: str | None
    head: str


class EventList(Stored):
    """Events in order. ``next`` is what to give as ``after`` for those behind them; null where none was there yet."""

    items: tuple[Event, ...]
    next: str | None


class Asked(BaseModel):
    """What a caller sends: unknown fields are refused, and nothing is longer than a person would write."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=4000)

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("a NUL character is in it")  # not every database can hold it
        return value


class Trigger(Asked):
    """Run what a ref (``main``, ``refs/tags/v1``) names now; without one the default branch."""

    repository: str
    ref: str = ""


class Rerun(Asked):
    """Run it again; ``from_stage`` and what needs it are executed whatever is remembered."""

    from_stage: str | None = None


class Reason(Asked):
    """Why a person wants it."""

    reason: str = Field(min_length=1)


class RetryOrder(Reason):
    """``lift_quarantine``: why the quarantine of its digest is lifted; without it, it must not be quarantined."""

    lift_quarantine: str | None = Field(default=None, min_length=1)


class FreezeOrder(Reason):
    """``until``: seconds since 1970; without it, until it is unfrozen."""

    until: float | None = Field(default=None, gt=0, lt=1e11)


class Approval(Asked):
    """The full id of the one commit that may run."""

    sha: str = Field(min_length=1)


class GateOverride(Asked):
    """The gates that are not to stop a run, by their titles, and why."""

    gates: tuple[str, ...] = Field(min_length=1, max_length=100)
    reason: str = Field(min_length=1)


class ReleaseOrder(Asked):
    """Deliver a version, named ``model/number``."""

    version: str
    because: str = Field(default="asked for by a person", min_length=1)


class TokenOrder(Asked):
    """A token to make. ``environments`` are ``model/environment``; none means all. ``expires``: seconds since 1970."""

    name: str = Field(min_length=1, max_length=100)
    role: Role
    repositories: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    expires: float | None = Field(default=None, gt=0, lt=1e11)


class KeyOrder(Asked):
    """An API key to make. ``models`` are ``model`` or ``model/environment``; none means all."""

    name: str = Field(min_length=1, max_length=100)
    models: tuple[str, ...] = ()
    is_tester: bool = False
    expires: float | None = Field(default=None, gt=0, lt=1e11)


class SecretOrder(Asked):
    """A secret to keep. Without an ``environment`` it is of the whole repository."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=65536)

    repository: str
    environment: str | None = None
    name: str
    value: str
