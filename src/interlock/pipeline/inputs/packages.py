"""What a locked Python environment holds, and how two of them differ, in words."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from blake3 import blake3

from interlock.vocabulary import Stored

_PIN = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*==\s*([^\s;,\\]+)", re.MULTILINE)
_SHOWN = 4


class Packages(Stored):
    """``python`` is the interpreter's version, ``packages`` maps names to versions (several where the lock has several
    for different machines), ``files`` what the environment is made of, each with a short digest.
    """

    python: str
    packages: dict[str, str]
    files: dict[str, str]


def packages_in(python: str, files: Mapping[str, bytes]) -> Packages:
    """What the lock among ``files`` names. A lock that cannot be read names nothing."""
    found: dict[str, set[str]] = {}
    for name, content in files.items():
        text = content.decode("utf-8", "replace")
        for package, version in (
            _locked(text) if name.endswith(".lock") else _pinned(text) if name.endswith(".txt") else ()
        ):
            found.setdefault(package, set()).add(version)
    return Packages(
        python=python,
        packages={name: " and ".join(sorted(versions)) for name, versions in sorted(found.items())},
        files={name: blake3(content).hexdigest()[:16] for name, content in sorted(files.items())},
    )


def tell_packages(before: Packages | None, now: Packages | None) -> str:
    """``numpy 2.2.0 -> 2.3.1, pandas 2.3.0 is new``; that the environment changed, where no more is known."""
    if before is None or now is None:
        return "environment changed"
    told = [] if before.python == now.python else [f"python {before.python} -> {now.python}"]
    told += _changed(before.packages, now.packages)
    if not told:
        files = sorted(name for name in {*before.files, *now.files} if before.files.get(name) != now.files.get(name))
        return (
            f"environment changed: {', '.join(files)} changed, and no package did" if files else "environment changed"
        )
    more = len(told) - _SHOWN
    return ", ".join(told[:_SHOWN]) + (f" and {more} more packages" if more > 0 else "")


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*before, *now}):
        if name not in now:
            yield f"{name} {before[name]} is gone"
        elif name not in before:
            yield f"{name} {now[name]} is new"
        elif before[name] != now[name]:
            yield f"{name} {before[name]} -> {now[name]}"


def _locked(text: str) -> Iterator[tuple[str, str]]:
    try:
        packages: Any = tomllib.loads(text).get("package", [])
    except tomllib.TOMLDecodeError:
        return
    for package in packages if isinstance(packages, list) else ():
        if (
            isinstance(package, dict)
            and isinstance(package.get("version"), str)
            and "virtual" not in package.get("source", {})
        ):
            yield str(package.get("name", "")), package["version"]


def _pinned(text: str) -> Iterator[tuple[str, str]]:
    return ((name.lower().replace("_", "-"), version) for name, version in _PIN.findall(text))
