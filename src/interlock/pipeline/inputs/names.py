"""Folders as programs see them without reading a file: their names.

A look-up that finds nothing leaves no mark, so that the names a program might have looked for count as well: those of
every folder, without the ones that no program looks for.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping

from blake3 import blake3

from interlock.pipeline.trace import ABSENT
from interlock.source.commit import Tree
from interlock.vocabulary import canonical

ELSEWHERE = "**"
"""Stands for all folders that are looked into by nobody, where they are too many to be kept one by one."""

_LISTED, _NOT_LISTED = "names", "lookups"
_MOST_FOLDERS = 64
_MOST_LETTERS = 120
"""Names that are longer together are kept as a digest."""

_NO_INPUTS = re.compile(r"(readme|license|changelog).*|.*\.md|\.gitignore|docs", re.DOTALL)
_NOT_LOOKED_FOR = re.compile(
    _NO_INPUTS.pattern
    + r"|doc|tests?|test_.*\.py|.*_test\.py|.*\.ipynb|notebooks|contributing.*|codeowners"
    + r"|makefile|jenkinsfile|dockerfile.*|docker-compose.*|mkdocs\.ya?ml|tox\.ini|noxfile\.py|mypy\.ini|\.dockerignore"
    + r"|\.(github|gitlab|circleci|vscode|idea|gitattributes|editorconfig)"
    + r"|\.(gitlab-ci|pre-commit-config)\.ya?ml",
    re.DOTALL,
)
"""Names for people and for other programs than the stage's: it would have listed their folder to find them."""


class Folders:
    """The folders of one tree and the names in them; what was asked once is remembered."""

    def __init__(self, tree: Tree) -> None:
        self._names: dict[str, set[str]] = {"": set()}
        for path in tree:
            folder = path
            while folder:
                folder, _, name = folder.rpartition("/")
                known = self._names.setdefault(folder, set())
                if name in known:
                    break
                known.add(name)
        self._listed: dict[str, str] = {}
        self._apart = frozenset(
            folder
            for folder in self._names
            if any(_NOT_LOOKED_FOR.fullmatch(part) for part in folder.lower().split("/"))
        )
        self._lookups: dict[tuple[frozenset[str], frozenset[str]], dict[str, str]] = {}

    def listings(self, listed: Iterable[str]) -> dict[str, str]:
        """The fingerprint of the names in each listed folder, by path (``""`` and ``.`` are the project's own folder).

        READMEs, licences, changelogs, Markdown, ``.gitignore`` and ``docs`` are left out in the project's folder and in
        folders that hold Python files, which the import system lists all the time; among data every name counts.
        """
        return {folder: self._listing(_place(folder)) for folder in listed}

    def lookups(self, listed: Collection[str], reads: Iterable[str]) -> dict[str, str]:
        """The same of every folder that was not listed, for look-ups that found nothing.

        Names that programs of a stage do not look for are left out: those above, and what is for tests, notebooks,
        hosting and editors; a folder of such a name altogether, unless something in it was read or listed.
        """
        seen = frozenset(_place(folder) for folder in listed)
        near = (
            frozenset(above for path in reads for above in _above(path)) & self._apart if self._apart else self._apart
        )
        if (seen, near) not in self._lookups:
            self._lookups[seen, near] = self._not_listed((self._names.keys() - self._apart | near) - seen)
        return self._lookups[seen, near]

    def _listing(self, folder: str) -> str:
        if folder not in self._names:
            return ABSENT
        if folder not in self._listed:
            names = self._names[folder]
            is_whole = bool(folder) and not any(name.endswith(".py") for name in names)
            self._listed[folder] = _print(_LISTED, names if is_whole else _without(_NO_INPUTS, names))
        return self._listed[folder]

    def _not_listed(self, folders: Collection[str]) -> dict[str, str]:
        prints = {
            folder: _print(_NOT_LISTED, _without(_NOT_LOOKED_FOR, self._names[folder])) for folder in sorted(folders)
        }
        if len(prints) <= _MOST_FOLDERS:
            return prints
        return {ELSEWHERE: f"{_NOT_LISTED}:{_digest([f'{folder} {told}' for folder, told in prints.items()])}"}


def listed_in(listings: Mapping[str, str]) -> list[str]:
    """The folders of a trace's listings that were really listed."""
    return [folder for folder, told in listings.items() if not told.startswith(f"{_NOT_LISTED}:")]


def names_in(fingerprint: str) -> set[str] | None:
    """The names that a fingerprint stands for; None where they were too many to be kept."""
    if fingerprint == ABSENT:
        return set()
    _, is_kept, names = fingerprint.partition(":/")
    return set(filter(None, names.split("/"))) if is_kept else None


def _print(kind: str, names: Collection[str]) -> str:
    told = "/".join(sorted(names))
    return f"{kind}:/{told}" if len(told) <= _MOST_LETTERS else f"{kind}:{_digest(sorted(names))}"


def _digest(texts: list[str]) -> str:
    return blake3(canonical(list(texts))).hexdigest()


def _without(patterns: re.Pattern[str], names: Iterable[str]) -> list[str]:
    return [name for name in names if not patterns.fullmatch(name.lower())]


def _place(folder: str) -> str:
    return "" if folder == "." else folder.strip("/")


def _above(path: str) -> set[str]:
    found = set()
    while path:
        path = posixpath.dirname(path)
        found.add(path)
    return found
