"""Brings data that no commit holds into the artifact store, reading only what has changed."""

from __future__ import annotations

import posixpath
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from interlock.edges.data.files import FilePlace
from interlock.edges.data.objects import ObjectPlace
from interlock.edges.data.places import Places
from interlock.edges.data.pointers import PointedPlace, find_homes, read_pointer
from interlock.edges.data.remembered import Memory, Remembered, Sighting, marks_of
from interlock.errors import ArtifactFault, DataFault, Fault, NotFound, Refused, SeveralRefused
from interlock.ports import Blobs, Git, KnownFile
from interlock.run.stage import StageRequest
from interlock.vocabulary import Digest

POINTER = ".dvc"
ABANDONED_SECONDS = 24 * 3600
"""Age after which what was being brought was left by a process that died."""
TRIES = 3
"""How often a file is stored that changes between being read and being copied."""


class Place(Protocol):
    """Where one dataset lives."""

    def look(self) -> list[Sighting]:
        """What is there now, without reading it."""

    def read(self, names: list[str], pause: Callable[[], None]) -> dict[str, KnownFile]:
        """These files, with their digests."""


class Fetched(NamedTuple):
    """The artifacts by the path where stages see them."""

    products: dict[str, Digest]
    because: str


class Datasets:
    """Looks at places, remembers what it found in ``folder``, and keeps snapshots as artifacts.

    A file is known by device, inode, size and times, an object by what its store says of it, a file of DVC by its MD5.
    What is known and still kept is not read. ``places`` says what may be read, and for whom.
    """

    def __init__(self, git: Git, blobs: Blobs, folder: Path, places: Places) -> None:
        self._git = git
        self._blobs = blobs
        self._folder = folder
        self._remembered = Remembered(folder)
        self._places = places
        for left in folder.glob("incoming-*"):
            with suppress(FileNotFoundError):  # its process has just removed it
                if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)

    def fetch(self, request: StageRequest, say: Callable[[str], None], pause: Callable[[], None]) -> Fetched:
        """The data that the request's stage names, as it is now.

        ``say`` hears of each; ``pause`` is called all the time, and may raise to end it.

        Refused, all problems at once, for what is not there or may not be read; DataFault where it cannot be.
        """
        products: dict[str, Digest] = {}
        refusals: list[Refused] = []
        read = 0
        for path in request.stage.sources:
            try:
                with self._open(request, path) as (place, key):
                    digest, count, size = self._take(place, key, pause)
            except Refused as refused:
                refusals.append(refused)
                continue
            products[path] = digest
            read += count > 0
            say(f"{path}: " + (f"{count} files read, {size} bytes" if count else "as it was read before"))
        if refusals:
            raise refusals[0] if len(refusals) == 1 else SeveralRefused(refusals)
        return Fetched(products, _summary(len(products), read))

    def recall(self, request: StageRequest) -> Fetched:
        """What ``fetch`` would bring, as far as that is known without reading anything; the reason says what is not."""
        products: dict[str, Digest] = {}
        unknown: list[str] = []
        for path in request.stage.sources:
            try:
                with self._open(request, path) as (place, key):
                    memory = self._remembered.find(key)
                    seen = place.look()
            except Fault as fault:
                unknown.append(f"{path}: {fault}")
                continue
            if memory is not None and self._is_known(memory, seen):
                products[path] = memory.digest
            else:
                unknown.append(f"{path} changed" if memory else f"{path} was never read")
        return Fetched(products, "; ".join(unknown) or _summary(len(products), 0))

    @contextmanager
    def _open(self, request: StageRequest, path: str) -> Iterator[tuple[Place, str]]:
        """The place of a path, and the name under which it is remembered. Forbidden where it may not be read."""
        home = request.stage.sources[path]
        where = posixpath.join(request.project, path)

        def check(place: str) -> None:
            self._places.refuse(place, request.data_of, where)

        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="incoming-", dir=self._folder) as incoming:
            if home.endswith(POINTER):
                pointed = posixpath.join(request.project, home)
                yield self._pointed(request, path, home, Path(incoming), check), f"dvc {request.data_of} {pointed}"
            elif "://" in home:
                check(home)
                yield ObjectPlace(home, Path(incoming)), home
            else:
                place = home if home.startswith("/") else self._in_working_tree(request, home, path)
                check(place)
                yield FilePlace(place, check), place

    def _in_working_tree(self, request: StageRequest, home: str, path: str) -> str:
        if request.commit.working_tree and self._places.is_open:
            return posixpath.join(request.commit.working_tree, request.project, home)
        problem = f"it lives at {home} of a working tree, and there is none: this is a run of a commit"
        raise Refused(problem, path, "commit it, or say where it lives: `from: /whole/path` or `from: s3://bucket/key`")

    def _pointed(
        self, request: StageRequest, path: str, home: str, incoming: Path, check: Callable[[str], None]
    ) -> Place:
        tree = request.commit.working_tree if self._places.is_open else ""
        name = posixpath.join(request.project, home)
        content = self._git.read(request.commit, [name]).get(name)
        if content is None:
            raise NotFound("the commit has no such file", name, "commit what `dvc add` made")
        pointer = read_pointer(content, home, path)
        if request.data_of is None:
            check(home)
        configs, root = self._configuration(request, tree)
        homes = find_homes(configs, root, pointer.remote, check)
        return PointedPlace(pointer, name, homes, self._folder / "folders", incoming)

    def _configuration(self, request: StageRequest, tree: str) -> tuple[list[str], str | None]:
        """The settings of DVC, and the folder of this machine that holds them, from the project's folder upwards."""
        if tree:
            folder = Path(tree, request.project)
            root = next((one for one in (folder, *folder.parents) if (one / ".dvc").is_dir()), None)
            files = [root / ".dvc" / name for name in ("config", "config.local")] if root else []
            return [file.read_text(errors="replace") for file in files if file.is_file()], str(root) if root else None
        parents = [request.project, *map(str, Path(request.project).parents)]
        names = [posixpath.normpath(posixpath.join(parent, ".dvc/config")) for parent in parents]
        found = self._git.read(request.commit, names)
        return [found[name].decode(errors="replace") for name in names if name in found][:1], None

    def _is_known(self, memory: Memory, seen: Sequence[Sighting]) -> bool:
        return all(one.mark is not None for one in seen) and (
            memory.marks == marks_of(seen) and self._blobs.has(memory.digest)
        )

    def _take(self, place: Place, key: str, pause: Callable[[], None]) -> tuple[Digest, int, int]:
        """The artifact of what is there now; how many files were read for it, and their bytes."""
        memory = self._remembered.find(key)
        for _ in range(TRIES):
            seen = place.look()
            if memory is not None and self._is_known(memory, seen):
                return memory.digest, 0, 0
            is_kept = memory is not None and self._blobs.has(memory.digest)
            before = memory.known() if memory is not None and is_kept else {}
            files = {one.name: known for one in seen if (known := _before(one, before)) is not None}
            new = [one.name for one in seen if one.name not in files]
            try:
                files |= place.read(new, pause) if new else {}
                digest = self._blobs.put_known({one.name: _as_seen(files[one.name], one) for one in seen})
            except ArtifactFault:
                continue  # a file changed before it was copied
            self._remembered.keep(key, Memory(digest, marks_of(seen), [files[one.name].digest for one in seen]))
            fresh = set(new)
            return digest, len(new), sum(one.size for one in seen if one.name in fresh)
        raise DataFault(f"{key}: it changes while it is read; wait until it is complete")


def _before(one: Sighting, before: Mapping[str, tuple[object, Digest]]) -> KnownFile | None:
    """The file as it was read before, if it is the same."""
    mark, digest = before.get(one.name, (None, Digest("")))
    return KnownFile("", digest) if mark is not None and mark == one.mark else None


def _as_seen(file: KnownFile, one: Sighting) -> KnownFile:
    return file._replace(is_executable=one.is_executable)


def _summary(count: int, read: int) -> str:
    told = "1 dataset" if count == 1 else f"{count} datasets"
    return f"{told}: {read} read, {count - read} as before" if read else f"{told} as before: nothing was read"
