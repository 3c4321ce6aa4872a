"""What statements are asked with and what they find: the store's view of a database, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from interlock.access.audit import AuditEntry, Deed
from interlock.edges.store.encoding import decode_object
from interlock.errors import StoreFault
from interlock.vocabulary import Event, Json, Kind, Row


class Collision(StoreFault):
    """A row is there already that must be there once."""


class Found(Protocol):
    """One row that a statement found, by the names of its columns."""

    def __getitem__(self, column: str, /) -> Any:
        """The value in a column."""


class Connection(Protocol):
    """One conversation with a database, within a transaction or beside all of them."""

    def execute(self, statement: str, *values: Mapping[str, object]) -> list[Found]:
        """Executes a statement, whose values are named ``:like_this``, once for each of ``values``; all that it found.

        Collision where it would make a second row of one key.
        """


class Connections(Protocol):
    """An open database. Whatever goes wrong with it in a block is a StoreFault."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection whose statements each see what was committed when they began, and wait for nobody."""

    def writing(self) -> AbstractContextManager[Connection]:
        """A connection in a transaction that excludes all other writers, committed at the end of the block."""

    def close(self) -> None:
        """Closes what nobody uses; the database can be used again all the same."""


def row_of(found: Found, state: dict[str, Json] | None = None) -> Row:
    """A row of ``rows`` in the words of the domain. It was checked when it was written: lists must be quick.

    ``state`` is given where it is known, and was not read.
    """
    return Row.model_construct(
        kind=Kind(found["kind"]),
        key=found["key"],
        version=found["version"],
        phase=found["phase"],
        state=decode_object(found["state"]) if state is None else state,
        identity=found["identity"],
        place=found["place"],
        repository=found["repository"],
        ref=found["ref"],
        created=found["created"],
        updated=found["updated"],
    )


def event_of(found: Found) -> Event:
    """A row of ``events`` in the words of the domain, not checked again either."""
    return Event.model_construct(
        number=found["number"],
        kind=Kind(found["kind"]),
        key=found["key"],
        version=found["version"],
        phase=found["phase"],
        at=found["at"],
        because=found["because"],
        observed=decode_object(found["observed"]),
    )


def entry_of(found: Found) -> AuditEntry:
    """A row of ``audit`` in the words of the domain."""
    deed = Deed.model_validate(decode_object(found["deed"]))
    return AuditEntry(
        number=found["number"], at=found["at"], deed=deed, previous=found["previous"], digest=found["digest"]
    )
