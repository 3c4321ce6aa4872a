"""What a failed stage's log says: one line for people, and the places in the project it points at."""

from __future__ import annotations

import re
import signal
from collections.abc import Container, Sequence
from typing import NamedTuple

from interlock.run.stage import Problem

MOST_PROBLEMS = 20
LONGEST = 300

FRAME = re.compile(r'^\s+File "(?P<path>[^"]+)", line (?P<line>\d+)')
EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?::\s.*|:?)$")
SUMMARY = re.compile(r"^(?:FAILED|ERROR) (?P<path>[^\s:]+)(?P<test>::.+?)?(?: - (?P<message>.*))?$")
PLACE = re.compile(r"^(?P<path>[^\s:]+\.py):(?P<line>\d+): ?(?P<message>[A-Za-z_][\w.]*)?")
TRACEBACK = "Traceback (most recent call last):"
OWN = "[interlock] "


class Blame(NamedTuple):
    """``line`` is the last meaningful line of the log, empty where the log is."""

    line: str
    problems: tuple[Problem, ...]


def blame(log: str, folder: str, files: Container[str]) -> Blame:
    """Reads the end of a log; ``folder`` is the project as the stage saw it, ``files`` what it holds."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip() and not line.startswith(OWN)]
    return _of_tests(lines, folder, files) or _of_traceback(lines, folder, files) or _of_last_line(lines)


def name_of_exit(code: int) -> str:
    """``exit code 3``, or the signal's name where a signal ended it (a shell adds 128 to its number)."""
    number = -code if code < 0 else code - 128
    if number in {one.value for one in signal.Signals}:
        return f"killed by {signal.Signals(number).name}"
    return f"exit code {code}"


def _of_tests(lines: Sequence[str], folder: str, files: Container[str]) -> Blame | None:
    """Pytest's short summary, each test with the place it failed at."""
    failed = [match for line in lines if (match := SUMMARY.match(line)) and _inside(match["path"], folder) in files]
    if not failed:
        return None
    places = [match for line in lines if (match := PLACE.match(line))]
    problems = []
    for match in failed[:MOST_PROBLEMS]:
        path = _inside(match["path"], folder)
        place = next((one for one in places if _inside(one["path"], folder) == path), None)
        if place is not None:
            places.remove(place)
        name = (match["test"] or "").removeprefix("::")
        message = match["message"] or (place["message"] if place else None) or "failed"
        problems.append(_problem(f"{name}: {message}" if name else message, path, place["line"] if place else None))
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return Blame(f"{problems[0]}{more}"[:LONGEST], tuple(problems))


def _of_traceback(lines: Sequence[str], folder: str, files: Container[str]) -> Blame | None:
    """The exception of the last traceback, at its innermost line within the project."""
    began = max((number for number, line in enumerate(lines) if line.lstrip().startswith(TRACEBACK)), default=None)
    first = began if began is not None else 0
    frames = [match for line in lines[first:] if (match := FRAME.match(line))]
    if not frames:
        return None
    after = max(number for number, line in enumerate(lines) if FRAME.match(line))
    said = next((line for line in lines[after + 1 :] if EXCEPTION.match(line)), lines[-1])
    own = [match for match in frames if _inside(match["path"], folder) in files]
    if not own:
        return Blame(said[:LONGEST], ())
    return Blame(said[:LONGEST], (_problem(said, _inside(own[-1]["path"], folder), own[-1]["line"]),))


def _of_last_line(lines: Sequence[str]) -> Blame:
    return Blame(lines[-1].strip()[:LONGEST] if lines else "", ())


def _problem(message: str, path: str, line: str | None) -> Problem:
    return Problem(message=message[:LONGEST], path=path, line=int(line) if line else None)


def _inside(path: str, folder: str) -> str:
    """The path relative to the project, where it is within it."""
    return path.removeprefix(f"{folder}/").removeprefix("./")
