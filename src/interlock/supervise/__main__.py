"""``python -m interlock.supervise [--detach] FOLDER``.

Keeps the programs of FOLDER alive until TERM, at which it ends them gently and then itself; KILL ends it alone. With
``--detach`` the command returns as soon as another process, of a session of its own, holds ``FOLDER/supervise.lock``.
There is one for a folder: exit code 3 where another runs already. ``FOLDER/supervise.json`` says which process it is.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from .child import identity_of
from .files import try_locked, write_atomically
from .loop import run

ALREADY_RUNS = 3


def _supervise(folder: Path, ready: int | None = None) -> int:
    """Supervises until TERM. ``ready`` is a pipe that is told, and closed, once the lock is held."""
    is_ending: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: is_ending.append(True))
    with try_locked(folder / "supervise.lock") as is_ours:
        if not is_ours:
            return ALREADY_RUNS
        write_atomically(folder / "supervise.json", {"pid": os.getpid(), "identity": identity_of(os.getpid())})
        if ready is not None:
            os.write(ready, b"1")
            os.close(ready)
        run(folder, is_ending)
    return 0


def _detach(folder: Path) -> int:
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        return 0 if os.read(reader, 1) else ALREADY_RUNS
    os.close(reader)
    os.setsid()
    with Path(os.devnull).open("rb") as nothing, (folder / "logs" / "supervise.log").open("ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return _supervise(folder, writer)


def main(arguments: list[str]) -> int:
    """Runs the command; answers the exit code."""
    folders = [argument for argument in arguments if argument != "--detach"]
    if len(folders) != 1 or folders[0].startswith("-"):
        sys.stderr.write("usage: python -m interlock.supervise [--detach] FOLDER\n")
        return 2
    folder = Path(folders[0]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return _detach(folder) if "--detach" in arguments else _supervise(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
