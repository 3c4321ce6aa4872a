"""What a ``.dvc`` file points to: files by their MD5, in the cache of a working tree or in a remote of DVC."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from interlock.edges.data.objects import ObjectPlace
from interlock.edges.data.remembered import Sighting
from interlock.errors import DataFault, NotFound, Refused
from interlock.ports import KnownFile
from interlock.system.hashing import hash_file
from interlock.vocabulary import Digest

MD5 = re.compile(r"[0-9a-f]{32}")
FOLDER = ".dir"
READABLE = ("s3", "gs", "az")
REPAIR = "`dvc push` it again from where it is whole"


class Pointer(NamedTuple):
    """One output of a ``.dvc`` file. ``is_old``: by DVC 2, which laid its caches out differently."""

    md5: str
    is_folder: bool
    is_old: bool
    remote: str | None


class Homes(NamedTuple):
    """Where DVC's files may be: folders and addresses, the nearest first; and why others are left out."""

    places: tuple[str, ...]
    left_out: tuple[str, ...]


def read_pointer(content: bytes, path: str, wanted: str) -> Pointer:
    """The output of the ``.dvc`` file at ``path`` that is ``wanted``, or its only one. Refused for anything else."""
    try:
        outs = yaml.safe_load(content)["outs"]
        folder = posixpath.join(posixpath.dirname(path), str(yaml.safe_load(content).get("wdir", ".")))
        named = {posixpath.normpath(posixpath.join(folder, str(out["path"]))): out for out in outs}
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as problem:
        raise Refused("it is no file of DVC: it names no outs", path, "make it anew with `dvc add`") from problem
    out: Any = named.get(wanted) or (next(iter(named.values())) if len(named) == 1 else None)
    if out is None:
        raise Refused(f"it points to {', '.join(named) or 'nothing'}, not to {wanted}", path, "name one of these")
    md5 = str(out.get("md5", ""))
    if not MD5.fullmatch(md5.removesuffix(FOLDER)):
        raise Refused("it names no md5 of its data", path, "make it anew with `dvc add` or `dvc commit`")
    remote = out.get("remote")
    is_old = out.get("hash") != "md5"
    return Pointer(md5.removesuffix(FOLDER), md5.endswith(FOLDER), is_old, None if remote is None else str(remote))


def find_homes(configs: list[str], root: str | None, remote: str | None, check: Callable[[str], None]) -> Homes:
    """Where to look, by the texts of ``.dvc/config`` and ``.dvc/config.local``.

    ``root`` is the folder that holds ``.dvc`` on this machine: its cache is looked at, and paths are relative to it.
    Without one only whole paths and addresses count. ``check`` refuses places that may not be read.
    """
    settings = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        for text in configs:
            settings.read_string(text)
    except configparser.Error as problem:
        remedy = "mend it, or make it anew with `dvc remote add`"
        raise Refused(f"it cannot be read: {str(problem).splitlines()[0]}", ".dvc/config", remedy) from problem
    found: list[str] = []
    left_out: list[str] = []
    if root is not None:
        cache = settings.get("cache", "dir", fallback="cache")
        found.append(os.path.normpath(os.path.join(root, ".dvc", cache)))  # noqa: PTH118 - may be a whole path
    name = remote or settings.get("core", "remote", fallback="")
    section = next((one for one in settings.sections() if one.strip("'") == f'remote "{name}"'), None)
    url = settings.get(section, "url", fallback="") if section else ""
    if name and not url:
        left_out.append(f".dvc/config has no remote {name} with a url")
    elif "://" in url and url.partition("://")[0] not in READABLE:
        left_out.append(f"the remote {name} ({url.partition('://')[0]}) is of a kind that is not supported yet")
    elif url:
        is_whole = "://" in url or url.startswith("/")
        if is_whole or root is not None:
            place = url if is_whole else os.path.normpath(os.path.join(str(root), ".dvc", url))  # noqa: PTH118
            check(place)
            found.append(place.rstrip("/"))
        else:
            left_out.append(f"the remote {name} is the relative path {url}, which no server knows")
    return Homes(tuple(found), tuple(left_out))


