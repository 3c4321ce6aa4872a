"""What a stage with ``inputs: strict`` is shown, and what its log says of files that it was not shown."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from interlock.pipeline.entries import module_files, words_of
from interlock.pipeline.plan import PythonPlan, StagePlan
from interlock.pipeline.rules.graph import is_within
from interlock.source.commit import Tree

_SHELL_MARKS = re.compile(r"[|&;<>()$`{}]+")
_FRAME = re.compile(r'^\s*File "(?P<path>[^"]+)", line (?P<line>\d+)')
_COMPLAINT = re.compile(
    r"error|exception|no such file|not ?found|not exist|no files found|cannot|can't|can not|could not|couldn't|fail|"
    r"unable|missing|not available|no module named|not readable",
    re.IGNORECASE,
)
_MODULE = re.compile(r"No module named '?(?P<module>[\w.]+)'?")
_MEMBER = re.compile(
    r"cannot import name '(?P<member>\w+)' from (?:partially initialized module )?'(?P<module>[\w.]+)'"
)
_WORD = re.compile(r"[^\s'\"`<>|(){}\[\],;=]+")
_MOST_LETTERS = 4000


class Undeclared(NamedTuple):
    """A file of the commit that the stage looked for and was not shown; where it did, if that is known."""

    path: str
    seen_at: str | None = None
    line: int | None = None


def visible_files(stage: StagePlan, python: PythonPlan, tree: Tree) -> Tree:
    """The files of the project that a stage is shown: all of them, unless its inputs are strict.

    Then those that its ``deps`` name, those that its command names (and the packages of a module after ``-m``), and
    the files of its environment's lock, which are in its key anyway.
    """
    if stage.inputs != "strict":
        return tree
    beside = posixpath.join(posixpath.dirname(python.lock), "pyproject.toml")
    named = {*_files_of_command(stage.command or "", tree), python.lock, beside}
    return {path: entry for path, entry in tree.items() if path in named or any(is_within(path, d) for d in stage.deps)}


def find_undeclared(log: str, folder: str, hidden: Collection[str]) -> list[Undeclared]:
    """The hidden files that the end of a log complains about, in order; ``folder`` is the project as the stage saw it.

    A complaint names the file, by its whole path or by so much of its end that only one hidden file can be meant, or
    the module in it.
    """
    found: dict[str, Undeclared] = {}
    place: tuple[str | None, int | None] = (None, None)
    for line in log.splitlines():
        if line.startswith("Traceback ") or not line.strip():
            place = (None, None)
        frame = _FRAME.match(line)
        if frame is not None:
            path = frame["path"]
            if path.startswith(f"{folder}/") or not path.startswith("/"):
                place = (_inside(path, folder), int(frame["line"]))
        elif len(line) <= _MOST_LETTERS and _COMPLAINT.search(line):
            for path in _named_in(line, folder, hidden):
                found.setdefault(path, Undeclared(path, *place))
    return list(found.values())


def remedy_for(stage: str, undeclared: Sequence[Undeclared]) -> str:
    """The line to add, and where the need for it was seen."""
    paths = ", ".join(one.path for one in undeclared)
    seen = undeclared[0]
    where = f" (read at {seen.seen_at}:{seen.line})" if seen.seen_at else ""
    return f"add {paths} to deps of stage {stage}{where}"


def _files_of_command(command: str, tree: Tree) -> Iterator[str]:
    words = words_of(_SHELL_MARKS.sub(" ", command))
    for before, word in zip(["", *words], words, strict=False):
        path = posixpath.normpath(word.rpartition("=")[2] or word)
        if path in tree:
            yield path
        if before == "-m":
            for file in module_files(word, tree):
                yield file
                yield from (package for above in _folders_above(file) if (package := f"{above}/__init__.py") in tree)


def _named_in(line: str, folder: str, hidden: Collection[str]) -> Iterator[str]:
    for word in _WORD.findall(line):
        path = _inside(word.rstrip(".:"), folder)
        if "." in path or "/" in path:
            yield from _meant_by(posixpath.normpath(path), hidden)
    for match in _MEMBER.finditer(line):
        yield from _modules(f"{match['module']}.{match['member']}", hidden)
    for match in _MODULE.finditer(line):
        yield from _modules(match["module"], hidden)


def _meant_by(path: str, hidden: Collection[str]) -> Iterable[str]:
    """The hidden files at or below a path; else the one that ends with it."""
    exact = [file for file in hidden if is_within(file, path)]
    if exact or path.startswith(("/", "..")):
        return exact
    ending = [file for file in hidden if file.endswith(f"/{path}")]
    return ending if len(ending) == 1 else ()


def _modules(module: str, hidden: Collection[str]) -> list[str]:
    """The hidden files that hold a module, of any folder; a package counts with its ``__init__``."""
    place = module.replace(".", "/")
    ends = (f"{place}.py", f"{place}/__init__.py")
    files = [file for file in hidden if any(file == end or file.endswith(f"/{end}") for end in ends)]
    return files or [file for file in hidden if is_within(file, place)]


def _inside(path: str, folder: str) -> str:
    return path.removeprefix(f"{folder}/").removeprefix("./")


def _folders_above(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path
