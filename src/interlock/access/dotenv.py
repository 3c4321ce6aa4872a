r"""Files of variables, one ``NAME=value`` a line, as shells and many programs read them.

A line may begin with ``export``. A value in single quotes is what stands there; in double quotes ``\n``, ``\t``,
``\"``, ``\$`` and ``\\`` are one character each; both may go over several lines. A value without quotes ends before
a ``#`` that follows a space. No variable is replaced by its value.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from interlock.access.forms import SHORTEST
from interlock.errors import Refused, SeveralRefused

NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
QUOTED = {
    "'": re.compile(r"'([^']*)'[ \t]*(?:#[^\n]*)?(?=\n|\Z)"),
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"[ \t]*(?:#[^\n]*)?(?=\n|\Z)', re.DOTALL),
}
COMMENT = re.compile(r"(?:^|[ \t])#.*")
ESCAPE = re.compile(r"\\(.)", re.DOTALL)
ESCAPED = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$", "\n": ""}
REFERENCE = re.compile(r"(?<!\\)\$\{")


class Variable(NamedTuple):
    """A value, and the number of the line where it is written."""

    value: str
    line: int


def read_variables(text: str, where: str) -> dict[str, Variable]:
    """The variables by name. SeveralRefused, each with its line and never with a value, for what is not understood."""
    found: dict[str, Variable] = {}
    refusals: list[Refused] = []
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    place, line = 0, 1
    while place < len(text):
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        if text[place:end].strip() and not text[place:end].lstrip().startswith("#"):
            try:
                name, value, end = _read(text, place, end)
                if name in found:
                    raise _Odd(f"{name} was given in line {found[name].line} already", "remove one of them")
                found[name] = Variable(value, line)
            except _Odd as odd:
                refusals.append(Refused(odd.problem, f"{where}:{line}", odd.remedy))
        line += text.count("\n", place, end + 1)
        place = end + 1
    if refusals:
        raise SeveralRefused(refusals)
    return found


def read_secrets(text: str, names: Collection[str], where: str) -> dict[str, str]:
    """The values of these variables. Refused, all problems at once, also for one that is too short to be masked."""
    found = read_variables(text, where)
    refusals = []
    for name in dict.fromkeys(names):
        if name not in found:
            refusals.append(Refused(f"there is no {name}, which a stage names as a secret", where, f"add {name}=..."))
        elif len(found[name].value.strip()) < SHORTEST:
            problem = f"{name} has less than {SHORTEST} characters: so short a secret cannot be masked"
            refusals.append(Refused(problem, f"{where}:{found[name].line}", "lengthen it"))
    if refusals:
        raise refusals[0] if len(refusals) == 1 else SeveralRefused(refusals)
    return {name: found[name].value for name in names}


class _Odd(Exception):
    def __init__(self, problem: str, remedy: str) -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(problem)


def _read(text: str, place: int, end: int) -> tuple[str, str, int]:
    """Name, value, and where it ends, of what begins at ``place`` in a line that ends at ``end``."""
    named = NAME.match(text, place + len(text[place:end]) - len(text[place:end].lstrip()), end)
    if named is None:
        raise _Odd("this is no variable", "write NAME=value, or begin the line with #")
    name, start = named[1], named.end()
    mark = text[start : start + 1] if start < end else ""
    if mark in QUOTED:
        quoted = QUOTED[mark].match(text, start)
        if quoted is None:
            raise _Odd(f"the quotes of {name} do not end, or something follows them", f"end the value with {mark}")
        value, end = quoted[1], quoted.end()
    else:
        value = COMMENT.sub("", text[start:end]).strip()
    if mark != "'" and REFERENCE.search(value):
        raise _Odd(f"{name} refers to another variable", "write its value, or put it in single quotes")
    return name, ESCAPE.sub(_unescape, value) if mark == '"' else value, end


def _unescape(found: re.Match[str]) -> str:
    return ESCAPED.get(found[1], found[0])
