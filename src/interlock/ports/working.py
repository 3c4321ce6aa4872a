"""What work is done with: repositories, Python environments, executors, signatures, forges, places that change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from interlock.pipeline.plan import PythonPlan
from interlock.run.stage import StageOutcome, StageRequest
from interlock.source.commit import Commit, Takeback, Tree
from interlock.source.repository import PullRequest
from interlock.vocabulary import Json

if TYPE_CHECKING:
    from interlock.feedback.status import Comment, Proposal, Status


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

        Files that ``.gitignore`` names are left out unless ``include`` names them, those of ``without`` always; so is
        large ``data`` of which no repository tracks anything. What of ``data`` is left out is named as ``beside``. The
        folder's own repository, if it has one, is not touched.
        """

    def export(self, commit: Commit, target: str, project: str = "", only: Collection[str] | None = None) -> None:
        """Writes the files of the commit below ``project`` into the folder ``target``, as private copies.

        ``only``: no others than these paths, relative to ``project``.
        """


class Reverts(Protocol):
    """Commits that take something back, and the branches that they are published as."""

    def take_back(self, git_directory: str, wanted: Takeback) -> str:
        """The id of a new commit on its ``head``, its objects in the repository, no ref to it: the same for the same.

        Refused where it cannot be done cleanly: a commit is gone, or is no ancestor of the next one, later commits
        changed the same lines, or nothing of it is left.
        """

    def publish(self, url: str | None, git_directory: str, sha: str, ref: str) -> None:
        """The remote (without a URL: the directory) has the commit under a new ref.

        GitFault where it has a ref of this name, or does not take it.
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

    def read(self, envelope: bytes) -> dict[str, Json]:
        """The statement in an envelope. SignatureInvalid where this key did not sign just that."""


class Forge(Protocol):
    """The forge of one repository. Every call is ensure-shaped: told twice is the same as told once.

    ForgeFault where it is worth another try later, Refused where it is not (no rights, no such commit).
    """

    def set_status(self, sha: str, status: Status) -> None:
        """The commit has this status."""

    def put_comment(self, comment: Comment) -> None:
        """The pull request has this comment of ours, and only this one."""

    def put_pull_request(self, proposal: Proposal) -> int:
        """There is a pull request from this branch of the repository, open or not by now; its number."""

    def pull_requests(self) -> Iterator[PullRequest]:
        """Open and closed ones, those that changed last first; asked for as far as they are read."""


class Watch(Protocol):
    """Paths of this machine and object-store prefixes, looked at for change."""

    def fingerprint(self, location: str) -> str:
        """A digest of the names, sizes and versions that are there now. WatchFault where they cannot be listed."""


class Receivers(Protocol):
    """Who is told of alerts."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, as people are told of them."""

    def send(self, receiver: str, identity: str, body: bytes) -> str | None:
        """Sends one message, a JSON document. Why it was not taken, None where it was; it may have come even so."""
