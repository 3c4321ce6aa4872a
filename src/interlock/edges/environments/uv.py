"""Environments made by uv, each at a path that its digest names, kept until nobody needs them."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from interlock.errors import EnvironmentFault, Refused
from interlock.pipeline.plan import PythonPlan
from interlock.system.admitted.contents import COMPLETE, digest_contents
from interlock.system.files import locked, try_lock, write_atomically

from .bytecode import ByteCode
from .locking import write_lock
from .program import Uv, UvFailed
from .requirements import changed_requirements, refuse_local_sources, refuse_loose_pins, without_hashes

SERVER_REQUIREMENTS = ("httptools>=0.6.4", "orjson>=3.11", "blake3>=1.0", "numpy", "uvloop>=0.21")
"""What the model server needs beside the model's own lock."""

FORMAT_REQUIREMENTS = {
    "serve-onnx": ("onnxruntime>=1.21",),
    "serve-mlflow": ("pyyaml>=6",),
    "export": ("onnx>=1.18", "onnxruntime>=1.21", "pyyaml>=6"),
}
"""What it needs besides for models of one format, or to make one, by the purpose of their environment."""

FORMAT = 1
"""Raised when environments are built in another way, so that old ones are not taken for new."""


class UvEnvironments:
    """Builds environments below ``folder``, each once, and finds them again by the digest of what they are made of.

    Many threads and processes may ask at the same time. ``server_requirements`` are added for the purposes ``serve``
    and ``serve-FORMAT`` with the model's lock as constraints.
    """

    def __init__(self, folder: str | Path, server_requirements: Sequence[str] = SERVER_REQUIREMENTS) -> None:
        self._folder = Path(folder).resolve()  # console scripts of an environment hold its real path
        self._folder.mkdir(parents=True, exist_ok=True)
        self._server_requirements = tuple(server_requirements)
        self._uv = Uv()
        self._byte_code = ByteCode(self._folder / ".bytecode")
        self._interpreters: dict[str, tuple[str, str]] = {}
        self._guard = threading.Lock()

    @staticmethod
    def python_of(folder: str) -> str:
        """The interpreter of an environment that ``ensure`` answered."""
        return str(Path(folder) / "bin" / "python")

    @staticmethod
    def contents_of(folder: str) -> str | None:
        """The digest of what was installed into an environment that serves models, taken when it was built.

        None for one of another purpose.
        """
        facts: dict[str, str | None] = json.loads((Path(folder) / COMPLETE).read_bytes())
        return facts.get("contents")

    def lock_files(self, python: PythonPlan, read: Callable[[Sequence[str]], Mapping[str, bytes]]) -> dict[str, bytes]:
        """``uv.lock`` with the ``pyproject.toml`` beside it, or the requirements file alone, by name."""
        lock = Path(python.lock)
        wanted = [python.lock] if _is_requirements(python) else [str(lock.with_name("pyproject.toml")), python.lock]
        found = read(wanted)
        if not found and len(wanted) > 1:
            remedy = "list what the code needs in pyproject.toml or requirements.in; `interlock run --lock` locks it"
            raise Refused(f"there is no {python.lock}, and no pyproject.toml to make it of", "python.lock", remedy)
        for path in wanted:
            if path not in found:
                remedy = "`interlock run --lock` writes it; commit it" if path == python.lock else "commit the file"
                raise Refused(f"{path} is not in the commit", "python.lock", remedy)
        return {Path(path).name: found[path] for path in wanted}

    def identify(self, python: PythonPlan, files: Mapping[str, bytes], purpose: str) -> str:
        """The digest of the files, the interpreter, the purpose, and for ``serve`` the server's requirements."""
        _, version = self._interpreter(python)
        made_of = [
            FORMAT,
            purpose,
            f"{platform.system()} {platform.machine()} {version}",
            list(self._needs(purpose)),
            sorted((name, blake3(content).hexdigest()) for name, content in files.items()),
        ]
        return f"blake3:{blake3(json.dumps(made_of).encode()).hexdigest()}"

    def version(self, python: PythonPlan) -> str:
        """The version of the interpreter that fits; Refused where there is none."""
        return self._interpreter(python)[1]

    def check(self, python: PythonPlan, files: Mapping[str, bytes]) -> None:
        """Refused where the lock does not fit the project file, or pins loosely; nothing is changed or installed."""
        if _is_requirements(python):
            name = Path(python.lock).name
            refuse_loose_pins(_text(files[name], name), name)
            return
        self._interpreter(python)
        changed = changed_requirements(
            _text(files["pyproject.toml"], "pyproject.toml"), _text(files["uv.lock"], "uv.lock")
        )
        with self._laid_out(files) as project:
            try:
                self._check_lock(python, project)
            except UvFailed as failure:
                if failure.is_of_the_world and not changed:
                    raise EnvironmentFault(f"the lock could not be checked: {failure.cause}") from failure
                cause = "; ".join(changed) or failure.cause
                remedy = failure.remedy(
                    "`interlock run --lock` brings uv.lock up to date, as `uv lock` does; commit it"
                )
                raise Refused(f"the lock does not fit the project file: {cause}", python.lock, remedy) from failure

    def lock(self, python: PythonPlan, folder: Path) -> str:
        """Writes the lock of the working tree at ``folder``; answers what was written. Refused with uv's cause."""
        interpreter, _ = self._interpreter(python)
        try:
            return write_lock(self._uv, interpreter, folder, python.lock)
        except UvFailed as failure:
            raise _blamed(failure, "it cannot be locked", python.lock) from failure

    def ensure(self, python: PythonPlan, files: Mapping[str, bytes], purpose: str, say: Callable[[str], None]) -> str:
        """The folder of the environment, built now if it is not there yet."""
        environment = self._folder / _name_of(self.identify(python, files, purpose))
        complete = environment / COMPLETE
        with locked(environment.with_suffix(".lock")):
            if not complete.exists():
                self._build(python, files, purpose, environment, say)
            os.utime(complete)  # when it was last used
        return str(environment)

    def collect(self, wanted: Collection[str], named_in: str, older_than: float) -> tuple[int, int]:
        """Removes environments last asked for before ``older_than`` (wall time); answers how many, and their bytes.

        Those of the ``wanted`` identities stay, and those that the text ``named_in`` names: what runs is told in it.
        """
        kept = {_name_of(identity) for identity in wanted}
        sizes = [
            size
            for environment in self._folder.glob("[!.]*")
            if environment.is_dir() and environment.name not in kept and environment.name not in named_in
            if (size := _remove_unused(environment, older_than)) is not None
        ]
        return len(sizes), sum(sizes) + self._byte_code.collect(older_than)

    def _build(
        self,
        python: PythonPlan,
        files: Mapping[str, bytes],
        purpose: str,
        environment: Path,
        say: Callable[[str], None],
    ) -> None:
        began = time.monotonic()
        shutil.rmtree(environment, ignore_errors=True)
        say(f"building the Python environment ({purpose}) of {python.lock}")
        with self._laid_out(files) as project:
            try:
                constraints = self._install_lock(python, project, purpose, environment, say)
            except UvFailed as failure:
                raise _blamed(failure, "the environment cannot be installed", python.lock) from failure
            if needs := self._needs(purpose):
                self._install_server(python, project, constraints, environment, needs, say)
        self._byte_code.give(self._interpreter(python)[0], environment)
        seconds = time.monotonic() - began
        contents = digest_contents(str(environment)) if purpose.startswith("serve") else None
        facts = {"purpose": purpose, "lock": python.lock, "seconds": round(seconds, 3), "contents": contents}
        write_atomically(environment / COMPLETE, json.dumps(facts).encode())
        say(f"the Python environment is ready after {seconds:.1f} s")

    def _needs(self, purpose: str) -> tuple[str, ...]:
        """What is installed beside the lock."""
        return () if purpose == "build" else (*self._server_requirements, *FORMAT_REQUIREMENTS.get(purpose, ()))

    def _install_lock(
        self, python: PythonPlan, project: Path, purpose: str, environment: Path, say: Callable[[str], None]
    ) -> str:
        """Installs what the lock says; answers its pins as constraints."""
        interpreter, _ = self._interpreter(python)
        if _is_requirements(python):
            pins = project / Path(python.lock).name
            refuse_loose_pins(pins.read_text(encoding="utf-8"), pins.name)
            self._uv("venv", "--no-project", "--python", interpreter, str(environment), folder=project, say=say)
            target = ("--python", self.python_of(str(environment)))
            # Not `sync`, which installs pins that contradict one another, or leave out what they need, as they are.
            strict = ("--no-compile-bytecode", "--require-hashes", "--requirements", str(pins))
            self._uv("pip", "install", *target, *strict, folder=project, say=say)
            return without_hashes(pins.read_text(encoding="utf-8"))
        texts = [_text((project / name).read_bytes(), name) for name in ("pyproject.toml", "uv.lock")]
        refuse_local_sources(*texts)
        groups = _groups(project / "pyproject.toml") if purpose == "build" else ("--no-default-groups",)
        chosen = ("--frozen", "--no-install-project", "--no-compile-bytecode", *groups, "--python", interpreter)
        self._uv("sync", *chosen, folder=project, say=say, env={"UV_PROJECT_ENVIRONMENT": str(environment)})
        if purpose == "build":
            return ""
        bare = ("--quiet", "--no-emit-project", "--no-hashes", "--no-header", "--no-annotate")
        return self._uv("export", "--frozen", *groups, *bare, folder=project)

    def _install_server(
        self,
        python: PythonPlan,
        project: Path,
        constraints: str,
        environment: Path,
        needs: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        """Adds the model server's few packages, none of which may move a version of the model's lock."""
        pins = project / "constraints.txt"
        pins.write_text(constraints, encoding="utf-8")
        # By the interpreter outside: to ask that of the environment would run the .pth files of the model's packages.
        outside = ("--python", self._interpreter(python)[0], "--prefix", str(environment))
        target = (*outside, "--no-compile-bytecode", "--constraint", str(pins))
        try:
            self._uv("pip", "install", *target, *needs, folder=project, say=say)
        except UvFailed as failure:
            both = f"the model's lock and the model server's requirements ({', '.join(needs)})"
            raise _blamed(failure, f"{both} cannot be installed together", python.lock) from failure

    def _check_lock(self, python: PythonPlan, project: Path) -> None:
        interpreter, _ = self._interpreter(python)
        try:
            self._uv("lock", "--check", "--offline", "--python", interpreter, folder=project)
        except UvFailed as failure:
            if not failure.is_of_the_world:
                raise
            self._uv("lock", "--check", "--python", interpreter, folder=project)

    def _interpreter(self, python: PythonPlan) -> tuple[str, str]:
        """Path and version of an installed interpreter; Interlock's own where it fits."""
        with self._guard:
            if python.version not in self._interpreters:
                self._interpreters[python.version] = self._find_interpreter(python)
            return self._interpreters[python.version]

    def _find_interpreter(self, python: PythonPlan) -> tuple[str, str]:
        own = str(Path(sys.base_prefix) / "bin")
        env = {"PATH": os.pathsep.join([own, os.environ.get("PATH", os.defpath)])}
        arguments = ("--no-project", "--system", python.version)
        try:
            path = _last_line(self._uv("python", "find", *arguments, folder=self._folder, env=env))
            if Path(path).resolve() == Path(sys.executable).resolve():
                return path, platform.python_version()
            version = _last_line(self._uv("python", "find", "--show-version", *arguments, folder=self._folder, env=env))
        except UvFailed as failure:
            remedy = "install such an interpreter, or change python.version; Interlock downloads none"
            raise Refused(f"no Python {python.version} is installed here", "python.version", remedy) from failure
        return path, version

    @contextmanager
    def _laid_out(self, files: Mapping[str, bytes]) -> Iterator[Path]:
        """The files in a folder of their own for as long as the block lasts."""
        with tempfile.TemporaryDirectory(prefix=".project-", dir=self._folder) as name:
            for file, content in files.items():
                (Path(name) / file).write_bytes(content)
            yield Path(name)


def _name_of(identity: str) -> str:
    """The name of an environment's folder."""
    return identity.removeprefix("blake3:")[:40]


def _remove_unused(environment: Path, older_than: float) -> int | None:
    """Removes the environment, or what is left of a build that died; its bytes. None where it is being used."""
    lock = try_lock(environment.with_suffix(".lock"))
    if lock is None:
        return None
    with lock:
        complete = environment / COMPLETE
        if (complete if complete.exists() else environment).stat().st_mtime >= older_than:
            return None
        size = sum(path.lstat().st_size for path in environment.rglob("*"))
        complete.unlink(missing_ok=True)  # first: what is half removed is never taken for whole
        shutil.rmtree(environment)
    return size


def _last_line(said: str) -> str:
    """The answer, behind any warning; told to be quiet uv gives none."""
    return said.strip().rpartition("\n")[2]


def _is_requirements(python: PythonPlan) -> bool:
    return Path(python.lock).suffix == ".txt"


def _text(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8")
        if name != "requirements.txt" and not name.endswith(".txt"):
            tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused(f"it cannot be read: {error}", name, "mend the file, then lock again") from error
    return text


def _groups(project: Path) -> tuple[str, ...]:
    """``dev`` is installed for checks and stages even where it is no default group."""
    groups = tomllib.loads(project.read_text(encoding="utf-8")).get("dependency-groups", {})
    return ("--group", "dev") if "dev" in groups else ()


def _blamed(failure: UvFailed, problem: str, where: str) -> Refused | EnvironmentFault:
    """The network and the disk are nobody's fault; anything else uv says is about the user's lock."""
    if failure.is_of_the_world:
        return EnvironmentFault(f"{problem}: {failure.cause}")
    remedy = failure.remedy("change the requirement, then lock again: `interlock run --lock`")
    return Refused(f"{problem}: {failure.cause}", where, remedy)
