"""A start as one command line."""

from __future__ import annotations

import shutil
import sys

from interlock.ports import Start


def line_of(start: Start, cpu: float | None = None) -> list[str]:
    """The words that start the same in any environment and folder, by one program more; see ``bounded`` for ``cpu``."""
    bounded = [] if cpu is None else [sys.executable, "-P", "-m", "interlock.edges.sandbox.bounded", str(cpu)]
    folder = [] if start.folder is None else [f"--chdir={start.folder}"]
    variables = [f"{name}={value}" for name, value in start.env.items()]
    return [*bounded, shutil.which("env") or "/usr/bin/env", "-i", *folder, *variables, *start.command]
