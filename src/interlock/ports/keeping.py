"""What is kept: rows and events, artifacts, secrets, logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from interlock.access.audit import AuditEntry, Deed
from interlock.source.notice import Notice
from interlock.vocabulary import Digest, Event, Fact, Json, Kind, Row, Stored, Write


class Notices(Protocol):
    """Notices that hooks left, until they have been looked into."""

    def note(self, *notices: Notice) -> None:
        """Keeps notices, all in one durable transaction."""

    def pending(self, most: int) -> list[tuple[int, Notice]]:
        """The oldest notices that are not settled, each with its number."""

    def settle(self, numbers: Sequence[int]) -> None:
        """These notices have been looked into."""

    def forget_notices(self, before: float) -> int:
        """Removes settled notices that came before this moment; how many."""


class Store(Notices, Protocol):
    """Rows, their events, and remembered facts; every save is one durable transaction."""

    def load(self, kind: Kind, key: str) -> Row | None:
        """The row, or None."""

    def version(self, kind: Kind, key: str) -> int:
        """The version of the row, without its state; 0 where there is none."""

    def find(self, kind: Kind, identity: str) -> Row | None:
        """The row of this identity, or None."""

    def rows(
        self,
        kind: Kind,
        *,
        phases: Sequence[str] | None = None,
        prefix: str | None = None,
        repository: str | None = None,
        ref: str | None = None,
        newest: int | None = None,
        before: int | None = None,
    ) -> list[Row]:
        """Rows in order of creation; ``newest`` keeps the last so many, newest first. ``prefix`` is of the key.

        ``before``: only rows whose ``place`` is smaller, so that a list can be read page by page.
        """

    def save(self, *writes: Write, audit: Sequence[Deed] = (), facts: Sequence[Fact] = ()) -> tuple[Row, ...]:
        """All or none. StaleWrite where a version moved; AlreadyExists where an insert collides.

        ``audit`` is appended to the audit log, and ``facts`` are remembered, in the same transaction; both may also be
        saved alone.
        """

    def audit(self, after: int = 0, newest: int | None = None) -> list[AuditEntry]:
        """Entries of the audit log with a number above ``after``, in order; ``newest`` keeps the last so many."""

    def number(self, kind: Kind) -> int:
        """The next number of this kind, from 1; never given twice."""

    def events(
        self, kind: Kind | None = None, key: str | None = None, after: int = 0, most: int | None = None
    ) -> list[Event]:
        """Events of one row (or of all), in order, with a number above ``after``; the first ``most`` of them."""

    def last_event(self) -> int:
        """The number of the newest event; 0 where there is none."""

    def recall_each(self, space: str, keys: Sequence[str], newest: int) -> dict[str, list[Json]]:
        """By key the ``newest`` facts of each, newest first; keys without any are left out."""

    def recall(self, space: str, key: str, newest: int = 20) -> list[Json]:
        """The facts of a key, newest first."""


class KnownFile(NamedTuple):
    """A file of this machine, by absolute path, whose content is known to have this digest."""

    place: str
    digest: Digest
    is_executable: bool = False


class Blobs(Protocol):
    """Content-addressed bytes. A file's digest is that of its content; a folder's that of its canonical manifest."""

    def put(self, path: str) -> Digest:
        """Stores a file or a whole folder. Refused for symbolic links that leave it, devices and sockets."""

    def put_bytes(self, content: bytes) -> Digest:
        """Stores bytes as a file."""

    def put_files(self, files: Mapping[str, bytes]) -> Digest:
        """Stores bytes as a folder."""

    def put_known(self, files: Mapping[str, KnownFile]) -> Digest:
        """Stores files as a folder; one under the empty path as that file. Content that is kept already is not read.

        ArtifactFault where a file that is read has changed.
        """

    def read(self, digest: Digest) -> bytes:
        """A file's bytes, checked against the digest. ArtifactFault where missing or torn."""

    def files(self, digest: Digest) -> dict[str, Digest]:
        """The files of a folder by relative path; a file answers itself under the empty path."""

    def materialise(self, digest: Digest, target: str, *, shown_from: int | None = None) -> dict[str, str]:
        """Writes the artifact at ``target`` (which must not exist) as a private copy, checked while writing.

        Files of ``shown_from`` bytes and more, none of them executable, are checked and need not be copied: the answer
        says where they lie, to be read there and never changed, by their path in the folder (empty for a lone file);
        ``target`` has an empty file in the place of each.
        """

    def has(self, digest: Digest) -> bool:
        """Whether all of it is there. Asking for it counts as using it."""

    def collect(self, keep: Callable[[Digest], bool], older_than: float) -> tuple[int, int]:
        """Removes what ``keep`` does not want and no kept folder holds, if last used before ``older_than`` (wall time).

        Answers how many files and how many bytes went. Safe beside writers and readers, and to be killed at any moment.
        """


class Vault(Protocol):
    """Secrets at rest. ``bound_to`` names what a secret is for: sealed text moved elsewhere does not open."""

    def seal(self, value: str, bound_to: str) -> str:
        """The encrypted text."""

    def open(self, sealed: str, bound_to: str) -> str:
        """The value. VaultFault where the key is another, or the text was changed or is bound to something else."""


class LogWindow(Stored):
    """Lines of a log. ``first`` is the number of the first one, from 0; ``following`` that of the line after them.

    ``is_end``: nothing was behind them when they were read.
    """

    first: int
    lines: tuple[str, ...]
    following: int
    is_end: bool


class Logs(Protocol):
    """What attempts printed, by line."""

    def window(self, attempt: str, first: int, most: int) -> LogWindow:
        """At most ``most`` whole lines from number ``first`` on; none where nothing is kept.

        A negative ``first`` counts from the end.
        """
