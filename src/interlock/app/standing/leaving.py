"""Leaves the note of a run that succeeded, by which the next one is answered at once (see ``note``)."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from interlock.app.folder import StateFolder
from interlock.app.parts import PACKAGE, Parts
from interlock.app.standing.note import Note, ask, place_of, signatures_of, write
from interlock.edges.git.conditions import Conditions
from interlock.errors import InterlockError
from interlock.pipeline.outside.sources import POINTER
from interlock.run.run import Run
from interlock.run.unchanged import as_it_stands, would_repeat
from interlock.system.files import write_atomically
from interlock.system.signatures import Moment, are_settled
from interlock.vocabulary import Digest

MOST_NOTES = 200
"""Notes of folders and options that are kept, those that were written last."""


def leave_note(
    parts: Parts,
    folder: Path,
    conditions_of: Callable[[], Conditions | None],
    options: Mapping[str, Any],
    run: Run,
    began: Moment,
) -> None:
    """Leaves the note of ``run``, which took its snapshot of ``folder`` after ``began``, if it can be left.

    ``conditions_of`` answers the snapshot's conditions as they were at any moment since: what changed them changes a
    signature that is taken now.
    It cannot where something that decided the run may have changed since it began. A note that cannot be written costs
    the next run its quick answer, no more.
    """
    if not would_repeat(run):
        return
    try:
        conditions = conditions_of()
        if conditions is None:
            return
        question = ask(parts.folder.root, folder, options)
        data = _data_of(run, question["folder"])
        if data is None:
            return
        within = sorted({*conditions.within, *data[0]})
        elsewhere = sorted({*conditions.elsewhere, *data[1], *_installation(), *_settings(parts.folder)})
        signatures = signatures_of(question["folder"], within, elsewhere)
        if not are_settled(signatures, began, Moment.now()):
            return
        made = sorted({path for digest in _made(run) for path in parts.blobs.places(digest)})
        note = Note(question, within, elsewhere, made, as_it_stands(run).model_dump(mode="json"), signatures)
        place = Path(place_of(parts.folder.root, question))
        place.parent.mkdir(exist_ok=True)
        write_atomically(place, write(note), 0o600)
        _forget_old(place.parent)
    except (InterlockError, OSError, OverflowError):
        return


def _data_of(run: Run, folder: str) -> tuple[list[str], list[str]] | None:
    """Each file and folder of data that no commit holds: those below ``folder``, relative to it, and the others.

    None where the file system alone cannot tell whether it has changed: behind a link or pointer, on another machine.
    """
    within: list[str] = []
    elsewhere: list[str] = []
    for home in (home for stage in run.plan.stages for home in stage.sources.values()):
        place = os.path.normpath(os.path.join(folder, home))  # noqa: PTH118 - as texts: there may be very many
        if "://" in home or home.endswith(POINTER) or os.path.realpath(place) != place:
            return None
        found = [place]
        for parent, folders, files in os.walk(place):
            found += [f"{parent}/{name}" for name in (*folders, *files)]
        if any(map(os.path.islink, found)):
            return None
        is_inside = place.startswith(f"{folder}/")
        if is_inside:
            within += [path[len(folder) + 1 :] for path in found]
        else:
            elsewhere += found
    return within, elsewhere


def _made(run: Run) -> Iterator[Digest]:
    for stage_run in run.stages.values():
        yield from stage_run.products.values()
        if stage_run.report is not None:
            yield stage_run.report


def _installation() -> Iterator[str]:
    """Interlock's own files, the folder of the packages it uses, and where interpreters, git and uv are looked for."""
    for parent, folders, names in os.walk(PACKAGE):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield parent
        yield from (f"{parent}/{name}" for name in names)
    yield sysconfig.get_path("purelib")
    for folder in {sysconfig.get_path("scripts"), *os.get_exec_path()}:
        yield folder
        for name in ("git", "uv", *_interpreters(folder)):
            yield f"{folder}/{name}"
            yield os.path.realpath(f"{folder}/{name}")


def _interpreters(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.startswith("python")]  # noqa: PTH208 - names are all it takes
    except OSError:
        return []


def _settings(state: StateFolder) -> Iterator[str]:
    """Files that the state folder's settings and uv's are read from, and uv's own interpreters."""
    home = Path.home()
    configuration = Path(os.environ.get("XDG_CONFIG_HOME", home / ".config"))
    interpreters = Path(os.environ.get("XDG_DATA_HOME", home / ".local/share")) / "uv" / "python"
    yield from map(str, (state.settings, configuration / "uv/uv.toml", Path("/etc/uv/uv.toml"), interpreters))
    if "UV_PYTHON_INSTALL_DIR" in os.environ:
        yield os.environ["UV_PYTHON_INSTALL_DIR"]


def _forget_old(folder: Path) -> None:
    notes = sorted(folder.iterdir(), key=lambda note: note.stat().st_mtime, reverse=True)
    for note in notes[MOST_NOTES:]:
        note.unlink(missing_ok=True)
