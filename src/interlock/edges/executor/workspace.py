"""The private copy of a project that one attempt works in, and what can be told from it afterwards."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from blake3 import blake3

from interlock.errors import ExecutorFault, Refused
from interlock.pipeline.inputs.declared import Undeclared, find_undeclared, visible_files
from interlock.pipeline.inputs.sources import Source, importable, read_source
from interlock.pipeline.rules.graph import is_within
from interlock.ports import Blobs, Git
from interlock.run.stage import StageRequest
from interlock.vocabulary import Digest, Json

EPOCH = 0
PARAMS = "params.yaml"
CHUNK = 1 << 20
SHOWN_BYTES = 16 << 20
"""From this size on a file is shown and not copied."""


class Observed(NamedTuple):
    """What a stage did to what it was given; paths relative to the project, ``""`` is its own folder."""

    reads: tuple[str, ...]
    listings: tuple[str, ...]
    changed_inputs: tuple[str, ...]


class _Placed(NamedTuple):
    """A file or folder as it was placed: enough to see later that it was read, replaced or changed."""

    is_folder: bool
    inode: int
    changed: int


class Workspace:
    """The files of a commit's project and the artifacts it was given, below ``folder``, which must be empty.

    All access times are set back after placing, so that under ``relatime`` whatever has another one afterwards was
    read, whoever read it. ``sees_reads`` False: this file system does not record them, and every file counts as read.
    Of a stage whose inputs are strict only the declared files are there. ``may_show``: large files of artifacts are not
    copied, but to be shown read-only; ``shown`` says where each lies, by its path in the project.
    """

    def __init__(
        self, folder: Path, git: Git, blobs: Blobs, request: StageRequest, sees_reads: bool, *, may_show: bool
    ) -> None:
        self.folder = folder
        self.shown: dict[str, str] = {}
        self._may_show = may_show
        self._git, self._blobs, self._request, self._sees_reads = git, blobs, request, sees_reads
        self._params: bytes | None = None
        self._hidden: frozenset[str] = frozenset()
        self._place()
        self._placed = self._reset_access_times()

    @property
    def files(self) -> frozenset[str]:
        """The files that were placed."""
        return frozenset(path for path, placed in self._placed.items() if not placed.is_folder)

    def observe(self) -> Observed:
        """To be asked once, when no process of the stage is left."""
        found = dict(walk(self.folder))
        touched = [path for path, placed in self._placed.items() if self._was_touched(placed, found.get(path))]
        reads = [path for path in touched if not self._placed[path].is_folder]
        if self._params is not None and PARAMS in reads:
            reads.remove(PARAMS)  # its content came from the plan, not from the commit
        changed = [path for path, placed in self._placed.items() if self._was_changed(path, placed, found.get(path))]
        listings = [path for path in touched if self._placed[path].is_folder]
        return Observed(*(tuple(sorted(map(shown, paths))) for paths in (reads, listings, changed)))

    def undeclared(self, log: str, folder: str, reads: Collection[str]) -> list[Undeclared]:
        """The files that the stage was not shown, and its log complains about or the sources that it read could import.

        ``folder`` is the project as the stage saw it.
        """
        if not self._hidden:
            return []
        complained = find_undeclared(log, folder, self._hidden)
        starts = [path for path in (*reads, *(one.path for one in complained)) if path.endswith(".py")]
        known = {one.path for one in complained}
        could = importable(starts, self._hidden | self.files, self._read_sources) & self._hidden - known
        return [*complained, *(Undeclared(path) for path in sorted(could))]

    def product(self, path: str) -> Path | None:
        """Where a product is; None where it is missing. Refused for one that is, or lies behind, a symbolic link."""
        place = self.folder / path
        if not os.path.lexists(place):
            return None
        if Path(os.path.realpath(place)) != Path(os.path.realpath(self.folder)) / os.path.normpath(path):
            remedy = "write the files themselves: a link leads to something that is not kept"
            raise Refused("the product is a symbolic link, or lies behind one", path, remedy)
        return place

    def _place(self) -> None:
        request = self._request
        only = self._choose()
        self._git.export(request.commit, str(self.folder), request.project, only)
        for path, digest in request.inputs.items():
            self._place_artifact(path, digest)
        if request.stage.params is not None and (request.stage.params or (self.folder / PARAMS).exists()):
            self._params = yaml.safe_dump(nested(request.stage.params), sort_keys=True, allow_unicode=True).encode()
            self._clear(PARAMS).write_bytes(self._params)
        if not request.stage.builtin:
            for path in request.stage.products:
                self._clear(path)
        if os.path.lexists(self.folder / ".git"):
            self._clear(".git")

    def _choose(self) -> frozenset[str] | None:
        """The only files to be placed; None where it is all of them."""
        stage = self._request.stage
        if stage.inputs != "strict":
            return None
        inside = f"{self._request.project}/".lstrip("/")
        tree = self._git.tree(self._request.commit)
        whole = {path.removeprefix(inside): entry for path, entry in tree.items() if path.startswith(inside)}
        visible = frozenset(visible_files(stage, self._request.python, whole))
        made = (*self._request.inputs, *stage.products, *((PARAMS,) if stage.params is not None else ()))
        hidden = (path for path in whole if not any(is_within(path, one.rstrip("/")) for one in made))
        self._hidden = frozenset(hidden) - visible
        return visible

    def _read_sources(self, paths: Sequence[str]) -> dict[str, Source]:
        inside = f"{self._request.project}/".lstrip("/")
        contents = self._git.read(self._request.commit, [f"{inside}{path}" for path in paths])
        return {path.removeprefix(inside): read_source(content) for path, content in contents.items()}

    def _place_artifact(self, path: str, digest: Digest) -> None:
        """A copy of the stage's own; large files are to be shown where they lie, with empty ones in their place."""
        shown_from = SHOWN_BYTES if self._may_show else None
        lying = self._blobs.materialise(digest, str(self._clear(path)), shown_from=shown_from)
        self.shown |= {f"{path.rstrip('/')}/{name}".rstrip("/"): place for name, place in lying.items()}

    def _clear(self, path: str) -> Path:
        """Makes sure that nothing is at ``path`` and real folders lead to it; Refused for a path that leaves."""
        parts = Path(path).parts
        if not parts or Path(path).is_absolute() or ".." in parts:
            raise Refused("the path leaves the project", path, "name a path below the folder of interlock.yaml")
        place = self.folder
        for part in parts[:-1]:
            place /= part
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                place.unlink()
            place.mkdir(exist_ok=True)
        place /= parts[-1]
        remove_tree(place)
        return place

    def _reset_access_times(self) -> dict[str, _Placed]:
        placed, folder = {}, str(self.folder)
        for path, entry in list(walk(self.folder)):  # all of it first: who lists a folder reads it
            place = f"{folder}/{path}"
            os.utime(place, ns=(EPOCH, entry.st_mtime_ns), follow_symlinks=False)
            changed = os.lstat(place).st_ctime_ns
            placed[path] = _Placed(stat.S_ISDIR(entry.st_mode), entry.st_ino, changed)
        return placed

    def _was_touched(self, placed: _Placed, now: os.stat_result | None) -> bool:
        is_other = now is None or now.st_ino != placed.inode
        return not self._sees_reads or is_other or (now is not None and now.st_atime_ns != EPOCH)

    def _was_changed(self, path: str, placed: _Placed, now: os.stat_result | None) -> bool:
        if placed.is_folder:
            return now is None
        if now is None or now.st_ino != placed.inode:
            return now is None or not self._is_as_placed(path, now)
        return now.st_ctime_ns != placed.changed and not self._is_as_placed(path, now)

    def _is_as_placed(self, path: str, now: os.stat_result) -> bool:
        if not stat.S_ISREG(now.st_mode):
            return False
        content = blake3(max_threads=1)
        with (self.folder / path).open("rb") as file:
            while piece := file.read(CHUNK):
                content.update(piece)
        return f"blake3:{content.hexdigest()}" == self._digest_placed(path)

    def _digest_placed(self, path: str) -> str | None:
        if path == PARAMS and self._params is not None:
            return f"blake3:{blake3(self._params).hexdigest()}"
        for placed, digest in self._request.inputs.items():
            relative = os.path.relpath(path, placed)
            if relative == "." or not relative.startswith(".."):
                return self._blobs.files(digest).get("" if relative == "." else relative)
        name = f"{self._request.project}/{path}".lstrip("/")
        content = self._git.read(self._request.commit, [name]).get(name)
        return None if content is None else f"blake3:{blake3(content).hexdigest()}"


