"""What shall run, as its file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from .files import read_object

EPOCH = "{epoch}"


class Program(NamedTuple):
    """One program that shall run.

    ``folder`` (relative to the data-plane folder) is where it is started, ``env`` its whole environment. Another
    ``generation`` is another program: the old one ends before the new one starts. ``grace`` is how many seconds it
    has between TERM and KILL. ``unlink`` names files (relative to the data-plane folder) that a dead one may
    have left, removed before each start. One that uses more than ``memory`` bytes, or does not answer at the Unix
    socket ``pulse`` any more, is ended and started again; None is any, and nobody asks. A ``is_patient`` one waits with
    its first start for others that begin.

    Where the running generation has the same ``succession`` (not None), another one is started beside it, takes over
    what it listens at, and ends it; ``EPOCH`` in a word of ``argv`` is how many have done so before without a gap.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    folder: str
    generation: int
    grace: float
    unlink: tuple[str, ...]
    memory: int | None
    pulse: str | None
    is_patient: bool
    succession: str | None


def _parse(document: dict[str, Any]) -> Program:
    argv = tuple(str(word) for word in document["argv"])
    if not argv:
        raise ValueError("argv is empty")
    return Program(
        argv=argv,
        env={str(name): str(value) for name, value in document.get("env", {}).items()},
        folder=str(document.get("folder", ".")),
        generation=int(document["generation"]),
        grace=float(document.get("grace", 10.0)),
        unlink=tuple(str(path) for path in document.get("unlink", ())),
        memory=None if document.get("memory") is None else int(document["memory"]),
        pulse=None if document.get("pulse") is None else str(document["pulse"]),
        is_patient=bool(document.get("is_patient", False)),
        succession=None if document.get("succession") is None else str(document["succession"]),
    )


class Programs:
    """The programs of a folder of files; a file is read again only when it changed.

    A file that cannot be read keeps what it said before: a slip of the pen stops nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int, int], Program | None]] = {}

    def look(self) -> tuple[dict[str, Program], dict[str, str]]:
        """The programs by name, and what is wrong with files that were changed since the last look."""
        problems: dict[str, str] = {}
        names: set[str] = set()
        for path in self._folder.glob("[!.]*.json"):
            name = path.name.removesuffix(".json")
            try:
                state = path.stat()
            except FileNotFoundError:
                continue
            names.add(name)
            signature = (state.st_ino, state.st_mtime_ns, state.st_size)
            before = self._known.get(name)
            if before is not None and before[0] == signature:
                continue
            program = before[1] if before else None
            try:
                program = _parse(read_object(path))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
                problems[name] = f"{path.name} cannot be read: {problem!r}"
            self._known[name] = (signature, program)
        self._known = {name: known for name, known in self._known.items() if name in names}
        return {name: program for name, (_, program) in self._known.items() if program is not None}, problems
