"""The Python files that commands begin with: where checks of syntax and imports start looking."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

from interlock.pipeline.rules.graph import is_within

TESTS = "tests"


def entry_files(commands: Iterable[str], paths: Collection[str]) -> tuple[str, ...]:
    """The files among ``paths`` that the commands name: scripts, modules after ``-m``, and the files of tests.

    A command that runs pytest names every Python file of the folders given to it (``tests`` where none is given), and
    each ``conftest.py`` beside or above them.
    """
    found = {path for command in commands for path in _named_files(words_of(command), paths)}
    return tuple(sorted(found))


def words_of(command: str) -> list[str]:
    """The words of a command line, as a shell would part them; a stray quote parts nothing."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def has_tests(paths: Collection[str]) -> bool:
    """Whether there are tests where pytest looks for them by convention."""
    names = (posixpath.basename(path) for path in paths if is_within(path, TESTS))
    return any(name.startswith("test_") and name.endswith(".py") for name in names)


def module_files(module: str, paths: Collection[str]) -> list[str]:
    """The files that ``python -m module`` runs first, if the project holds it."""
    place = module.replace(".", "/")
    candidates = [
        f"{root}{place}{ending}" for root in ("", "src/") for ending in (".py", "/__main__.py", "/__init__.py")
    ]
    return [path for path in candidates if path in paths]


def _named_files(words: list[str], paths: Collection[str]) -> Iterator[str]:
    named = [posixpath.normpath(word.partition("::")[0]) for word in words if word and not word.startswith("-")]
    scripts = [path for path in named if path.endswith(".py") and path in paths]
    yield from scripts
    for flag, module in pairwise(words):
        if flag == "-m":
            yield from module_files(module, paths)
    if not any(posixpath.basename(word) in {"pytest", "py.test"} for word in words):
        return
    folders = [folder for folder in named if any(path.startswith(f"{folder}/") for path in paths)]
    if not folders and not scripts:
        folders = [TESTS]
    tests = [*scripts, *(path for path in paths if path.endswith(".py") and any(is_within(path, f) for f in folders))]
    yield from tests
    for test in tests:
        parts = test.split("/")[:-1]
        above = ["/".join([*parts[:depth], "conftest.py"]) for depth in range(len(parts) + 1)]
        yield from (path for path in above if path in paths)