def store_products(workspace: Workspace, blobs: Blobs, paths: tuple[str, ...]) -> tuple[dict[str, Digest], list[str]]:
    """The artifacts by declared path, and the paths that are missing. Refused for content that cannot be kept."""
    products, missing = {}, []
    for path in paths:
        place = workspace.product(path)
        if place is None:
            missing.append(path)
        else:
            products[path] = blobs.put(str(place))
    return products, missing


def walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything in a folder and the folder itself (``""``), without following any link."""
    waiting = [""]
    yield "", folder.lstat()
    while waiting:
        parent = waiting.pop()
        place = f"{folder}/{parent}"
        try:
            entries = list(os.scandir(place))
        except PermissionError:
            os.chmod(place, 0o700)  # noqa: PTH101 - a text, as above
            entries = list(os.scandir(place))
        for entry in entries:
            path = f"{parent}/{entry.name}" if parent else entry.name
            yield path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)


def nested(params: Mapping[str, Json]) -> dict[str, Json]:
    """Dotted names as the mappings they stand for, as they are in the parameter file."""
    tree: dict[str, Json] = {}
    for name, value in params.items():
        *parents, last = name.split(".")
        place = tree
        for parent in parents:
            child = place.setdefault(parent, {})
            assert isinstance(child, dict)
            place = child
        place[last] = value
    return tree


def shown(path: str) -> str:
    """A path as text: bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def remove_tree(place: Path) -> None:
    """Removes a file, link or folder, whatever permissions a stage left on it; nothing there is fine."""
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
        return
    shutil.rmtree(place, onerror=_open_up)


