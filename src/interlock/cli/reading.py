"""What commands look at: the rows, decisions, logs and audit log of a state folder, or of a server elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from interlock.access.audit import AuditEntry
from interlock.client.errors import ApiError
from interlock.client.models import AuditVerdict, RunSummary
from interlock.control.rows import read_state
from interlock.run.run import Run
from interlock.vocabulary import Event, Kind, Phase, Row, Stored

if TYPE_CHECKING:
    from interlock.app.reading import Reading as StateReading
    from interlock.client.api import Client
    from interlock.client.models import Answer
    from interlock.inference.joined import Joined

StoredT = TypeVar("StoredT", bound=Stored)
FOLLOW_SECONDS = 0.2
"""How often a log of this machine is read while it is followed."""
WINDOW = 1000
"""Lines of a log that are read at once."""
PAGE = 200
"""Things of a list that a server answers at once, at most."""


class Reading(Protocol):
    """The same questions, wherever the answers are. To be used as a context."""

    def load(self, kind: Kind, key: str) -> Row | None:
        """The row, or None."""

    def rows(self, kind: Kind, *, phases: Sequence[str] | None = None) -> list[Row]:
        """Environments, releases, rollouts or versions in order of creation."""

    def runs(
        self, newest: int, *, repository: str | None = None, ref: str | None = None, phases: Sequence[str] | None = None
    ) -> list[RunSummary]:
        """The newest runs, the newest first."""

    def events(self, kind: Kind, key: str) -> list[Event]:
        """The decisions about one row, in order."""

    def log(self, attempt: str) -> Iterator[str]:
        """The lines that an attempt printed up to now."""

    def follow(self, attempt: str) -> Iterator[str]:
        """The same, and those that it prints until it ends."""

    def quality(self, environment: str) -> dict[str, Joined]:
        """How right each revision of ``model/environment`` was, by revision key, as far as it is known here."""

    def certificates(self) -> dict[str, float]:
        """By environment name when the certificate that is shown there ends (wall seconds), as far as known here."""

    def audit(self, newest: int) -> list[AuditEntry]:
        """The last so many entries of the audit log, in order."""

    def verify_audit(self, head: str) -> AuditVerdict:
        """Whether the audit log is whole, and goes on from the ``head`` it had earlier (empty: none is known)."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class LocalReading:
    """The state folder of this machine; no server is needed."""

    def __init__(self, state: StateReading) -> None:
        self._state = state

    @classmethod
    def open(cls, state: Path) -> Self:
        """Opens a state folder; the store is imported here, because a server elsewhere is asked without it."""
        from interlock.app.reading import Reading as StateReading

        return cls(StateReading.open(state))

    def load(self, kind: Kind, key: str) -> Row | None:
        """The row, or None."""
        return self._state.store.load(kind, key)

    def rows(self, kind: Kind, *, phases: Sequence[str] | None = None) -> list[Row]:
        """Rows in order of creation."""
        return self._state.store.rows(kind, phases=phases)

    def runs(
        self, newest: int, *, repository: str | None = None, ref: str | None = None, phases: Sequence[str] | None = None
    ) -> list[RunSummary]:
        """The newest runs first."""
        found = self._state.store.rows(Kind.RUN, repository=repository, ref=ref, phases=phases, newest=newest)
        return [_summary(row) for row in found]

    def events(self, kind: Kind, key: str) -> list[Event]:
        """The decisions about one row."""
        return self._state.store.events(kind, key)

    def log(self, attempt: str) -> Iterator[str]:
        """The lines up to now."""
        first, is_end = 0, False
        while not is_end:
            window = self._state.logs.window(attempt, first, WINDOW)
            yield from window.lines
            first, is_end = window.following, window.is_end

    def follow(self, attempt: str) -> Iterator[str]:
        """The lines, until the attempt is no more the present one of a running stage."""
        first, is_over = 0, False
        while True:
            window = self._state.logs.window(attempt, first, WINDOW)
            yield from window.lines
            first = window.following
            if window.is_end and is_over:
                return
            if window.is_end:
                time.sleep(FOLLOW_SECONDS)
                is_over = self._is_over(attempt)  # asked before the last look, so that nothing is missed

    def quality(self, environment: str) -> dict[str, Joined]:
        """From the data plane's own logs."""
        from interlock.inference.joined import join

        data = self._state.folder.data
        predictions = data / "predictions" / environment.replace("/", ".")
        return join(predictions, data / "labels" / f"{environment}.jsonl")

    def certificates(self) -> dict[str, float]:
        """As the proxy tells."""
        return self._state.certificates()

    def audit(self, newest: int) -> list[AuditEntry]:
        """The end of the audit log."""
        return self._state.store.audit(newest=newest)

    def verify_audit(self, head: str) -> AuditVerdict:
        """Follows the chain of the whole log."""
        from interlock.control.people import audit_head, verify_audit

        store = self._state.store
        return AuditVerdict(problem=verify_audit(store, head), head=audit_head(store))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._state.close()

    def _is_over(self, attempt: str) -> bool:
        number, stage, _ = attempt.rsplit("/", 2)
        row = self.load(Kind.RUN, number)
        run = None if row is None else read_state(row, Run)
        if run is None or stage not in run.stages or run.phase.is_final:
            return True
        return run.attempt_key(stage) != attempt or run.stages[stage].phase is not Phase.RUNNING


