"""`interlock server`: the control plane of one state folder."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from interlock.app.folder import StateFolder
from interlock.app.parts import PACKAGE, Parts
from interlock.app.settings import RepositorySettings, ServerSettings, read_settings
from interlock.client.install import install_hook
from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.deliveries import Deliveries
from interlock.control.door import Door
from interlock.control.loop import Bell, Loop
from interlock.control.running.runs import SERVER
from interlock.delivery.revision import Revision
from interlock.edges.proxy import EnvoyProxy
from interlock.edges.serving import LocalReplicas, ensure_supervise, stop_supervise
from interlock.errors import InterlockError, Refused, StoreFault
from interlock.run.run import Run
from interlock.system.files import try_lock
from interlock.vocabulary import Digest, Json, Kind, Phase

ANSWER_SECONDS = 1.0
"""How long a push waits to be told what became of it."""
EVENTS_EVERY = 0.2
TOLD_KINDS = (Kind.RUN, Kind.VERSION, Kind.RELEASE, Kind.ROLLOUT, Kind.ENVIRONMENT, Kind.QUARANTINE)
NUMBERS = re.compile(r"[0-9.]+")


class Server:
    """The control plane. Its end does not touch the data plane."""

    def __init__(self, state: Path, settings: ServerSettings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._bell = Bell()
        self._over = threading.Event()
        self._parts = Parts.open(state, self._bell.ring)
        self._parts.store.check()
        folder = self._parts.folder
        folder.data.mkdir(exist_ok=True, mode=0o700)
        listeners = {name: environment.listen for name, environment in settings.environments.items()}
        proxy = EnvoyProxy(folder.data, listeners)
        _start(folder.data, proxy)
        replicas = LocalReplicas(
            folder.data, self._parts.sandbox, self._place, self._serving_environment, PACKAGE / "inference"
        )
        plane = Plane(self._parts.store, replicas, proxy)
        deliveries = Deliveries(self._parts.store, self._parts.attempts, self._parts.sealing, plane, time.time)
        self._loop = Loop(self._parts.store, self._parts.runs, deliveries, plane, SERVER, say)
        self._door = Door(folder.root, self._answer)
        for name, repository in settings.repositories.items():
            say(f"repository {name}: {install_hook(repository.path, folder.root)}")

    def run(self) -> None:
        """Until ``end``."""
        threads = [threading.Thread(target=work, daemon=True) for work in (self._poll, self._tell_events)]
        for thread in threads:
            thread.start()
        self._loop.run_until(self._over.is_set, self._bell)
        self._door.close()
        for thread in threads:
            thread.join()
        self._parts.close()

    def end(self) -> None:
        """Asks the server to end; what it decided is saved, what it serves stays."""
        self._over.set()
        self._bell.ring()

    def _poll(self) -> None:
        """Finds what no hook told of."""
        while not self._over.is_set():
            for name, repository in self._settings.repositories.items():
                for line in self._sync(name, repository):
                    self._say(line)
            self._over.wait(self._settings.poll_every)

    def _tell_events(self) -> None:
        """Says each decision as it is saved; one that differs from the row's last only in its numbers is left out."""
        seen = max((event.number for event in self._parts.store.events()), default=0)
        told: dict[str, str] = {}
        while not self._over.wait(EVENTS_EVERY):
            try:
                events = self._parts.store.events(after=seen)
            except StoreFault:
                continue  # the loop meets it too, and says it
            for event in events:
                seen = event.number
                thing, shape = f"{event.kind}/{event.key}", f"{event.phase} {NUMBERS.sub('#', event.because)}"
                if event.kind in TOLD_KINDS and told.get(thing) != shape:
                    self._say(f"{thing} {event.phase}: {event.because}")
                told[thing] = shape

    def _sync(self, name: str, repository: RepositorySettings) -> list[str]:
        try:
            begun = self._parts.intake.sync(name, str(repository.path), repository.trusted, SERVER)
            self._bell.ring()
            return [line for run in begun for line in self._tell(run)]
        except InterlockError as fault:
            return [f"repository {name}: {fault}"]

    def _tell(self, run: Run) -> list[str]:
        """What became of a run within the time that a push can wait."""
        deadline = time.monotonic() + ANSWER_SECONDS
        row = self._parts.store.load(Kind.RUN, run.key)
        while row is not None and not Phase(row.phase).is_final and time.monotonic() < deadline:
            time.sleep(0.02)
            row = self._parts.store.load(Kind.RUN, run.key)
        now = run if row is None else Run.model_validate(row.state)
        told = [f"run {now.number} {now.phase}: {now.because}"]
        told += [f"  {problem}" for problem in now.problems]
        for name, stage_run in now.stages.items():
            told += [f"  {name}: {problem}" for problem in stage_run.problems if not problem.is_warning]
        if not now.phase.is_final:
            running = [name for name, stage_run in now.stages.items() if stage_run.phase is Phase.RUNNING]
            reused = sum(1 for stage_run in now.stages.values() if stage_run.reused)
            told[0] = f"run {now.number}: {', '.join(running) or 'queued'} of {len(now.stages)} stages, {reused} reused"
            told.append(f"  follow it with: interlock log {now.number} --follow")
        return told

    def _answer(self, message: dict[str, Json]) -> dict[str, Json]:
        if message.get("kind") == "push":
            path = Path(str(message.get("git_directory", ""))).resolve()
            for name, repository in self._settings.repositories.items():
                if repository.path.resolve() == path:
                    lines: list[Json] = [f"interlock: {line}" for line in self._sync(name, repository)]
                    return {"lines": lines or ["interlock: nothing to do for this push"]}
            return {"lines": ["interlock: this repository is not configured"]}
        self._bell.ring()
        return {"lines": []}

    def _place(self, digest: Digest, target: Path) -> None:
        self._parts.blobs.materialise(digest, str(target))

    def _serving_environment(self, revision: Revision) -> str:
        blobs = self._parts.blobs
        files = {path: blobs.read(digest) for path, digest in blobs.files(revision.lock).items()}
        return self._parts.environments.ensure(revision.python, files, "serve", lambda _line: None)