def _open_up(again: Callable[[str], object], path: str, problem: object) -> None:
    if not isinstance(problem, tuple) or not isinstance(problem[1], PermissionError):
        raise problem[1] if isinstance(problem, tuple) else OSError(path)
    Path(path).parent.chmod(0o700)
    if again is os.unlink:
        Path(path).unlink(missing_ok=True)
        return
    Path(path).chmod(0o700)
    shutil.rmtree(path)


def are_reads_recorded(folder: Path) -> bool:
    """Whether the file system of ``folder`` records access times, tried with one file."""
    trial = folder / ".access-time"
    trial.write_bytes(b"?")
    os.utime(trial, ns=(EPOCH, trial.stat().st_mtime_ns))
    trial.read_bytes()
    is_recorded = trial.stat().st_atime_ns != EPOCH
    trial.unlink()
    return is_recorded


def read_left_behind(path: Path, limit: int = 64 << 20) -> bytes | None:
    """A file that a stage may have written; None where there is none. ExecutorFault for anything but a small file.

    Links are not followed and pipes are not waited for: the stage may have put anything there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ExecutorFault(f"what the stage left behind cannot be read: {error}") from error
    with os.fdopen(descriptor, "rb") as file:
        entry = os.fstat(descriptor)
        if not stat.S_ISREG(entry.st_mode) or entry.st_size > limit:
            raise ExecutorFault(f"the stage left something odd behind instead of {path.name}")
        return file.read(limit)
