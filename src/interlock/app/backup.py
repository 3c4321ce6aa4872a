"""A backup of a state folder, made while its server runs, and the way back.

It holds the database, artifacts, keys and the settings: all that cannot be made again. Environments and mirrors are
built again when they are needed; logs and working folders of stages are left out.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock.app.folder import StateFolder
from interlock.edges.store import copy_database, restore_database
from interlock.errors import Refused, StoreFault
from interlock.system.files import sync_folder, try_lock


def back_up(state: Path, target: Path, database: str | None = None) -> None:
    """Makes the backup at ``target``, which must not be there yet. ``database`` is a URL, else the folder's own is it.

    The database goes first. Artifacts are stored before a row names them and their content never changes, so whatever
    the copied rows name is there when the artifacts are copied after it. Refused where the target is taken or there is
    no database; StoreFault where it cannot be written. A backup that was not finished is not left behind.
    """
    folder = StateFolder(state.resolve())
    if target.exists():
        raise Refused("something is there already", str(target), "name a folder that is not there yet")
    with _all_or_nothing(target) as part:
        copy_database(database or folder.database, part)
        _copy(folder, StateFolder(part))


def restore(source: Path, state: Path, database: str | None = None) -> None:
    """Makes the state folder ``state``, which must be empty or not there, from a backup; so must ``database`` be.

    An older release's backup is brought up to date. Refused where a server runs there, anything is there, or ``source``
    is no backup; StoreFault where it cannot be written. Nothing is left behind then.
    """
    _refuse_used(StateFolder(state.resolve()))
    with _all_or_nothing(state.resolve()) as part:
        restore_database(source, database or StateFolder(part).database)
        _copy(StateFolder(source), StateFolder(part))


def _refuse_used(folder: StateFolder) -> None:
    if folder.lock.exists():
        lock = try_lock(folder.lock)
        if lock is None:
            holder = folder.lock.read_text().strip()
            raise Refused(
                f"a server (process {holder}) runs on it", str(folder.root), "stop it, or name another folder"
            )
        lock.close()
    if folder.root.exists() and any(folder.root.iterdir()):
        raise Refused("this folder is not empty", str(folder.root), "move what is in it away, or name another folder")


@contextmanager
def _all_or_nothing(target: Path) -> Iterator[Path]:
    """A folder that becomes ``target`` at the end of the block, durably, and is removed where the block fails."""
    part = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        yield part
        os.sync()
        part.rename(target)
        sync_folder(target.parent)
    except BaseException as problem:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
        if isinstance(problem, OSError):
            raise StoreFault(f"{target} could not be written: {problem}") from problem
        raise


def _copy(source: StateFolder, target: StateFolder) -> None:
    ignored = shutil.ignore_patterns("incoming", "*.torn")
    for old, new in ((source.artifacts, target.artifacts), (source.keys, target.keys)):
        if old.exists():
            shutil.copytree(old, new, ignore=ignored, copy_function=_copy_file)
    if source.settings.exists():
        shutil.copy2(source.settings, target.settings)


def _copy_file(source: str, target: str) -> None:
    try:
        shutil.copy2(source, target)
    except FileNotFoundError:
        return  # collected since it was listed: no row that was copied names it
