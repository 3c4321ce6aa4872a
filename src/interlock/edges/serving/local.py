"""Replicas on this machine: sandboxed model servers that supervise keeps alive from files."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from interlock.delivery.revision import CounterSeen, LateLabels, ObservedSeen, PairsSeen, ReplicaSeen, Revision
from interlock.errors import InterlockError, ServingFault, StaleWrite
from interlock.ports import Isolation, Sandbox
from interlock.system.files import locked, write_atomically
from interlock.system.processes import age_of
from interlock.system.sockets import http_over
from interlock.vocabulary import Digest

from .admitted import OTHER_ENVIRONMENT, REPAIRABLE, Installed, guarded, write_quarantined
from .copies import ArtifactCopies, copy_program
from .labelled import LabelledAnswers
from .late import LateAnswers
from .paired import PairedAnswers
from .supervising import ensure_supervise, supervisor_of

LOCK = "replicas.lock"
VERSIONS = "replicas.json"
GRACE_SECONDS = 20.0
READY_SECONDS = 0.3
"""How long a replica may take to say that it is ready, or what it has counted; a hung one holds nobody up."""
SIDES = ("input", "output")
TROUBLED_AFTER = 2
"""Restarts after which a replica that is not ready has a problem."""
PROBED_AT_ONCE = 16


class LocalReplicas:
    """The replicas of one data-plane folder.

    ``place`` writes an artifact to a path that does not exist; ``environment_of`` answers the Python environment that
    serves a revision; ``inference`` is the folder of the model server's program; ``key`` the file of the public key
    under which signed statements must hold. Before each start all is compared with what was admitted (``admitted``).
    Inside the sandbox a replica sees the program, its model and golden requests, and may write to its own socket's
    folder and its prediction log.
    """

    def __init__(
        self,
        folder: Path,
        sandbox: Sandbox,
        place: Callable[[Digest, Path], None],
        environment_of: Callable[[Revision], Installed],
        inference: Path,
        key: Path,
    ) -> None:
        self._folder = folder.absolute()
        self._sandbox = sandbox
        self._environment_of = environment_of
        self._inference = inference
        self._key = key
        self._copies = ArtifactCopies(self._folder, place)
        self._labelled = LabelledAnswers(self._folder)
        self._late = LateAnswers(self._folder)
        self._paired = PairedAnswers(self._folder)

    def observe(self, environment: str) -> dict[str, ReplicaSeen]:
        """The replicas that shall run, as they are."""
        names = self._names(environment)
        if not names:
            return {}
        with ThreadPoolExecutor(max_workers=min(PROBED_AT_ONCE, len(names))) as pool:
            return dict(zip(names, pool.map(self._see, names), strict=True))

    def labelled(self, environment: str, late: LateLabels | None = None) -> dict[str, CounterSeen]:
        """By revision key the answers whose truth is known by now; see the port."""
        return self._labelled.observe(environment) if late is None else self._late.observe(environment, late)

    def paired(self, environment: str, tolerance: float) -> dict[str, PairsSeen]:
        """By revision key what became of requests that were copied to it; see the port."""
        return self._paired.observe(environment, tolerance)

    def observed(self, environment: str) -> dict[str, ObservedSeen]:
        """By replica name what it was asked and answered; see the port."""
        names = self._names(environment)
        if not names:
            return {}
        with ThreadPoolExecutor(max_workers=min(PROBED_AT_ONCE, len(names))) as pool:
            found = pool.map(lambda name: read_observed(self._folder / "s" / name), names)
            return {name: seen for name, seen in zip(names, found, strict=True) if seen is not None}

    def ensure(self, revision: Revision, version: int) -> None:
        """All replicas of the revision are running or being started; see the port.

        What runs already is left as it is, also after this program was upgraded. A dead supervise is started.
        """
        names = [revision.replica(index) for index in range(revision.replicas)]
        if not all(self._process_file(name).exists() for name in names):
            installed = self._environment_of(revision)  # may take minutes: no lock yet
            with self._locked():
                self._advance(revision.key, version)
                is_new = not any(self._process_file(name).exists() for name in names)
                for name in names:
                    self._run(name, revision, installed, is_patient=is_new)
        else:
            with self._locked():
                self._advance(revision.key, version)
            if any(self._found_other_bytes(name) for name in names):
                for artifact in _artifacts(revision):
                    with suppress(InterlockError):  # the store's own are wrong too: what is asked besides must go on
                        self._copies.renew(artifact)
            if any(self._exit_code(name) == OTHER_ENVIRONMENT for name in names):
                self._environment_of(revision)  # built again, if it was removed
        ensure_supervise(self._folder)

    def remove(self, revision_key: str, version: int, beyond: int = 0) -> None:
        """Its replicas from number ``beyond`` on are stopped, gently, and will not come back by themselves."""
        with self._locked():
            self._advance(revision_key, version)
            for name in self._processes():
                key, _, index = name.rpartition(".")
                if key == revision_key and int(index) >= beyond:
                    self._process_file(name).unlink()
            self._sweep()

    def forbid(self, digests: Mapping[str, str], version: int) -> None:
        """No replica of these models starts any more; see the port."""
        with self._locked():
            write_quarantined(self._folder, digests, version)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with locked(self._folder / LOCK):
                yield
        except OSError as problem:
            raise ServingFault(f"the data plane's files cannot be written: {problem}") from problem

    def _process_file(self, name: str) -> Path:
        return self._folder / "processes" / f"{name}.json"

    def _names(self, environment: str) -> list[str]:
        pattern = re.compile(re.escape(environment.replace("/", ".")) + r"\.r\d+\.\d+")
        return sorted(name for name in self._processes() if pattern.fullmatch(name))

    def _processes(self) -> dict[str, Path]:
        return {path.name.removesuffix(".json"): path for path in (self._folder / "processes").glob("[!.]*.json")}

    def _advance(self, revision_key: str, version: int) -> None:
        """Remembers the row version a revision was decided at, also of removed ones: none comes back by a late act."""
        path = self._folder / VERSIONS
        versions: dict[str, int] = json.loads(path.read_bytes()) if path.exists() else {}
        in_force = versions.get(revision_key, 0)
        if version < in_force:
            problem = f"an act of version {version} comes too late"
            raise StaleWrite(f"{revision_key} was decided at version {in_force}; {problem}")
        if version > in_force:
            write_atomically(path, json.dumps({**versions, revision_key: version}).encode())

    def _isolation(self, name: str, revision: Revision, python: str) -> Isolation:
        """What a replica runs and sees. Paths are the same inside and outside; only the socket's must be short."""
        program = copy_program(self._inference, self._folder)
        model = self._copies.ensure(revision.model_digest)
        golden = self._copies.ensure(revision.golden) if revision.golden else None
        reference = self._copies.ensure(revision.reference) if revision.reference else None
        predictions = self._folder / "predictions" / revision.environment.replace("/", ".")
        socket = self._folder / "s" / name
        for folder in (predictions, socket):
            folder.mkdir(parents=True, exist_ok=True)
        argv = [python, "-m", "interlock.inference", "--name", revision.model, "--version", str(revision.version)]
        argv += ["--revision", revision.key, "--model", str(model), "--digest", revision.model_digest]
        argv += ["--format", revision.format, "--socket", f"s/{name}/http", "--predictions", str(predictions)]
        argv += ["--golden", str(golden)] if golden else []
        argv += ["--reference", str(reference)] if reference else []
        argv += ["--slices", json.dumps(revision.slices)] if revision.slices else []
        return Isolation(
            argv=tuple(argv),
            folder=str(self._folder),
            env={
                "HOME": "/tmp",  # noqa: S108 - its own, inside
                "LANG": "C.UTF-8",
                "OMP_NUM_THREADS": str(max(1, int(revision.cpu or 1))),
                "PATH": "/usr/bin:/bin",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": str(program),
                "PYTHONSAFEPATH": "1",
                "PYTHONUNBUFFERED": "1",
            },
            read_only=tuple((str(path), str(path)) for path in (program, model, golden, reference) if path),
            writable=((str(socket), str(socket)), (str(predictions), str(predictions))),
            interpreters=(python,),
        )

    def _run(self, name: str, revision: Revision, installed: Installed, *, is_patient: bool) -> None:
        path = self._process_file(name)
        if path.exists():
            return
        isolation = self._isolation(name, revision, str(Path(installed.folder) / "bin" / "python"))
        copies = {artifact: self._copies.ensure(artifact) for artifact in _artifacts(revision)[1:]}
        command = self._sandbox.command(isolation, revision.cpu)
        argv = guarded(command, revision, installed, copies, self._folder, self._key)
        process = {
            "name": name,
            "argv": argv,
            "env": {},
            "folder": ".",
            "generation": zlib.crc32(json.dumps(argv).encode()),
            "grace": GRACE_SECONDS,
            "unlink": [f"s/{name}/http"],
            "pulse": f"s/{name}/http",
            "memory": revision.memory,
            "is_patient": is_patient,  # more replicas of what serves are needed at once
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(process).encode())

    def _sweep(self) -> None:
        """Removes what belongs to no replica that shall run or still runs."""
        self._copies.forget_unless_named(path.read_text() for path in self._processes().values())
        for folder in (self._folder / "s").glob("*"):
            is_wanted = self._process_file(folder.name).exists()
            if not is_wanted and not (self._folder / "status" / f"{folder.name}.json").exists():
                shutil.rmtree(folder)

    def _see(self, name: str) -> ReplicaSeen:
        status = self._status(name)
        age = age_of(str(status.get("identity"))) if status.get("state") == "running" else None
        is_running = age is not None
        is_ready = is_running and self._says_ready(name)
        restarts = int(status.get("restarts", 0))
        problem = None
        if not is_running and supervisor_of(self._folder) is None:
            problem = "nobody supervises it"
        elif not is_ready and restarts + (not is_running) >= TROUBLED_AFTER:
            problem = self._last_words(name)
        return ReplicaSeen(is_running=is_running, is_ready=is_ready, restarts=restarts, age=age, problem=problem)

    def _found_other_bytes(self, name: str) -> bool:
        """Whether a replica refused to start with the copies it was given, and does not run meanwhile."""
        return self._exit_code(name) in REPAIRABLE

    def _exit_code(self, name: str) -> int | None:
        """Of a replica that waits for its next start."""
        status = self._status(name)
        code: int | None = status.get("exit")
        return code if status.get("state") == "backing_off" else None

    def _status(self, name: str) -> dict[str, Any]:
        try:
            status: dict[str, Any] = json.loads((self._folder / "status" / f"{name}.json").read_bytes())
        except (OSError, ValueError):  # not started yet, or the disk is full
            return {}
        return status

    def _says_ready(self, name: str) -> bool:
        try:
            answer = http_over(self._folder / "s" / name, "http", "GET", "/v2/health/ready", timeout=READY_SECONDS)
        except OSError:
            return False
        return answer.status == 200

    def _last_words(self, name: str) -> str:
        try:
            lines = (self._folder / "logs" / f"{name}.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        ailment = str(self._status(name).get("ailment") or "")
        return ailment or next((line.strip() for line in reversed(lines) if line.strip()), "it ends without a word")


def _artifacts(revision: Revision) -> list[Digest]:
    """What a revision's replicas are given copies of, the model first."""
    beside = (revision.golden, revision.reference, revision.provenance)
    return [revision.model_digest, *(one for one in beside if one is not None)]


def read_observed(folder: Path) -> ObservedSeen | None:
    """The counts of the replica whose socket is in ``folder``; None where it has none, or does not tell now."""
    try:
        answer = http_over(folder, "http", "GET", "/interlock/observed", timeout=READY_SECONDS)
        if answer.status != 200:
            return None
        told = json.loads(answer.body)
        columns = {f"{side}.{name}": counts for side in SIDES for name, counts in told[side].items()}
        return ObservedSeen(epoch=told["epoch"], rows=told["rows"], columns=columns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # it is the model's process: it may say anything
        return None
