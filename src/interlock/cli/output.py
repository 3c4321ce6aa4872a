"""What a command prints: coloured by Rich on a terminal, plain elsewhere, or JSON where that was asked for.

Whatever it is given, nothing but its own colours steers the terminal.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Literal, NamedTuple, TextIO

from interlock.cli.terminal import harmless, harmless_json

Style = Literal["", "good", "bad", "warn", "dim", "title"]
_LOOKS = {"good": "green", "bad": "bold red", "warn": "yellow", "dim": "dim", "title": "bold"}

PATIENCE = 1.0
"""Seconds after which a person is told what is being waited for."""


class ExitCode(IntEnum):
    """What a command ends with (docs/cli.md)."""

    SUCCESS = 0
    FAILED = 1
    REFUSED = 2
    HELD = 3
    ERRORED = 4
    INTERRUPTED = 130


class Line(NamedTuple):
    """One line of text and what it means; the meaning is a colour on a terminal and nothing elsewhere."""

    text: str
    style: Style = ""


def is_rich(stream: TextIO) -> bool:
    """Whether the stream is a terminal that wants more than plain text."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def end_unread() -> None:
    """Whoever read our output has seen enough; the interpreter must not try to flush it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Output:
    """Where a command's words go. With ``is_json`` the lines go to standard error and the answer is JSON."""

    def __init__(self, is_json: bool = False) -> None:
        self.is_json = is_json
        self._consoles: dict[bool, Any] = {}

    def say(self, *lines: Line) -> None:
        """Lines of the result; with JSON they are left out, for the answer holds them."""
        if not self.is_json:
            self._write(False, lines)

    def note(self, *lines: Line) -> None:
        """Lines about what happens meanwhile; with JSON they go to standard error."""
        self._write(self.is_json, lines)

    def complain(self, *lines: Line) -> None:
        """Lines beside the result, on standard error; with JSON they are left out, for the answer holds them."""
        if not self.is_json:
            self._write(True, lines)

    def answer(self, value: Any) -> None:
        """The answer as one line of JSON, where that was asked for."""
        if self.is_json:
            sys.stdout.write(harmless_json(value) + "\n")
            sys.stdout.flush()

    def repeat(self, text: str) -> None:
        """A line that a program of the user's printed: in its colours on a terminal, and without other effects."""
        sys.stdout.write(harmless(text, keep_colours=is_rich(sys.stdout)) + "\n")

    @contextmanager
    def progress(self, what: str, is_told_otherwise: bool = False) -> Iterator[None]:
        """Tells what is being waited for, once the block has taken longer than a second.

        A terminal shows it moving, on the console that lines go to meanwhile, so that neither disturbs the other; plain
        text is one line, left out where the block itself tells what it does (``is_told_otherwise``).
        """
        is_error = self.is_json or not is_rich(sys.stdout)
        is_moving = is_rich(sys.stderr if is_error else sys.stdout)
        status = self._console(is_error).status(harmless(what)) if is_moving else None
        line = Line(f"{what} ...", "dim")
        begin = status.start if status is not None else lambda: self._write(True, () if is_told_otherwise else (line,))
        timer = threading.Timer(PATIENCE, begin)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            if status is not None:
                status.stop()

    def _write(self, is_error: bool, lines: tuple[Line, ...]) -> None:
        stream = sys.stderr if is_error else sys.stdout
        if not is_rich(stream):
            stream.write("".join(f"{harmless(line.text)}\n" for line in lines))
            stream.flush()
            return
        from rich.text import Text

        for line in lines:
            self._console(is_error).print(Text(harmless(line.text), style=_LOOKS.get(line.style, "")), soft_wrap=True)

    def _console(self, is_error: bool) -> Any:
        from rich.console import Console

        if is_error not in self._consoles:
            self._consoles[is_error] = Console(stderr=is_error, highlight=False)
        return self._consoles[is_error]
