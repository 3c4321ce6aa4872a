"""The quick answer of ``interlock run``: that nothing has changed since a run that succeeded.

Such a run leaves a note: its own state, the paths of all that decided it, and their signatures (system/signatures.py).
As long as every signature is the same and every artifact that the run made is there, a run with the same options would
reuse every stage, so its end is told again and nothing is planned. Whatever differs, and whatever cannot be told, goes
the long way.

Without a note this module needs only what Python itself brings, and no more when it reads one: the store, git and the
models of rows take fifty times as long to import as all of this takes to run.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from interlock.system.sharing import sharing
from interlock.system.signatures import sign

Place: TypeAlias = "str | os.PathLike[str]"
FORMAT = 1
FOLDER = "unchanged"
"""Where notes are, in the state folder."""
ARTIFACTS = "artifacts"
DATABASE = "interlock.db"
FAMILIES = ("INTERLOCK_", "UV_", "PIP_", "PYTHON", "SSL_")
VARIABLES = frozenset({"PATH", "HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME"})
"""Variables of the environment, and beginnings of their names, that Interlock, uv or git obey."""


class Note(NamedTuple):
    """What a run left.

    ``question`` is everything it was asked, and by whom; ``within`` are paths below its folder, ``elsewhere`` others;
    ``signatures`` those of all of them, in this order; ``made`` the files of its artifacts; ``run`` its state as JSON.
    """

    question: dict[str, Any]
    within: list[str]
    elsewhere: list[str]
    made: list[str]
    run: dict[str, Any]
    signatures: array[int]


def ask(state: Place, folder: Place, options: Mapping[str, Any]) -> dict[str, Any]:
    """All that two runs must have in common beside files: the folder, the options, the machine, the interpreter."""
    machine = os.uname()
    database = os.path.join(state, DATABASE)
    return {
        "format": FORMAT,
        "folder": os.path.realpath(folder),
        "options": json.loads(json.dumps(options)),
        "machine": [machine.sysname, machine.nodename, machine.machine],
        "python": [sys.version, sys.executable, sys.prefix, sys.base_prefix],
        "user": os.geteuid(),
        "database": os.stat(database).st_ino if os.path.exists(database) else None,
        "variables": {name: value for name, value in os.environ.items() if _matters(name)},
    }


def recall(state: Place, folder: Place, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state, as JSON, of the run whose end still stands for this folder and these options; None where none does."""
    try:
        question = ask(state, folder, options)
        note = read(place_of(state, question))
        if note is None or note.question != question or not _is_as_it_was(note):
            return None
        _use(os.path.join(state, ARTIFACTS), note.made)
    except (OSError, OverflowError):
        return None
    return note.run


def place_of(state: Place, question: Mapping[str, Any]) -> str:
    """Where the note of this folder and these options is; two that share one place only forget each other."""
    asked = f"{question['folder']}\0{json.dumps(question['options'])}"
    return os.path.join(state, FOLDER, f"{zlib.crc32(os.fsencode(asked)):08x}")


def write(note: Note) -> bytes:
    """A note as bytes, with a sum by which a torn one is told."""
    head = json.dumps(note._asdict() | {"signatures": len(note.signatures)}, separators=(",", ":"))
    body = head.encode() + b"\n" + note.signatures.tobytes()
    return b"%08x" % zlib.crc32(body) + body


def read(path: Place) -> Note | None:
    """The note in a file; None where it is torn or of another form. OSError where there is none."""
    with open(path, "rb") as file:
        content = file.read()
    if content[:8] != b"%08x" % zlib.crc32(content[8:]):
        return None
    head, _, packed = content[8:].partition(b"\n")
    told = json.loads(head)
    if told["question"].get("format") != FORMAT:
        return None
    return Note(**told | {"signatures": array("q", packed)})


def signatures_of(folder: str, within: Sequence[str], elsewhere: Sequence[str]) -> array[int]:
    """The signatures of paths below a folder, and of others. OSError, OverflowError as from ``sign``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sign(within, descriptor) + sign(elsewhere)
    finally:
        os.close(descriptor)


def _is_as_it_was(note: Note) -> bool:
    return signatures_of(note.question["folder"], note.within, note.elsewhere) == note.signatures


def _use(artifacts: Place, made: Sequence[str]) -> None:
    """Marks what the run made as used now, so that it is kept. OSError where something is missing."""
    with sharing(artifacts):
        for path in made:
            os.utime(path)


def _matters(name: str) -> bool:
    return name in VARIABLES or name.startswith(FAMILIES)
