"""The git program, cut off from the configuration, hooks and network of whoever starts it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from interlock.errors import GitFault

TIMEOUT_SECONDS = 600

SETTINGS = (
    "core.hooksPath=/dev/null",  # a repository's own configuration may name programs: none of them is run
    "core.fsmonitor=false",
    "protocol.allow=never",
    "safe.directory=*",  # a repository may belong to another user, as bare ones on a server do
    "core.quotePath=false",
)


def command_line(arguments: Sequence[str]) -> list[str]:
    """The words of a git command with the settings that make it safe."""
    return ["git", *(word for setting in SETTINGS for word in ("-c", setting)), *arguments]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a git process: nothing of ours but PATH."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        **more,
    }


def run_git(
    arguments: Sequence[str],
    *,
    folder: Path | None = None,
    content: bytes = b"",
    more: Mapping[str, str] | None = None,
    accepted: Sequence[int] = (0,),
) -> subprocess.CompletedProcess[bytes]:
    """Runs git to its end; ``content`` is its input. GitFault for another exit code, no git, or ten minutes."""
    try:
        ended = subprocess.run(
            command_line(arguments),
            cwd=folder,
            input=content,
            env=environment(more or {}),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise GitFault(f"git could not be run: {problem}") from problem
    if ended.returncode not in accepted:
        raise GitFault(f"git {_verb(arguments)}: {readable(ended.stderr) or f'exit code {ended.returncode}'}")
    return ended


def readable(output: bytes) -> str:
    """What git said, for a person."""
    return output.decode(errors="replace").strip()


def _verb(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if not word.startswith("-")), "")


def git_directory_of(path: str) -> Path:
    """Where a repository's objects are: the path itself, or the ``.git`` in it. GitFault where there is neither."""
    folder = Path(path)
    for candidate in (folder / ".git", folder):
        if (candidate / "HEAD").is_file() and (candidate / "objects").is_dir():
            return candidate
    if (folder / ".git").is_file():  # a linked working tree: git itself follows the file
        return folder / ".git"
    raise GitFault(f"there is no git repository at {path}")
