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
SUMMARY = re.compile(
    r"^(?:FAILED|ERROR) (?P<path>[^\s:]+)(?P<test>::(?:[^\[]+?(?:\[.*?\])?|.+?))?(?: - (?P<message>.*))?$"
)
SECTION = re.compile(r"^_+ (?P<title>.+?) _+$")
PLACE = re.compile(r"^(?P<path>[^\s:]+\.py):(?P<line>\d+): ?(?P<message>[A-Za-z_][\w.]*)?")
TRACEBACK = "Traceback (most recent call last):"
GROUP = f"+ Exception Group {TRACEBACK}"
MARGIN = re.compile(r"^ *(?:\+-[-+]*(?: [\d.]+ -+)?$|[|+] )")
CRASH = "Fatal Python error: "
CRASHED_THREAD = "Current thread "
OWN = "[interlock] "
OF_THE_SHELL = {f"{signal.strsignal(one)}{more}" for one in signal.valid_signals() for more in ("", " (core dumped)")}
"""What a shell says of a program that a signal has ended: the exit's name tells as much."""


class Blame(NamedTuple):
    """``line`` is the last meaningful line of the log, empty where the log is."""

    line: str
    problems: tuple[Problem, ...]


def blame(log: str, folder: str, files: Container[str]) -> Blame:
    """Reads the end of a log; ``folder`` is the project as the stage saw it, ``files`` what it holds."""
    told = [_printable(line).rstrip() for line in log.splitlines()]
    lines = [line for line in told if line and not line.startswith(OWN) and line not in OF_THE_SHELL]
    if any(line.lstrip() == GROUP for line in lines):
        lines = [bare for line in lines if (bare := MARGIN.sub("", line))]
    for read in (_of_tests, _of_crash, _of_traceback):
        found = read(lines, folder, files)
        if found is not None:
            return found
    return _of_last_line(lines)


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
    places = _places(lines)
    problems = []
    for match in failed[:MOST_PROBLEMS]:
        path = _inside(match["path"], folder)
        name = (match["test"] or "").removeprefix("::")
        place = _take_place(places, name.replace("::", ".") or match["path"], path, folder)
        message = match["message"] or (place["message"] if place else None) or "failed"
        problems.append(_problem(f"{name}: {message}" if name else message, path, place["line"] if place else None))
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return Blame(f"{problems[0]}{more}"[:LONGEST], tuple(problems))


def _places(lines: Sequence[str]) -> list[tuple[str, re.Match[str]]]:
    """The places that pytest shows, each with the title of its section: the test, perhaps behind ``ERROR at ...``."""
    places: list[tuple[str, re.Match[str]]] = []
    title = ""
    for line in lines:
        if section := SECTION.match(line):
            title = section["title"]
        elif place := PLACE.match(line):
            places.append((title, place))
    return places


def _take_place(places: list[tuple[str, re.Match[str]]], name: str, path: str, folder: str) -> re.Match[str] | None:
    """The first place in the test's file, of its own section where it has one; none is taken twice."""
    here = [one for one in places if _inside(one[1]["path"], folder) == path]
    named = [one for one in here if f" {one[0]}".endswith(f" {name}")]
    for chosen in named or here:
        places.remove(chosen)
        return chosen[1]
    return None


def _of_crash(lines: Sequence[str], folder: str, files: Container[str]) -> Blame | None:
    """What Python's fault handler wrote when the interpreter itself died; its frames begin with the innermost."""
    said = next((line for line in lines if line.startswith(CRASH)), None)
    if said is None:
        return None
    began = max((number for number, line in enumerate(lines) if line.startswith(CRASHED_THREAD)), default=0)
    frames = [match for line in lines[began:] if (match := FRAME.match(line))]
    own = [match for match in frames if _inside(match["path"], folder) in files]
    problems = [_problem(said, _inside(match["path"], folder), match["line"]) for match in own[:1]]
    return Blame(said[:LONGEST], tuple(problems))


def _of_traceback(lines: Sequence[str], folder: str, files: Container[str]) -> Blame | None:
    """The exception of the last traceback, at its innermost line within the project."""
    began = max((number for number, line in enumerate(lines) if line.endswith(TRACEBACK)), default=0)
    frames = [match for line in lines[began:] if (match := FRAME.match(line))]
    if not frames:
        return None
    after = max(number for number, line in enumerate(lines) if FRAME.match(line))
    said = next((line for line in lines[after + 1 :] if not line[0].isspace()), lines[-1])
    own = [match for match in frames if _inside(match["path"], folder) in files]
    if not own:
        return Blame(said[:LONGEST], ())
    return Blame(said[:LONGEST], (_problem(said, _inside(own[-1]["path"], folder), own[-1]["line"]),))


def _of_last_line(lines: Sequence[str]) -> Blame:
    return Blame(lines[-1].strip()[:LONGEST] if lines else "", ())


def _problem(message: str, path: str, line: str | None) -> Problem:
    return Problem(message=message[:LONGEST], path=path, line=int(line) if line else None)


def _printable(line: str) -> str:
    """The line without what would steer a terminal or turn the text around."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line.expandtabs())


def _inside(path: str, folder: str) -> str:
    """The path relative to the project, where it is within it."""
    return path.removeprefix(f"{folder}/").removeprefix("./")
