"""Files of this machine and objects of S3, Google Cloud Storage and Azure, listed without reading them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from interlock.edges.watch.listing import Entry, fingerprint_of
from interlock.errors import Refused, WatchFault

SCHEMES = ("s3", "gs", "az")
ADDRESS = re.compile(r"([a-z0-9]+)://[^/\s]+(/.*)?")
TOLD = re.compile(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", re.DOTALL)
RETRIES = 2
"""Each request is also given up after 30 s, a connection after 5 s: the client's own limits."""
RETRIED_WITHIN = timedelta(seconds=30)
PAGE = 1000


class ObjectWatch:
    """The port ``Watch``. Credentials and endpoints are those of the server's environment (``AWS_ACCESS_KEY_ID``,
    ``AWS_ENDPOINT``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_NAME`` and their like).
    """

    def fingerprint(self, location: str) -> str:
        """A digest of names, sizes and versions at ``location``: an absolute path, ``s3://``, ``gs://`` or ``az://``.

        Of a file, its modification time counts; of an object, its ETag. Refused for any other location; WatchFault with
        the cause and what to do where it cannot be listed, or where there is nothing.
        """
        if location.startswith("/"):
            try:
                return fingerprint_of(location, _files(Path(location)))
            except OSError as problem:
                remedy = "let the server's user read it, or correct the path"
                raise WatchFault(f"{location}: {problem.strerror}: {problem.filename}; {remedy}") from problem
        match = ADDRESS.fullmatch(location)
        if match is None or match[1] not in SCHEMES:
            remedy = f"write an absolute path, or {', '.join(f'{scheme}://...' for scheme in SCHEMES)}"
            raise Refused("this is no place that can be watched", location, remedy)
        try:
            return fingerprint_of(location, _objects(location.rstrip("/")))
        except (BaseError, ValueError) as problem:
            raise WatchFault(f"{location}: {_cause(problem)}; {_remedy(match[1])}") from problem


def _files(place: Path) -> Iterator[Entry]:
    """Every file at or below ``place``; links within are not followed, nor is any file opened."""
    if not place.exists():
        return
    if not place.is_dir():
        yield _entry(place, "")
        return
    for parent, folders, names in os.walk(place, onerror=_refuse_to_skip):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in [*names, *links]:
            path = Path(parent, name)
            yield _entry(path, str(path.relative_to(place)))


def _entry(path: Path, name: str) -> Entry:
    facts = path.lstat() if name else path.stat()
    return Entry(os.fsencode(name).decode(errors="backslashreplace"), facts.st_size, str(facts.st_mtime_ns))


def _refuse_to_skip(problem: OSError) -> None:
    raise problem


def _objects(address: str) -> Iterator[Entry]:
    """Every object at or below the address; all of its parts are named by whole segments."""
    above, _, name = address.rpartition("/")
    if above.count("/") > 1:
        store = _open(above)
        try:
            found = obstore.head(store, name)
            yield Entry("", found["size"], _mark(found))
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            pass
    for page in obstore.list(_open(address), chunk_size=PAGE):
        for one in page:
            yield Entry(one["path"], one["size"], _mark(one))


def _open(address: str) -> obstore.store.ObjectStore:
    return from_url(
        address,
        retry_config={"max_retries": RETRIES, "retry_timeout": RETRIED_WITHIN},
    )


def _mark(found: obstore.ObjectMeta) -> str:
    return found["e_tag"] or found["version"] or found["last_modified"].isoformat()


def _cause(problem: Exception) -> str:
    """The store's own words, without the client's inner life."""
    text = str(problem).partition("\n\nDebug source")[0]
    told = TOLD.search(text)
    return f"{told[1]}: {told[2]}" if told else " ".join(text.split())[:500]


def _remedy(scheme: str) -> str:
    names = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
    return f"check the address, and the variables {names[scheme]}... of the server's environment"