class RemoteReading:
    """A server elsewhere."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def load(self, kind: Kind, key: str) -> Row | None:
        """The row, or None."""
        deliveries = self._client.deliveries
        try:
            match kind:
                case Kind.RUN:
                    found: Answer = self._client.runs.get(int(key))
                case Kind.RELEASE:
                    found = deliveries.get_release(int(key))
                case Kind.ROLLOUT:
                    found = deliveries.get_rollout(int(key))
                case Kind.ENVIRONMENT:
                    found = self._client.environments.get(key)
                case Kind.MONITOR:
                    found = self._client.environments.monitor(key)
                case _:
                    found = deliveries.version(key)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return shaped(Row, found)

    def rows(self, kind: Kind, *, phases: Sequence[str] | None = None) -> list[Row]:
        """Rows in order of creation."""
        deliveries = self._client.deliveries
        match kind:
            case Kind.RELEASE:
                found: Iterator[Answer] = deliveries.releases(phases or ())
            case Kind.ROLLOUT:
                found = deliveries.rollouts(phases or ())
            case Kind.ENVIRONMENT:
                found = self._client.environments.all()
            case _:
                found = deliveries.versions()
        return [shaped(Row, one) for one in found][::-1]

    def runs(
        self, newest: int, *, repository: str | None = None, ref: str | None = None, phases: Sequence[str] | None = None
    ) -> list[RunSummary]:
        """The newest runs first."""
        page = min(newest, PAGE)
        found = self._client.runs.newest(repository=repository, ref=ref, phases=phases or (), page=page)
        return list(islice(found, newest))

    def events(self, kind: Kind, key: str) -> list[Event]:
        """The decisions about one row."""
        return [shaped(Event, one) for one in self._client.events(kind, key)]

    def log(self, attempt: str) -> Iterator[str]:
        """The lines up to now."""
        first, is_end = 0, False
        while not is_end:
            window = self._client.runs.log(*_parts(attempt), first, WINDOW)
            yield from window.lines
            first, is_end = window.following, window.is_end

    def follow(self, attempt: str) -> Iterator[str]:
        """The lines, until the server says that the attempt has ended."""
        return self._client.runs.follow_log(*_parts(attempt))

    def quality(self, environment: str) -> dict[str, Joined]:  # noqa: ARG002  # the same questions everywhere
        """Nothing: predictions and labels are with the data plane."""
        return {}

    def certificates(self) -> dict[str, float]:
        """Nothing: the proxy is asked where it runs; elsewhere the server's metrics tell."""
        return {}

    def audit(self, newest: int) -> list[AuditEntry]:
        """The end of the audit log."""
        return [shaped(AuditEntry, one) for one in self._client.audit.entries(newest=newest)]

    def verify_audit(self, head: str) -> AuditVerdict:
        """As the server verifies it."""
        return self._client.audit.verify(head)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


def shaped(shape: type[StoredT], answer: Answer) -> StoredT:
    """What a server answered as a value of ours; fields that only a newer server knows are left out."""
    return shape.model_validate(answer.model_dump(mode="json", include=set(shape.model_fields)))


def _parts(attempt: str) -> tuple[int, str, int]:
    number, rest = attempt.split("/", 1)
    stage, _, count = rest.rpartition("/")
    return int(number), stage, int(count)


def _summary(row: Row) -> RunSummary:
    """A run as the API lists it."""
    state: dict[str, Any] = row.state
    commit, pull_request = state["commit"], state.get("pull_request")
    return RunSummary.model_validate(
        {
            "number": state["number"],
            **{name: commit.get(name, "") for name in ("repository", "ref", "sha", "subject")},
            "phase": row.phase,
            "because": state.get("because", ""),
            "occasion": {"detail": "", "by": None, **state["occasion"]},
            "by": state["occasion"].get("by"),
            "is_trusted": state["is_trusted"],
            "pull_request": pull_request["number"] if pull_request else None,
            "version": row.version,
            "created": row.created,
            "updated": row.updated,
        }
    )
