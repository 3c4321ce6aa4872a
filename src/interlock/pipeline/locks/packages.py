"""The packages that a lock names, so that a difference between two locks can be told by package and version."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*===?\s*([^\s;,]+)")
FOLDERS = frozenset({"virtual", "editable", "directory"})
"""Sources of packages that are no wheel of an index: above all the project itself."""


class Change(NamedTuple):
    """One package of two locks; None where one of them does not have it."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name} {self.after} is new"
        if self.after is None:
            return f"{self.name} {self.before} is gone"
        return f"{self.name} {self.before} -> {self.after}"


def packages_in(lock_files: Mapping[str, bytes]) -> dict[str, str]:
    """Canonical package names to versions, from the files of a lock by name: ``uv.lock``, or a requirements file.

    A package that is locked in several versions, for different machines, has all of them, as ``1.0 and 2.0``. The
    project itself is left out. What cannot be read names no package: refusing it is not the task of this function.
    """
    found: dict[str, set[str]] = {}
    for name, content in lock_files.items():
        text = content.decode("utf-8", "replace")
        pairs = _locked(text) if name.endswith(".lock") else _pinned(text) if name.endswith(".txt") else ()
        for package, version in pairs:
            found.setdefault(canonical_name(package), set()).add(version)
    return {name: " and ".join(sorted(found[name])) for name in sorted(found)}


def changes_between(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """What differs between two answers of ``packages_in``, by name."""
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )


def canonical_name(name: str) -> str:
    """The name under which an index knows a package: ``Scikit_Learn`` is ``scikit-learn``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The logical lines of a requirements file with the line each begins at, comments and blank lines left out."""
    pending, began = "", 1
    for number, line in enumerate(text.splitlines(), start=1):
        bare = re.sub(r"(^|\s)#.*", "", line).rstrip()
        began = began if pending else number
        pending += bare.removesuffix("\\").strip() + " "
        if not bare.endswith("\\"):
            if pending.strip():
                yield began, pending.strip()
            pending = ""
    if pending.strip():
        yield began, pending.strip()


def _locked(text: str) -> Sequence[tuple[str, str]]:
    try:
        packages: Any = tomllib.loads(text).get("package", [])
    except tomllib.TOMLDecodeError:
        return ()
    entries = [entry for entry in packages if isinstance(entry, dict)] if isinstance(packages, list) else []
    return [
        (str(entry["name"]), str(entry["version"]))
        for entry in entries
        if {"name", "version"} <= entry.keys() and not FOLDERS.intersection(entry.get("source") or {})
    ]


def _pinned(text: str) -> Sequence[tuple[str, str]]:
    return [(match[1], match[2]) for _, line in logical_lines(text) if (match := PINNED.match(line))]
