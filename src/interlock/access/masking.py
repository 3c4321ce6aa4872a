"""Secrets in a stream of bytes are replaced by ``***``, however the stream is cut into pieces.

This is a convenience, not the boundary: a program that has a secret can write it in a form nobody thought of (reversed,
encrypted, letter by letter). How it is quick: of the first seven bytes of a form, four in a row stand at a multiple of
four in the stream. So a piece of the stream is read as 32-bit words, each looked up in one set; only forms whose word
occurs are searched for, and nearly everywhere there is none.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from interlock.access.forms import SHORTEST, forms_of

MASK = b"***"
WORD = 4
REACH = 2 * WORD - 1
"""So many bytes in a row hold a whole word that begins at a multiple of four, wherever they begin."""
BLOCK = 4096
"""Where a word of some form occurs, the form is searched for in this much of the stream."""


class _Found(NamedTuple):
    """A form that may begin from ``begin`` on and before ``end``."""

    form: bytes
    begin: int
    end: int


class Masker:
    """Masks these values in one stream. ValueError for a value of fewer than 8 characters.

    A byte is masked if it belongs to any occurrence of any form of a value; bytes that belong together become one mask.
    What is held back is the beginning of a form, never more, and never for longer than until the next bytes or the
    end: a line is seen as soon as it is complete, unless it is a line of a secret of several lines.
    """

    def __init__(self, values: Iterable[str]) -> None:
        chosen = list(values)
        if any(len(value) < SHORTEST for value in chosen):
            raise ValueError(f"a secret of fewer than {SHORTEST} characters cannot be masked")
        self._forms = sorted({form for value in chosen for form in forms_of(value)})
        self._by_word: dict[int, list[bytes]] = defaultdict(list)
        for form in self._forms:
            for word in {int.from_bytes(form[at : at + WORD], sys.byteorder) for at in range(WORD)}:
                self._by_word[word].append(form)
        self._words = frozenset(self._by_word)
        self._beginnings = frozenset(form[:size] for form in self._forms for size in range(1, REACH))
        self._held = b""
        self._told = 0  # so many bytes of what is held are masked, and their mask was given out

    def feed(self, content: bytes) -> bytes:
        """The next bytes of the stream, masked, as far as they are certain."""
        if not self._forms:
            return content
        whole = self._held + content
        found = self._find(whole)
        return self._give_out(whole, self._first_beginning(whole, found), found)

    def end(self) -> bytes:
        """What was held back, masked. A new stream may follow."""
        return self._give_out(self._held, len(self._held), self._find(self._held))

    def mask(self, content: bytes) -> bytes:
        """Content of its own, apart from the stream."""
        found = self._find(content)
        return _cover(content, len(content), _merged(_occurrences(content, found)), 0)[0] if found else content

    def mask_text(self, text: str) -> str:
        """Text of its own, apart from the stream."""
        return self.mask(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def _find(self, content: bytes) -> list[_Found]:
        """The forms that may begin in the content, with the places where they may."""
        found = []
        words = memoryview(content)[: len(content) // WORD * WORD]
        for at in range(0, len(words), BLOCK):
            hits = self._words.intersection(words[at : at + BLOCK].cast("I"))
            begin, end = max(0, at - WORD + 1), at + BLOCK
            found += [_Found(form, begin, end) for word in hits for form in self._by_word[word]]
        return found

    def _first_beginning(self, content: bytes, found: Iterable[_Found]) -> int:
        """Where the first form begins that the end of the content cuts off; the length where none does."""
        size = len(content)
        first = next((at for at in range(max(0, size - REACH + 1), size) if content[at:] in self._beginnings), size)
        for form, begin, _ in found:
            at = content.find(form[:REACH], max(begin, size - len(form) + 1))
            while 0 <= at < first and not form.startswith(content[at:]):
                at = content.find(form[:REACH], at + 1)
            if 0 <= at < first:
                first = at
        return first

    def _give_out(self, content: bytes, certain: int, found: Iterable[_Found]) -> bytes:
        """The content up to ``certain``; the rest is held."""
        told = [(0, self._told)] if self._told else []
        spans = _merged([*told, *_occurrences(content, found)])
        given, covered = _cover(content, certain, spans, self._told)
        self._held, self._told = content[certain:], max(0, max(covered, self._told) - certain)
        return given


def _occurrences(content: bytes, found: Iterable[_Found]) -> Iterator[tuple[int, int]]:
    for form, begin, end in found:
        at = content.find(form, begin, end + len(form))
        while at >= 0:
            yield at, at + len(form)
            at = content.find(form, at + 1, end + len(form))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order; those that share a byte as one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _cover(content: bytes, certain: int, spans: Iterable[tuple[int, int]], told: int) -> tuple[bytes, int]:
    """The content up to ``certain``, spans masked but for a first one that was told of; and where the last one ends."""
    pieces: list[bytes] = []
    at = 0
    for begin, end in spans:
        if begin >= certain:
            break
        pieces += [content[at:begin], MASK if begin or not told else b""]
        at = end
    return b"".join([*pieces, content[at:certain]]), at
