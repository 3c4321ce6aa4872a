"""What a locked Python environment holds, and how two of them differ, in words."""

from __future__ import annotations

from collections.abc import Mapping

from blake3 import blake3

from interlock.pipeline.locks.packages import changes_between, packages_in
from interlock.vocabulary import Stored

_SHOWN = 4


class Packages(Stored):
    """``python`` is the interpreter's version, ``packages`` maps names to versions (several where the lock has several
    for different machines), ``files`` what the environment is made of, each with a short digest.
    """

    python: str
    packages: dict[str, str]
    files: dict[str, str]


def read_packages(python: str, files: Mapping[str, bytes]) -> Packages:
    """What the lock among ``files`` names. A lock that cannot be read names nothing."""
    return Packages(
        python=python,
        packages=packages_in(files),
        files={name: blake3(content).hexdigest()[:16] for name, content in sorted(files.items())},
    )


def tell_packages(before: Packages | None, now: Packages | None) -> str:
    """``numpy 2.2.0 -> 2.3.1, pandas 2.3.0 is new``; that the environment changed, where no more is known."""
    if before is None or now is None:
        return "environment changed"
    told = [] if before.python == now.python else [f"python {before.python} -> {now.python}"]
    told += map(str, changes_between(before.packages, now.packages))
    if not told:
        files = sorted(name for name in {*before.files, *now.files} if before.files.get(name) != now.files.get(name))
        return (
            f"environment changed: {', '.join(files)} changed, and no package did" if files else "environment changed"
        )
    more = len(told) - _SHOWN
    return ", ".join(told[:_SHOWN]) + (f" and {more} more packages" if more > 0 else "")