def _start(data: Path, proxy: EnvoyProxy) -> None:
    """The data plane runs; one that was begun here and cannot take requests is ended again."""
    is_new = ensure_supervise(data)
    try:
        proxy.start()
    except InterlockError:
        if is_new:
            stop_supervise(data)
        raise


def serve(state: Path, config: Path | None, say: Callable[[str], None]) -> int:
    """Runs the control plane until SIGTERM or SIGINT; 0 when it ended as asked.

    Refused where another server holds the folder, naming its process.
    """
    folder = StateFolder(state.resolve()).make()
    settings = read_settings(config or folder.settings)
    lock = try_lock(folder.lock)
    if lock is None:
        holder = folder.lock.read_text().strip()
        raise Refused(
            f"another server (process {holder}) runs on this state folder", str(folder.root), "stop it, or use --state"
        )
    with lock:
        server = Server(folder.root, settings, say)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.end())
        for name, environment in settings.environments.items():
            say(f"environment {name}: http://{environment.listen}")
        say(f"ready: state in {folder.root}, {len(settings.repositories)} repositories watched")
        server.run()
    return 0


def stop(state: Path, *, data_plane: bool, patience: float = 30.0) -> list[str]:
    """Ends the server of a state folder, and with ``data_plane`` all that serves. Says what it ended."""
    folder = StateFolder(state.resolve())
    told = []
    holder = folder.lock.read_text().strip() if folder.lock.exists() else ""
    free = try_lock(folder.lock) if folder.root.exists() else None
    if free is not None:
        free.close()
    elif holder.isdigit():
        os.kill(int(holder), signal.SIGTERM)
        deadline = time.monotonic() + patience
        while (free := try_lock(folder.lock)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if free is not None:
            free.close()
        told.append(f"server (process {holder}) ended")
    if data_plane and folder.data.exists() and stop_supervise(folder.data, patience):
        told.append("data plane ended")
    return told or ["nothing was running"]
