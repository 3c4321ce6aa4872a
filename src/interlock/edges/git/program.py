"""The git program, cut off from the configuration, hooks and network of whoever starts it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from interlock.errors import GitFault

SILENCE_SECONDS = 600.0
"""How long git may say nothing at all."""
READING_SECONDS = 120.0
"""The same where objects are only read, under the lock of a repository that others wait for."""
TOTAL_SECONDS = 3600.0
OUTPUT_BYTES = 128 << 20
"""What git may say."""
WORDS_BYTES = 64 << 10
"""What is kept of its messages: the last ones."""

SETTINGS = (
    "core.hooksPath=/dev/null",  # a repository's own configuration may name programs: none of them is run
    "core.fsmonitor=false",
    "safe.bareRepository=explicit",  # a folder of a commit may look like a repository
    "safe.directory=*",  # a repository may belong to another user, as bare ones on a server do
    "core.quotePath=false",
)


class TooMuchOutput(GitFault):
    """git said more than anybody should read."""


def command_line(arguments: Sequence[str]) -> list[str]:
    """The words of a git command with the settings that make it safe."""
    return ["git", *(word for setting in SETTINGS for word in ("-c", setting)), *arguments]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a git process: nothing of ours but PATH. No protocol is allowed unless ``more`` does."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_GRAFT_FILE": "/dev/null/grafts",
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
    silence: float = SILENCE_SECONDS,
    most: int = OUTPUT_BYTES,
    descriptors: Sequence[int] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Runs git to its end; ``content`` is its input, ``descriptors`` are open files that it and its children hold too.

    GitFault for another exit code, no git, no word for ``silence`` seconds, an hour, or more than ``most`` bytes.
    """
    command = command_line(arguments)
    try:
        with tempfile.TemporaryFile() as questions:  # a file, not a pipe: neither side can wait for the other
            questions.write(content)
            questions.seek(0)
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=questions,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(more or {}),
                pass_fds=descriptors,
                start_new_session=True,  # so that all it starts can be ended with it
            )
            output, said = _listen_to_the_end(process, silence, most)
    except OSError as problem:
        raise GitFault(f"git could not be run: {problem}") from problem
    if process.returncode not in accepted:
        raise GitFault(f"git {_verb(arguments)}: {readable(said) or f'exit code {process.returncode}'}")
    return subprocess.CompletedProcess(command, process.returncode, output, said)


def _listen_to_the_end(process: subprocess.Popen[bytes], silence: float, most: int) -> tuple[bytes, bytes]:
    with process:
        try:
            heard = _listen(process, silence, most)
            process.wait(silence)
        except BaseException as problem:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(problem, subprocess.TimeoutExpired):
                raise TimeoutError("it does not end") from problem
            raise
    return heard


def _listen(process: subprocess.Popen[bytes], silence: float, most: int) -> tuple[bytes, bytes]:
    assert process.stdout is not None
    assert process.stderr is not None
    output, words = bytearray(), bytearray()
    until = time.monotonic() + TOTAL_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, output)
        selector.register(process.stderr, selectors.EVENT_READ, words)
        while selector.get_map():
            ready = selector.select(silence)
            if not ready or time.monotonic() > until:
                raise TimeoutError(f"it said nothing for {silence:.0f} s" if not ready else "it took an hour")
            for key, _ in ready:
                piece = os.read(key.fd, 1 << 16)
                if not piece:
                    selector.unregister(key.fileobj)
                key.data.extend(piece)
            del words[:-WORDS_BYTES]
            if len(output) > most:
                raise TooMuchOutput(f"git said more than {most >> 20} MiB")
    return bytes(output), bytes(words)


def readable(output: bytes) -> str:
    """What git said, for a person: without control characters, and without the counting it does meanwhile."""
    lines = output.decode(errors="replace").replace("\r", "\n").splitlines()
    shown = ("".join(letter if letter.isprintable() else "?" for letter in line).strip() for line in lines)
    return "\n".join([line for line in shown if line and not _counts(line)][-20:])[-4000:]


def _counts(line: str) -> bool:
    return "% (" in line or line.endswith((", done.", "objects", "reused 0"))


def _verb(arguments: Sequence[str]) -> str:
    words = iter(arguments)
    for word in words:
        if word == "--git-dir":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def git_directory_of(path: str) -> Path:
    """Where a repository's objects are: the path itself, or the ``.git`` in it. GitFault where there is neither."""
    folder = Path(path)
    for candidate in (folder / ".git", folder):
        if (candidate / "HEAD").is_file() and (candidate / "objects").is_dir():
            return candidate
    if (folder / ".git").is_file():  # a linked working tree: git itself follows the file
        return folder / ".git"
    raise GitFault(f"there is no git repository at {path}")
