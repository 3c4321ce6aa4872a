"""The working tree as it is now, as a tree object in a repository of our own."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from blake3 import blake3

from interlock.edges.git.program import run_git
from interlock.errors import NotFound, Refused
from interlock.system.files import locked

AS_THEY_ARE = b"* -text -filter -ident -working-tree-encoding\n"
"""Attributes that make git store a file's very bytes."""


CONFIGURATION = b"""[core]
\trepositoryformatversion = 0
\tbare = true
\tcompression = 0
"""
"""Blobs are copied once and read once, so they are not compressed, large ones in packs neither."""
SKELETON = {"HEAD": b"ref: refs/heads/main\n", "config": CONFIGURATION, "info/attributes": AS_THEY_ARE}

LARGE_BYTES = 16 << 20
"""From this size on data that no repository tracks is no part of the tree: git would hash it slowly, and copy it."""

MADE_BY_PROGRAMS = (".git", "__pycache__")
"""Folders that are nobody's data."""


class Taken(NamedTuple):
    """The private repository, the id of the tree, and what was asked for as data and is no part of it."""

    repository: Path
    tree: str
    beside: tuple[str, ...]


class Snapshots:
    """Trees of working folders, each folder with a private repository below ``state``.

    Its index remembers each file's size and times, so that only changed files are read again.
    """

    def __init__(self, state: Path) -> None:
        self._state = state.absolute()

    def take(self, folder: Path, include: Sequence[str], data: Sequence[str], without: Sequence[str]) -> Taken:
        """The tree of ``folder`` as it is now; see the port. ``data`` is looked for, and large data is not read."""
        folder = folder.absolute()
        if not folder.is_dir():
            raise NotFound("this is no folder", where=str(folder))
        private = self._state / f"{blake3(os.fsencode(folder)).hexdigest(length=16)}.git"
        with locked(private.with_suffix(".lock")):
            if not (private / "info" / "attributes").exists():
                _make(private)
            wanted = self._wanted(folder, private, include).difference(without)
            wanted -= _large_data(folder, data, wanted)
            tree = _record(folder, private, wanted)
        held = _folders_of(wanted) if data else set()
        found = (left for path in data for left in _left_out(folder, path.rstrip("/"), wanted, held))
        return Taken(private, tree, tuple(dict.fromkeys(path for path in found if path not in without)))

    def _wanted(self, folder: Path, private: Path, include: Sequence[str]) -> set[str]:
        found = set(_listing(folder, private))
        for path in include:
            found.update(_named(folder, path))
        return {path for path in found if not f"{folder}/{path}".startswith(f"{self._state}/")}


def _make(private: Path) -> None:
    """What ``git init --bare`` makes of nothing, and what is told of it: to start git takes longer than to write it."""
    for name in ("objects", "refs", "info"):
        (private / name).mkdir(parents=True, exist_ok=True)
    for name, content in SKELETON.items():  # ``info/attributes`` is the last: with it the repository is complete
        (private / name).write_bytes(content)


def _listing(folder: Path, private: Path) -> Iterable[str]:
    """Paths of the files below ``folder`` that its own ignore rules do not leave out, tracked ones that are there too.

    A repository within it (a submodule, or a clone that lies there) is taken as the folder of files that it is.
    """
    choice = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if is_tracked(folder):
        listing = run_git(choice, folder=folder).stdout
    else:
        empty = {"GIT_INDEX_FILE": str(private / "no-index")}
        listing = run_git([*words_for(private, folder), *choice], folder=folder, more=empty).stdout
    for path in dict.fromkeys(_split(listing)):
        inner = f"{folder}/{path}"
        try:
            mode = os.lstat(inner.rstrip("/")).st_mode
        except (FileNotFoundError, NotADirectoryError):  # it is tracked, and gone
            continue
        if not stat.S_ISDIR(mode):
            yield path
        elif os.path.lexists(f"{inner}/.git"):
            yield from (f"{path.rstrip('/')}/{below}" for below in _listing(Path(inner), private))


def words_for(private: Path, folder: Path) -> list[str]:
    """The words that make git see ``folder`` through a private repository."""
    return ["--git-dir", str(private), "--work-tree", str(folder)]


def _split(listing: bytes) -> list[str]:
    return [os.fsdecode(path) for path in listing.split(b"\0")[:-1]]


def _join(paths: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(path) + b"\0" for path in sorted(paths))