class PointedPlace:
    """The files that a pointer means, of which the content is known by its MD5 alone.

    ``kept`` holds the lists of folders that were found; what is brought from far comes into ``incoming``.
    """

    def __init__(self, pointer: Pointer, path: str, homes: Homes, kept: Path, incoming: Path) -> None:
        self.place = path
        self._pointer, self._homes, self._kept, self._incoming = pointer, homes, kept, incoming

    def look(self) -> list[Sighting]:
        """What belongs there. NotFound where nobody has the list of a folder."""
        if not self._pointer.is_folder:
            return [Sighting("", [self._pointer.md5], 0)]
        try:
            listed = json.loads(self._listing())
            found = [Sighting(str(one["relpath"]), [_md5_in(one["md5"])], 0) for one in listed]
        except (ValueError, TypeError, KeyError) as problem:
            raise Refused("the list of the folder's files is none of DVC's", self.place, REPAIR) from problem
        if not found:
            raise NotFound("the folder holds no files", self.place, "put them there, and `dvc add` it")
        return sorted(found)

    def read(self, names: list[str], pause: Callable[[], None]) -> dict[str, KnownFile]:
        """Finds the files, checked against their MD5. NotFound where nobody has one that is whole."""
        marks = {one.name: str((one.mark or [""])[0]) for one in self.look()}
        return {name: self._find(marks[name], name, pause) for name in names}

    def _listing(self) -> bytes:
        kept = self._kept / f"{self._pointer.md5}{FOLDER}"
        if kept.is_file() and hashlib.md5(content := kept.read_bytes(), usedforsecurity=False).hexdigest() == kept.stem:
            return content
        content = Path(self._find(self._pointer.md5, "", lambda: None, FOLDER).place).read_bytes()
        self._kept.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
        return content

    def _find(self, md5: str, name: str, pause: Callable[[], None], ending: str = "") -> KnownFile:
        said, faults = list(self._homes.left_out), list[str]()
        for place in self._addresses(f"{md5[:2]}/{md5[2:]}{ending}"):
            try:
                known, found = self._fetch(place, md5, pause)
            except NotFound:
                said.append(f"{place}: not there")
                continue
            except DataFault as fault:
                faults.append(str(fault))
                continue
            if found == md5:
                return known
            said.append(f"{place}: torn, its md5 is {found}")
        where = f"{self.place}: {name}" if name else self.place
        if faults:
            raise DataFault(f"{where}: {'; '.join((*said, *faults))}")
        told = f"nobody has its data (md5 {md5}{ending}): {'; '.join(said) or 'DVC has neither cache nor remote here'}"
        raise NotFound(told, where, f"{REPAIR}, or `dvc fetch` it here")

    def _addresses(self, key: str) -> Iterator[str]:
        for home in self._homes.places:
            yield f"{home}/files/md5/{key}"
            if self._pointer.is_old:
                yield f"{home}/{key}"

    def _fetch(self, place: str, md5: str, pause: Callable[[], None]) -> tuple[KnownFile, str]:
        """The file at ``place`` and the MD5 that it really has."""
        if "://" in place:
            incoming = self._incoming / md5
            incoming.mkdir(parents=True, exist_ok=True)
            place = ObjectPlace(place, incoming).read([""], pause)[""].place
        found = hashlib.md5(usedforsecurity=False)

        def between(piece: bytes | memoryview) -> None:
            pause()
            found.update(piece)

        try:
            with open(place, "rb", buffering=0) as file:  # noqa: PTH123 - a text, and not to be made a path twice
                digits = hash_file(file.fileno(), between)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as problem:
            raise NotFound("there is nothing", place) from problem
        except OSError as problem:
            raise DataFault(f"{place}: {problem.strerror}; let the user of Interlock read it") from problem
        return KnownFile(place, Digest(f"blake3:{digits}")), found.hexdigest()


def _md5_in(value: object) -> str:
    if not isinstance(value, str) or not MD5.fullmatch(value):
        raise ValueError(value)
    return value
