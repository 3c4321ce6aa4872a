"""What one content of a Python file does: its fingerprint, its definitions, and what it could import."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from interlock.pipeline.fingerprint import fingerprint_text, fingerprint_tree, is_revealing, parse, without_docstrings
from interlock.pipeline.inputs.definitions import define

_NAMING_CALLS = frozenset({"import_module", "__import__", "find_spec", "run_module"})
"""Functions that import, or look for, the module that their first argument names."""
_TOO_DEEP = (RecursionError, MemoryError)


class Import(NamedTuple):
    """One import statement: ``from ..module import names`` has level 2; a plain import has no names."""

    module: str
    names: tuple[str, ...] = ()
    level: int = 0
    line: int = 0


class Source(NamedTuple):
    """``sees_text``: the code might look at the text of sources, so that comments matter. ``definitions`` are its
    top-level parts, each with a short digest or its value; none where it cannot be parsed.
    """

    fingerprint: str
    sees_text: bool
    definitions: Mapping[str, str] = {}
    imports: tuple[Import, ...] = ()


def read_source(content: bytes) -> Source:
    """All that is known of a content, from parsing it once."""
    tree = parse(content)
    try:
        if tree is not None:
            sees_text, imports = is_revealing(tree), tuple(_imports_of(tree))
            tree = without_docstrings(tree)
            return Source(fingerprint_tree(tree), sees_text, define(tree), imports)
    except _TOO_DEEP:  # it can be parsed, and is too deep to be written out
        pass
    return Source(fingerprint_text(content), sees_text=True)


def importable(
    starts: Iterable[str], paths: Collection[str], sources: Callable[[Sequence[str]], Mapping[str, Source]]
) -> set[str]:
    """The files among ``paths`` that some import of the starting files, or of what they import, could mean.

    An import is looked for beside its file, in every folder above it, in ``src`` and beside every starting file. Names
    that are put together at run time are not found.
    """
    waiting = {path for path in starts if path in paths}
    roots = {posixpath.dirname(path) for path in waiting}
    found: set[str] = set()
    while waiting:
        found |= waiting
        known = sources(sorted(waiting))
        waiting = {
            file
            for path, source in known.items()
            for one in source.imports
            for file in files_of(one, path, roots, paths)
        } - found
    return found


def files_of(one: Import, path: str, roots: Iterable[str], paths: Collection[str]) -> Iterator[str]:
    """The files that an import in the file ``path`` could execute."""
    folder = posixpath.dirname(path)
    if one.level:
        for _ in range(one.level - 1):
            folder = posixpath.dirname(folder)
        places = {folder}
    else:
        places = {*_and_above(folder), "src", *roots}
    for place in places:
        yield from _files_below(place, one, paths)


def _files_below(folder: str, one: Import, paths: Collection[str]) -> Iterator[str]:
    place = folder
    if one.level:
        yield from _present((f"{place}/__init__.py".lstrip("/"),), paths)
    for part in filter(None, one.module.split(".")):
        place = f"{place}/{part}".lstrip("/")
        yield from _present((f"{place}.py", f"{place}/__init__.py", f"{place}/__main__.py"), paths)
    for name in one.names:
        inner = f"{place}/{name}".lstrip("/")
        yield from _present((f"{inner}.py", f"{inner}/__init__.py"), paths)


def _present(candidates: Iterable[str], paths: Collection[str]) -> Iterator[str]:
    return (path for path in candidates if path in paths)


def _and_above(folder: str) -> Iterator[str]:
    yield folder
    while folder:
        folder = posixpath.dirname(folder)
        yield folder


def _imports_of(tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, line=node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", tuple(alias.name for alias in node.names), node.level, node.lineno)
        elif isinstance(node, ast.Call) and node.args and _name_of(node.func) in _NAMING_CALLS:
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                yield Import(named.value.lstrip("."), level=int(named.value.startswith(".")), line=node.lineno)


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
