"""Patterns of branches, tags and paths, as every room reads them.

``*`` is any run of characters but ``/``; ``?`` one character but ``/``; ``**`` any run of characters, and as a whole
part of a path (``docs/**/a.md``) any number of folders, none included. In a list a pattern that begins with ``!`` takes
away what those before it let in: the last one that matches decides.

A pattern comes from a file that a stranger may have written, so it is matched by following all ways at once: the work
is bounded by the product of the lengths, where a regular expression could be made to run for years.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_ANY = "**"
_PART = "*"
_ONE = "?"
_SKIP = ">>>"
"""A step that may be left out, together with the two behind it: the start of ``**/``."""

Places = frozenset[int]


class Pattern:
    """One pattern, without a leading ``!``."""

    def __init__(self, text: str) -> None:
        self._steps = _steps_of(text)
        self._start = self._reach([0])
        self._known: dict[tuple[Places, str], Places] = {}

    def matches(self, text: str) -> bool:
        """Whether the whole text is of this pattern."""
        places = self._start
        for letter in text:
            if (places, letter) not in self._known:
                self._known[places, letter] = self._reach(
                    after for place in places for after in self._after(place, letter)
                )
            places = self._known[places, letter]
            if not places:
                return False
        return len(self._steps) in places

    def _after(self, place: int, letter: str) -> tuple[int, ...]:
        """The places that reading one letter leads to."""
        step = self._steps[place] if place < len(self._steps) else _SKIP
        if step == _ANY or (step == _PART and letter != "/"):
            return (place,)
        return (place + 1,) if step == letter or (step == _ONE and letter != "/") else ()

    def _reach(self, places: Iterable[int]) -> Places:
        """The places with those behind them that need no letter."""
        found: set[int] = set()
        open_ends = list(places)
        while open_ends:
            place = open_ends.pop()
            if place in found:
                continue
            found.add(place)
            step = self._steps[place] if place < len(self._steps) else ""
            if step in (_ANY, _PART, _SKIP):
                open_ends.append(place + 1)
            if step == _SKIP:
                open_ends.append(place + 3)
        return frozenset(found)


class Patterns:
    """A list of patterns: the last one that matches decides, and without a match the answer is no."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._patterns = [(Pattern(text.removeprefix("!")), not text.startswith("!")) for text in reversed(texts)]

    def include(self, text: str) -> bool:
        """Whether the text is let in."""
        return next((lets_in for pattern, lets_in in self._patterns if pattern.matches(text)), False)


def _steps_of(text: str) -> tuple[str, ...]:
    steps: list[str] = []
    position = 0
    while position < len(text):
        starts_part = position == 0 or text[position - 1] == "/"
        if starts_part and text.startswith("**/", position):
            steps += [_SKIP, _ANY, "/"]
            position += 3
        elif text.startswith("**", position):
            steps.append(_ANY)
            position += 2
        else:
            steps.append(text[position])
            position += 1
    return tuple(steps)
