"""What the loop needs from the world, in domain words.

Each port has a real edge and a fake beside it in ``edges/``; both pass the same tests in ``tests/contract``.
Paths are strings: the domain does not touch the file system.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from interlock.access.audit import AuditEntry, Deed
from interlock.delivery.revision import DataPlaneSeen, ReplicaSeen, Revision
from interlock.feedback.status import Comment, Status
from interlock.pipeline.plan import PythonPlan
from interlock.run.stage import StageOutcome, StageRequest
from interlock.source.commit import Commit, Tree
from interlock.source.notice import Notice
from interlock.source.repository import PullRequest
from interlock.vocabulary import Digest, Event, Fact, Json, Kind, Row, Stored, Write

T = TypeVar("T")


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


class Git(Protocol):
    """Repositories, read without a checkout."""

    def refs(self, git_directory: str) -> dict[str, str]:
        """Full names of branches and tags to the ids of the commits they mean, as the repository has them now."""

    def follow(self, url: str, git_directory: str) -> dict[str, str]:
        """Brings the mirror at ``git_directory`` (made if need be) to the remote's branches and tags; answers them.

        A remote that has not moved costs one question. GitFault where it does not answer, Refused for a URL of a
        protocol that is not allowed.
        """

    def fetch(self, url: str | None, git_directory: str, ref: str) -> str | None:
        """The commit id that the remote's ``ref`` (``refs/pull/7/head``) has now, its objects in ``git_directory``.

        Without a URL the ref is the directory's own. None where the remote has no such ref.
        """

    def listing(self, url: str | None, git_directory: str, pattern: str) -> dict[str, str]:
        """The remote's refs of a pattern (``refs/pull/*/head``) to the ids that they have now; nothing is fetched.

        Without a URL they are the directory's own.
        """

    def changed_paths(self, git_directory: str, old: str, new: str, *, since_fork: bool = False) -> tuple[str, ...]:
        """The paths that differ between two commits; ``since_fork``: between their merge base and ``new``.

        An ``old`` that is not there (a new branch, a rewritten history): every path of ``new``.
        """

    def commit(self, repository: str, git_directory: str, ref: str, revision: str = "") -> Commit:
        """Resolves ``revision`` (or the ref itself). NotFound where there is none."""

    def tree(self, commit: Commit) -> Tree:
        """Every file of the commit."""

    def read(self, commit: Commit, paths: Sequence[str]) -> dict[str, bytes]:
        """Contents by path, read from git's objects; a path that is not there is left out.

        Refused for a file of more than 256 MiB.
        """

    def snapshot(
        self, folder: str, include: Sequence[str] = (), *, data: Sequence[str] = (), without: Sequence[str] = ()
    ) -> Commit:
        """The working tree at ``folder`` as it is now, uncommitted changes included, as a commit-like value.

        Files that ``.gitignore`` names are left out unless ``include`` names them, those of ``without`` always. What of
        ``data`` is left out is named as ``beside``. The folder's own repository, if it has one, is not touched.
        """

    def export(self, commit: Commit, target: str, project: str = "", only: Collection[str] | None = None) -> None:
        """Writes the files of the commit below ``project`` into the folder ``target``, as private copies.

        ``only``: no others than these paths, relative to ``project``.
        """


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

    def lies_at(self, digest: Digest, at_least: int) -> str | None:
        """Where a file of at least so many bytes lies, checked, to be read there and never changed; None for any other.

        ArtifactFault as by ``read``.
        """

    def read(self, digest: Digest) -> bytes:
        """A file's bytes, checked against the digest. ArtifactFault where missing or torn."""

    def files(self, digest: Digest) -> dict[str, Digest]:
        """The files of a folder by relative path; a file answers itself under the empty path."""

    def materialise(self, digest: Digest, target: str) -> None:
        """Writes the artifact at ``target`` (which must not exist) as a private copy, checked while writing."""

    def has(self, digest: Digest) -> bool:
        """Whether all of it is there. Asking for it counts as using it."""

    def collect(self, keep: Callable[[Digest], bool], older_than: float) -> tuple[int, int]:
        """Removes what ``keep`` does not want and no kept folder holds, if last used before ``older_than`` (wall time).

        Answers how many files and how many bytes went. Safe beside writers and readers, and to be killed at any moment.
        """


