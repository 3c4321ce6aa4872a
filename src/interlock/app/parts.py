"""The parts that both a local run and the server are made of."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from blake3 import blake3

from interlock.app.folder import StateFolder
from interlock.control.running.attempts import Attempts
from interlock.control.running.intake import Intake
from interlock.control.running.lookups import Lookups
from interlock.control.running.runs import Runs
from interlock.control.running.sealing import Sealing
from interlock.edges.blobs import LocalBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.executor import LocalExecutor
from interlock.edges.git import CommandGit
from interlock.edges.sandbox import BubblewrapSandbox
from interlock.edges.signing import LocalSigning
from interlock.edges.store import SqlStore
from interlock.system.processes import identity_of

PACKAGE = Path(__file__).resolve().parent.parent
"""Where Interlock's own code is, some of which is shown to stages and model servers."""
SERVER_REQUIREMENTS = ("blake3", "granian", "numpy", "orjson")
"""What a model server needs beside the model's own environment."""


@dataclass(frozen=True)
class Parts:
    """Everything but the data plane, opened on one state folder."""

    folder: StateFolder
    store: SqlStore
    git: CommandGit
    blobs: LocalBlobs
    environments: UvEnvironments
    sandbox: BubblewrapSandbox
    executor: LocalExecutor
    lookups: Lookups
    intake: Intake
    attempts: Attempts
    sealing: Sealing
    runs: Runs

    @classmethod
    def open(cls, state: Path, ring: Callable[[], None]) -> Self:
        """Opens all parts; ``ring`` is called whenever an attempt has ended."""
        folder = StateFolder(state.resolve()).make()
        store = SqlStore(folder.database)
        git = CommandGit(folder.snapshots)
        blobs = LocalBlobs(folder.artifacts)
        environments = UvEnvironments(folder.environments, SERVER_REQUIREMENTS)
        sandbox = BubblewrapSandbox()
        executor = LocalExecutor(git, blobs, environments, sandbox, folder.execution, PACKAGE / "probes")
        lookups = Lookups(store, git, blobs, environments, platform=_platform(), program=_program())
        attempts = Attempts(store, executor, blobs, owner_of(os.getpid()), ring)
        sealing = Sealing(store, blobs, LocalSigning(folder.keys), lookups, builder=f"interlock/{sandbox.level}")
        return cls(
            folder=folder,
            store=store,
            git=git,
            blobs=blobs,
            environments=environments,
            sandbox=sandbox,
            executor=executor,
            lookups=lookups,
            intake=Intake(store, git, blobs, environments, lookups),
            attempts=attempts,
            sealing=sealing,
            runs=Runs(store, blobs, attempts, lookups, sealing, time.time),
        )

    def close(self) -> None:
        """Ends what runs and closes the store."""
        self.attempts.let_go()
        self.executor.close()
        self.store.close()


def owner_of(pid: int) -> str:
    """The name of one process's life, so that a reused process id is another owner."""
    return identity_of(pid) or str(pid)


def _platform() -> str:
    return f"{platform.system()} {platform.machine()} {platform.libc_ver()[0]} python {sys.version_info.major}"


def _program() -> str:
    """The digest of the built-in stages' code: a new Interlock measures anew."""
    digest = blake3()
    for folder in ("probes", "inference"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
