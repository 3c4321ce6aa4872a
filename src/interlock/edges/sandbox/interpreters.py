"""Where the files of a Python interpreter are: its environment and the installation beneath it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

SHOWN_ANYWAY = Path("/usr")


def folders_of(interpreters: Sequence[str]) -> list[str]:
    """The folders that these interpreters need at their own paths, outer ones first, each once.

    An interpreter is named by the path of its executable, which may be a chain of links out of an environment.
    """
    folders: set[Path] = set()
    for interpreter in interpreters:
        folders |= _folders_of(Path(os.path.abspath(interpreter)))  # noqa: PTH100 - resolve() would follow the links
    return [str(folder) for folder in sorted(folders) if SHOWN_ANYWAY not in (folder, *folder.parents)]


def _folders_of(executable: Path) -> set[Path]:
    found = {executable.parent.parent}
    found |= {Path(link).parent.parent for link in _links_of(str(executable))}
    home = _home_of(executable.parent.parent / "pyvenv.cfg")
    if home is not None:
        found |= {home.parent, Path(os.path.realpath(home)).parent}
    return found


def _links_of(executable: str) -> list[str]:
    """Every path on the way from a link to the file it ends at."""
    found: list[str] = []
    while executable not in found and os.path.islink(executable):  # noqa: PTH114 - texts, at every start of a stage
        found.append(executable)
        folder, aim = os.path.split(executable)[0], os.readlink(executable)  # noqa: PTH115
        executable = os.path.normpath(os.path.join(folder, aim))  # noqa: PTH118
    return [*found, executable, os.path.realpath(executable)]


def _home_of(configuration: Path) -> Path | None:
    """The ``home`` line of a virtual environment's configuration: the folder of the interpreter it was made from."""
    if not configuration.is_file():
        return None
    for line in configuration.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "home":
            return Path(value.strip())
    return None