class Environments(Protocol):
    """Locked Python environments, cached by the digest of what they are made of."""

    def lock_files(self, python: PythonPlan, read: Callable[[Sequence[str]], Mapping[str, bytes]]) -> dict[str, bytes]:
        """The files an environment is made of, by name. Refused where the lock is missing."""

    def identify(self, python: PythonPlan, files: Mapping[str, bytes], purpose: str) -> str:
        """The digest of the environment these files give, without building it. ``purpose``: ``build`` or ``serve``."""

    def version(self, python: PythonPlan) -> str:
        """The version of the interpreter that fits, as ``3.12.4``."""

    def ensure(self, python: PythonPlan, files: Mapping[str, bytes], purpose: str, say: Callable[[str], None]) -> str:
        """Builds the environment if need be; answers its folder. Refused with uv's cause made readable."""

    def check(self, python: PythonPlan, files: Mapping[str, bytes]) -> None:
        """Refused where the lock does not fit the project file, or pins without hashes."""


class Executor(Protocol):
    """Runs attempts, each isolated, and answers by calling ``finished`` once for each."""

    def start(self, request: StageRequest, finished: Callable[[StageOutcome], None]) -> None:
        """Begins the attempt and returns at once. Starting a running attempt again does nothing."""

    def running(self) -> frozenset[str]:
        """The attempts that are running now."""

    def stop(self, attempt: str, because: str) -> None:
        """Ends the attempt and its whole process tree; it finishes as cancelled."""

    def run(self, request: StageRequest) -> StageOutcome:
        """Runs the attempt and waits: used for checks against a live endpoint."""


class Signing(Protocol):
    """Signatures over model artifacts by the key that was made at set-up."""

    def sign(self, folder: str) -> bytes:
        """A bundle over every file of the folder."""

    def verify(self, folder: str, bundle: bytes) -> None:
        """SignatureInvalid where a file differs, is missing or extra, or the signer is another."""

    def attest(self, statement: dict[str, Json]) -> bytes:
        """A signed envelope around an in-toto statement."""


class Forge(Protocol):
    """The forge of one repository. Every call is ensure-shaped: told twice is the same as told once.

    ForgeFault where it is worth another try later, Refused where it is not (no rights, no such commit).
    """

    def set_status(self, sha: str, status: Status) -> None:
        """The commit has this status."""

    def put_comment(self, comment: Comment) -> None:
        """The pull request has this comment of ours, and only this one."""

    def pull_requests(self) -> Iterator[PullRequest]:
        """Open and closed ones, those that changed last first; asked for as far as they are read."""


class Vault(Protocol):
    """Secrets at rest. ``bound_to`` names what a secret is for: sealed text moved elsewhere does not open."""

    def seal(self, value: str, bound_to: str) -> str:
        """The encrypted text."""

    def open(self, sealed: str, bound_to: str) -> str:
        """The value. VaultFault where the key is another, or the text was changed or is bound to something else."""


class Watch(Protocol):
    """Paths of this machine and object-store prefixes, looked at for change."""

    def fingerprint(self, location: str) -> str:
        """A digest of the names, sizes and versions that are there now. WatchFault where they cannot be listed."""


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


class Isolation(Stored):
    """A program and the little of the machine it may see.

    ``read_only`` and ``writable`` are pairs (path outside, path inside); ``folder`` is the working folder inside;
    ``env`` is its whole environment. Without ``network`` it has none, not even loopback of this machine (Unix sockets
    in visible folders still work). ``interpreters`` are Python executables whose environments and standard libraries
    must be visible at their own paths; ``devices`` are device files that it may use, at their own paths. It begins only
    when something can be read from the descriptor ``gate``, where there is one.
    """

    argv: tuple[str, ...]
    folder: str
    env: dict[str, str] = {}
    read_only: tuple[tuple[str, str], ...] = ()
    writable: tuple[tuple[str, str], ...] = ()
    interpreters: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    network: bool = False
    gate: int | None = None


