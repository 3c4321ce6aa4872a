"""Attempts as processes of this machine, several at a time."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from interlock.errors import ExecutorFault
from interlock.ports import Blobs, Environments, Git, Sandbox
from interlock.run.stage import StageOutcome, StageRequest
from interlock.system.files import Lock, locked, try_lock
from interlock.vocabulary import Phase

from .attempt import Parts, run_attempt
from .processes import Brake
from .workspace import are_reads_recorded, remove_tree

CLOSED = "Interlock was stopped while the stage ran"


class _Accepted:
    """One accepted attempt until it has finished."""

    def __init__(self, request: StageRequest, finished: Callable[[StageOutcome], None]) -> None:
        self.request, self.finished = request, finished
        self.brake = Brake()
        self.thread: threading.Thread | None = None
        # A check against a live endpoint holds up a rollout: it never waits behind a training.
        self.cpu = 0.0 if request.endpoint else request.stage.resources.cpu


class LocalExecutor:
    """Runs each attempt in a thread, a workspace and a sandbox of its own, oldest first, while processors are free.

    ``folder`` holds the logs, which are kept, and the workspaces, which are not: what another executor left there when
    it died is removed. ``probes_folder`` is the source of the built-in stages, with the model server's beside it;
    ``threads`` how many processors stages may use together.
    """

    def __init__(
        self,
        git: Git,
        blobs: Blobs,
        environments: Environments,
        sandbox: Sandbox,
        folder: str | Path,
        probes_folder: str | Path,
        threads: float | None = None,
    ) -> None:
        self._folder = Path(folder).absolute()
        self._own, self._lock = _claim_workspaces(self._folder / "workspaces")
        package = Path(probes_folder).absolute().parent.parent
        sees_reads = are_reads_recorded(self._own)
        self._parts = Parts(git, blobs, environments, sandbox, package, sees_reads)
        self._room = float(threads or os.cpu_count() or 1)
        self._guard = threading.Lock()
        self._accepted: dict[str, _Accepted] = {}
        self._is_closed = False

    def start(self, request: StageRequest, finished: Callable[[StageOutcome], None]) -> None:
        """Begins the attempt as soon as there is room. ExecutorFault after ``close``."""
        self.log_path(request.attempt)
        with self._guard:
            if self._is_closed:
                raise ExecutorFault("the executor is closed")
            if request.attempt not in self._accepted:
                self._accepted[request.attempt] = _Accepted(request, finished)
                self._dispatch()

    def running(self) -> frozenset[str]:
        """The attempts that were started and have not finished, those that wait for room included."""
        with self._guard:
            return frozenset(self._accepted)

    def stop(self, attempt: str, because: str) -> None:
        """Ends the attempt; it finishes as cancelled. An unknown one is fine."""
        with self._guard:
            if attempt in self._accepted:
                self._accepted[attempt].brake.pull(Phase.CANCELLED, because)
                self._dispatch()

    def run(self, request: StageRequest) -> StageOutcome:
        """Runs the attempt and waits for it."""
        outcomes: list[StageOutcome] = []
        is_over = threading.Event()

        def finished(outcome: StageOutcome) -> None:
            outcomes.append(outcome)
            is_over.set()

        if request.attempt in self.running():
            raise ExecutorFault(f"{request.attempt} is running already")
        self.start(request, finished)
        is_over.wait()
        return outcomes[0]

    def log_path(self, attempt: str) -> str:
        """Where the log of an attempt is, or will be."""
        parts = attempt.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ExecutorFault(f"{attempt!r} is no name of an attempt")
        return f"{self._folder.joinpath('logs', *(quote(part, safe='') for part in parts))}.log"

    def close(self) -> None:
        """Ends every attempt as errored, so that it is tried again, and waits until all are gone."""
        with self._guard:
            self._is_closed = True
            for one in self._accepted.values():
                one.brake.pull(Phase.ERRORED, CLOSED)
            self._dispatch()
            threads = [one.thread for one in self._accepted.values() if one.thread is not None]
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()
        remove_tree(self._own)
        self._lock.close()
        _lock_path(self._own).unlink(missing_ok=True)

    def _dispatch(self) -> None:
        """Starts what there is room for, in order; called with the guard held. One that must end needs no room."""
        used = sum(one.cpu for one in self._accepted.values() if one.thread is not None)
        is_full = False
        for one in list(self._accepted.values()):
            if one.thread is not None:
                continue
            needs_room = one.cpu > 0 and one.brake.pulled is None
            is_full = is_full or (needs_room and used > 0 and used + one.cpu > self._room)
            if needs_room and is_full:
                continue
            used += one.cpu if needs_room else 0.0
            one.thread = threading.Thread(target=self._work, args=(one,), name=one.request.attempt, daemon=True)
            one.thread.start()

    def _work(self, one: _Accepted) -> None:
        attempt = one.request.attempt
        folder = Path(tempfile.mkdtemp(prefix=f"{quote(attempt, safe='')[:100]}-", dir=self._own))
        try:
            outcome = run_attempt(self._parts, one.request, folder, Path(self.log_path(attempt)), one.brake)
            remove_tree(folder)
            one.finished(outcome)
        finally:
            with self._guard:
                del self._accepted[attempt]
                one.brake.close()
                self._dispatch()


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
