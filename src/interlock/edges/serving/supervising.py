"""Starting and ending supervise, which outlives whoever starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from interlock.errors import ServingFault
from interlock.system.processes import is_alive

KEPT_VARIABLES = ("PATH", "HOME", "LANG", "PYTHONPATH")
ALREADY_RUNS = 3
START_SECONDS = 30.0
LOOK_SECONDS = 0.02


def supervisor_of(folder: Path) -> int | None:
    """The process that supervises the folder now; None where there is none."""
    try:
        said = json.loads((folder / "supervise.json").read_bytes())
    except (OSError, ValueError):
        return None
    return int(said["pid"]) if is_alive(str(said["identity"])) else None


def ensure_supervise(folder: Path) -> bool:
    """A supervise of its own session keeps the folder's processes alive; whether it was started only now.

    ServingFault where it cannot be started. It gets few of this process's environment variables: it will be there
    longer, and needs no secret.
    """
    if supervisor_of(folder) is not None:
        return False
    command = [sys.executable, "-P", "-m", "interlock.supervise", "--detach", str(folder)]
    env = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=START_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise ServingFault(f"supervise cannot be started: {problem}") from problem
    if done.returncode not in (0, ALREADY_RUNS):
        raise ServingFault(f"supervise cannot be started: {done.stderr.decode(errors='replace').strip()}")
    return done.returncode == 0


def stop_supervise(folder: Path, seconds: float = 30.0) -> bool:
    """Ends supervise and, gently, all it keeps alive. Answers whether there was one.

    ServingFault where it is still there after ``seconds``.
    """
    pid = supervisor_of(folder)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + seconds
    while supervisor_of(folder) is not None:
        if time.monotonic() > until:
            raise ServingFault(f"supervise (process {pid}) did not end within {seconds:g} s")
        time.sleep(LOOK_SECONDS)
    return True