class Bounds(NamedTuple):
    """What a program and all that it starts may use together: bytes, processes and threads, cores. None is any."""

    memory: int | None = None
    processes: int | None = None
    cpu: float | None = None


class CellSeen(NamedTuple):
    """What a cell's programs use now, and the most ``memory`` so far (bytes; ``processes`` with their threads).

    ``kills`` are those for want of memory, ``refusals`` processes that could not be made because of the bound.
    """

    memory: int
    peak: int
    processes: int
    kills: int
    refusals: int


class Cell(Protocol):
    """Holds a program and all that it starts together, by what this machine has beside namespaces."""

    @property
    def keeps_bounds(self) -> bool:
        """Whether the kernel itself keeps the bounds; else whoever opened the cell has to watch them."""

    @property
    def is_late(self) -> bool:
        """Whether a program has to be admitted after it was started, and to wait at a gate until then."""

    def within(self, start: Callable[[], T]) -> T:
        """Calls it in a thread whose children are held. They may end when the cells of their sandbox are closed."""

    def admit(self, pid: int) -> None:
        """The process, and what it starts from now on, is held."""

    def look(self) -> CellSeen | None:
        """What is used and was refused since the cell was opened; None where nobody counts."""

    def empty(self) -> None:
        """Ends all that it holds, where it can find them. TimeoutError where one does not end."""

    def close(self) -> None:
        """Empties it; it may be opened again with other bounds."""


class Sandbox(Protocol):
    """Isolation of programs: stages and model servers alike."""

    @property
    def level(self) -> str:
        """The walls that there really are on this machine, recorded in provenance.

        ``namespace`` or ``none``, then ``landlock`` and ``cgroup`` where there are such: ``namespace+landlock``.
        """

    @property
    def is_namespace(self) -> bool:
        """Whether a program sees only what it is given, at the paths inside, and all end with the first of them."""

    def cell(self, bounds: Bounds, *, network: bool) -> Cell:
        """Opens a cell for one program."""

    def command(self, isolation: Isolation) -> list[str]:
        """The command line that runs the program isolated. It ends, with all it started, when its parent ends."""


class Replicas(Protocol):
    """The processes that serve revisions. Calls are ensure-shaped and carry the row version they were decided at.

    An older version than the one in force for the revision raises StaleWrite and changes nothing.
    """

    def observe(self, environment: str) -> dict[str, ReplicaSeen]:
        """The replicas of ``model/environment`` by name."""

    def ensure(self, revision: Revision, version: int) -> None:
        """All replicas of the revision are running or being started."""

    def remove(self, revision_key: str, version: int) -> None:
        """Its replicas are stopped, gently, and will not come back."""


class Proxy(Protocol):
    """What stands before the replicas. Calls are ensure-shaped and carry the row version they were decided at.

    An older version than the one in force raises StaleWrite and changes nothing.
    """

    def observe(self, environment: str) -> DataPlaneSeen:
        """All but ``replicas``. Never raises for a dead proxy: it says so in ``problem``."""

    def ensure_endpoints(self, revision_key: str, replicas: Sequence[str], draining: bool, version: int) -> None:
        """The proxy knows these replicas of the revision; ``draining`` ones get no new requests."""

    def remove_endpoints(self, revision_key: str, version: int) -> None:
        """The proxy forgets the revision."""

    def ensure_weights(self, environment: str, weights: Mapping[str, int], version: int) -> None:
        """Shares of traffic in percent by revision key, sum 100. No weights: the environment answers 503."""

    def renew_lease(self, environment: str, candidate: str, stable: str) -> None:
        """For five more minutes the candidate keeps its weight if no control plane is there; then stable gets it."""

    def end_lease(self, environment: str) -> None:
        """The weights in force stay, whoever is there."""

    def endpoint(self, environment: str) -> str:
        """The base URL at which the environment answers, as ``http://127.0.0.1:8080``."""
