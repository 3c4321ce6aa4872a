"""Attempts as processes of this machine, as many at a time as are asked for."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple
from urllib.parse import quote

from interlock.errors import ExecutorFault, Refused
from interlock.ports import Blobs, Environments, Git, Sandbox
from interlock.run.stage import StageOutcome, StageRequest
from interlock.system.files import Lock, locked, try_lock
from interlock.vocabulary import Digest, Phase

from .attempt import Parts, Say, run_attempt
from .lines import LogFiles
from .processes import Brake
from .workspace import are_reads_recorded, remove_tree

MEANWHILE_SECONDS = 0.01
"""Between the end of an attempt and the removal of its workspace: what is decided and begun because it ended has the
processor first, and most of it then waits for a program."""
CLOSED = "Interlock was stopped while the stage ran"


class _Accepted(NamedTuple):
    """One accepted attempt until it has finished."""

    request: StageRequest
    finished: Callable[[StageOutcome], None]
    brake: Brake
    thread: threading.Thread


def no_secrets(secrets_of: str, _names: Sequence[str]) -> Mapping[str, str]:
    """Where no secrets are kept, a stage that names some cannot run."""
    remedy = "run it on the server that keeps them, or remove the key"
    raise Refused(f"nobody here keeps the secrets of {secrets_of}", "secrets", remedy)


def no_devices(_gpus: Sequence[str]) -> Sequence[str]:
    """Where there is no graphics processor, none has a device."""
    return ()


def no_datasets(_request: StageRequest, _say: Say, _pause: Callable[[], None]) -> tuple[dict[str, Digest], str]:
    """Where nobody brings data, a plan that needs some cannot run."""
    raise Refused("nobody here brings data that no commit holds", "data", "commit it")


class LocalExecutor:
    """Runs each attempt in a thread, a workspace and a sandbox of its own, at once.

    ``folder`` holds the logs, which are kept, and the workspaces, which are not: what another executor left there when
    it died is removed. ``probes_folder`` is the source of the built-in stages, with the model server's beside it;
    ``secrets(secrets_of, names)`` answers the values of a request's secrets by name, Refused where one is missing;
    ``devices(names)`` the device files that a program on these graphics processors needs; ``datasets(request, say,
    pause)`` the artifacts of data that no commit holds, and a reason.
    """

    def __init__(
        self,
        git: Git,
        blobs: Blobs,
        environments: Environments,
        sandbox: Sandbox,
        folder: str | Path,
        probes_folder: str | Path,
        secrets: Callable[[str, Sequence[str]], Mapping[str, str]] = no_secrets,
        devices: Callable[[Sequence[str]], Sequence[str]] = no_devices,
        datasets: Callable[[StageRequest, Say, Callable[[], None]], tuple[dict[str, Digest], str]] = no_datasets,
    ) -> None:
        place = Path(folder).absolute()
        self._logs = LogFiles(place)
        self._own, self._lock = _claim_workspaces(place / "workspaces")
        package = Path(probes_folder).absolute().parent.parent
        sees_reads = are_reads_recorded(self._own)
        self._parts = Parts(git, blobs, environments, sandbox, package, sees_reads, secrets, devices, datasets)
        self._guard = threading.Lock()
        self._accepted: dict[str, _Accepted] = {}
        self._closed = threading.Event()

    def start(self, request: StageRequest, finished: Callable[[StageOutcome], None]) -> None:
        """Begins the attempt at once. ExecutorFault after ``close``, NotFound for a name that is none of an attempt."""
        self.log_path(request.attempt)
        with self._guard:
            if self._closed.is_set():
                raise ExecutorFault("the executor is closed")
            if request.attempt not in self._accepted:
                thread = threading.Thread(target=self._work, args=(request.attempt,), name=request.attempt, daemon=True)
                self._accepted[request.attempt] = _Accepted(request, finished, Brake(), thread)
                thread.start()

    def running(self) -> frozenset[str]:
        """The attempts that were started and have not finished."""
        with self._guard:
            return frozenset(self._accepted)

    def stop(self, attempt: str, because: str) -> None:
        """Ends the attempt; it finishes as cancelled. An unknown one is fine."""
        with self._guard:
            if attempt in self._accepted:
                self._accepted[attempt].brake.pull(Phase.CANCELLED, because)

    def run(self, request: StageRequest) -> StageOutcome:
        """Runs the attempt and waits until nothing is left of it."""
        ended: list[tuple[StageOutcome, threading.Thread]] = []
        is_over = threading.Event()

        def finished(outcome: StageOutcome) -> None:
            ended.append((outcome, threading.current_thread()))
            is_over.set()

        if request.attempt in self.running():
            raise ExecutorFault(f"{request.attempt} is running already")
        self.start(request, finished)
        is_over.wait()
        outcome, thread = ended[0]
        thread.join()
        return outcome

    def log_path(self, attempt: str) -> str:
        """Where the log of an attempt is, or will be."""
        return str(self._logs.path(attempt))

    def close(self) -> None:
        """Ends every attempt as errored, so that it is tried again, and waits until all are gone."""
        with self._guard:
            self._closed.set()
            for one in self._accepted.values():
                one.brake.pull(Phase.ERRORED, CLOSED)
            threads = [one.thread for one in self._accepted.values()]
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()
        remove_tree(self._own)
        self._lock.close()
        _lock_path(self._own).unlink(missing_ok=True)

    def _work(self, attempt: str) -> None:
        with self._guard:
            request, finished, brake, _ = self._accepted[attempt]
        folder = self._own / f"{quote(attempt, safe='')[:100]}-{token_hex(4)}"
        try:
            finished(run_attempt(self._parts, request, folder, Path(self.log_path(attempt)), brake))
            self._closed.wait(MEANWHILE_SECONDS)
            with suppress(OSError):  # nobody waits for this; what cannot be removed now is at the next start
                remove_tree(folder)
        finally:
            with self._guard:
                del self._accepted[attempt]
                brake.close()


def _claim_workspaces(folder: Path) -> tuple[Path, Lock]:
    """A folder of this executor's own, held by a lock; those whose holder has died are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        for left in [entry for entry in folder.iterdir() if entry.is_dir()]:
            lock = try_lock(_lock_path(left))
            if lock is not None:
                remove_tree(left)
                _lock_path(left).unlink(missing_ok=True)
                lock.close()
        own = Path(tempfile.mkdtemp(prefix="executor-", dir=folder))
        lock = try_lock(_lock_path(own))
        assert lock is not None
        return own, lock


def _lock_path(own: Path) -> Path:
    return own.with_name(f".{own.name}.lock")
