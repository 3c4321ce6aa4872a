"""The parent of one program: it outlives supervise, so that a program which ends with its parent does not end with it.

Started by its path, alone: ``python -I -S stub.py``. It reads ``{"argv", "env", "folder"}`` from its input, runs the
program in its own process group, and ends with the program's exit code (128 + n after signal n). TERM is passed on to
all that the program started, except to a sandbox's own launcher, whose end would be a KILL to those inside. KILL ends
the program too.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

LAUNCHERS = frozenset({"bwrap"})
PR_SET_PDEATHSIG = 1  # prctl(2)


def _processes() -> dict[int, tuple[int, str]]:
    """Parent and name by process id (proc_pid_stat(5))."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text(errors="replace")
            except OSError:
                continue
            name, _, rest = text.partition("(")[2].rpartition(")")
            found[int(entry.name)] = (int(rest.split()[1]), name)
    return found


def _terminate_below() -> None:
    processes = _processes()
    below = [os.getpid()]
    for parent in below:
        below.extend(pid for pid, (its_parent, _) in processes.items() if its_parent == parent)
    for pid in below[1:]:
        if processes[pid][1] not in LAUNCHERS:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue


def main() -> int:
    """Runs the program; answers its exit code."""
    text = sys.stdin.read()
    if not text:  # supervise ended before it had written down who this is: then nothing may start
        return 0
    program = json.loads(text)
    libc = ctypes.CDLL(None)
    is_ending = False

    def end(*_: object) -> None:
        nonlocal is_ending
        is_ending = True
        _terminate_below()

    signal.signal(signal.SIGTERM, end)
    try:
        child = subprocess.Popen(
            program["argv"],
            env=program["env"],
            cwd=program["folder"],
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - there is one thread
        )
    except OSError as problem:
        sys.stderr.write(f"cannot start {program['argv'][0]}: {problem}\n")
        return 127
    if is_ending:  # it was asked to end while it was being started
        _terminate_below()
    code = child.wait()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
