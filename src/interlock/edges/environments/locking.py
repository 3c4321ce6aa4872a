"""Writing the lock of a working tree, where a person asks for it: never by the way, and never without saying so."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from interlock.errors import Refused, SeveralRefused
from interlock.pipeline.locks.packages import changes_between, packages_in

from .program import Uv
from .requirements import refuse_loose_pins

MOST_TOLD = 5
"""Changed packages that are named; more are counted."""
LOCKED_SUFFIX = ".lock.txt"
"""``requirements.lock.txt`` is the lock of ``requirements.txt`` and its siblings for development."""
SIBLINGS = ("-dev.txt", "-test.txt")


def write_lock(uv: Uv, interpreter: str, folder: Path, lock: str) -> str:
    """Writes the lock at ``lock``, a path in ``folder``, and answers what was written, in one line.

    ``uv.lock`` is made from the ``pyproject.toml`` beside it, a requirements file from its ``.in``, into which its own
    loose requirements are copied where there is none. Versions that are locked stay as far as they fit. UvFailed, or
    Refused where there is nothing to lock; then nothing was changed.
    """
    target = folder / lock
    before = _packages(target)
    if target.suffix == ".lock":
        if not target.with_name("pyproject.toml").is_file():
            raise Refused("there is no pyproject.toml to lock", str(target), "write one, or a requirements.in")
        kept = _lock_project(uv, interpreter, target)
        source = "pyproject.toml"
    else:
        if _is_locked_already(target):
            return f"{lock} pins every package with its hash already: nothing was written"
        kept, source = _compile(uv, interpreter, target)
    return f"{lock} {kept or _written(before, _packages(target))}, from {source}: commit it"


def _lock_project(uv: Uv, interpreter: str, target: Path) -> str:
    before = target.read_bytes() if target.is_file() else None
    uv("lock", "--python", interpreter, folder=target.parent)
    return "fits already, and was not changed" if target.read_bytes() == before else ""


def _compile(uv: Uv, interpreter: str, target: Path) -> tuple[str, str]:
    """What was kept as it is, and the names of the files it is made from."""
    before = target.read_bytes() if target.is_file() else None
    sources, copied = _sources_of(target)
    names = [path.name for path in sources]
    options = ("--universal", "--generate-hashes", "--no-header", "--quiet", "--python", interpreter)
    if copied is not None:
        shutil.copyfile(target, copied)
    try:
        uv("pip", "compile", *options, "--output-file", target.name, *names, folder=target.parent)
    except BaseException:
        if copied is not None:
            copied.unlink()
        raise
    told = names if copied is None else [f"{copied.name}, which keeps what {target.name} asked for"]
    return "fits already, and was not changed" if target.read_bytes() == before else "", " and ".join(told)


def _is_locked_already(target: Path) -> bool:
    """Whether it is a lock that was made elsewhere: there is nothing here that it could be made from."""
    if target.name.endswith(LOCKED_SUFFIX) or target.with_suffix(".in").is_file() or not target.is_file():
        return False
    try:
        refuse_loose_pins(target.read_text(encoding="utf-8"), target.name)
    except SeveralRefused:
        return False
    return True


def _sources_of(target: Path) -> tuple[list[Path], Path | None]:
    """What a requirements file is made from, and where its own text has to be copied before."""
    if not target.name.endswith(LOCKED_SUFFIX):
        main = target.with_suffix(".in")
        if not main.is_file() and target.is_file():
            return [main], main
        found = [main]
    else:
        stem = target.name.removesuffix(LOCKED_SUFFIX)
        main = target.with_name(f"{stem}.txt")
        found = [main, *(target.with_name(f"{stem}{sibling}") for sibling in SIBLINGS)]
    if not main.is_file():
        raise Refused(f"there is no {main.name} to lock", str(target), "write one, or a pyproject.toml beside uv.lock")
    return [path for path in found if path.is_file()], None


def _packages(target: Path) -> Mapping[str, str]:
    return packages_in({target.name: target.read_bytes()}) if target.is_file() else {}


def _written(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    changes = changes_between(before, after)
    if not before or not changes:
        return f"was written, with {len(after)} packages"
    more = f" and {len(changes) - MOST_TOLD} more" if len(changes) > MOST_TOLD else ""
    return f"was written: {', '.join(map(str, changes[:MOST_TOLD]))}{more}"
