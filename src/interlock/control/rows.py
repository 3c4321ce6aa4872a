"""Between rows of the store and the values of the domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from interlock.access.audit import Deed
from interlock.errors import StaleWrite
from interlock.ports import Store
from interlock.run.run import Run
from interlock.vocabulary import Fact, Json, Kind, Row, Stored, Write

if TYPE_CHECKING:
    from interlock.delivery.environment import Environment

StateT = TypeVar("StateT", bound=Stored)


def read_state(row: Row, shape: type[StateT]) -> StateT:
    """The value a row holds."""
    return shape.model_validate(row.state)


def load_state(store: Store, kind: Kind, key: str, shape: type[StateT]) -> tuple[StateT | None, int]:
    """The value of a row and the version it was loaded at; (None, 0) where there is none."""
    row = store.load(kind, key)
    return (None, 0) if row is None else (read_state(row, shape), row.version)


def write_state(
    kind: Kind,
    key: str,
    state: Stored,
    *,
    expected: int,
    phase: str,
    because: str,
    observed: Mapping[str, Json] | None = None,
    identity: str | None = None,
    repository: str | None = None,
    ref: str | None = None,
) -> Write:
    """The save of a value, to be done in one transaction with others."""
    return Write.model_construct(  # of what was just checked and made JSON by pydantic
        kind=kind,
        key=key,
        expected=expected,
        phase=phase,
        state=state.model_dump(mode="json"),
        because=because,
        observed=dict(observed or {}),
        identity=identity,
        repository=repository,
        ref=ref,
    )


def write_run(run: Run, identity: str | None = None) -> Write:
    """The insert of a run. Without another identity it is its repository, ref, commit, project, plan and occasion."""
    commit, occasion = run.commit, run.occasion
    parts = (commit.repository, commit.ref, commit.sha, run.plan.project, run.plan_digest)
    return write_state(
        Kind.RUN,
        run.key,
        run,
        expected=0,
        phase=run.phase,
        because=run.because,
        identity=identity or "|".join((*parts, f"{occasion.kind}:{occasion.detail}")),
        repository=commit.repository,
        ref=commit.ref,
    )


def save_or_lose(store: Store, *writes: Write, audit: Sequence[Deed] = (), facts: Sequence[Fact] = ()) -> bool:
    """Saves all, or answers False because somebody else was first: the loser of the swap does nothing."""
    try:
        store.save(*writes, audit=audit, facts=facts)
    except StaleWrite:
        return False
    return True


def write_environment(environment: Environment, expected: int, because: str) -> Write:
    """The save of an environment."""
    phase = (
        "retired"
        if environment.retirement
        else "rolling"
        if environment.rollout is not None
        else "stable"
        if environment.stable
        else "empty"
    )
    return write_state(Kind.ENVIRONMENT, environment.key, environment, expected=expected, phase=phase, because=because)
