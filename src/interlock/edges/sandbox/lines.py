"""A start as one command line."""

from __future__ import annotations

import shutil

from interlock.ports import Start


def line_of(start: Start) -> list[str]:
    """The words that start the same in any environment and folder, by one program more."""
    folder = [] if start.folder is None else [f"--chdir={start.folder}"]
    variables = [f"{name}={value}" for name, value in start.env.items()]
    return [shutil.which("env") or "/usr/bin/env", "-i", *folder, *variables, *start.command]
