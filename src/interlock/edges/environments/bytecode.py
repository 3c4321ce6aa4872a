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
    kept: str


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
        kept = f"{self._folder}/{tag}-{magic}"
        folders = {
            folder: [Source(path, _place(kept, path)) for path in paths]
            for folder, paths in _python_files(str(environment / "lib"))
        }
        sources = {source.kept: source for inside in folders.values() for source in inside}
        sizes = {place: _size(place) for place in sources}
        missing = [source for place, source in sources.items() if sizes[place] is None]
        _compile(interpreter, missing)
        sizes |= {source.kept: _size(source.kept) for source in missing}
        for folder, inside in folders.items():
            _link(folder, [source for source in inside if sizes[source.kept]], tag)

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


def _place(kept: str, source: str) -> str:
    """Where the byte code of a source file is kept. There are thousands of them, so nothing is done twice."""
    opened = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(opened, os.fstat(opened).st_size)
    finally:
        os.close(opened)
    name = blake3(content).hexdigest()
    return f"{kept}/{name[:2]}/{name[2:48]}"


def _size(kept: str) -> int | None:
    """In bytes, 0 where the source cannot be compiled; None where that was not tried yet."""
    try:
        return os.stat(kept).st_size
    except FileNotFoundError:
        return None


def _python_files(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Every folder that holds source files, with their paths."""
    waiting = [folder]
    while waiting:
        inside, found = waiting.pop(), list[str]()
        with os.scandir(inside) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.name.endswith(".py") and entry.is_file(follow_symlinks=False):
                    found.append(entry.path)
        if found:
            yield inside, found


def _compile(interpreter: str, missing: Sequence[Source]) -> None:
    """Compiles in as many processes as there are cores; what takes too long is left to the next environment."""
    for folder in {os.path.dirname(source.kept) for source in missing}:
        os.makedirs(folder, exist_ok=True)
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


def _link(folder: str, sources: Sequence[Source], tag: str) -> None:
    """Gives the source files of a folder their byte code."""
    made = f"{folder}/__pycache__"
    if sources:
        os.makedirs(made, exist_ok=True)
    for source in sources:
        target = f"{made}/{os.path.basename(source.path).removesuffix('.py')}.{tag}.pyc"
        try:
            os.link(source.kept, target)
        except FileExistsError:
            continue  # the package brings its own
        except OSError:  # so many links are more than the file system counts, or it has none
            shutil.copyfile(source.kept, target)
