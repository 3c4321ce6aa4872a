"""The parts that both a local run and the server are made of."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

from blake3 import blake3

from interlock.app.folder import StateFolder
from interlock.control.running.attempts import Attempts
from interlock.control.running.intake import Intake
from interlock.control.running.lookups import Lookups
from interlock.control.running.runs import Runs
from interlock.control.running.sealing import Sealing
from interlock.control.scheduling.costs import Costs
from interlock.control.scheduling.room import Room
from interlock.control.secrets import Secrets
from interlock.edges.blobs import LocalBlobs
from interlock.edges.data import Datasets, Places
from interlock.edges.environments import UvEnvironments
from interlock.edges.executor import LocalExecutor, LogFiles
from interlock.edges.git import CommandGit
from interlock.edges.sandbox import SANDBOXES, BubblewrapSandbox, NoSandbox
from interlock.edges.store import SqlStore
from interlock.edges.vault import LocalVault
from interlock.ports import Forge, Signing
from interlock.run.scheduling.costs import Capacity
from interlock.system.machine import Gpu, find_cores, find_gpus, find_memory, shared_devices
from interlock.system.processes import identity_of

PACKAGE = Path(__file__).resolve().parent.parent
"""Where Interlock's own code is, some of which is shown to stages and model servers."""
SERVER_REQUIREMENTS = ("blake3", "httptools", "numpy", "orjson", "uvloop")
"""What a model server needs beside the model's own environment."""
NO_LIMITS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Remotes:
    """How remotes may be asked: by which protocols, with which header for a URL (None: without), and their forges, by
    repository.
    """

    protocols: tuple[str, ...]
    authorization: Callable[[str], str | None]
    forges: Mapping[str, Forge]


@dataclass(frozen=True)
class Devices:
    """The graphics processors of this machine, and so its whole capacity."""

    gpus: tuple[Gpu, ...]

    @property
    def capacity(self) -> Capacity:
        """What stages can be given together."""
        return Capacity(find_cores(), find_memory(), tuple(gpu.name for gpu in self.gpus))

    def of(self, names: Sequence[str]) -> tuple[str, ...]:
        """The device files that a program on these processors needs."""
        own = tuple(gpu.device for gpu in self.gpus if gpu.name in names)
        return (*own, *shared_devices()) if own else ()


NO_REMOTES = Remotes((), lambda _url: None, MappingProxyType({}))


@dataclass(frozen=True)
class Parts:
    """Everything but the data plane, opened on one state folder."""

    folder: StateFolder
    store: SqlStore
    git: CommandGit
    blobs: LocalBlobs
    environments: UvEnvironments
    sandbox: BubblewrapSandbox | NoSandbox
    datasets: Datasets
    executor: LocalExecutor
    logs: LogFiles
    secrets: Secrets
    lookups: Lookups
    intake: Intake
    attempts: Attempts
    sealing: Sealing
    room: Room
    runs: Runs

    @classmethod
    def open(
        cls,
        state: Path,
        ring: Callable[[], None],
        signing: Signing,
        database: str | None = None,
        remotes: Remotes = NO_REMOTES,
        most_runs: Mapping[str, int] = NO_LIMITS,
        *,
        places: Mapping[str, Sequence[str]] | None,
        secrets_of: Callable[[str, Sequence[str]], Mapping[str, str]] | None = None,
        sandbox_kind: str = "namespace",
        is_durable: bool = True,
    ) -> Self:
        """Opens all parts; ``ring`` is called whenever an attempt has ended.

        ``database`` is a URL, else the folder's own; ``most_runs`` limits the runs of a repository that go at once.
        ``places`` are those that hold data, by the repository whose runs may read them; None is all of this machine.
        ``secrets_of`` answers the values that stages are given, in the place of the secrets that are kept.
        ``sandbox_kind`` is ``namespace``, or ``none`` where a person said that less isolation will do.
        Without ``is_durable`` a power cut may undo what was saved last, rows and artifacts, and nothing else.
        """
        folder = StateFolder(state.resolve()).make()
        with ThreadPoolExecutor(1) as beside:  # a sandbox is tried by starting a program
            tried = beside.submit(_open_sandbox, sandbox_kind)
            store = SqlStore(database or folder.database, is_durable=is_durable)
            sandbox = tried.result()
        git = CommandGit(folder.snapshots, protocols=remotes.protocols, credentials=remotes.authorization)
        blobs = LocalBlobs(folder.artifacts, is_durable=is_durable)
        environments = UvEnvironments(folder.environments, SERVER_REQUIREMENTS)
        secrets = Secrets(store, LocalVault(folder.keys), time.time)
        devices = Devices(find_gpus())
        datasets = Datasets(git, blobs, folder.places, Places(places))
        brought = (secrets_of or secrets.values, devices.of, datasets.fetch)
        executor = LocalExecutor(git, blobs, environments, sandbox, folder.execution, PACKAGE / "probes", *brought)
        room = Room(devices.capacity, most_runs, time.monotonic, Costs(store).of)
        is_namespace = sandbox.is_namespace
        machine, program = _platform(is_namespace), _program()
        lookups = Lookups(store, git, blobs, environments, platform=machine, program=program, sees_all=is_namespace)
        attempts = Attempts(store, executor, blobs, owner_of(os.getpid()), ring)
        sealing = Sealing(store, blobs, signing, lookups, builder=f"interlock/{sandbox.level}")
        return cls(
            folder=folder,
            store=store,
            git=git,
            blobs=blobs,
            environments=environments,
            sandbox=sandbox,
            datasets=datasets,
            executor=executor,
            logs=LogFiles(folder.execution),
            secrets=secrets,
            lookups=lookups,
            intake=Intake(store, git, blobs, environments, lookups, remotes.forges, len(devices.gpus)),
            attempts=attempts,
            sealing=sealing,
            room=room,
            runs=Runs(store, blobs, attempts, lookups, sealing, time.time, room),
        )

    def close(self) -> None:
        """Ends what runs and closes the store."""
        self.attempts.let_go()
        self.executor.close()
        self.sandbox.close()
        self.store.close()


def owner_of(pid: int) -> str:
    """The name of one process's life, so that a reused process id is another owner."""
    return identity_of(pid) or str(pid)


def _open_sandbox(kind: str) -> BubblewrapSandbox | NoSandbox:
    return SANDBOXES[kind]()


def _platform(is_namespace: bool) -> str:
    """Results that may depend on anything of this machine are not mixed with those that cannot."""
    more = "" if is_namespace else " without namespaces"
    return f"{platform.system()} {platform.machine()} {platform.libc_ver()[0]} python {sys.version_info.major}{more}"


def _program() -> str:
    """The digest of the built-in stages' code: a new Interlock measures anew."""
    digest = blake3()
    for folder in ("probes", "inference"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
