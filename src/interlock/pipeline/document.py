"""YAML text to values, with the line and column of every key and value.

The subset is small on purpose: one document of mappings, lists and plain values. Anchors, aliases and tags are refused
(an alias bomb of 300 bytes expands to millions of leaves), as are duplicate keys, deep nesting and large files. Plain
scalars mean what the YAML 1.2 core schema says (https://yaml.org/spec/1.2.2/#103-core-schema): ``no`` and ``on`` are
texts, ``3.10`` is a number that still knows how it was written. ``.nan`` and ``.inf`` are refused: no JSON can hold
them.

The text is read as a stream of events, so a hostile file is refused as soon as it crosses a limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import yaml

from interlock.errors import Refused, SeveralRefused
from interlock.vocabulary import Json

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_VALUES = 20_000
MAX_PROBLEMS = 50
BYTE_ORDER = "\ufeff"
"""A mark that the two parsers do not read alike where it is not the first character."""
FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser written in C reads a large file in a tenth of the time; not every build of PyYAML has it."""

Path: TypeAlias = tuple[str | int, ...]
"""Keys and list indexes from the document's root to one value."""

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_NOT_FINITE = re.compile(r"\.nan|\.NaN|\.NAN|[-+]?\.(?:inf|Inf|INF)")
_WORDS: tuple[tuple[frozenset[str], Json], ...] = (
    (frozenset({"", "~", "null", "Null", "NULL"}), None),
    (frozenset({"true", "True", "TRUE"}), True),
    (frozenset({"false", "False", "FALSE"}), False),
)

_REMEDIES = (
    ("'\\t'", "indent with spaces, never with tabs"),
    ("mapping values are not allowed", "put the text in quotes if it holds ': ', and check the indentation"),
    ("could not find expected ':'", "write `key: value`, and check the indentation of the lines before"),
    ("unexpected end of stream", "close the quote that was opened before"),
    ("expected <block end>", "align this line with the others of its block"),
    ("expected ',' or", "close the bracket, and separate its parts with commas"),
    ("cannot start any token", "put the text in quotes: this character means something in YAML"),
)
_REMEDY = "check quotes, brackets and indentation around here"


class WrittenInteger(int):
    """A whole number that knows how it was written (``0x10``, ``+3``), for places where a text is wanted."""

    text: str


class WrittenFloat(float):
    """A number that knows how it was written: ``3.10`` is 3.1 as a number and "3.10" as a text."""

    text: str


class Mark(NamedTuple):
    """Where something is written; line and column count from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """What is wrong with the value (or, ``at_key``, its key) at ``path``; ``mark`` where that is written elsewhere."""

    path: Path
    problem: str
    remedy: str
    at_key: bool = False
    mark: Mark | None = None


@dataclass(frozen=True)
class Document:
    """The values of one YAML file. ``problems`` are those that did not keep the rest from being read."""

    value: Json
    values: dict[Path, Mark]
    keys: dict[Path, Mark]
    where: str
    problems: tuple[Problem, ...] = ()

    def place(self, path: Path, *, at_key: bool = False) -> str:
        """``interlock.yaml:4:7``: where the value at ``path`` (or the nearest one around it) is written."""
        return _written(self.where, self._mark(path, at_key=at_key))

    def refusals(self, problems: Iterable[Problem]) -> list[Refused]:
        """The problems with their places, each once, in the order of the file."""
        marked = {
            (found.mark or self._mark(found.path, at_key=found.at_key), found.problem, found.remedy): None
            for found in problems
        }
        return [
            Refused(_printable(problem), _written(self.where, mark), _printable(remedy))
            for mark, problem, remedy in sorted(marked)
        ]

    def _mark(self, path: Path, *, at_key: bool) -> Mark:
        if at_key and path in self.keys:
            return self.keys[path]
        return next(self.values[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.values)


def refuse_all(refusals: Sequence[Refused]) -> None:
    """Raises all problems at once (the first 50 of very many); does nothing where there is none."""
    left = len(refusals) - MAX_PROBLEMS
    more = [Refused(f"and {left} more problems", refusals[-1].where, "mend the ones above first")] if left > 0 else []
    if refusals:
        raise SeveralRefused([*refusals[:MAX_PROBLEMS], *more])


def read_document(content: bytes, where: str, *, is_shared: bool = False) -> Document:
    """Reads one YAML document.

    Refused for anything that is no such document, with line, column and remedy. Smaller problems (a duplicate key, a
    tag, ``.nan``) are kept in ``problems``, so that they can be told together with those of the content.

    ``is_shared`` says that other programs read the same text, most often by YAML 1.1 rules: a plain ``no``,
    ``2013-01-01`` or ``1_000`` means something else there, so it is a problem rather than a guess.
    """
    text = _decode(content, where)
    try:
        return _compose(text, where, is_shared, yaml.SafeLoader if BYTE_ORDER in text else FASTEST)
    except yaml.YAMLError:  # the other parser has better words for what is wrong, and accepts odd characters
        pass
    try:
        return _compose(text, where, is_shared, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _unreadable(error, where) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        problem = f"this is no YAML: {str(error).splitlines()[0]}"
        raise _stop(problem, where, Mark(1, 1), "remove that character, or write it as an escape in quotes") from None


def _compose(text: str, where: str, is_shared: bool, loader: Any) -> Document:
    composer = _Composer(where, is_shared)
    for event in yaml.parse(text, Loader=loader):
        composer.take(event)
    return composer.document()


def read_value(text: str, where: str) -> Json:
    """One YAML value, as written behind a colon; Refused like a document."""
    document = read_document(text.encode("utf-8", "replace"), where)
    refuse_all(document.refusals(document.problems))
    return plain(document.value)


def plain(value: Json) -> Json:
    """The value with every number as a plain one."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, WrittenInteger):
        return int(value)
    return float(value) if isinstance(value, WrittenFloat) else value


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _written(where: str, mark: Mark) -> str:
    return f"{where}:{mark.line}:{mark.column}"


