"""Objects of S3, Google Cloud Storage and Azure: listed, and read in parts of one version each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path, PurePosixPath

import obstore
from blake3 import blake3
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from interlock.edges.data.remembered import Mark, Sighting
from interlock.errors import DataFault, NotFound
from interlock.ports import KnownFile
from interlock.vocabulary import Digest

PART = 16 << 20
"""Bytes of one request: each has to end within the client's own limit of 30 seconds."""
PARTS_AT_ONCE = 4
RETRIES = 2
RETRIED_WITHIN = timedelta(seconds=30)
TRIES = 3
"""How often an object is read that is replaced meanwhile."""
PAGE = 1000
TOLD = re.compile(r"<Code>(.*?)</Code>(?:.*?<Message>(.*?)</Message>)?", re.DOTALL)
VARIABLES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}


class ObjectPlace:
    """The object at ``place`` (``s3://bucket/key``), or all those below it.

    Credentials and endpoints are those of this process's environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT`` and their
    like). What is read is put into ``incoming``, a folder of the caller's.
    """

    def __init__(self, place: str, incoming: Path) -> None:
        self.place = place.rstrip("/")
        self._incoming = incoming

    def look(self) -> list[Sighting]:
        """What is there now, by name. NotFound for nothing, DataFault where the store does not say."""
        with _told(self.place):
            above, _, name = self.place.rpartition("/")
            if above.count("/") > 1:
                try:
                    return [_sighting("", obstore.head(_open(above), name))]
                except (FileNotFoundError, NotFoundError):
                    pass  # then it may be a prefix
            listing = (one for page in obstore.list(_open(self.place), chunk_size=PAGE) for one in page)
            found = _without_folders(sorted(_sighting(one["path"], one) for one in listing))
        if not found:
            raise NotFound("there is nothing", self.place, "put it there, or correct the address in interlock.yaml")
        return found

    def read(self, names: list[str], pause: Callable[[], None]) -> dict[str, KnownFile]:
        """The objects as files below ``incoming``. DataFault for one that is replaced all the time."""
        return {name: self._read(name, self._incoming / str(place), pause) for place, name in enumerate(names)}

    def _read(self, name: str, aim: Path, pause: Callable[[], None]) -> KnownFile:
        above, _, last = self.place.rpartition("/")
        with _told(f"{self.place}/{name}".rstrip("/")):
            store, key = (_open(self.place), name) if name else (_open(above), last)
            for _ in range(TRIES):
                meta = obstore.head(store, key)
                content = blake3(max_threads=blake3.AUTO)
                with aim.open("wb", buffering=0) as file:
                    is_same = True
                    for piece, mark in _parts(store, key, meta["size"], pause):
                        content.update(piece)
                        file.write(piece)
                        is_same = is_same and mark == _mark(meta)
                    is_same = is_same and file.tell() == meta["size"]
                if is_same:
                    return KnownFile(str(aim), Digest(f"blake3:{content.hexdigest()}"))
        raise DataFault(f"{self.place}/{name}".rstrip("/") + ": it is replaced while it is read; try again later")


def _parts(store: ObjectStore, key: str, size: int, pause: Callable[[], None]) -> Iterator[tuple[bytes, Mark]]:
    """The content in order, some parts asked for at once, each with the mark of the version it is of."""

    def ask(start: int) -> tuple[bytes, Mark]:
        pause()
        answer = obstore.get(store, key, options={"range": (start, min(start + PART, size))})
        return bytes(answer.bytes()), _mark(answer.meta)

    if size == 0:
        return
    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        starts = list(range(0, size, PART))
        for first in range(0, len(starts), PARTS_AT_ONCE):  # no more in memory than these
            yield from pool.map(ask, starts[first : first + PARTS_AT_ONCE])


def _open(address: str) -> ObjectStore:
    return from_url(address, retry_config={"max_retries": RETRIES, "retry_timeout": RETRIED_WITHIN})


def _without_folders(found: list[Sighting]) -> list[Sighting]:
    """Without the empty objects by which some programs mark a folder."""
    folders = {str(parent) for one in found for parent in PurePosixPath(one.name).parents}
    return [one for one in found if one.size or one.name not in folders]


def _sighting(name: str, found: obstore.ObjectMeta) -> Sighting:
    return Sighting(name, _mark(found), found["size"])


def _mark(found: obstore.ObjectMeta) -> Mark:
    when = None if found["e_tag"] else found["last_modified"].isoformat()
    return [found["size"], found["e_tag"], found["version"], when]


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Errors of the store's client in its own words: without rights and without an answer it is a fault."""
    variables = f"variables {VARIABLES.get(place.partition(':')[0], '')}... of the environment"
    try:
        yield
    except (FileNotFoundError, NotFoundError) as problem:
        raise NotFound(_cause(problem), place, "put it there, or correct the address in interlock.yaml") from problem
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as problem:
        raise DataFault(f"{place}: {_cause(problem)}; check the rights of who is named by the {variables}") from problem
    except (BaseError, ValueError) as problem:
        raise DataFault(f"{place}: {_cause(problem)}; check the address, and the {variables}") from problem


def _cause(problem: Exception) -> str:
    """The store's own words, without the client's inner life."""
    text = str(problem).partition("\n\nDebug source")[0]
    told = TOLD.search(text)
    return ": ".join(part for part in told.groups() if part) if told else " ".join(text.split())[:300]