def is_tracked(folder: Path) -> bool:
    """Whether the folder belongs to a repository's working tree, and is not one that it ignores as a whole."""
    if not has_repository_above(folder):
        return False
    answer = run_git(["rev-parse", "--is-inside-work-tree"], folder=folder, accepted=(0, 128))
    if answer.stdout.strip() != b"true":
        return False
    return run_git(["check-ignore", "--quiet", "."], folder=folder, accepted=(0, 1, 128)).returncode != 0


def repositories_above(folder: Path) -> set[str]:
    """Where the repository would be whose working tree holds the folder."""
    return {str(place / ".git") for place in (folder, *folder.parents)}


def has_repository_above(folder: Path) -> bool:
    """Whether git could find a repository for the folder; without one there is nothing to ask it."""
    return any(map(os.path.lexists, repositories_above(folder)))


def _refuse_outside(path: str) -> None:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise Refused("the path is not below the project", where=path, remedy="name it relative to the project")


def _named(folder: Path, path: str) -> Iterable[str]:
    """The files at or below a path that was asked for although it is ignored; a link on the way is taken instead."""
    _refuse_outside(path)
    reached = folder
    for part in Path(path).parts:
        reached /= part
        if reached.is_symlink():
            break
    if reached.is_symlink() or reached.is_file():
        yield str(reached.relative_to(folder))
        return
    for parent, folders, names in os.walk(reached):  # no links are followed
        folders[:] = [name for name in folders if name != ".git"]
        for one in (Path(parent, name) for name in [*names, *folders]):
            if one.is_symlink() or one.is_file():
                yield str(one.relative_to(folder))


def _large_data(folder: Path, data: Sequence[str], wanted: Collection[str]) -> set[str]:
    """The files of each of ``data`` that is large together, holds no link, and of which a repository tracks nothing."""
    named = {path.rstrip("/") for path in data}
    files: dict[str, list[str]] = {}
    for path in wanted if named else ():
        outermost = next((name for name in _ways_to(path) if name in named), None)
        if outermost is not None:
            files.setdefault(outermost, []).append(path)
    large = {name: inside for name, inside in files.items() if _is_large(folder, inside)}
    if large and is_tracked(folder):
        asked = ["ls-files", "-z", "--cached", "--", *large]
        tracked = _split(run_git(asked, folder=folder, more={"GIT_LITERAL_PATHSPECS": "1"}).stdout)
        large = {name: inside for name, inside in large.items() if set(inside).isdisjoint(tracked)}
    return {path for inside in large.values() for path in inside}


def _ways_to(path: str) -> Iterable[str]:
    """The folders that lead to a path, outermost first, and the path."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts) + 1))


def _is_large(folder: Path, paths: Sequence[str]) -> bool:
    size = 0
    for path in paths:
        facts = os.lstat(f"{folder}/{path}")
        if stat.S_ISLNK(facts.st_mode):
            return False
        size += facts.st_size
    return size >= LARGE_BYTES


def _left_out(folder: Path, path: str, wanted: Collection[str], held: Collection[str]) -> Iterable[str]:
    """What lies at or below ``path`` and is no part of the tree, each as the largest folder that holds no such part."""
    _refuse_outside(path)
    if path in wanted or not {str(parent) for parent in PurePath(path).parents}.isdisjoint(wanted):
        return
    place = folder / path
    if path not in held:
        if place.is_file() or _holds_files(place):
            yield path
    elif place.is_dir():
        for name in sorted(child.name for child in place.iterdir()):
            if name not in MADE_BY_PROGRAMS:
                yield from _left_out(folder, f"{path}/{name}", wanted, held)


def _folders_of(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        while (path := os.path.dirname(path)) and path not in found:  # noqa: PTH120  # git's paths are text
            found.add(path)
    return found


def _holds_files(place: Path) -> bool:
    return any(names for _, _, names in os.walk(place))


def _record(folder: Path, private: Path, wanted: set[str]) -> str:
    here = words_for(private, folder)
    known: set[str] = set()
    if (private / "index").exists():
        known.update(_split(run_git([*here, "ls-files", "-z"], folder=folder).stdout))
    update = [*here, "update-index", "-z"]
    if known - wanted:
        run_git([*update, "--force-remove", "--stdin"], folder=folder, content=_join(known - wanted))
    run_git([*update, "--add", "--replace", "--remove", "--stdin"], folder=folder, content=_join(wanted))
    return run_git([*here, "write-tree"], folder=folder).stdout.decode().strip()
