"""Puts the post-receive hook into a repository."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

MARK = "# Written by interlock: it tells its server of each push and never refuses one."


class NotInstalled(Exception):
    """No hook was installed: the reason, and what can be done about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}; {remedy}")


def hook_text(state: Path) -> str:
    """The hook, as a shell script that starts the Python program beside this file."""
    program = Path(__file__).with_name("hook.py")
    words = [sys.executable, "-I", "-S", str(program), str(state.absolute())]
    return f"#!/bin/sh\n{MARK}\nexec {' '.join(shlex.quote(word) for word in words)}\n"


def install_hook(git_directory: Path, state: Path) -> str:
    """Writes the hook and answers what was done, or why not, in one sentence.

    Without the hook a push is still found: the server looks at the refs from time to time.
    """
    try:
        return write_hook(git_directory, state)
    except NotInstalled as refused:
        return f"no hook was installed: {refused}"


def write_hook(git_directory: Path, state: Path) -> str:
    """Writes ``hooks/post-receive``; answers in one sentence. NotInstalled where somebody else's is there."""
    if not git_directory.is_dir():
        raise NotInstalled(f"there is no repository at {git_directory}", "name its git directory")
    folder = _hooks_folder(git_directory)
    path = folder / "post-receive"
    if folder.resolve() != (git_directory / "hooks").resolve():
        raise NotInstalled(f"this repository takes its hooks from {folder}, which is not its own", _by_hand(state))
    if path.is_symlink() or (path.exists() and MARK not in path.read_text(errors="replace")):
        raise NotInstalled(f"{path} is somebody else's", _by_hand(state))
    text = hook_text(state)
    if path.exists() and path.read_text() == text and os.access(path, os.X_OK):
        return f"the hook is installed already: {path}"
    draft = folder / f".post-receive.{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        draft.write_text(text)
        draft.chmod(0o755)
        draft.replace(path)
    except OSError as problem:
        raise NotInstalled(f"it cannot be written: {problem}", "make the folder of hooks writable") from problem
    return f"the hook is installed: {path}"


def _by_hand(state: Path) -> str:
    return f"let it run: {hook_text(state).splitlines()[-1]}"


def _hooks_folder(git_directory: Path) -> Path:
    """Where git looks for this repository's hooks (``core.hooksPath`` may point elsewhere)."""
    command = ["git", f"--git-dir={git_directory}", "rev-parse", "--git-path", "hooks"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        return git_directory / "hooks"
    folder = Path(found.stdout.strip())
    # git answers relative to the present folder.
    return folder if folder.is_absolute() else Path.cwd() / folder