def _stop(problem: str, where: str, mark: Mark, remedy: str) -> SeveralRefused:
    return SeveralRefused([Refused(problem, _written(where, mark), remedy)])


def _decode(content: bytes, where: str) -> str:
    if len(content) > MAX_BYTES:
        problem = f"the file has {len(content):,} bytes, more than {MAX_BYTES:,}"
        raise _stop(problem, where, Mark(1, 1), "keep data out of it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].split(b"\n")
        problem = f"byte 0x{content[error.start]:02x} is no UTF-8"
        raise _stop(problem, where, Mark(len(before), len(before[-1]) + 1), "save the file as UTF-8") from None


def _unreadable(error: yaml.MarkedYAMLError, where: str) -> SeveralRefused:
    mark = error.problem_mark or error.context_mark
    problem = " ".join(part for part in (error.context, error.problem) if part)
    remedy = next((remedy for words, remedy in _REMEDIES if words in problem), _REMEDY)
    return _stop(f"this is no YAML: {problem}", where, _mark_of(mark), remedy)


def _mark_of(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


@dataclass
class _Frame:
    """One open mapping or list; ``key`` waits for its value."""

    path: Path
    items: Any
    key: str | None = None


class _Composer:
    """Builds the values from YAML's events, without recursion. The outermost frame is a list that holds the root."""

    def __init__(self, where: str, is_shared: bool) -> None:
        self.where = where
        self.is_shared = is_shared
        self.frames = [_Frame((), [])]
        self.values: dict[Path, Mark] = {}
        self.keys: dict[Path, Mark] = {}
        self.problems: list[Problem] = []

    def document(self) -> Document:
        root = self.frames[0].items
        self.values.setdefault((), Mark(1, 1))
        return Document(root[0] if root else None, self.values, self.keys, self.where, tuple(self.problems))

    def take(self, event: yaml.Event) -> None:
        """Takes the next event. Refused where a limit is crossed or a second document begins."""
        mark = _mark_of(event.start_mark)
        if isinstance(event, yaml.DocumentStartEvent) and self.frames[0].items:
            raise _stop("a second document begins here", self.where, mark, "keep one document: remove the line `---`")
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.frames.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._refuse_indirection(event, mark)
            frame = self.frames[-1]
            if isinstance(frame.items, dict) and frame.key is None:
                self._take_key(frame, event, mark)
            else:
                self._take_value(frame, event, mark)

    def _refuse_indirection(self, event: yaml.NodeEvent, mark: Mark) -> None:
        tag = getattr(event, "tag", None)
        if event.anchor is not None:
            name = "alias *" if isinstance(event, yaml.AliasEvent) else "anchor &"
            self._note(mark, f"{name}{event.anchor} is refused", "write the value out where it is used")
        if tag is not None:
            self._note(mark, f"the tag {tag} is refused", "write the plain value; put a text in quotes")

    def _note(self, mark: Mark, problem: str, remedy: str) -> None:
        self.problems.append(Problem((), problem, remedy, mark=mark))

    def _take_key(self, frame: _Frame, event: yaml.NodeEvent, mark: Mark) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise _stop("a key must be a plain text", self.where, mark, "write `key: value`, the key in one word")
        key = frame.key = self._text(event, mark)
        if key in frame.items:
            first = self.keys[*frame.path, key]
            self._note(mark, f"the key {key} is given twice, first in line {first.line}", "keep one of them")
        self.keys.setdefault((*frame.path, key), mark)
        if self.is_shared and event.implicit[0] and _older_kind(key) != "str":
            self._note(mark, f"the key {key} is no text", f'write "{key}" in quotes')

    def _take_value(self, frame: _Frame, event: yaml.NodeEvent, mark: Mark) -> None:
        path = frame.path
        if len(self.frames) > 1:
            path = (*path, len(frame.items) if frame.key is None else frame.key)
        self.values.setdefault(path, mark)
        if len(self.values) > MAX_VALUES or len(self.problems) > MAX_VALUES:
            raise _stop(f"more than {MAX_VALUES:,} values", self.where, mark, "keep data out of this file")
        value = self._value(event, mark)
        if frame.key is None:
            frame.items.append(value)
        else:
            frame.items.setdefault(frame.key, value)
            frame.key = None
        if isinstance(event, yaml.CollectionStartEvent):
            if len(self.frames) > MAX_DEPTH:
                raise _stop(f"nested deeper than {MAX_DEPTH} levels", self.where, mark, "write it flatter")
            self.frames.append(_Frame(path, value))

    def _value(self, event: yaml.NodeEvent, mark: Mark) -> Any:
        if isinstance(event, yaml.MappingStartEvent):
            return {}
        if isinstance(event, yaml.SequenceStartEvent):
            return []
        if not isinstance(event, yaml.ScalarEvent):
            return None
        text = self._text(event, mark)
        if not event.implicit[0]:
            return text
        if _NOT_FINITE.fullmatch(text):
            self._note(mark, f"{text} is no number to work with", "write a finite number")
        elif self.is_shared and _is_ambiguous(text):
            problem = f"{text} does not mean the same to YAML 1.1 and YAML 1.2"
            self._note(mark, problem, f'write "{text}" in quotes if it is a text, else write it in another way')
        return self._scalar(text, mark)

    def _text(self, event: yaml.ScalarEvent, mark: Mark) -> str:
        text = str(event.value)
        if not _NO_TEXT.search(text):
            return text
        self._note(mark, "a text with a character that no file name or command can hold", "remove the \\0 or \\ud...")
        return _NO_TEXT.sub("\ufffd", text)

    def _scalar(self, text: str, mark: Mark) -> Json:
        """The value of a plain scalar by the YAML 1.2 core schema."""
        for words, value in _WORDS:
            if text in words:
                return value
        whole = _INTEGER.fullmatch(text)
        if not whole and not _FLOAT.fullmatch(text):
            return text
        written: WrittenInteger | WrittenFloat = (
            WrittenInteger(int(text, 0 if text[:2] in {"0o", "0x"} else 10))
            if whole and len(text) < 40
            else WrittenFloat(text)
        )
        if not math.isfinite(written) or (whole and abs(written) >= 2**63):
            self._note(mark, f"the number {text[:20]}... is too large", "write a smaller number, or a text in quotes")
            return text
        written.text = text
        return written


def _older_kind(text: str) -> str:
    """What a plain scalar is to PyYAML's own YAML 1.1 rules: ``str``, ``bool``, ``timestamp`` and so on."""
    return str(yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))).rpartition(":")[2]  # type: ignore[no-untyped-call]


def _is_ambiguous(text: str) -> bool:
    """Whether YAML 1.1 gives it another kind or value. ``1e-3``, a text there, is left: ``float()`` takes both."""
    older = _older_kind(text)
    if _INTEGER.fullmatch(text):
        return older != "int" or re.fullmatch(r"[-+]?0[0-9]+", text) is not None
    if _FLOAT.fullmatch(text):
        return older not in {"str", "float"}
    words = next((value for words, value in _WORDS if text in words), text)
    return older != {type(None): "null", bool: "bool", str: "str"}[type(words)]
