"""The byte code of what is installed, made once for each source file and linked into every environment that has it.

Stages see their environment read-only, so each would compile what it imports anew; and compiling takes thirty times as
long as installing. A file's byte code depends on its content and the interpreter alone, and is kept under both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

COMPILE_SECONDS = 600.0

TAG = "import importlib.util, sys; print(sys.implementation.cache_tag, importlib.util.MAGIC_NUMBER.hex())"
COMPILER = """
import os, py_compile, sys
names = [os.fsdecode(name) for name in sys.stdin.buffer.read().split(bytes(1))]
for source, target in zip(names[::2], names[1::2]):
    try:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(source, cfile=target, dfile=target, doraise=True, invalidation_mode=mode)
    except py_compile.PyCompileError as error:
        if isinstance(error.exc_value, SyntaxError):
            open(target, "a").close()
    except OSError:
        pass
"""
"""Makes byte code that is not compared with its source again: it is kept by its source's content. An empty file says
that it cannot be made; not where the source went away meanwhile, with a builder that died. The name in it is set to the
source's own by whoever imports it."""


class Source(NamedTuple):
    """A file of an environment, and where its byte code is kept."""

    path: str
    kept: Path


class ByteCode:
    """Byte code below ``folder``, which is on the file system of the environments."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def give(self, interpreter: str, environment: Path) -> None:
        """Gives the environment the byte code of its packages; what cannot be compiled is left as it is.

        By an interpreter outside the environment and without ``site``: to start the environment's own would run the
        ``.pth`` files of its packages, outside any sandbox.
        """
        asked = subprocess.run([interpreter, "-I", "-S", "-c", TAG], capture_output=True, text=True, check=False)
        if asked.returncode != 0 or len(asked.stdout.split()) != 2:
            return
        tag, magic = asked.stdout.split()
        kept = self._folder / f"{tag}-{magic}"
        sources = [Source(path, self._place(kept, path)) for path in _python_files(str(environment / "lib"))]
        sizes = {source.kept: _size(source.kept) for source in sources}
        missing = {source.kept: source for source in sources if sizes[source.kept] is None}
        _compile(interpreter, list(missing.values()))
        sizes |= {place: _size(place) for place in missing}
        for source in sources:
            if sizes[source.kept]:
                _link(source, tag)

    def collect(self, older_than: float) -> int:
        """Removes what no environment holds any more and was made before ``older_than`` (wall time); its bytes."""
        size = 0
        for path in self._folder.glob("*/*/*"):
            with suppress(FileNotFoundError):
                found = path.lstat()
                if found.st_nlink == 1 and found.st_mtime < older_than:
                    path.unlink()
                    size += found.st_size
        return size

    def _place(self, kept: Path, source: str) -> Path:
        with Path(source).open("rb", buffering=0) as file:
            name = blake3(file.read()).hexdigest()[:48]
        return kept / name[:2] / name[2:]


def _size(kept: Path) -> int | None:
    """In bytes, 0 where the source cannot be compiled; None where that was not tried yet."""
    try:
        return kept.stat().st_size
    except FileNotFoundError:
        return None


def _python_files(folder: str) -> Iterator[str]:
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.name.endswith(".py") and entry.is_file(follow_symlinks=False):
                    yield entry.path


def _compile(interpreter: str, missing: Sequence[Source]) -> None:
    """Compiles in as many processes as there are cores; what takes too long is left to the next environment."""
    for folder in {source.kept.parent for source in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    parts = [part for number in range(cores) if (part := missing[number::cores])]
    command = [interpreter, "-I", "-S", "-c", COMPILER]
    running = [(subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL), part) for part in parts]
    try:
        for process, part in running:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin:  # no name holds a zero, and a hostile one any other letter
                process.stdin.write(b"".join(os.fsencode(f"{source.path}\0{source.kept}\0") for source in part))
        for process, _ in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(COMPILE_SECONDS)
    finally:
        for process, _ in running:
            process.kill()
            process.wait()


def _link(source: Source, tag: str) -> None:
    folder, _, name = source.path.rpartition("/")
    target = Path(f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc")
    target.parent.mkdir(exist_ok=True)
    try:
        target.hardlink_to(source.kept)
    except FileExistsError:
        return  # the package brings its own
    except OSError:  # so many links are more than the file system counts, or it has none
        shutil.copyfile(source.kept, target)
