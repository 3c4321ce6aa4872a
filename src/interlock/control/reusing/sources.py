"""What is known of Python sources and environments by content, remembered so that changes can be told in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from interlock.pipeline.inputs.packages import Packages
from interlock.pipeline.inputs.sources import Source, read_source
from interlock.pipeline.keys import is_file
from interlock.ports import Store
from interlock.source.commit import Tree
from interlock.vocabulary import Fact, Json

DEFINITIONS, PACKAGES = "definitions", "packages"
MOST_SOURCES = 5000
"""Contents that are kept in memory; then it begins anew."""
MOST_PARTS = 500
"""A file with more parts than this, a generated one, is told as a whole."""

Contents = Callable[[Sequence[str]], Mapping[str, bytes]]


class Sources:
    """Reads each content once. What a trace's fingerprints stand for is remembered in the store, once for each."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Source] = {}
        self._kept: set[tuple[str, str]] = set()

    def read(self, tree: Tree, contents: Contents, paths: Iterable[str]) -> dict[str, Source]:
        """The Python files of ``paths``, without those whose content cannot be had."""
        files = {path: tree[path].blob for path in paths if path in tree and is_file(tree[path])}
        unknown = sorted(path for path, blob in files.items() if blob not in self._known)
        found = contents(unknown) if unknown else {}
        if len(self._known) > MOST_SOURCES:
            self._known.clear()
            found = dict(contents(sorted(files)))
        read = {files[path]: read_source(content) for path, content in found.items()}
        self._known.update(read)
        known = {path: read.get(blob) or self._known.get(blob) for path, blob in files.items()}
        return {path: source for path, source in known.items() if source is not None}

    def definitions(self, fingerprint: str) -> Mapping[str, str] | None:
        """The definitions of a file as it was when it had this fingerprint; None where nobody remembers."""
        found = self._store.recall(DEFINITIONS, _without_mode(fingerprint), newest=1)
        return {name: str(told) for name, told in found[0].items()} if found and isinstance(found[0], dict) else None

    def packages(self, environment: str) -> Packages | None:
        """What an environment held; None where nobody remembers."""
        found = self._store.recall(PACKAGES, environment, newest=1)
        return Packages.model_validate(found[0]) if found else None

    def facts_of(self, prints: Mapping[str, str], sources: Mapping[str, Source]) -> list[Fact]:
        """The definitions behind fingerprints, as far as they are not remembered yet."""
        return [
            fact
            for path, source in sources.items()
            if path in prints and 0 < len(source.definitions) <= MOST_PARTS
            for fact in self._fact(DEFINITIONS, _without_mode(prints[path]), dict(source.definitions))
        ]

    def facts_of_packages(self, environment: str, packages: Callable[[], Packages]) -> list[Fact]:
        """What an environment holds, if it is not remembered yet."""
        if (PACKAGES, environment) in self._kept:
            return []
        return self._fact(PACKAGES, environment, packages().model_dump(mode="json"))

    def _fact(self, space: str, key: str, fact: Json) -> list[Fact]:
        if (space, key) in self._kept:
            return []
        is_new = not self._store.recall(space, key, newest=1)
        self._kept.add((space, key))  # a save that fails costs a reason its words, no more
        return [Fact(space, key, fact)] if is_new else []


def is_told_by(fingerprint: str, source: Source, mark: str) -> bool:
    """Whether a fingerprint is that of this very source, by what it does or by its content."""
    return _without_mode(fingerprint) in (source.fingerprint, _without_mode(mark))


def _without_mode(fingerprint: str) -> str:
    return ":".join(fingerprint.split(":")[:2])
